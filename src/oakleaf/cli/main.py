"""The door of every command: Hydra composes, the task runs, and a user's mistake ends in one sentence and exit code 1.

Nothing here imports torch, so `--help` and the answer to a typo come at once.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from oakleaf.builder.resolvers import register
from oakleaf.cli.error_messages import error_message, one_line_text
from oakleaf.cli.quoting import quote_argument
from oakleaf.config.paths import conf_dir

FULL = "HYDRA_FULL_ERROR"
TAKING = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")  # a word of its own
Task = Callable[[DictConfig], None]


def run_command(name: str, task: Task) -> None:
    """Run a task with the configuration `<name>.yaml` and this process's command line."""
    register()
    logging.raiseExceptions = False  # a full disk leaves a line of the log out, and tells no story about it
    wanted = os.environ.get(FULL)
    began = False

    def job(config: DictConfig) -> None:
        nonlocal began
        began = True
        register()  # a launcher may run this in a process of its own
        _restore(wanted)  # for processes that the task starts
        try:
            task(config)
        except Exception as error:
            if wanted != "1" and HydraConfig.get().mode != RunMode.MULTIRUN:
                _tell(error, name)  # here, before Hydra adds its own words; a sweep goes on with its next job
            raise
        finally:
            os.environ[FULL] = "1"

    os.environ[FULL] = "1"  # Hydra hands its errors over instead of printing them
    sys.argv[1:] = [one if before in TAKING else quote_argument(one) for before, one in pairwise(sys.argv)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(job)()
    except KeyboardInterrupt:
        _end("stopped", 130)
    except BrokenPipeError:  # whoever read our output has had enough: `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if wanted == "1":
            raise
        if (
            not began and error_message(error, name) is None
        ):  # whatever went wrong in composing, the command line did it
            said = "" if isinstance(error, AssertionError) else one_line_text(error)  # Hydra's own have no words
            _end(said or "this is no command line: write group=choice or some.key=value", 1)
        _tell(error, name)
    finally:
        _restore(wanted)


def _tell(error: Exception, config: str) -> NoReturn:
    """End with the error's sentence; with the whole story if it has none, for then the fault is ours."""
    said = error_message(error, config)
    if said is None:
        traceback.print_exception(error)
        sys.exit(1)
    _end(said, 1)


def _end(said: str, code: int) -> NoReturn:
    print(said, file=sys.stderr)
    sys.exit(code)


def _restore(wanted: str | None) -> None:
    if wanted is None:
        os.environ.pop(FULL, None)
    else:
        os.environ[FULL] = wanted
