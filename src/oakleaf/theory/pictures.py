"""Short trainings through the framework itself, and how near images come in pixels."""

import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from oakleaf.builder.compose import compose_config
from oakleaf.builder.recipe import build
from oakleaf.builder.trainer import build_trainer
from oakleaf.gan import GAN
from oakleaf.metrics.fid import frechet_distance
from oakleaf.metrics.image_set import moments
from oakleaf.runtime.seeds import derive_seed

CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true", "logger=csv", "callbacks=default"]


@dataclass(frozen=True)
class Trained:
    """A trained module and all real images as it saw them [N, C, H, W]."""

    module: GAN
    real: Tensor

    def draw(self, count: int, seed: int, ema: bool = False) -> Tensor:
        """Images [count, C, H, W] by the generator as it is, or by its average."""
        torch.manual_seed(derive_seed(seed, "draw"))
        return self.module.sample(self.module.game.sample_inputs(count), ema)

    def accuracy(self) -> float:
        """How often D is right, on real images and as many fakes."""
        with torch.no_grad():
            _, seen = self.module.game.player_losses("discriminator", {"image": self.real}, 1, 0, with_diagnostics=True)
        return (seen["accuracy/real"] + seen["accuracy/fake"]).item() / 2


def train(*overrides: str) -> Trained:
    """A recipe of the train command, in this process and leaving no files."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders that are not its own
        module, data, recipe = build(compose_config("train", [*CPU, *overrides, f"folder={folder}"]))
        recipe = {**recipe, "callbacks": {}, "logger": {}}
        trainer = build_trainer(recipe)
        trainer.fit(module, datamodule=data)
    return Trained(module, _all_images(data))


def _all_images(data: Any) -> Tensor:
    """Every picture of the set, as the networks see it."""
    rows = {name: values[:] for name, values in data.rows.items()}
    mirrored = torch.zeros(len(rows["image"]), dtype=torch.bool)
    return data.on_after_batch_transfer({**rows, "mirrored": mirrored}, 0)["image"]


def frechet(a: Tensor, b: Tensor) -> float:
    """The Frechet distance between two sets of images as Gaussians in pixels, [N, C, H, W] each: Heusel 2017,
    arXiv:1706.08500, eq. (6), without a network."""
    return frechet_distance(moments(a.flatten(1)), moments(b.flatten(1)))


def halves(real: Tensor, seed: int) -> float:
    """The distance between two random halves of the real images: what a perfect generator would reach."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(derive_seed(seed, "halves") % 2**32))
    return frechet(real[order[::2]], real[order[1::2]])


def figure(drawn: Mapping[str, Tensor], real: Tensor) -> Figure:
    """The first 36 images of each set side by side, the real ones last."""
    sheets = {**drawn, "real": real}
    picture = Figure((2.6 * len(sheets), 3.0), layout="constrained")
    for axes, (name, images) in zip(picture.subplots(1, len(sheets)), sheets.items()):
        framed = pad(images[:36, 0], (1, 1, 1, 1), value=-1.0)
        rows = framed.unflatten(0, (6, 6)).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
        axes.imshow(rows, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set(title=name, xticks=[], yticks=[])
    return picture
