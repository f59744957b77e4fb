"""Compose a configuration from overrides, as the commands do."""

import copy
import functools
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from oakleaf.builder import compose

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=16"]
FP32 = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
LONG = bool(os.environ.get("OAKLEAF_LONG"))
"""Test all pairs of model and loss or data, more seeds and more cuts; takes hours."""


def composed(*overrides: str, folder: Path | str | None = None) -> DictConfig:
    """Return the configuration of `train.py` with these overrides; composing the same ones again costs a copy."""
    config = copy.deepcopy(_composed(overrides))
    config.folder = None if folder is None else str(folder)
    return config


@functools.cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose.compose_config("train", ["logger=csv", *overrides])


def choices(group: str) -> list[str]:
    """Return the names of all configurations of a group, such as "model"."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def input_options(model: str) -> list[str]:
    """Return the overrides with which an image-to-image model trains on digits: an input, larger images, few channels.

    The list is empty for all other models.
    """
    file = ROOT / "conf/model" / f"{model}.yaml"
    if "data.input_channels" not in file.read_text():
        return []
    text = file.read_text()
    made = {"networks.context_encoder": "masked", "data/input=pasted": "pasted", "data/input=turned": "turned"}
    kind = next((kind for mark, kind in made.items() if mark in text), "edges")
    options = [f"data/input={kind}", "data.size=32"]
    if "frozen.features" in file.read_text():  # trained before the first iteration, here for a moment
        training = "model.frozen.features.training"
        options += [f"{training}.images=64", f"{training}.epochs=1", f"{training}.width=4", f"{training}.features=8"]
    for player in ("generator", "discriminator"):
        node, path = OmegaConf.load(file).game[player], f"model.game.{player}"
        if "network" in node:
            node, path = node.network, f"{path}.network"
        options += [f"{path}.{key}=8" for key in ("width", "bottleneck") if key in node]
    return options
