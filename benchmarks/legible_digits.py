"""How many of a run's samples are digits that can be read: python benchmarks/legible_digits.py RUN [RUN ...]

A support vector classifier (scikit-learn's SVC, its probabilities calibrated by isotonic regression in 5 folds) learns
half of the 1,797 real digits. The share of 1,000 samples that it reads with a probability of at least 0.9 is divided by
the same share of the other half, which goes through the same resizing (8 x 8 -> 16 x 16 -> 8 x 8 by area). Two readers:
one learned the digits as they are, with a narrow kernel (strict), one as they come out of the resizing, with
scikit-learn's usual one (lenient). Beside them: the rarest digit's
share, the distance to the nearest real digit (median; copies would be far below real digits' own), and, as calibration
lines, real digits and pixel-wise mixtures of two different ones through the same measure.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from oakleaf.builder.load import load
from oakleaf.data import Images
from oakleaf.data.sources import digits
from oakleaf.image_grid import to_bytes
from oakleaf.sampling.latents import seeded_inputs

SAMPLES, SURE = 1000, 0.9


class Reading(NamedTuple):
    strict: float  # share read by the reader of untouched digits
    lenient: float  # share read by the reader of resized digits
    rarest: float  # share of the rarest digit among all that the lenient reader says
    nearest: float  # median distance to the nearest real digit, grey levels 0 to 16


def flat(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 16, 16] -> [N, 64], 8 x 8 by area, grey levels 0 to 16 as scikit-learn has them."""
    small = images.reshape(-1, 8, 2, 8, 2).astype(np.float64).mean((2, 4))
    return small.reshape(-1, 64) * (16 / 255)


def distances(these: np.ndarray, those: np.ndarray, itself: bool = False) -> float:
    between = torch.cdist(torch.from_numpy(these), torch.from_numpy(those))
    if itself:
        between.fill_diagonal_(torch.inf)
    return float(between.min(1).values.median())


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
        self.labels, self.held_out = labels, held_out
        self.share_strict = self._sure(self.strict, self.real[held_out])
        self.share_lenient = self._sure(self.lenient, self.real[held_out])

    @staticmethod
    def _learned(images: np.ndarray, labels: np.ndarray, gamma: float) -> CalibratedClassifierCV:
        return CalibratedClassifierCV(SVC(C=10, gamma=gamma), method="isotonic", cv=5).fit(images, labels)

    @staticmethod
    def _sure(reader: CalibratedClassifierCV, images: np.ndarray) -> float:
        return float((reader.predict_proba(images).max(1) >= SURE).mean())

    def read(self, images: np.ndarray) -> Reading:
        """uint8 [N, 16, 16]; shares are relative to those of held-out real digits."""
        seen = flat(images)
        said = np.bincount(self.lenient.predict_proba(seen).argmax(1), minlength=10) / len(seen)
        return Reading(
            self._sure(self.strict, seen) / self.share_strict,
            self._sure(self.lenient, seen) / self.share_lenient,
            float(said.min()),
            distances(seen, self.real),
        )

    def mixtures(self) -> np.ndarray:
        """Half of one real digit and half of another, of different classes."""
        rng = np.random.default_rng(0)
        a, b = rng.permutation(len(self.labels)), rng.permutation(len(self.labels))
        a, b = a[self.labels[a] != self.labels[b]], b[self.labels[a] != self.labels[b]]
        return ((self.resized[a].astype(int) + self.resized[b]) // 2).astype(np.uint8)


def main() -> None:
    readers = Readers()
    print(f"real share read with p >= {SURE}: strict {readers.share_strict:.3f}, lenient {readers.share_lenient:.3f}")
    own = distances(readers.real, readers.real, itself=True)
    print(f"{'':42s} strict lenient rarest nearest")
    held_out = readers.read(readers.resized[readers.held_out])._replace(nearest=own)
    lines = {"real digits": held_out, "mixtures of two": readers.read(readers.mixtures())}
    for run in map(Path, sys.argv[1:]):
        module = load(run)
        images = to_bytes(module.sample(seeded_inputs(module.game, SAMPLES, seed=0)))[:, 0].numpy()
        lines[str(run)] = readers.read(images)
    for name, reading in lines.items():
        shares = f"{reading.strict:6.3f} {reading.lenient:7.3f} {reading.rarest:6.3f}"
        print(f"{name[-42:]:42s} {shares} {reading.nearest:7.2f}")
    runs = np.array(list(lines.values())[2:])
    if len(runs) > 1:
        means = "  ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(runs.mean(0), runs.std(0, ddof=1)))
        print(f"mean +- sd of {len(runs)} runs: {means}")


if __name__ == "__main__":
    main()
