"""Error messages for options and choices that do not exist, with the nearest existing one."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TRAINER_ALTERNATIVES = {  # arguments of Lightning's Trainer that Oakleaf sets itself, and what to use
    "logger": "loggers are a group of their own: logger=wandb, csv or tensorboard",
    "callbacks": "callbacks are a group of their own: callbacks.samples.every=10000",
    "enable_checkpointing": "a callback saves checkpoints: ~callbacks.checkpoint removes it",
    "log_every_n_steps": "scalars are logged every log_every= iterations",
    "overfit_batches": "the order of the images is Oakleaf's own; to train on few images use a folder with few images: "
    "data=folder data.root=FOLDER",
}
GAN_ALTERNATIVES = {  # arguments that need Lightning's own optimization of one loss, or a validation loop
    "gradient_clip_val": "each player has its own clipping: optim.<player>.clip=1",
    "gradient_clip_algorithm": "each player's gradients are clipped by their norm: optim.<player>.clip=1",
    "accumulate_grad_batches": "each player accumulates by itself: optim.<player>.accumulate=2; a larger "
    "data.batch_size or more trainer.devices do the same where memory suffices",
    "max_steps": "it would count the steps of all players; set the length by max_images= or trainer.max_epochs=",
    "min_steps": "it would count the steps of all players; set the length by max_images= or trainer.max_epochs=",
    "val_check_interval": "a GAN has no validation loop; callbacks=scored computes metrics every "
    "callbacks.evaluate.every= images",
    "check_val_every_n_epoch": "a GAN has no validation loop; callbacks=scored computes metrics every "
    "callbacks.evaluate.every= images",
    "limit_val_batches": "a GAN has no validation loop; callbacks.evaluate.fake= and callbacks.evaluate.real= say how "
    "many images the metrics of callbacks=scored compare",
}

KEYS_OF_0_1 = frozenset(  # keys that Oakleaf 0.2 renamed; those that also have another meaning are left out
    [
        "watch_every",
        "non_finite",
        "in_a_row",
        "watch",
        "turns",
        "told",
        "told_units",
        "classifies",
        "meets",
        "paid",
        "fallen",
        "alike",
        "calm",
        "apart",
    ]
)


MOVED = {  # keys that are elsewhere now, and where
    "model.game.stage1": "the first stage is a frozen network: model.frozen.stage1.checkpoint=RUN",
}


def trainer_alternative(key: str, of_a_gan: bool = True) -> str | None:
    """Return the error message for an argument of the Trainer that has no effect or a wrong one.

    Args:
        key: dotted key of an option, such as `trainer.max_steps`.
        of_a_gan: whether a GAN is trained; another LightningModule may use Lightning's own optimization.

    Returns:
        One sentence that names the alternative; None if the key is not such an argument.
    """
    parent, _, name = key.rpartition(".")
    alternatives = TRAINER_ALTERNATIVES | (GAN_ALTERNATIVES if of_a_gan else {})
    return f"{key} is not used here: {alternatives[name]}" if parent == "trainer" and name in alternatives else None


def unknown_key_message(key: str, known: Iterable[Any]) -> str:
    """Return the error message for a key that its parent does not have.

    Args:
        key: dotted key of the option.
        known: the keys that the parent has; those that begin with an underscore are not shown.
    """
    parent, _, name = key.rpartition(".")
    for moved, alternative in MOVED.items():
        if f"{key}.".startswith(f"{moved}."):
            return f"{key}: {alternative}"
    if name in KEYS_OF_0_1 or key in ("callbacks.health", "callbacks.score"):
        return f"{key}: this key is of Oakleaf 0.1, and only version 0.1.0 can read it; CHANGELOG.md has its new name"
    options = sorted({str(option) for option in known if not str(option).startswith("_")})
    closest = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    suggestion = f" Did you mean {f'{parent}.' if parent else ''}{closest[0]}?" if closest else ""
    listing = f" {parent or 'The configuration'} has: {', '.join(options)}" if options else ""
    return f"{key}: there is no such option.{suggestion}{listing}"


def unknown_choice_message(key: str, choice: str, group: Path) -> str:
    """Return the error message for a choice that a configuration group does not have.

    Args:
        key: dotted key that holds the choice.
        choice: the unknown choice.
        group: folder of the group below `conf/`; its YAML files are the choices.
    """
    choices = sorted(path.stem for path in group.glob("*.yaml"))
    closest = difflib.get_close_matches(choice, choices, n=1, cutoff=0.5)
    suggestion = f" Did you mean {closest[0]}?" if closest else ""
    return f"{key}={choice}: there is no such {group.name}.{suggestion} Choices: {', '.join(choices)}"
