"""Whether augmentations show in the samples: python benchmarks/augmentation_leak.py OUT [--images 80000]

A DCGAN is trained on the digits 2, 3, 4, 5 and 7 of MNIST, which have a top. The critic sees every image turned by
a random number of quarter turns with probability p, and inverted in colour by a coin with probability p
(`augment=ada_fixed augment.ops=[turn,invert]`). Of 2,000 samples each, it counts those that a classifier of rotations
does not read as upright, and those whose border is brighter than grey. Up to a p below 1 neither should appear in the
samples (Karras 2020, arXiv:2006.06676, section 2.2 and figure 4). The lines of comparison are real digits, and real
digits augmented with the same p: what would show if everything leaked.

Runs that are done are skipped. Writes OUT/leak.json and docs/small_data/leak.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from oakleaf.augment import ADA
from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.builder.recipe import build_data
from oakleaf.builder.trainer import build_trainer
from oakleaf.frozen.classifier import Network, Training, predict, train_classifier
from oakleaf.frozen.tasks import Rotations
from oakleaf.image_grid import from_bytes, render, to_bytes
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs

PROBABILITIES, DIGITS, TRAIN, SAMPLES = (0.2, 0.5, 0.8, 0.95), (2, 3, 4, 5, 7), 10_000, 2000
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "small_data" / "leak.png"
OPTIONS = [
    *("model=dcgan", "loss=hinge", "loss.norm=spectral", "trainer=cpu", "trainer.precision=32-true", "logger=csv"),
    *("callbacks.training_monitor=null", "callbacks.samples=null"),
    *("model.game.generator.width=16", "model.game.discriminator.width=16"),
]


def digits() -> Tensor:
    """Return the digits that have a top, uint8 [N, 1, 28, 28]."""
    data = build_data(compose_config("train", ["data=mnist", *OPTIONS]))
    data.prepare_data()
    data.setup()
    return data.images()[torch.isin(data.column("label"), torch.tensor(DIGITS))]


def shares(images: Tensor, classifier: Network) -> dict[str, float]:
    """Return the shares of turned and of inverted images among stored images [N, 1, 28, 28]."""
    bright = torch.cat([images[:, 0, 0], images[:, 0, -1], images[:, 0, :, 0], images[:, 0, :, -1]], 1)
    inverted = bright.float().mean(1) > 127.5
    upright = torch.where(inverted[:, None, None, None], 255 - images, images)
    turned = predict(classifier, upright).argmax(1) != 0
    return {"turned": float(turned.float().mean()), "inverted": float(inverted.float().mean())}


def train(p: float, images: int, folder: Path, pictures: Path) -> Tensor:
    """Train one run and return samples as stored."""
    options = ["data=folder", f"data.root={pictures}", "data.size=28", "data.channels=1", f"max_images={images}"]
    config = compose_config("train", [*OPTIONS, *options, "augment=ada_fixed", f"augment.p={p}"])
    config.augment.ops = ["turn", "invert"]
    config.folder = str(folder)
    module, data, recipe = build(config)
    last = folder / "checkpoints" / "last.ckpt"
    build_trainer(recipe).fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    return to_bytes(sample_in_batches(module, seeded_inputs(module.game, SAMPLES, 0)))


def draw(found: dict[str, Any]) -> None:
    """Draw the shares against p."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, kind, title in zip(
        figure.subplots(1, 2), ("turned", "inverted"), ("not upright", "inverted in colour"), strict=True
    ):
        for name, style in (("samples", "o-"), ("augmented", "s--")):
            points = sorted((float(p), one[name][kind]) for p, one in found["runs"].items())
            label = {"samples": "samples of G", "augmented": "what the critic sees of real digits"}[name]
            axes.plot(*zip(*points), style, label=label)
        axes.axhline(found["real"][kind], color="grey", linestyle=":", label="real digits, not augmented")
        axes.set(xlabel="probability p of the augmentation", ylabel=f"share of images {title}", ylim=(-0.03, 0.8))
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"ADA with fixed p: quarter turns and inversion; MNIST, {found['images']:,} images", fontsize=10)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=80_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out.resolve()
    real = digits()
    pictures, rest = out / "leak-images", real[TRAIN:]
    if not pictures.is_dir():
        pictures.mkdir(parents=True)
        for i, image in enumerate(real[:TRAIN]):
            Image.fromarray(np.asarray(image[0])).save(pictures / f"{i:05}.png")
    training = Training(images=60_000, width=16, features=64)
    classifier = train_classifier(rest[SAMPLES:], Rotations((28, 28)), training)
    file, real = out / "leak.json", rest[:SAMPLES]
    found = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    found |= {"images": arguments.images, "real": shares(real, classifier)}
    for p in PROBABILITIES:
        if str(p) not in found["runs"]:
            began = time.process_time()
            samples = train(p, arguments.images, out / f"leak-{p}", pictures)
            augmented, _ = ADA(p=p, adaptive=False, ops=["turn", "invert"])(from_bytes(real).float())
            seconds = round(time.process_time() - began)
            found["runs"][str(p)] = {
                "samples": shares(samples, classifier),
                "augmented": shares(to_bytes(augmented), classifier),
                "seconds": seconds,
            }
            render(from_bytes(samples[:64])).save(out / f"leak-{p}.png")
            file.write_text(json.dumps(found, indent=1))
            print(p, found["runs"][str(p)], flush=True)
    draw(found)


if __name__ == "__main__":
    main()
