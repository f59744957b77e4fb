"""Training on 1,000 images with and without the remedies: python benchmarks/small_data.py OUT [--sets mnist faces] ...

Each run trains a DCGAN on 1,000 images and measures eight times:

- fid: the Frechet distance of 1,500 samples (EMA) to 3,000 held-out images, by the features of a classifier that was
  trained on other images of the set (labels of MNIST, attributes of CelebA);
- r_v = (D(train) - D(held out)) / (D(train) - D(fake)), the overfitting of the critic (Karras 2020, arXiv:2006.06676,
  eq. (1)), by its mean scores of 1,000 images each, in eval mode and without augmentation;
- nearest: the median distance in pixels of a sample to the nearest of the 1,000 training images, divided by that to the
  nearest of 1,000 held-out images; below 1 where samples copy the training set.

A run that is interrupted continues, and one that is done is skipped. With --report the results in OUT become
benchmarks/results/small_data.json, docs/small_data/*.png and a table. Data: data/MNIST, data/celeba.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.builder.recipe import build_data
from oakleaf.builder.trainer import build_trainer
from oakleaf.frozen.classifier import Network, Training, train_classifier
from oakleaf.frozen.tasks import Attributes, Labels
from oakleaf.image_grid import from_bytes, to_bytes
from oakleaf.metrics.fid import frechet_distance
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.metrics.neighbours import nearest
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs

SMALL, HELD_OUT, SAMPLES, MEASURES = 1000, 3000, 1500, 8
METHODS = {
    "none": [],
    "diffaugment": ["augment=diffaugment"],
    "ada": ["augment=ada", "augment.images=50000"],
    "lecam": ["+loss/penalty=lecam", "loss.penalties.lecam.start=200"],
    "apa": ["augment=apa", "augment.images=50000"],
}
COMMON = [
    *("model=dcgan", "loss=hinge", "loss.norm=spectral", "trainer=cpu", "trainer.precision=32-true", "logger=csv"),
    *("callbacks.training_monitor=null", "callbacks.samples=null"),
    *("model.game.generator.width=16", "model.game.discriminator.width=16"),
]
ROOT = Path(__file__).resolve().parents[1]
RESULTS, FIGURES = ROOT / "benchmarks/results/small_data.json", ROOT / "docs/small_data"
PARTS = {"train": slice(SMALL), "held_out": slice(SMALL, SMALL + HELD_OUT), "classifier": slice(SMALL + HELD_OUT, None)}


class Set(NamedTuple):
    """One data set: its options, the size and the channels of its images."""

    options: list[str]
    size: int
    channels: int
    title: str


SETS = {
    "mnist": Set(["data=mnist"], 28, 1, "1,000 digits of MNIST, 28 px"),
    "faces": Set(["data=celeba", "data.size=32", "data.flip=false"], 32, 3, "1,000 faces of CelebA, 32 px"),
}


def rows_of(name: str) -> dict[str, dict[str, Tensor]]:
    """Return images and labels of the three parts of a set, as stored; the order of the set is shuffled once."""
    config = compose_config("train", [*SETS[name].options, *COMMON])
    data = build_data(config)
    data.prepare_data()
    data.setup()
    order = torch.randperm(data.count, generator=torch.Generator().manual_seed(0))
    label = "label" if "label" in data.columns else "attributes"
    parts = {part: order[rows] for part, rows in PARTS.items()}
    return {part: {"image": data.images(rows), label: data.column(label, rows)} for part, rows in parts.items()}


class Judge:
    """What samples and scores are measured with, the same for all runs on a set.

    Args:
        name: of the set.
        folder: where its training images are written, as PNGs.
    """

    def __init__(self, name: str, folder: Path) -> None:
        parts = rows_of(name)
        self.train, self.held_out = parts["train"]["image"], parts["held_out"]["image"]
        self.folder = folder
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for i, image in enumerate(self.train):
                Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(folder / f"{i:04}.png")
        self.network = self._classifier(parts["classifier"], folder.with_name(f"{name}-classifier.pt"))
        self.real = self.features(self.held_out)
        self.floor = frechet_distance(self.features(self.train).moments, self.real.moments)

    def _classifier(self, rows: dict[str, Tensor], file: Path) -> Network:
        """Return the classifier whose hidden layer is compared, and keep it in a file."""
        images, label, attributes = rows["image"], rows.get("label"), rows.get("attributes")
        task = Attributes(attributes) if label is None else Labels(label, 10)  # type: ignore[arg-type]
        training = Training(images=60_000, width=16, features=64)
        if not file.is_file():
            torch.save(train_classifier(images, task, training).state_dict(), file)
        network = Network(images.shape[1], (images.shape[2], images.shape[3]), task.outputs, training)
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()

    @torch.no_grad()
    def features(self, images: Tensor) -> ImageSet:
        batches = [self.network(from_bytes(batch).float())[0] for batch in images.split(500)]
        return ImageSet(Features(torch.cat(batches), None), images)

    def measure(self, module: Any) -> dict[str, float]:
        """Measure the module as it is now."""
        inputs = seeded_inputs(module.game, SAMPLES, 1)
        samples = to_bytes(sample_in_batches(module, inputs))
        with module.ema_scope(False) as game:
            critic = game.discriminator
            score = {
                name: float(torch.cat([critic(from_bytes(x).float()).score for x in images.split(250)]).mean())
                for name, images in (("train", self.train), ("held_out", self.held_out[:SMALL]))
            }
            score["fake"] = float(critic(game.generate(seeded_inputs(game, 500, 2))).score.mean())
        separation = score["train"] - score["fake"]
        train, other = (nearest(samples[:1000], x, 1).distance.median() for x in (self.train, self.held_out[:SMALL]))
        return {
            "fid": frechet_distance(self.features(samples).moments, self.real.moments),
            "r_v": (score["train"] - score["held_out"]) / separation if separation > 0 else float("nan"),
            "gap": score["train"] - score["held_out"],
            "nearest": float(train / other),
            "p": float(getattr(module.game.augment, "p", float("nan"))),
        }


class Measure(Callback):
    """Measure eight times in a run and write all measures to a file."""

    def __init__(self, judge: Judge, file: Path, images: int) -> None:
        self.judge, self.file, self.every = judge, file, images // MEASURES
        self.found: list[dict[str, float]] = json.loads(file.read_text()) if file.is_file() else []
        self.began = time.process_time()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.found = [one for one in self.found if one["images"] <= pl_module.images_seen]
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        seen, before = pl_module.images_seen, pl_module.images_seen - pl_module.global_batch_size
        if seen // self.every > before // self.every:
            trained = time.process_time() - self.began
            earlier = self.found[-1]["seconds"] if self.found else 0.0
            values = self.judge.measure(pl_module)
            self.found.append({"images": seen, "seconds": round(earlier + trained, 1), **values})
            self.file.write_text(json.dumps(self.found))
            print(self.file.parent, {key: round(value, 3) for key, value in self.found[-1].items()}, flush=True)
            self.began = time.process_time()


def train(name: str, method: str, seed: int, images: int, out: Path, judge: Judge) -> None:
    """Train one run, or the rest of it."""
    folder = out / f"{name}-{method}-{seed}"
    if (folder / "done").is_file():
        return
    options = [
        *("data=folder", f"data.root={judge.folder}", f"data.size={SETS[name].size}"),
        *(f"data.channels={SETS[name].channels}", f"seed={seed}", f"max_images={images}"),
        f"callbacks.checkpoint.every={images // MEASURES}",
    ]
    config = compose_config("train", [*COMMON, *METHODS[method], *options])
    config.folder = str(folder)
    module, data, recipe = build(config)
    trainer = build_trainer(recipe)
    trainer.callbacks.insert(0, Measure(judge, folder / "measures.json", images))  # type: ignore[attr-defined]
    last = folder / "checkpoints" / "last.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    trainer.fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    (folder / "done").touch()


def report(out: Path) -> None:
    """Write the results of all runs in a folder: a JSON of numbers, a figure and the rows of a table for each set."""
    results: dict[str, Any] = {}
    for file in sorted(out.glob("*/measures.json")):
        name, method, seed = file.parent.name.split("-")
        results.setdefault(name, {}).setdefault(method, {})[seed] = json.loads(file.read_text())
    for name in results:
        results[name] = {method: results[name][method] for method in METHODS if method in results[name]}
        floor = json.loads((out / f"{name}-floor.json").read_text())
        draw(SETS[name].title, results[name], floor)
        print(f"\n{SETS[name].title}; FID of the training images themselves: {floor:.2f}\n")
        print("| | seeds | FID, best | FID, last | r_v, last | nearest, last | p, last | img/s |\n" + "|---" * 8 + "|")
        for method, runs in results[name].items():
            print(table_row(method, list(runs.values())))
        results[name]["floor"] = floor
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table_row(method: str, runs: list[list[dict[str, float]]]) -> str:
    """Return a row of the table: means over the seeds, and the range."""

    def cell(values: list[float]) -> str:
        known = [value for value in values if value == value]
        if not known:
            return ""
        mean = sum(known) / len(known)
        return f"{mean:.2f}" + (f" ({min(known):.2f} to {max(known):.2f})" if len(known) > 1 else "")

    best = cell([min(one["fid"] for one in run) for run in runs])
    last = [cell([run[-1][key] for run in runs]) for key in ("fid", "r_v", "nearest", "p")]
    speed = sum(run[-1]["images"] / run[-1]["seconds"] for run in runs) / len(runs)
    return "| " + " | ".join([f"`{method}`", str(len(runs)), best, *last, f"{speed:.0f}"]) + " |"


def draw(title: str, results: dict[str, dict[str, list[dict[str, float]]]], floor: float) -> None:
    """Draw FID and r_v over the images seen: the mean over the seeds, and their range."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2), ("fid", "r_v"), ("FID to held-out images", "r_v, overfitting of D"), strict=True
    ):
        for method, runs in results.items():
            length = min(len(run) for run in runs.values())
            values = torch.tensor([[one[key] for one in run[:length]] for run in runs.values()])
            images = [one["images"] for one in next(iter(runs.values()))[:length]]
            (line,) = axes.plot(images, values.mean(0), "o-", markersize=3, label=f"{method} ({len(runs)} seeds)")
            axes.fill_between(images, values.amin(0), values.amax(0), color=line.get_color(), alpha=0.15)
        if key == "fid":
            axes.axhline(floor, color="grey", linestyle=":", label="the training images themselves")
        axes.set(xlabel="images seen", ylabel=label)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    file = FIGURES / f"{title.split()[1]}.png"
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--report", action="store_true", help="write figures and tables of what is there")
    arguments = parser.parse_args()
    if arguments.report:
        return report(arguments.out)
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        for name in arguments.sets:
            judge = Judge(name, arguments.out.resolve() / f"{name}-images")
            (arguments.out / f"{name}-floor.json").write_text(json.dumps(judge.floor))
            for method in arguments.methods:
                train(name, method, seed, arguments.images, arguments.out, judge)


if __name__ == "__main__":
    main()
