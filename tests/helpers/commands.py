"""Run the commands, as a process of their own or inside this one."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from helpers.composing import ROOT
from oakleaf.cli import commands


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, folder: Path, **environment: str) -> Result:
    """Run a command, such as "train", in its own process; importing torch there takes seconds."""
    script = [sys.executable, str(ROOT / f"{arguments[0]}.py"), *arguments[1:]]
    env = {**os.environ, **environment}
    result = subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return Result(result.returncode, result.stdout, result.stderr)


def quick(*arguments: str, folder: Path, **environment: str) -> Result:
    """Run the same command inside this process."""
    out, err = io.StringIO(), io.StringIO()
    logs = logging.getLogger()
    level, handlers = logs.level, logs.handlers[:]
    GlobalHydra.instance().clear()
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", [f"{arguments[0]}.py", *arguments[1:]]),
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            commands.run(arguments[0])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logs.setLevel(level)
            logs.handlers = handlers
    return Result(code, out.getvalue(), err.getvalue())
