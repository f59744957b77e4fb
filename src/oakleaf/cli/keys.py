"""Which key was meant."""

import difflib
import sys
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

INSTEAD = {  # what manual optimization can't have from the Trainer, and our way
    "gradient_clip_val": "each player has its own: optim.discriminator.clip=1 optim.generator.clip=1",
    "gradient_clip_algorithm": "players clip by norm: optim.discriminator.clip=1 optim.generator.clip=1",
    "accumulate_grad_batches": "choose a larger data.batch_size, or more trainer.devices",
    "max_steps": "it would count the steps of both optimizers; give the length as max_images= or trainer.max_epochs=",
    "min_steps": "it would count the steps of both optimizers; give the length as max_images= or trainer.max_epochs=",
    "logger": "loggers are a group of their own: logger=wandb, csv or tensorboard",
    "callbacks": "callbacks are a group of their own: callbacks.samples.every=10000",
    "enable_checkpointing": "the callback saves: ~callbacks.checkpoint leaves it out",
    "log_every_n_steps": "scalars are looked at every watch_every= turns",
}


def instead(key: str) -> str | None:
    """The sentence for an argument of the Trainer that two players can't have."""
    parent, _, name = key.rpartition(".")
    return (
        f"{key}: not where two players take turns; {INSTEAD[name]}" if parent == "trainer" and name in INSTEAD else None
    )


def unknown(key: str, known: Any) -> str:
    """The sentence for a key that is none of its parent's."""
    if ours := instead(key):
        return ours
    parent, _, name = key.rpartition(".")
    shown = sorted({str(name) for name in known if not str(name).startswith("_")})
    near = difflib.get_close_matches(name, shown, n=1, cutoff=0.6)
    meant = f" Did you mean {f'{parent}.' if parent else ''}{near[0]}?" if near else ""
    has = f" {parent or 'The configuration'} has: {', '.join(shown)}" if shown else ""
    return f"{key}: there is no such option.{meant}{has}"


def unknown_key(key: str, config: str) -> str:
    """The sentence for a key that the composed configuration does not have, after the command line's other groups."""
    from oakleaf.cli.door import conf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf()), version_base="1.3"):
        composed = compose(config, overrides=_groups_on_command_line())
    node: Any = composed
    parts = key.split("@")[0].split(".")
    for depth, part in enumerate(parts):  # noqa: B007, how deep the key holds
        if not isinstance(node, DictConfig) or part not in node:
            break
        node = OmegaConf.select(node, part)
    else:
        return f"{key}: this option is there, but not to be changed in that way"
    if not isinstance(node, DictConfig):
        return f"{key}: {'.'.join(parts[:depth])} is a value and has no options below it"
    return unknown(".".join(parts[: depth + 1]), node)


def _groups_on_command_line() -> list[str]:
    from oakleaf.cli.door import conf

    def exists(argument: str) -> bool:
        group, _, choice = argument.partition("=")
        return bool(choice) and (conf() / group / f"{choice}.yaml").is_file()

    return [argument for argument in sys.argv[1:] if exists(argument)]
