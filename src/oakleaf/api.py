"""Oakleaf from Python: train, load, sample and evaluate without a command line."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from oakleaf.builder.compose import compose_config
from oakleaf.builder.load import module_from_checkpoint, require_gan, resolve_recipe
from oakleaf.cli import evaluate as evaluate_command
from oakleaf.cli.error_messages import error_message
from oakleaf.cli.quoting import quote_argument
from oakleaf.cli.train import run_folder, train_in
from oakleaf.errors import UserError, one_line
from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint
from oakleaf.runtime.run_dir import run_dir, run_dir_of
from oakleaf.sampling.conditions import requested_condition
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs


class Run:
    """A trained run: its folder, its module, and what can be done with it.

    Args:
        place: the run's folder, or one of its checkpoints.

    Attributes:
        checkpoint: path of the checkpoint.
        folder: the run's folder.
        module: the `oakleaf.gan.GAN`, or the run's other LightningModule, in eval mode.
        config: the resolved configuration of model, data, loss and optim.

    Raises:
        UserError: no such checkpoint, or not one of Oakleaf's.

    Example:
        run = oakleaf.load("outputs/dcgan-digits/2026-12-01_10-00-00")
        images = run.sample(64, condition=7)
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.checkpoint = checkpoint_path(place)
        self.folder = run_dir_of(self.checkpoint)
        content = read_checkpoint(self.checkpoint)
        self.module: Any = module_from_checkpoint(content)
        self.config: dict[str, Any] = resolve_recipe(content["hyper_parameters"])

    def sample(
        self,
        count: int,
        seed: int = 0,
        condition: int | str | None = None,
        ema: bool = True,
        truncation: float | None = None,
    ) -> Tensor:
        """Generate images.

        Args:
            count: number of images.
            seed: the same seed gives the same images.
            condition: a class by number or name, or a text; None: every class in turn, or conditions of the data.
            ema: whether to use the EMA generator, if the run keeps one.
            truncation: above 0 and at most 1, which is none; see `oakleaf.sampling.truncation`.

        Returns:
            Images [count, C, H, W] in [-1, 1] on the CPU.

        Raises:
            UserError: the generator has no such condition, or the module is no GAN.
        """
        module = require_gan(self.module)
        if count < 1:
            raise UserError(f"count={count}: at least 1")
        if truncation is not None and not 0 < truncation <= 1:
            raise UserError(f"truncation={truncation}: above 0 and at most 1, which is none")
        inputs = seeded_inputs(module.game, count, seed, truncation=truncation)
        if condition is not None:
            key, rows = requested_condition(module, condition, count)
            inputs[key] = rows
        return sample_in_batches(module, inputs, ema)

    def evaluate(self, overrides: Sequence[str] = ()) -> dict[str, float]:
        """Compute metrics as `python evaluate.py` does, and write metrics.json beside the run.

        Args:
            overrides: as on the command line, e.g. ["metric=[fid,prdc]", "fake=2000"].

        Returns:
            The numbers by name; of several truncations, with the truncation in the name.
        """
        config = _compose("evaluate", [f"checkpoint={self.checkpoint}", *overrides])
        results = evaluate_command.evaluate_checkpoint(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        if not results.scores and results.failures:
            raise UserError("; ".join(f"{name}: {reason}" for name, reason in results.failures.items()))
        several = len({score.protocol["truncation"] for score in results.scores}) > 1
        return {
            f"{score.name} (truncation {score.protocol['truncation']})" if several else score.name: score.value
            for score in results.scores
        }

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, images_seen={self.module.images_seen})"


def load(place: str | os.PathLike[str]) -> Run:
    """Load a run from its folder or one of its checkpoints; see `Run`."""
    return Run(place)


def train(overrides: Sequence[str] = ()) -> Run:
    """Train as `python train.py` does, in this process.

    Args:
        overrides: as on the command line, e.g. ["model=dcgan", "data=digits", "max_images=6400"]. With
            "resume=FOLDER" the run in that folder is resumed.

    Returns:
        The run, loaded from its last checkpoint.

    Raises:
        UserError: a value that makes no sense, or data that are not there.

    Example:
        run = oakleaf.train(["model=dcgan", "data=digits", "max_images=6400"])
        run.sample(64)
    """
    config = _compose("train", overrides, with_hydra=True)
    groups = list(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    folder = Path(run_dir(config.folder, config.resume, f"{config.model.name}-{config.data.name}", overrides))
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(message)s")
    logging.getLogger("oakleaf").setLevel(logging.INFO)
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder(folder, config) as owned:
        train_in(owned, config, list(overrides), groups)
    return Run(owned)


def _compose(name: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """Compose a command's configuration; an override that does not fit is a UserError, as on the command line."""
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise UserError(f"{overrides!r}: a list of overrides is expected, such as ['data=digits', 'seed=1']")
    try:
        return compose_config(name, [quote_argument(override) for override in overrides], with_hydra)
    except HydraException as error:
        raise UserError(error_message(error, name) or one_line(error)) from error
