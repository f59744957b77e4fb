"""The modes that a generator finds and drops, in four games."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite

from matplotlib.figure import Figure
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data.toy import Grid, Mixture, Ring
from oakleaf.metrics.modes import count_modes
from oakleaf.theory.result import Check, LabResult, Row
from oakleaf.theory.training import train

# learning rates of Metz 2016, appendix A: D learns ten times as slowly as G; its inputs are the coordinates alone
SLOW_DISCRIMINATOR = ["optim.discriminator.lr=1e-4", "optim.generator.lr=1e-3", "model.game.discriminator.waves=0"]
R3GAN = ["experiment=grid", "optim.ema.half_life=20000"]  # for the ring too; what differs there is overridden
SAMPLES = 2500  # Lin 2017, arXiv:1712.04086, section 4.1
PLOTTED = 1000  # of the samples


@dataclass
class ModeCollapse:
    """Compare four games with the same perceptrons on a ring of 8 Gaussians and a grid of 25.

    - "GAN": the plain GAN with a slow discriminator, which drops modes.
    - "packing": the same with several samples in a pack (Lin 2017 (PacGAN), arXiv:1712.04086).
    - "unrolled": the same with an unrolled discriminator (Metz 2016, arXiv:1611.02163, section 3.1).
    - "RpGAN + R1 + R2": the relativistic loss with both penalties (Huang 2024 (R3GAN), arXiv:2501.05441), instance
      noise that decreases to 0, and its own learning rates.

    The column "effective" is exp of the entropy of the histogram over the K modes, K exp(-reverse KL): how many modes
    there would be if all were found equally often. A cloud over the whole plane finds all of them, so the number says
    little where few samples are of high quality.

    Args:
        seed: of all trainings.
        points: seen by the plain game and by packing. An unrolled iteration takes as long as many plain ones, so
            "unrolled" sees half as many points, on the grid a quarter; RpGAN sees twice as many on the grid.
        batch: batch size.
        width: units of each hidden layer.
        packing: samples in a pack, which D sees together.
        unrolled: steps of D.
        sd: of the ring's Gaussians; larger than the papers' 0.01, for which these trainings are too short. The grid's
            is that of the papers.
    """

    seed: int = 0
    points: PositiveInt = 300_000
    batch: PositiveInt = 128
    width: PositiveInt = 128
    packing: PositiveInt = 2
    unrolled: PositiveInt = 5
    sd: PositiveFloat = 0.05

    def run(self) -> LabResult:
        """Train all games on both mixtures and count the modes."""
        samples: dict[tuple[str, str], Tensor] = {}
        rows: list[Row] = []
        ring, grid = Ring(name="ring", sd=self.sd), Grid(name="grid", sd=0.05)
        for mixture, layers, factor in ((ring, 2, 1), (grid, 3, 2)):
            for name, (length, overrides) in self._games(factor).items():
                points = samples[mixture.name, name] = self._train(mixture, layers, length, overrides)
                rows.append({"set": mixture.name, "game": name, "points": float(length), **_row(points, mixture)})
        return LabResult(rows, _figure(samples, {"ring": ring, "grid": grid}), _checks(rows))

    def _games(self, factor: int) -> dict[str, tuple[int, list[str]]]:
        """Return for each game how many points it sees, and its overrides.

        Args:
            factor: 2 on the grid, 1 on the ring, for the lengths of the third and fourth game.
        """
        noise = f"augment.images={self.points * factor // 2}"
        unrolled = f"optim.generator.unrolled={self.unrolled}"
        return {
            "GAN": (self.points, SLOW_DISCRIMINATOR),
            "packing": (self.points, [*SLOW_DISCRIMINATOR, f"model.game.packing={self.packing}"]),
            "unrolled": (self.points // (2 * factor), [*SLOW_DISCRIMINATOR, "loss=minimax", unrolled]),
            "RpGAN + R1 + R2": (self.points * factor, [*R3GAN, noise]),
        }

    def _train(self, mixture: Mixture, layers: int, length: int, overrides: list[str]) -> Tensor:
        """Train one game and return samples [N, 2] of the EMA generator."""
        data = ["data=toy", f"data/mixture={mixture.name}", f"data.mixture.sd={mixture.sd}"]
        hidden = "[" + ",".join([str(self.width)] * layers) + "]"
        sizes = [f"model.game.{player}.hidden={hidden}" for player in ("generator", "discriminator")]
        run = [f"max_images={length}", f"data.batch_size={self.batch}", f"seed={self.seed}"]
        trained = train("model=toy", "model.game.prior.dim=4", *data, *sizes, *run, *overrides)
        return trained.sample(SAMPLES, self.seed, ema=True).flatten(1).double() * mixture.scale


def _row(points: Tensor, mixture: Mixture) -> Row:
    numbers = count_modes(points, mixture.means, mixture.sd)
    divergence = numbers["reverse_kl"]
    return {
        "modes": numbers["modes"],
        "effective": len(mixture.means) * exp(-divergence),
        "high quality": numbers["high_quality"],
        "reverse KL": divergence if isfinite(divergence) else "-",
    }


def _figure(samples: Mapping[tuple[str, str], Tensor], mixtures: Mapping[str, Mixture]) -> Figure:
    figure = Figure((8, 4.2), layout="constrained")
    for axes, ((mixture, name), points) in zip(figure.subplots(2, len(samples) // 2).flat, samples.items()):
        axes.scatter(*mixtures[mixture].means.T, s=60, facecolors="none", edgecolors="tab:red", linewidths=0.8)
        axes.scatter(*points[:PLOTTED].T, s=1, color="tab:blue", alpha=0.4)
        edge = float(mixtures[mixture].means.abs().max()) * 1.3
        axes.set(title=f"{name}, {mixture}", xticks=[], yticks=[], aspect="equal")
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge))
    return figure


def _checks(rows: list[Row]) -> list[Check]:
    def value(mixture: str, game: str, number: str = "effective") -> float:
        return next(float(row[number]) for row in rows if (row["set"], row["game"]) == (mixture, game))

    r3gan = "RpGAN + R1 + R2"
    more_modes = value("ring", "packing") - value("ring", "GAN")
    return [
        Check("ring, packing: effective modes of 8 over the GAN's", more_modes, ">", 2),
        Check("ring, RpGAN + R1 + R2: effective modes of 8", value("ring", r3gan), ">", 7.5),
        Check("ring, RpGAN + R1 + R2: high quality", value("ring", r3gan, "high quality"), ">", 0.4),
        Check("grid, GAN: effective modes of 25", value("grid", "GAN"), "<", 15),
        Check("grid, RpGAN + R1 + R2: effective modes of 25", value("grid", r3gan), ">", 18),
        Check("grid, RpGAN + R1 + R2: high quality", value("grid", r3gan, "high quality"), ">", 0.1),
    ]
