"""Modes that a generator finds, and those that it drops."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite

from matplotlib.figure import Figure
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data.toy import Grid, Mixture, Ring
from oakleaf.metrics.modes import count_modes
from oakleaf.theory.finding import Check, Finding, Row
from oakleaf.theory.pictures import train

# rates of Metz 2016, appendix A: D learns ten times as slowly as G; it sees bare coordinates
SLOW = ["optim.discriminator.lr=1e-4", "optim.generator.lr=1e-3", "model.game.discriminator.waves=0"]
R3GAN = ["experiment=grid", "optim.ema.half_life=20000"]  # on the ring too, which differs in what is said here
DRAWN = 2500  # samples: Lin 2017, arXiv:1712.04086, section 4.1
SHOWN = 1000


@dataclass
class ModeCollapse:
    """The same perceptrons on a ring of 8 Gaussians and a grid of 25, by four games: the plain GAN with a slow D, which
    drops modes; the same with packing (Lin 2017 (PacGAN), arXiv:1712.04086); with G looking ahead at D's next steps
    (Metz 2016, arXiv:1611.02163, section 3.1); and RpGAN + R1 + R2 (Huang 2024 (R3GAN), arXiv:2501.05441) under noise
    that fades out, at rates of its own.

    effective: exp of the entropy of the histogram over modes, K exp(-reverse KL): how many modes there would be if all
    were found equally often; a cloud over everything finds them all, so it says little where high quality is low.
    points: seen by the plain game and by packing. A turn that looks ahead takes as long as many plain ones, so it sees
    half as many, on the grid a quarter; RpGAN sees twice as many there. sd: of the ring's Gaussians, wider than the
    papers' 0.01, to which these lengths are too short; the grid's is theirs.
    """

    seed: int = 0
    points: PositiveInt = 300_000
    batch: PositiveInt = 128
    width: PositiveInt = 128
    packing: PositiveInt = 2
    unrolled: PositiveInt = 5
    sd: PositiveFloat = 0.05

    def run(self) -> Finding:
        drawn: dict[tuple[str, str], Tensor] = {}
        rows: list[Row] = []
        ring, grid = Ring(name="ring", sd=self.sd), Grid(name="grid", sd=0.05)
        for mixture, layers, more in ((ring, 2, 1), (grid, 3, 2)):
            for name, (length, overrides) in self._games(more).items():
                points = drawn[mixture.name, name] = self._trained(mixture, layers, length, overrides)
                rows.append({"set": mixture.name, "game": name, "points": float(length), **_row(points, mixture)})
        return Finding(rows, _figure(drawn, {"ring": ring, "grid": grid}), _checks(rows))

    def _games(self, more: int) -> dict[str, tuple[int, list[str]]]:
        """How many points each sees, and what it is."""
        noise = f"loss.instance_noise.images={self.points * more // 2}"
        ahead = f"optim.generator.unrolled={self.unrolled}"
        return {
            "GAN": (self.points, SLOW),
            "packing": (self.points, [*SLOW, f"model.game.packing={self.packing}"]),
            "unrolled": (self.points // (2 * more), [*SLOW, "loss=minimax", ahead]),
            "RpGAN + R1 + R2": (self.points * more, [*R3GAN, noise]),
        }

    def _trained(self, mixture: Mixture, layers: int, length: int, overrides: list[str]) -> Tensor:
        """Samples [N, 2] of the average of G."""
        data = ["data=toy", f"data/mixture={mixture.name}", f"data.mixture.sd={mixture.sd}"]
        hidden = "[" + ",".join([str(self.width)] * layers) + "]"
        sizes = [f"model.game.{player}.hidden={hidden}" for player in ("generator", "discriminator")]
        long = [f"max_images={length}", f"data.batch_size={self.batch}", f"seed={self.seed}"]
        trained = train("model=toy", "model.game.prior.dim=4", *data, *sizes, *long, *overrides)
        return trained.draw(DRAWN, self.seed, ema=True).flatten(1).double() * mixture.scale


def _row(points: Tensor, mixture: Mixture) -> Row:
    found = count_modes(points, mixture.means, mixture.sd)
    divergence = found["reverse_kl"]
    return {
        "modes": found["modes"],
        "effective": len(mixture.means) * exp(-divergence),
        "high quality": found["high_quality"],
        "reverse KL": divergence if isfinite(divergence) else "-",
    }


def _figure(drawn: Mapping[tuple[str, str], Tensor], mixtures: Mapping[str, Mixture]) -> Figure:
    picture = Figure((8, 4.2), layout="constrained")
    for axes, ((of, name), points) in zip(picture.subplots(2, len(drawn) // 2).flat, drawn.items()):
        axes.scatter(*mixtures[of].means.T, s=60, facecolors="none", edgecolors="tab:red", linewidths=0.8)
        axes.scatter(*points[:SHOWN].T, s=1, color="tab:blue", alpha=0.4)
        edge = float(mixtures[of].means.abs().max()) * 1.3
        axes.set(title=f"{name}, {of}", xticks=[], yticks=[], xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
    return picture


def _checks(rows: list[Row]) -> list[Check]:
    def of(mixture: str, game: str, number: str = "effective") -> float:
        return next(float(row[number]) for row in rows if (row["set"], row["game"]) == (mixture, game))

    return [
        Check("ring, packing: effective modes of 8 over the GAN's", of("ring", "packing") - of("ring", "GAN"), ">", 2),
        Check("ring, RpGAN + R1 + R2: effective modes of 8", of("ring", "RpGAN + R1 + R2"), ">", 7.5),
        Check("ring, RpGAN + R1 + R2: high quality", of("ring", "RpGAN + R1 + R2", "high quality"), ">", 0.4),
        Check("grid, GAN: effective modes of 25", of("grid", "GAN"), "<", 15),
        Check("grid, RpGAN + R1 + R2: the same", of("grid", "RpGAN + R1 + R2"), ">", 18),
        Check("grid, RpGAN + R1 + R2: high quality", of("grid", "RpGAN + R1 + R2", "high quality"), ">", 0.1),
    ]
