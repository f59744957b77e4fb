"""What the tests share: composing a recipe, and training it in this process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import LightningDataModule, Trainer
from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.door import conf, register
from oakleaf.gan import GAN
from oakleaf.recipe import Recipe, build, build_trainer

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=16"]
FP32 = ["trainer.accelerator=cpu", "trainer.precision=32-true"]


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of its own, no W&B server, and one thread, as results of two threads differ from those of one."""
    os.environ["OAKLEAF_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["WANDB_MODE"] = "offline"
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    register()


def composed(*overrides: str, folder: Path | str | None = None) -> DictConfig:
    with initialize_config_dir(str(conf()), version_base="1.3"):
        return compose("train", overrides=["logger=csv", *overrides, *([f"folder={folder}"] if folder else [])])


def built(*overrides: str, folder: Path) -> tuple[GAN, LightningDataModule, Trainer, Recipe]:
    module, data, recipe = build(composed(*overrides, folder=folder))
    return module, data, build_trainer(recipe), recipe


Fit = Callable[..., tuple[GAN, Trainer]]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Compose, build and train in this process; `checkpoint=` resumes."""

    def run(*overrides: str, checkpoint: Any = None, folder: Path = tmp_path) -> tuple[GAN, Trainer]:
        module, data, trainer, _ = built(*FP32, *overrides, folder=folder)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module, trainer

    return run


def needed(model: str) -> list[str]:
    """Options without which a model does not train on digits: what translates needs an input, and larger images."""
    file = ROOT / "conf/model" / f"{model}.yaml"
    if "data.input_channels" not in file.read_text():
        return []
    given = "masked" if "networks.completion" in file.read_text() else "edges"
    options = [f"data/input={given}", "data.size=32"]
    for player in ("generator", "discriminator"):
        node, place = OmegaConf.load(file).game[player], f"model.game.{player}"
        if "network" in node:
            node, place = node.network, f"{place}.network"
        options += [f"{place}.{key}=8" for key in ("width", "bottleneck") if key in node]
    return options


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
