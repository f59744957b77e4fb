"""Build a run from overrides, and train it in this process."""

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import LightningDataModule, Trainer

from helpers.composing import composed
from oakleaf.builder.build import build
from oakleaf.builder.recipe import Recipe
from oakleaf.builder.trainer import build_trainer
from oakleaf.gan import GAN

Fit = Callable[..., tuple[GAN, Trainer]]
"""The type of the fixture `fit`."""


def built(*overrides: str, folder: Path) -> tuple[GAN, LightningDataModule, Trainer, Recipe]:
    """Return module, data, trainer and stored configuration of the run that these overrides describe."""
    module, data, recipe = build(composed(*overrides, folder=folder))
    return module, data, build_trainer(recipe), recipe
