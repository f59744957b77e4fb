"""The range of the images for a generator that ends in tanh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data import Images
from oakleaf.theory.result import Check, LabResult, Row
from oakleaf.theory.training import TrainedGAN, image_figure, pixel_frechet_distance, real_data_baseline, train


class Rescaled(Images):
    """An image data set whose images are (x - shift) / scale, with x in [-1, 1].

    Args:
        shift: subtracted.
        scale: divided by.
        images: the arguments of `Images`.
    """

    def __init__(self, shift: float, scale: PositiveFloat, **images: Any) -> None:
        super().__init__(**images)
        self.shift, self.scale = shift, scale

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Rescale the images of a batch."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {**batch, "image": (batch["image"] - self.shift) / self.scale}


@dataclass
class Normalisation:
    """Compare a DCGAN on digits in three ranges: [-1, 1], [0, 1], and mean 0 with standard deviation 1.

    The generator ends in tanh (section 3), and the paper uses "no pre-processing besides scaling to the range of the
    tanh activation function [-1, 1]" (section 4). Samples are mapped back to [-1, 1] before they are compared. The
    column "floor" is the pixel Frechet distance of the real images themselves when they are clipped to tanh's range: no
    generator that ends in tanh can be expected to have a smaller one.

    Args:
        seed: of the first training.
        seeds: trainings for each range.
        images: seen in each training.
        width: channels of both networks.
        batch: batch size.

    Reference: Radford 2015, arXiv:1511.06434, sections 3 and 4.
    """

    seed: int = 0
    seeds: PositiveInt = 2
    images: PositiveInt = 24_000
    width: PositiveInt = 16
    batch: PositiveInt = 32

    def run(self) -> LabResult:
        """Train in each range and compare."""
        real = self._train(0.0, 1.0, self.seed, images=1).real
        mean, sd = real.mean().item(), real.std().item()
        ranges = {"[-1, 1]": (0.0, 1.0), "[0, 1]": (-1.0, 2.0), "mean 0, sd 1": (mean, sd)}
        rows: list[Row] = []
        samples: dict[str, Tensor] = {}
        for name, (shift, scale) in ranges.items():
            runs = [self._train(shift, scale, self.seed + i) for i in range(self.seeds)]
            fakes = [run.sample(len(real), self.seed) for run in runs]
            samples[name] = fakes[0] * scale + shift
            rows.append({"range": name, **_row(runs, fakes, real, shift, scale)})
        baseline: Row = {
            "range": "(real, halves)",
            **dict.fromkeys(list(rows[0])[1:], "-"),
            "pixel FD": real_data_baseline(real, self.seed),
        }
        return LabResult([*rows, baseline], image_figure(samples, real), _checks(rows))

    def _train(self, shift: float, scale: float, seed: int, images: int | None = None) -> TrainedGAN:
        players = [f"model.game.{player}.width={self.width}" for player in ("generator", "discriminator")]
        length = [f"max_images={images or self.images}", f"data.batch_size={self.batch}", f"seed={seed}"]
        rescaled = [f"data._target_={__name__}.Rescaled", f"+data.shift={shift}", f"+data.scale={scale}"]
        return train(*players, *length, *rescaled)


def _row(
    runs: Sequence[TrainedGAN], fakes: Sequence[Tensor], real: Tensor, shift: float, scale: float
) -> dict[str, float]:
    """Compute the means over the seeds.

    Returns:
        As shares of all values: "beyond tanh", real values that tanh cannot reach; "impossible", sampled values outside
        of the real images' range; "saturated", sampled values with a derivative of tanh below 0.02. Besides: accuracy
        of D, floor, and the pixel Frechet distance with its standard deviation over the seeds.
    """
    rescaled = runs[0].real
    lowest, highest = rescaled.min(), rescaled.max()
    margin = 0.02 * (highest - lowest)
    fake = torch.cat(list(fakes))
    distances = torch.tensor([pixel_frechet_distance(f * scale + shift, real) for f in fakes])
    return {
        "beyond tanh": _share(rescaled.abs() > 1),
        "impossible": _share((fake < lowest - margin) | (fake > highest + margin)),
        "saturated": _share(fake.abs() > 0.99),
        "accuracy of D": sum(run.accuracy() for run in runs) / len(runs),
        "floor": pixel_frechet_distance(rescaled.clamp(-1, 1) * scale + shift, real),
        "pixel FD": distances.mean().item(),
        "+-": distances.std(correction=0).item(),
    }


def _share(condition: Tensor) -> float:
    return condition.double().mean().item()


def _checks(rows: Sequence[Mapping[str, float | str]]) -> list[Check]:
    by_range = {row["range"]: {k: float(v) for k, v in row.items() if not isinstance(v, str)} for row in rows}
    tanh, unit, standard = by_range.values()
    return [
        Check("[-1, 1]: real values beyond tanh", tanh["beyond tanh"], "<", 1e-9),
        Check("mean 0, sd 1: real values beyond tanh", standard["beyond tanh"], ">", 0.05),
        Check("mean 0, sd 1: floor / pixel FD of [-1, 1]", standard["floor"] / tanh["pixel FD"], ">", 1.0),
        Check("mean 0, sd 1: pixel FD / that of [-1, 1]", standard["pixel FD"] / tanh["pixel FD"], ">", 1.5),
        Check("[0, 1]: values that no image has", unit["impossible"], ">", 0.01),
    ]
