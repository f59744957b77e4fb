"""Short trainings by the framework itself, and the comparison of their samples in pixel space."""

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

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.builder.trainer import build_trainer
from oakleaf.gan import GAN
from oakleaf.metrics.fid import frechet_distance
from oakleaf.metrics.image_set import moments
from oakleaf.runtime.seeds import derive_seed

CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true", "logger=csv", "callbacks=default"]


@dataclass(frozen=True)
class TrainedGAN:
    """A trained module and its data.

    Args:
        module: the module.
        real: all real images as the networks see them, [N, C, H, W].
    """

    module: GAN
    real: Tensor

    def sample(self, count: int, seed: int, ema: bool = False) -> Tensor:
        """Generate images [count, C, H, W] by the generator, or by the EMA generator."""
        torch.manual_seed(derive_seed(seed, "draw"))
        return self.module.sample(self.module.game.sample_inputs(count), ema)

    def accuracy(self) -> float:
        """Return the discriminator's accuracy on all real images and as many fake ones."""
        game = self.module.game
        with torch.no_grad():
            _, diagnostics = game.player_losses("discriminator", {"image": self.real}, 1, with_diagnostics=True)
        return (diagnostics["accuracy/real"] + diagnostics["accuracy/fake"]).item() / 2


def train(*overrides: str) -> TrainedGAN:
    """Train by a configuration of `train.py`, in this process and without leaving files.

    Args:
        overrides: as on the command line.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about data loaders, which does not apply
        module, data, recipe = build(compose_config("train", [*CPU, *overrides, f"folder={folder}"]))
        recipe = {**recipe, "callbacks": {}, "logger": {}}
        trainer = build_trainer(recipe)
        trainer.fit(module, datamodule=data)
    return TrainedGAN(module, _all_images(data))


def _all_images(data: Any) -> Tensor:
    """Return all images of the data set, as the networks see them."""
    rows = {name: values[:] for name, values in data.rows.items()}
    mirrored = torch.zeros(len(rows["image"]), dtype=torch.bool)
    return data.on_after_batch_transfer({**rows, "mirrored": mirrored}, 0)["image"]


def pixel_frechet_distance(a: Tensor, b: Tensor) -> float:
    """Compute the Frechet distance between two sets of images, [N, C, H, W] each, as Gaussians in pixel space.

    Reference: Heusel 2017, arXiv:1706.08500, eq. (6), with pixels in place of a network's features.
    """
    return frechet_distance(moments(a.flatten(1)), moments(b.flatten(1)))


def real_data_baseline(real: Tensor, seed: int) -> float:
    """Compute the distance between two random halves of the real images: what a perfect generator would reach."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(derive_seed(seed, "halves") % 2**32))
    return pixel_frechet_distance(real[order[::2]], real[order[1::2]])


def image_figure(samples: Mapping[str, Tensor], real: Tensor) -> Figure:
    """Plot the first 36 images of each set, [N, C, H, W], and of the real images."""
    grids = {**samples, "real": real}
    figure = Figure((2.6 * len(grids), 3.0), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(1, len(grids)), grids.items()):
        framed = pad(images[:36, 0], (1, 1, 1, 1), value=-1.0)
        rows = framed.unflatten(0, (6, 6)).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
        axes.imshow(rows, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set(title=name, xticks=[], yticks=[])
    return figure
