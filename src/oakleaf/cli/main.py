"""How every command runs: Hydra composes the configuration, and a user's error ends in one sentence and exit code 1."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from oakleaf import compat
from oakleaf.builder.resolvers import register
from oakleaf.cli.error_messages import WithoutHome, error_message, one_line_text
from oakleaf.cli.flags import HELP, WITH_VALUE, argparse_raises, check_flags, composing_arguments
from oakleaf.cli.help import help_text
from oakleaf.cli.quoting import quote_argument
from oakleaf.config.overrides import for_hydra, name_classes
from oakleaf.config.paths import conf_dir
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import OUTPUTS

Task = Callable[[DictConfig], None]


def run_command(name: str, task: Task) -> None:
    """Run a task with the configuration `<name>.yaml` and this process's command line.

    Exit codes: 0 for success, 1 for an error (one sentence on stderr, or the traceback if the error is Oakleaf's). With
    HYDRA_FULL_ERROR=1 in the environment the traceback is always shown. For signals see `oakleaf.cli.commands`.

    Args:
        name: name of the YAML file in `conf/`, without suffix.
        task: what to do with the composed configuration.
    """
    register()
    logging.raiseExceptions = False  # a full disk loses a line of the log file, without a traceback
    sys.argv[1:] = [one if before in WITH_VALUE else quote_argument(one) for before, one in pairwise(sys.argv)]
    sys.argv[1:] = for_hydra(sys.argv[1:])
    with compat.hydra_raises_errors() as users_value, argparse_raises():
        job = _Job(name, task, users_value)
        try:
            check_flags(sys.argv[1:])
            if HELP & set(sys.argv[1:]):
                print(help_text(name, composing_arguments(sys.argv[1:])))
                return
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(job.run)()
        except BrokenPipeError:  # the reader of our output has closed it: `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            if users_value == "1":
                raise
            if not job.started and error_message(error, name) is None:  # an error of composing is the command line's
                message = "" if isinstance(error, AssertionError) else one_line_text(error)  # Hydra's have no text
                _exit(message or "this is no command line: write group=choice or some.key=value", 1)
            _exit_with(error, name)


class _Job:
    """The task as Hydra calls it, perhaps several times in a sweep."""

    def __init__(self, name: str, task: Task, users_value: str | None) -> None:
        self.name, self.task, self.users_value = name, task, users_value
        self.started = False

    def run(self, config: DictConfig) -> None:
        self.started = True
        register()  # a launcher may run this in another process
        compat.set_environment(compat.HYDRA_FULL_ERROR, self.users_value)  # for processes that the task starts
        try:
            _check_folder()
            _drop_replaced_options(config)
            self.task(config)
        except BaseException as error:
            _remove_empty_folder()
            if not isinstance(error, Exception):
                raise
            if self.users_value != "1" and HydraConfig.get().mode != RunMode.MULTIRUN:
                _exit_with(error, self.name)  # before Hydra adds its own words; a sweep continues with its next job
            raise
        finally:
            compat.set_environment(compat.HYDRA_FULL_ERROR, "1")


def _check_folder() -> None:
    """Check that the command runs where it was given, because relative paths are meant from there."""
    hydra = HydraConfig.get()
    if hydra.job.chdir:
        os.chdir(hydra.runtime.cwd)
        raise UserError("hydra.job.chdir=true: relative paths would change their meaning; leave it out")


def _remove_empty_folder() -> None:
    """Remove the folder that Hydra has made for the command, if nothing is in it, and those above it in outputs/."""
    folder = Path(HydraConfig.get().runtime.output_dir).absolute()
    above = [path for path in folder.parents if path.is_relative_to(OUTPUTS.absolute())]
    for path in [folder, *above] if folder != Path.cwd() else []:
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Write what is logged to a file too, while the block runs."""
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(WithoutHome("%(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _drop_replaced_options(config: DictConfig) -> None:
    """Remove the options of classes that the command line replaces."""
    overrides = list(HydraConfig.get().overrides.task)
    if name_classes(overrides):
        from oakleaf.builder.replace import drop_replaced_options  # imports torch

        drop_replaced_options(config, overrides)


def _exit_with(error: Exception, config: str) -> NoReturn:
    """Exit with the error's sentence, or with its traceback if it has none, because then it is Oakleaf's fault."""
    message = error_message(error, config)
    if message is None:
        traceback.print_exception(error)
        sys.exit(1)
    _exit(message, 1)


def _exit(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)
