"""How many of a run's samples are digits that can be read: python benchmarks/legible_digits.py RUN [RUN ...]

Three readers learn half of the 1,797 real digits. Each counts the samples that it reads with a probability of at least
0.9, and this share is divided by the same share of the other half of the real digits, which goes through the same
resizing (8 x 8 -> 16 x 16 -> 8 x 8 by area).

- strict: a support vector classifier (scikit-learn's SVC, its probabilities calibrated by isotonic regression in 5
  folds) that learned the digits as they are, with a narrow kernel.
- lenient: the same with scikit-learn's usual kernel, on digits as they come out of the resizing.
- judge: the mean of three convolutional networks that also learned an eleventh class, "no digit": mixtures of two
  digits, scrambled digits, smooth and white noise.

Beside them: how often the lenient reader reads the requested class (conditional generators only; relative to how often
it is right about the other half of the real digits), the rarest digit's share, and the distance to the nearest real
digit (median; copies would be far below real digits' own). The first lines are calibration: real digits, mixtures of
two different ones, halves of two, scrambled ones and noise, all made of the half that no reader has learned.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn import functional

from oakleaf.builder.load import load
from oakleaf.data import Images
from oakleaf.data.sources import digits
from oakleaf.image_grid import to_bytes
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs

SAMPLES, SURE = 1000, 0.9
NO_DIGIT = 10  # the judge's eleventh class
JUDGES, STEPS, BATCH = 3, 600, 64
Array = np.ndarray


class Reading(NamedTuple):
    strict: float  # share read by the reader of untouched digits, relative to real digits
    lenient: float  # share read by the reader of resized digits, relative to real digits
    judge: float  # share read by the networks that know what is no digit, relative to real digits
    requested: float  # share read as the requested class, relative to real digits; NaN without a condition
    rarest: float  # share of the rarest digit among all that the lenient reader says
    nearest: float  # median distance to the nearest real digit, grey levels 0 to 16


def flat(images: Array) -> Array:
    """uint8 [N, 16, 16] -> [N, 64], 8 x 8 by area, grey levels 0 to 16 as scikit-learn has them."""
    small = images.reshape(-1, 8, 2, 8, 2).astype(np.float64).mean((2, 4))
    return small.reshape(-1, 64) * (16 / 255)


def distances(these: Array, those: Array, itself: bool = False) -> float:
    between = torch.cdist(torch.from_numpy(these), torch.from_numpy(those))
    if itself:
        between.fill_diagonal_(torch.inf)
    return float(between.min(1).values.median())


def mixtures(images: Array, labels: Array, rng: np.random.Generator) -> Array:
    """Half of one digit's ink and half of another's, of different classes; uint8 [n, 16, 16]."""
    a, b = _different(labels, rng)
    return ((images[a].astype(int) + images[b]) // 2).astype(np.uint8)


def halves(images: Array, labels: Array, rng: np.random.Generator) -> Array:
    """The upper half of one digit over the lower half of another, of different classes; uint8 [n, 16, 16]."""
    a, b = _different(labels, rng)
    return np.concatenate([images[a][:, :8], images[b][:, 8:]], 1)


def noise(images: Array, labels: Array, rng: np.random.Generator) -> Array:
    """Smooth noise with the brightness of digits; uint8 [n, 16, 16]."""
    values = torch.from_numpy(rng.standard_normal((len(images), 1, 5, 5)))
    smooth = functional.interpolate(values, size=16, mode="bicubic")[:, 0].numpy()
    return np.clip(smooth * 160, 0, 255).astype(np.uint8)


def scrambled(images: Array, labels: Array, rng: np.random.Generator) -> Array:
    """The four quarters of each digit in another order; uint8 [n, 16, 16]."""
    quarters = images.reshape(-1, 2, 8, 2, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 8, 8)
    orders = np.array([(1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0), (1, 2, 3, 0)])[rng.integers(0, 4, len(images))]
    moved = np.take_along_axis(quarters, orders[:, :, None, None], 1)
    return moved.reshape(-1, 2, 2, 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 16)


def white(images: Array, labels: Array, rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def _different(labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of rows of different classes."""
    a, b = rng.permutation(len(labels)), rng.permutation(len(labels))
    return a[labels[a] != labels[b]], b[labels[a] != labels[b]]


LEARNED: list[Callable[[Array, Array, np.random.Generator], Array]] = [mixtures, scrambled, noise, white]
NOT_DIGITS = [*LEARNED, halves]  # some halves make a digit, so the judge does not learn them


class Judge(nn.Sequential):
    """A small convolutional network on 8 x 8 grey levels from 0 to 1, with 11 classes."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, NO_DIGIT + 1)),
        )


def small(images: Array) -> Tensor:
    """uint8 [N, 16, 16] -> [N, 1, 8, 8] from 0 to 1."""
    return torch.from_numpy(flat(images)).float().view(-1, 1, 8, 8) / 16


def learned_judge(images: Array, labels: Array, seed: int) -> Judge:
    """Learn digits, moved by up to one pixel of 16, against what is no digit."""
    torch.manual_seed(seed)
    rng, judge = np.random.default_rng(seed), Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    for _ in range(STEPS):
        rows = rng.integers(0, len(images), BATCH)
        shift = rng.integers(-1, 2, 2)
        real, answers = np.roll(images[rows], shift, (1, 2)), labels[rows]
        wrong = np.concatenate([make(images[rows], labels[rows], rng)[: BATCH // 8] for make in LEARNED])
        wanted = np.concatenate([answers, np.full(len(wrong), NO_DIGIT)])
        loss = functional.cross_entropy(judge(small(np.concatenate([real, wrong]))), torch.from_numpy(wanted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


class Readers:
    def __init__(self) -> None:
        raw, labels = load_digits(return_X_y=True)
        data = Images("digits", digits, "data", size=16, channels=1)
        data.prepare_data()
        data.setup()
        self.resized = data.rows["image"][:, 0].numpy()
        self.real = flat(self.resized)
        learn, held_out = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=0)
        self.strict = self._learned(raw[learn], labels[learn], gamma=0.003)
        self.lenient = self._learned(self.real[learn], labels[learn], gamma=0.001)
        self.judges = [learned_judge(self.resized[learn], labels[learn], seed) for seed in range(JUDGES)]
        self.held_out, self.labels = self.resized[held_out], labels[held_out]
        self.baseline = Reading(*(1.0,) * 6)
        self.baseline = self.read(self.held_out, self.labels)

    @staticmethod
    def _learned(images: Array, labels: Array, gamma: float) -> CalibratedClassifierCV:
        return CalibratedClassifierCV(SVC(C=10, gamma=gamma), method="isotonic", cv=5).fit(images, labels)

    @staticmethod
    def _sure(probabilities: Array) -> float:
        return float((probabilities[:, :NO_DIGIT].max(1) >= SURE).mean())

    def judged(self, images: Array) -> Array:
        """Probabilities [N, 11] of the networks together."""
        with torch.no_grad():
            return torch.stack([judge(small(images)).softmax(1) for judge in self.judges]).mean(0).numpy()

    def read(self, images: Array, requested: Array | None = None) -> Reading:
        """uint8 [N, 16, 16]; shares are relative to those of held-out real digits."""
        seen = flat(images)
        lenient = self.lenient.predict_proba(seen)
        said, base = lenient.argmax(1), self.baseline
        return Reading(
            self._sure(self.strict.predict_proba(seen)) / base.strict,
            self._sure(lenient) / base.lenient,
            self._sure(self.judged(images)) / base.judge,
            float((said == requested).mean()) / base.requested if requested is not None else float("nan"),
            float(np.bincount(said, minlength=10).min() / len(seen)),
            distances(seen, self.real),
        )


def samples(module: object, count: int = SAMPLES, seed: int = 0) -> tuple[Array, Array | None]:
    """Samples uint8 [N, 16, 16] of a run, and the classes that were requested [N], if its generator is conditional."""
    inputs = seeded_inputs(module.game, count, seed)  # type: ignore[attr-defined]
    images = to_bytes(sample_in_batches(module, inputs))[:, 0].numpy()
    return images, inputs["label"].numpy() if "label" in inputs else None


def main() -> None:
    readers = Readers()
    shares = "  ".join(f"{name} {value:.3f}" for name, value in readers.baseline._asdict().items())
    print(f"held-out real digits, read with p >= {SURE}: {shares}")
    print(f"{'relative to these':42s} " + " ".join(f"{name:>9s}" for name in Reading._fields))
    own = distances(readers.real, readers.real, itself=True)
    lines = {"real digits": readers.read(readers.held_out, readers.labels)._replace(nearest=own)}
    for make in NOT_DIGITS:
        lines[make.__name__] = readers.read(make(readers.held_out, readers.labels, np.random.default_rng(0)))
    runs = {str(run): readers.read(*samples(load(run))) for run in map(Path, sys.argv[1:])}
    for name, reading in [*lines.items(), *runs.items()]:
        print(f"{name[-42:]:42s} " + " ".join(f"{value:9.3f}" for value in reading))
    if len(runs) > 1:
        values = np.array(list(runs.values()))
        means = "  ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(values.mean(0), values.std(0, ddof=1)))
        print(f"mean +- sd of {len(runs)} runs: {means}")


if __name__ == "__main__":
    main()
