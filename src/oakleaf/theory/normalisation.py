"""What range the images should have before a generator that ends in tanh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data import Images
from oakleaf.theory.finding import Check, Finding, Row
from oakleaf.theory.pictures import Trained, figure, frechet, halves, train


class Rescaled(Images):
    """The same images as (x - shift) / scale, x in [-1, 1]."""

    def __init__(self, shift: float, scale: PositiveFloat, **images: Any) -> None:
        super().__init__(**images)
        self.shift, self.scale = shift, scale

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {**batch, "image": (batch["image"] - self.shift) / self.scale}


@dataclass
class Normalisation:
    """Radford 2015, arXiv:1511.06434, section 4: "no pre-processing besides scaling to the range of the tanh
    activation function [-1, 1]", and section 3, tanh at G's output. The same DCGAN is trained on digits in that range,
    in [0, 1], and with mean 0 and sd 1; samples are mapped back before they are compared.

    floor: the pixel Frechet distance of the real images themselves once they are cut to tanh's range, which no
    generator with tanh can be expected to pass.
    """

    seed: int = 0
    seeds: PositiveInt = 2
    images: PositiveInt = 24_000
    width: PositiveInt = 16
    batch: PositiveInt = 32

    def run(self) -> Finding:
        real = self._train(0.0, 1.0, self.seed, images=1).real
        mean, sd = real.mean().item(), real.std().item()
        ranges = {"[-1, 1]": (0.0, 1.0), "[0, 1]": (-1.0, 2.0), "mean 0, sd 1": (mean, sd)}
        rows: list[Row] = []
        drawn: dict[str, Tensor] = {}
        for name, (shift, scale) in ranges.items():
            runs = [self._train(shift, scale, self.seed + i) for i in range(self.seeds)]
            fakes = [run.draw(len(real), self.seed) for run in runs]
            drawn[name] = fakes[0] * scale + shift
            rows.append({"range": name, **_row(runs, fakes, real, shift, scale)})
        best: Row = {
            "range": "(real, halves)",
            **dict.fromkeys(list(rows[0])[1:], "-"),
            "pixel FD": halves(real, self.seed),
        }
        return Finding([*rows, best], figure(drawn, real), _checks(rows))

    def _train(self, shift: float, scale: float, seed: int, images: int | None = None) -> Trained:
        players = [f"model.game.{player}.width={self.width}" for player in ("generator", "discriminator")]
        length = [f"max_images={images or self.images}", f"data.batch_size={self.batch}", f"seed={seed}"]
        rescaled = [f"data._target_={__name__}.Rescaled", f"+data.shift={shift}", f"+data.scale={scale}"]
        return train(*players, *length, *rescaled)


def _row(
    runs: Sequence[Trained], fakes: Sequence[Tensor], real: Tensor, shift: float, scale: float
) -> dict[str, float]:
    """Means over seeds, as shares of all values. beyond: real ones that tanh can't reach. impossible: samples' that no
    real image has. saturated: samples' where tanh' is below 0.02."""
    seen, lowest, highest = runs[0].real, runs[0].real.min(), runs[0].real.max()
    margin = 0.02 * (highest - lowest)
    fake = torch.cat(list(fakes))
    distances = torch.tensor([frechet(f * scale + shift, real) for f in fakes])
    return {
        "beyond tanh": _share(seen.abs() > 1),
        "impossible": _share((fake < lowest - margin) | (fake > highest + margin)),
        "saturated": _share(fake.abs() > 0.99),
        "accuracy of D": sum(run.accuracy() for run in runs) / len(runs),
        "floor": frechet(seen.clamp(-1, 1) * scale + shift, real),
        "pixel FD": distances.mean().item(),
        "+-": distances.std(correction=0).item(),
    }


def _share(where: Tensor) -> float:
    return where.double().mean().item()


def _checks(rows: Sequence[Mapping[str, float | str]]) -> list[Check]:
    of = {row["range"]: {k: float(v) for k, v in row.items() if not isinstance(v, str)} for row in rows}
    usual, unit, standard = of.values()
    return [
        Check("[-1, 1]: real values beyond tanh", usual["beyond tanh"], "<", 1e-9),
        Check("mean 0, sd 1: real values beyond tanh", standard["beyond tanh"], ">", 0.05),
        Check("mean 0, sd 1: floor / pixel FD of [-1, 1]", standard["floor"] / usual["pixel FD"], ">", 1.0),
        Check("mean 0, sd 1: pixel FD / that of [-1, 1]", standard["pixel FD"] / usual["pixel FD"], ">", 1.5),
        Check("[0, 1]: values that no image has", unit["impossible"], ">", 0.01),
    ]
