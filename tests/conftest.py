"""Fixtures of all tests. Functions that tests import are in `helpers`."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from helpers.composing import FP32, LONG
from helpers.data import write_captioned_folder
from helpers.training import Fit, built
from oakleaf.builder.resolvers import register
from oakleaf.config.paths import conf_dir
from oakleaf.gan import GAN
from oakleaf.report import run as report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long and repeats a guarantee that a shorter test has, unless OAKLEAF_LONG=1."""
    if not LONG:
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set a separate cache folder, no W&B server and one thread for the session, and restore all of it at the end.

    One thread, because sums of two threads differ from those of one. Each YAML file of the project is parsed once,
    because parsing takes two fifths of the time of composing. `curves.png` is an empty file, because drawing it takes
    longer than most trainings here; tests/test_report.py draws it.
    """
    parsed: dict[str, Any] = {}
    load, threads = OmegaConf.load, torch.get_num_threads()

    def load_once(file: Any) -> Any:
        name = str(getattr(file, "name", file))
        if not name.startswith(str(conf_dir())):
            return load(file)
        if name not in parsed:
            parsed[name] = load(file)
        return copy.deepcopy(parsed[name])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OAKLEAF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        patch.setattr(report, "write_png", lambda *_: _[-1].touch())
        torch.set_num_threads(1)
        register()
        yield
        torch.set_num_threads(threads)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Return a function that composes, builds and trains in this process; `checkpoint=` resumes."""

    def run(*overrides: str, checkpoint: Any = None, folder: Path = tmp_path) -> tuple[GAN, Any]:
        module, data, trainer, _ = built(*FP32, *overrides, folder=folder)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module, trainer

    return run


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a captioned folder: 7 shapes in 7 colours, two variants of each."""
    return write_captioned_folder(tmp_path_factory.mktemp("captioned"))
