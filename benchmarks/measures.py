"""What each metric does with samples of known faults: python benchmarks/measures.py FOLDER [--counts 200 1000 10000]

FOLDER holds a folder of pictures for each class, or torchvision's MNIST. A part of the pictures takes the place of the
samples: as they are (perfect samples: the metrics' model has the other pictures), and with the faults of `KINDS`. Each
number stands beside that of held-out real images, equally many against the same reference; the script checks that
perfect samples agree with them within the interval, and that each fault moves a number as `MOVES` says. It writes
benchmarks/results/measures/NAME.json and the tables of all results into docs/measures.md. Half an hour to an hour on
two cores for 10,000 samples, a few minutes for 1,000.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from contest import HERE
from torch import Tensor
from torch.nn.functional import conv2d, pad

from oakleaf.data import Images
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.folder import Folder
from oakleaf.data.sources import torchvision_set
from oakleaf.frozen.classifier import Training
from oakleaf.metrics.conditional import ConditionalAccuracy, OneNN
from oakleaf.metrics.diversity import Diversity
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Classifier
from oakleaf.metrics.fid import FrechetDistance
from oakleaf.metrics.fid_infinity import FrechetInfinity
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.inception_score import InceptionScore
from oakleaf.metrics.intra_fid import IntraFrechetDistance
from oakleaf.metrics.kid import KernelDistance
from oakleaf.metrics.memorization import Copies, Memorisation
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.parzen import Parzen
from oakleaf.metrics.precision_recall import Prdc
from oakleaf.metrics.standard_errors import difference_interval, standard_errors
from oakleaf.metrics.two_sample import TwoSample

RESULTS = HERE / "results" / "measures"
PAGE = HERE.parent / "docs" / "measures.md"
BEGIN, END = "<!-- tables: benchmarks/measures.py writes what follows -->", "<!-- end of tables -->"
NOISE = 25  # standard deviation, in grey levels of 255
REPEATED = 40  # different images among the samples of a collapsed generator

METRICS: dict[str, Callable[[], Metric]] = {
    "fid": FrechetDistance,
    "fid_infinity": FrechetInfinity,
    "intra_fid": IntraFrechetDistance,
    "kid": KernelDistance,
    "inception_score": InceptionScore,
    "prdc": Prdc,
    "two_sample": TwoSample,
    "diversity": Diversity,
    "memorisation": Memorisation,
    "copies": Copies,
    "parzen": partial(Parzen, samples=10_000, validation=500),
    "conditional_accuracy": ConditionalAccuracy,
    "one_nn": OneNN,
}
MOVES = {  # what a fault does to a number, compared with real images, at the largest count: "+" more, "-" less
    "fid": {"half of the classes": "+", "one class": "+", "blurred": "+", "noise": "+", "averages of two": "+",
            "40 images repeated": "+"},
    "fid_infinity": {"half of the classes": "+", "one class": "+", "noise": "+", "averages of two": "+"},
    "intra_fid": {"blurred": "+", "noise": "+", "averages of two": "+"},
    "kid": {"half of the classes": "+", "one class": "+", "noise": "+", "averages of two": "+"},
    "inception_score": {"half of the classes": "-", "one class": "-", "averages of two": "-"},
    "precision": {"noise": "-", "averages of two": "-"},
    "recall": {"half of the classes": "-", "one class": "-", "40 images repeated": "-"},
    "coverage": {"half of the classes": "-", "one class": "-", "40 images repeated": "-", "averages of two": "-"},
    "two_sample": {"half of the classes": "+", "one class": "+", "noise": "+", "averages of two": "+"},
    "class_entropy": {"half of the classes": "-", "one class": "-"},
    "spread": {"one class": "-"},
    "vendi": {"one class": "-", "half of the classes": "-"},
    "nearest_training": {"shifted copies": "-", "noise": "+"},
    "copied": {"shifted copies": "+"},
    "conditional_accuracy": {"averages of two": "-"},
    "parzen": {"half of the classes": "-", "one class": "-", "40 images repeated": "-"},
}  # fmt: skip


class Pictures(ImageDataModule):
    """Some of the pictures of a set, in memory."""

    def __init__(self, whole: Images, rows: Tensor, part: str) -> None:
        super().__init__(whole.name, 64, 1, 0)
        self.whole, self.part, self.cache, self.classes = whole, part, whole.cache, whole.classes
        self.size, self.channels, self.keys = whole.size, whole.channels, whole.keys
        self.rows = {name: values[rows].clone() for name, values in whole.rows.items()}

    @property
    def digest(self) -> str:
        return repr((self.whole.digest, self.part))

    def stored(self, images: Tensor) -> Tensor:
        return self.whole.stored(images)


def read(folder: Path, size: int | None, cache: str) -> Images:
    """Read a folder of classes, or torchvision's MNIST."""
    if (folder / "MNIST").is_dir():
        source: Any = partial(torchvision_set, name="MNIST", split="all")
        data = Images("mnist", source, str(folder), size or 28, 1, cache=cache)
    else:
        data = Images(folder.name, Folder, str(folder), size, cache=cache)
    data.prepare_data()
    data.setup()
    if "label" not in data.rows:
        raise SystemExit(f"{folder}: one folder for each class is needed")
    return data


def blurred(images: Tensor) -> Tensor:
    """Blur by a Gaussian with a standard deviation of one pixel."""
    line = torch.exp(-torch.arange(-3.0, 4.0).square() / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    kernel = kernel.expand(images.shape[1], 1, 7, 7)
    padded = pad(images.float(), (3, 3, 3, 3), mode="replicate")
    return conv2d(padded, kernel, groups=images.shape[1]).round().byte()


class Samples:
    """Samples with known faults, [count, C, H, W] with labels [count], or fewer if there are not as many pictures.

    Args:
        fresh: pictures that the model does not have.
        training: those that it has, of which copies are made.
        count: how many.
    """

    def __init__(self, fresh: Pictures, training: Pictures, count: int) -> None:
        self.fresh, self.training, self.count = fresh, training, count
        self.generator = torch.Generator().manual_seed(1)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows[: self.count]
        return self.fresh.rows["image"][rows], self.fresh.rows["label"][rows]

    def of_classes(self, classes: int) -> tuple[Tensor, Tensor]:
        return self.take(torch.nonzero(self.fresh.rows["label"] < classes).flatten())

    def kinds(self) -> dict[str, tuple[Tensor, Tensor]]:
        every = torch.arange(self.count)
        images, label = self.take(every)
        noise = NOISE * torch.randn(images.shape, generator=self.generator)
        others = self.take(every.roll(1))[0]
        copied = self.training.rows["image"][: self.count].float()
        shifted = pad(copied, (1, 1, 1, 1), mode="replicate")[:, :, :-2, 1:-1].byte()
        return {
            "perfect": (images, label),
            "half of the classes": self.of_classes(max(1, len(self.fresh.classes) // 2)),
            "one class": self.of_classes(1),
            "blurred": (blurred(images), label),
            "noise": ((images + noise).clamp(0, 255).round().byte(), label),
            "averages of two": (((images.int() + others) // 2).byte(), label),
            "40 images repeated": self.take(every % REPEATED),
            "shifted copies": (shifted, self.training.rows["label"][: self.count]),
        }


def measure(metric: Metric, evaluation: EvaluationData, samples: ImageSet, resamples: int) -> dict[str, list[float]]:
    """Return [value, standard error] of each number; NaN where there is none."""
    numbers = metric(evaluation.real, samples)
    errors: dict[str, float] = {}
    if metric.has_errors:
        errors = standard_errors(metric.resampler(evaluation.real, samples), len(samples), resamples)
    return {name: [value, errors.get(name, float("nan"))] for name, value in numbers.items()}


def evaluation_of(data: Pictures, count: int, cache: str) -> EvaluationData:
    module: Any = SimpleNamespace(
        device=torch.device("cpu"), trained_on="", game=SimpleNamespace(condition=None, frozen={})
    )
    extractor = Classifier(Training())
    evaluation = EvaluationData(module, data, extractor, fake=count, real=50_000)
    evaluation.prepare()
    return evaluation


def run(data: Images, counts: list[int], metrics: list[str], resamples: int, cache: str) -> dict[str, Any]:
    """Compute all numbers: by count, by kind of samples ("real": the baseline), by name."""
    order = torch.randperm(len(data.rows["image"]), generator=torch.Generator().manual_seed(0))
    model = 3 * max(counts) + max(counts) // 10  # a third of these is held out
    if len(order) < model + max(counts):
        raise SystemExit(f"{data.name}: {len(order)} pictures are too few for {max(counts)} samples")
    training, fresh = Pictures(data, order[:model], "training"), Pictures(data, order[model:], "fresh")
    found: dict[str, Any] = {}
    for count in counts:
        evaluation = evaluation_of(training, count, cache)
        for name in metrics:
            start, metric = time.time(), METRICS[name]()
            try:
                metric.prepare(evaluation)
                sets = {"real": evaluation.held_out}
                for kind, (pixels, label) in Samples(fresh, training, count).kinds().items():
                    sets[kind] = ImageSet(evaluation._extract(pixels), pixels, label)
                for kind, samples in sets.items():
                    numbers = measure(metric, evaluation, samples, resamples)
                    entry = found.setdefault(str(count), {}).setdefault(kind, {"samples": len(samples)})
                    entry.update(numbers)
            except Exception as error:
                print(f"{count} {name}: {error}", flush=True)
            print(f"{count} {name}: {time.time() - start:.0f} s", flush=True)
    return found


def check(found: dict[str, Any], resamples: int) -> list[str]:
    """Return what does not agree with `MOVES` and with perfect samples, at the largest count."""
    kinds = found[max(found, key=int)]
    wrong = []
    for name, (baseline, error) in ((k, v) for k, v in kinds["real"].items() if k != "samples"):
        expected = {"perfect": "=", **MOVES.get(name, {})}
        for kind, move in expected.items():
            value, own_error = kinds.get(kind, {}).get(name, (float("nan"), float("nan")))
            if error != error or own_error != own_error:
                continue
            low, high = difference_interval(value - baseline, own_error, error, resamples)
            actual = "+" if low > 0 else "-" if high < 0 else "="
            if actual != move:
                wrong.append(f"{name}, {kind}: expected {move}, found {actual} ({value:.4g} against {baseline:.4g})")
    return wrong


def tables() -> list[str]:
    """The tables of all results, one for each number: rows are kinds of samples, columns sets and counts."""
    results = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    columns = [(name, count) for name, result in results.items() for count in result["numbers"]]
    names = dict.fromkeys(
        number for name, count in columns for number in results[name]["numbers"][count]["real"] if number != "samples"
    )
    lines = []
    for number in names:
        heads = [f"{name}, {int(count):,}" for name, count in columns]
        lines += [f"**{number}**", "", f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
        kinds = dict.fromkeys(kind for name, count in columns for kind in results[name]["numbers"][count])
        for kind in kinds:
            cells = [_cell(results[name]["numbers"][count].get(kind, {}).get(number)) for name, count in columns]
            lines.append(f"| {'real images (baseline)' if kind == 'real' else kind} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _cell(pair: list[float] | None) -> str:
    if pair is None:
        return ""
    value, error = pair
    return f"{value:.3g}" if error != error else f"{value:.3g} +- {error:.1g}"


def write_page() -> None:
    text = PAGE.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text("\n".join([before + BEGIN, "", *tables(), after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--size", type=int, help="px; default: that of the first picture")
    parser.add_argument("--resamples", type=int, default=20, help="halves of the samples for each standard error")
    parser.add_argument("--cache", default="~/.cache/oakleaf")
    parser.add_argument("--name", help="of the set in the tables; default: that of the folder")
    options = parser.parse_args()
    data = read(options.folder.expanduser(), options.size, options.cache)
    numbers = run(data, options.counts, options.metrics, options.resamples, options.cache)
    name = options.name or data.name
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    known = json.loads(file.read_text())["numbers"] if file.is_file() else {}
    for count, kinds in numbers.items():
        for kind, values in kinds.items():
            known.setdefault(count, {}).setdefault(kind, {}).update(values)
    file.write_text(json.dumps({"resamples": options.resamples, "numbers": known}, indent=1) + "\n")
    write_page()
    for line in check(known, options.resamples):
        print(line)


if __name__ == "__main__":
    main()
