"""Options that are written like those of other programs: `--seed 3`, `--loss=hinge`, `-seed=3`."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from oakleaf.config.overrides import quote
from oakleaf.errors import UserError

WITH_VALUE = (
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c"),
    "--experimental-rerun",
)
WITHOUT_VALUE = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", "--info", "-i"),
)

HELP = {"--help", "-h"}
CONFIG_DIR = ("--config-dir", "-cd")


def check_flags(arguments: Sequence[str]) -> None:
    """Check that every argument that begins with a dash is one of Hydra's flags.

    Raises:
        UserError: it is none; the sentence says how an option is written.
    """
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        flag, equals, value = argument.partition("=")
        if not argument.startswith("-") or _is_flag(flag):
            continue
        key = flag.lstrip("-").replace("-", "_")
        separate = not equals and following and not following.startswith("-") and "=" not in following
        if separate:
            argument, value = f"{argument} {following}", following
        if equals or separate:
            raise UserError(f"{argument}: options are written without dashes, {key}={value}")
        raise UserError(f"{argument}: there is no such flag; options are written as key=value, and --help shows them")


def composing_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the overrides among a command line's arguments, and its --config-dir as one."""
    pairs = [(before, one) for before, one in zip(["", *arguments], arguments)]
    overrides = [one for before, one in pairs if not one.startswith("-") and before not in WITH_VALUE]
    folders = [one for before, one in pairs if before in CONFIG_DIR]
    folders += [one.partition("=")[2] for one in arguments if one.startswith(tuple(f"{flag}=" for flag in CONFIG_DIR))]
    return overrides + [f"hydra.searchpath=[{quote(Path(folder).absolute())}]" for folder in folders[:1]]


def _is_flag(name: str) -> bool:
    """Whether it is one of Hydra's flags; a long one may be shortened."""
    flags = (*WITH_VALUE, *WITHOUT_VALUE)
    return name in flags or (name.startswith("--") and any(flag.startswith(name) for flag in flags) and len(name) > 3)


@contextmanager
def argparse_raises() -> Iterator[None]:
    """Make argparse, by which Hydra reads its flags, raise a UserError instead of printing its usage and exiting."""

    def error(parser: Any, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows how the command is used")

    with mock.patch.object(argparse.ArgumentParser, "error", error):
        yield
