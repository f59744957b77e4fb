"""What to say of an option that does not exist."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INSTEAD = {  # what manual optimization can't have from the Trainer, and our way
    "gradient_clip_val": "each player has its own: optim.discriminator.clip=1 optim.generator.clip=1",
    "gradient_clip_algorithm": "players clip by norm: optim.discriminator.clip=1 optim.generator.clip=1",
    "accumulate_grad_batches": "choose a larger data.batch_size, or more trainer.devices",
    "max_steps": "it would count the steps of both optimizers; give the length as max_images= or trainer.max_epochs=",
    "min_steps": "it would count the steps of both optimizers; give the length as max_images= or trainer.max_epochs=",
    "logger": "loggers are a group of their own: logger=wandb, csv or tensorboard",
    "callbacks": "callbacks are a group of their own: callbacks.samples.every=10000",
    "enable_checkpointing": "the callback saves: ~callbacks.checkpoint leaves it out",
    "overfit_batches": "for few pictures take a folder with few: data=folder data.root=FOLDER",
    "log_every_n_steps": "scalars are looked at every log_every= turns",
}


def trainer_alternative(key: str) -> str | None:
    """The sentence for an argument of the Trainer that two players can't have."""
    parent, _, name = key.rpartition(".")
    return (
        f"{key}: not where two players take turns; {INSTEAD[name]}" if parent == "trainer" and name in INSTEAD else None
    )


def unknown_key_message(key: str, known: Iterable[Any]) -> str:
    """The sentence for a key that is none of its parent's."""
    parent, _, name = key.rpartition(".")
    shown = sorted({str(name) for name in known if not str(name).startswith("_")})
    near = difflib.get_close_matches(name, shown, n=1, cutoff=0.6)
    meant = f" Did you mean {f'{parent}.' if parent else ''}{near[0]}?" if near else ""
    has = f" {parent or 'The configuration'} has: {', '.join(shown)}" if shown else ""
    return f"{key}: there is no such option.{meant}{has}"


def unknown_choice_message(key: str, choice: str, group: Path) -> str:
    """The sentence for a choice that its group, a folder of the configuration, does not have."""
    choices = sorted(path.stem for path in group.glob("*.yaml"))
    near = difflib.get_close_matches(choice, choices, n=1, cutoff=0.5)
    meant = f" Did you mean {near[0]}?" if near else ""
    return f"{key}={choice}: there is no such {group.name}.{meant} Choices: {', '.join(choices)}"
