"""What the tests share: composing a recipe, and training it in this process."""

import contextlib
import copy
import functools
import itertools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from lightning.pytorch import LightningDataModule, Trainer
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from oakleaf.builder import compose
from oakleaf.builder.recipe import Recipe, build
from oakleaf.builder.resolvers import register
from oakleaf.builder.trainer import build_trainer
from oakleaf.config.paths import conf_dir
from oakleaf.gan import GAN

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=16"]
LONG = bool(os.environ.get("OAKLEAF_LONG"))  # every pair of model and loss or data, more seeds, more cuts
FP32 = ["trainer.accelerator=cpu", "trainer.precision=32-true"]


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of its own, no W&B server, and one thread, as results of two threads differ from those of one. Our YAML
    files are parsed once each, as that takes two fifths of composing."""
    os.environ["OAKLEAF_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["WANDB_MODE"] = "offline"
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    known, load = {}, OmegaConf.load

    def once(file: Any) -> Any:
        name = str(getattr(file, "name", file))
        if not name.startswith(str(conf_dir())):
            return load(file)
        if name not in known:
            known[name] = load(file)
        return copy.deepcopy(known[name])

    OmegaConf.load = once
    register()


def composed(*overrides: str, folder: Path | str | None = None) -> DictConfig:
    config = copy.deepcopy(_composed(overrides))
    config.folder = None if folder is None else str(folder)
    return config


@functools.cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose.compose_config("train", ["logger=csv", *overrides])


def built(*overrides: str, folder: Path) -> tuple[GAN, LightningDataModule, Trainer, Recipe]:
    module, data, recipe = build(composed(*overrides, folder=folder))
    return module, data, build_trainer(recipe), recipe


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can have more than `room` bytes."""
    limit, taken = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, taken)


Fit = Callable[..., tuple[GAN, Trainer]]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Compose, build and train in this process; `checkpoint=` resumes."""

    def run(*overrides: str, checkpoint: Any = None, folder: Path = tmp_path) -> tuple[GAN, Trainer]:
        module, data, trainer, _ = built(*FP32, *overrides, folder=folder)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module, trainer

    return run


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioned folder: 7 shapes in 7 colours, `a red square`, each twice, as variants of each other."""
    root = tmp_path_factory.mktemp("captioned")
    (root / "images").mkdir()
    lines, groups, random = [], [], np.random.default_rng(0)
    for (colour, paint), (shape, drawn), twin in itertools.product(COLOURS.items(), SHAPES.items(), (0, 1)):
        name = f"{colour}-{shape}-{twin}.png"
        pixels = np.where(drawn[:, :, None], np.array(paint), 255) + random.integers(-20, 20, (16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / name)
        lines.append(f'{name},"{colour} {shape}{", again" if twin else ""}"')
        groups.append(f"{name},{colour} {shape}")
    (root / "captions.txt").write_text("\n".join(["image,caption", *lines]) + "\n")
    (root / "metadata.csv").write_text("\n".join(["image,base", *groups]) + "\n")
    return root


DOWN, ACROSS = np.mgrid[:16, :16] - 7.5
COLOURS = {
    "red": (220, 0, 0), "green": (0, 180, 0), "blue": (0, 0, 220), "yellow": (230, 220, 0), "black": (0, 0, 0),
    "pink": (250, 130, 190), "brown": (120, 70, 20),
}  # fmt: skip
SHAPES = {
    "square": np.maximum(abs(DOWN), abs(ACROSS)) < 6, "disc": np.hypot(DOWN, ACROSS) < 7, "bar": abs(DOWN) < 2,
    "pole": abs(ACROSS) < 2, "ring": abs(np.hypot(DOWN, ACROSS) - 5) < 1.5, "cross": abs(abs(DOWN) - abs(ACROSS)) < 2,
    "roof": abs(ACROSS) - 3 < DOWN,
}  # fmt: skip


def suited(model: str, captions: Path) -> list[str]:
    """The data that have what the system's condition reads; digits, the default, where they do. A second stage has a
    first one."""
    if not (told := _told(model)):
        return []
    key, second = told
    folder = f"data.root={captions}"
    small = ["model.game.generator.width=8", "model.game.discriminator.width=8"]
    if second:
        small += [f"model.game.stage1.run={first_stage(captions)}", "model.game.stage1.network.width=8"]
    return {
        "features": ["data=emoji_tags", folder, "data.pixels=16", "data.width=8", "data.least=1"],
        "caption": ["data=emoji_captions", folder, f"data.size={32 if second else 16}", *small],
    }.get(key, [])


@functools.cache
def _told(model: str) -> tuple[str, bool] | None:
    """The key of the system's condition, if it has one, and whether it is a second stage."""
    game = composed(f"model={model}").model.game
    if not (condition := game.get("condition")):
        return None
    return condition.get("key") or get_class(condition._target_).key, "stage1" in game


def first_stage(captions: Path) -> Path:
    """A run of stage I, hardly trained."""
    run = captions / "stage1"
    if not run.is_dir():
        options = ["model=stackgan", *suited("stackgan", captions), "data.batch_size=8", "max_images=16"]
        module, data, trainer, _ = built(*FP32, *options, folder=run)
        trainer.fit(module, datamodule=data)
    return run


def needed(model: str) -> list[str]:
    """Options without which a model does not train on digits: what translates needs an input, and larger images."""
    file = ROOT / "conf/model" / f"{model}.yaml"
    if "data.input_channels" not in file.read_text():
        return []
    given = "masked" if "networks.context_encoder" in file.read_text() else "edges"
    options = [f"data/input={given}", "data.size=32"]
    for player in ("generator", "discriminator"):
        node, place = OmegaConf.load(file).game[player], f"model.game.{player}"
        if "network" in node:
            node, place = node.network, f"{place}.network"
        options += [f"{place}.{key}=8" for key in ("width", "bottleneck") if key in node]
    return options


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
