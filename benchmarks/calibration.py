"""Real data through the measures, beside the figures that are known: python benchmarks/calibration.py [FOLDER]

FOLDER holds torchvision's MNIST (default: data). About five minutes on two cores, most of it for the reader of digits,
which is kept. Published measures of samples mean little without these lines.
"""

import sys
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from oakleaf.data import Images
from oakleaf.data.sources import torchvision_set
from oakleaf.data.stacked_mnist import StackedMNIST
from oakleaf.data.toy import Grid, Ring
from oakleaf.frozen.classifier import Training
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.metrics.modes import StackedModes, count_modes
from oakleaf.metrics.neighbours import flat, nearest, shuffled
from oakleaf.metrics.parzen import Parzen

ROOT = sys.argv[1] if len(sys.argv) > 1 else "data"
Split = Literal["train", "test"]


def mnist(split: Split) -> tuple[Tensor, Tensor]:
    """Pixels uint8 [N, 1, 28, 28] and labels [N]."""
    data = Images("mnist", partial(torchvision_set, name="MNIST", split=split), ROOT, 28, 1)
    data.setup()
    return data.rows["image"], data.rows["label"]


def as_sample(pixels: Tensor) -> ImageSet:
    return ImageSet(Features(torch.empty(len(pixels), 0), None), pixels)


def centroids(images: Tensor, count: int, steps: int = 2) -> Tensor:
    """k-means of [N, d], begun at random images."""
    centres = images[shuffled(len(images), count)].clone()
    for _ in range(steps):
        own = nearest(images, centres).row[:, 0]
        total = torch.zeros_like(centres).index_add_(0, own, images)
        number = torch.bincount(own, minlength=count)[:, None]
        centres = torch.where(number > 0, total / number.clamp(min=1), centres)
    return centres


def line(what: str, found: str, known: str) -> None:
    print(f"{what:58s} {found:>22s}   {known}", flush=True)


def parzen(train: Tensor, test: Tensor) -> None:
    measure = Parzen()
    measure.valid, measure.test, measure.split = flat(train[50_000:51_000]), flat(test), "test"
    as_found, drawn = as_sample(train[:10_000]), as_sample(train[:50_000][shuffled(50_000, 10_000)])
    points = as_sample(centroids(flat(train[:50_000]), 10_000).view(-1, 1, 28, 28))
    for what, sample, known in (
        ("Parzen of the first 10,000 real images, nats", as_found, "242.7 +- 2.1"),
        ("Parzen of 10,000 drawn from 50,000, nats", drawn, "242.7 +- 2.1"),
        ("Parzen of 10,000 k-means centroids, nats", points, "334.5 +- 1.7"),
    ):
        found = measure(sample, sample)
        line(what, f"{found['parzen']:.1f} +- {found['parzen_se']:.1f} ({found['parzen_sigma']:.3f})", known)


def one_nn(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> None:
    for count, known in ((60_000, "3.09 %"), (50_000, "3.34 %")):
        found = nearest(test, train[:count]).row[:, 0]
        error = float((labels[found] != truth).float().mean())
        line(f"1-NN error of {count:,} real images", f"{100 * error:.2f} %", known)


def stacked() -> None:
    """Perfect samples: real triples; read by their true labels, and by the reader that reads generated ones."""
    source = partial(StackedMNIST, count=128_000)
    data = Images("stacked_mnist", source, ROOT, 28, 3)
    evaluation: Any = SimpleNamespace(data=data, device="cpu")
    data.setup()
    for samples, known in ((26_000, "0.0239 +- 0.0012"), (10_000, "0.0545"), (2_500, "0.226 (916 modes)")):
        found = []
        for start in range(0, 26_000 * 4, samples)[:10]:
            counts = torch.bincount(data.rows["label"][start : start + samples], minlength=1000).double()
            share = counts / counts.sum()
            some = share[share > 0]
            found.append((float((some * (some * 1000).log()).sum()), float((counts > 0).sum())))
        kl, modes = torch.tensor(found).double().unbind(1)
        value = f"{kl.mean():.4f} +- {kl.std():.4f}"
        line(f"Stacked-MNIST, {samples:,} real triples, true labels: KL", value, known)
        line("", f"{modes.mean():.0f} modes", "")
    measure = StackedModes(Training())
    measure.prepare(evaluation)
    found = measure(as_sample(data.rows["image"]), as_sample(data.rows["image"]))
    line(f"the same 26,000, by the reader ({100 * measure.accuracy:.2f} %): KL", f"{found['kl']:.4f}", "")


def toys() -> None:
    for mixture, known in (
        (Ring(name="ring", sd=0.01), "98.89 %, 0.0014"),
        (Grid(name="grid", sd=0.05), "98.89 %, 0.0048"),
    ):
        found = []
        for seed in range(200):
            points, _ = mixture.draw(2500, torch.Generator().manual_seed(seed))
            numbers = count_modes(points, mixture.means, mixture.sd)
            found.append((numbers["high_quality"], numbers["reverse_kl"]))
        good, kl = torch.tensor(found).mean(0)
        line(f"{mixture.name}, the true density: high quality, reverse KL", f"{100 * good:.2f} %, {kl:.4f}", known)


def main() -> None:
    (train, labels), (test, truth) = mnist("train"), mnist("test")
    line("", "found", "known")
    toys()
    parzen(train, test)
    one_nn(train, labels, test, truth)
    stacked()


if __name__ == "__main__":
    main()
