"""One job of a sweep, in processes of its own: `child` trains and measures, `run` starts it and writes down its end."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.runtime.run_dir import LAST
from oakleaf.sweeps.devices import reserve_gpus
from oakleaf.sweeps.job_state import END, LOCK, STOP, Job, has_ended, locked, read, read_job, scores, write_job
from oakleaf.sweeps.names import quoted
from oakleaf.sweeps.status import images_of

TRIAL = "OAKLEAF_TRIAL"  # in a job's environment: what `child` is to do
PATIENCE = 60.0  # seconds to wait for a killed sweep's job to save and end
STOPPED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
NOT_OURS = ("hydra.mode", "hydra.sweep", "hydra/sweeper", "hydra/launcher", "hydra.launcher", "hydra.run.")


def run(config: DictConfig, hydra: Any) -> None:
    """Start, or go on with, or skip the job of this folder. Nothing is raised: how it ended stands in job.json."""
    folder = Path(hydra.runtime.output_dir)
    with _job_lock(folder) as lock:
        if lock is None:
            return
        job = read_job(folder)
        assert job is not None  # written by the sweeper
        _begin(job, folder)
        code, said = 1, ""
        try:
            overrides = evaluation_overrides(config)
            task: dict[str, Any] = {
                "folder": relative_folder(folder, hydra),
                "overrides": job.overrides,
                "evaluate": overrides,
            }
            task |= {"train": not has_ended(folder, job)}
            with reserve_gpus(config.trainer) as devices:
                environment = {**_surroundings(), **_wandb(folder, job), **devices, TRIAL: json.dumps(task)}
                code, said = _launch(command(hydra, job, folder), environment, hydra.runtime.cwd, folder, lock)
        finally:
            _conclude(job, folder, evaluation_overrides(config), code, said)


def _begin(job: Job, folder: Path) -> None:
    """Count what an attempt that was killed has left: the seconds as far as its last checkpoint."""
    if job.started and (folder / LAST).is_file():
        job.seconds += max(0.0, (folder / LAST).stat().st_mtime - job.started)
    job.state, job.reason, job.started, job.attempts = "running", "", time.time(), job.attempts + 1
    (folder / STOP).unlink(missing_ok=True)
    write_job(folder, job)


def evaluation_overrides(config: DictConfig) -> list[str]:
    """How a finished run is measured: overrides for evaluate.py."""
    sweep: Any = OmegaConf.to_container(config.sweep)
    metric = sweep["metric"] if isinstance(sweep["metric"], str) else f"[{','.join(sweep['metric'])}]"
    device = ["device=cpu"] if config.trainer.accelerator == "cpu" else []
    return [f"metric={metric}", f"extractor={sweep['extractor']}", f"fake={sweep['fake']}", *device]


def command(hydra: Any, job: Job, folder: Path) -> list[str]:
    """The job as a command of its own. It goes on where it was by the machinery of resume=auto."""
    ours = [o for o in hydra.overrides.hydra if not o.lstrip("+~").startswith(NOT_OURS)]
    places = [f"--config-dir={s.path}" for s in hydra.runtime.config_sources if s.provider == "command-line"]
    task = job.overrides
    if (folder / LAST).is_file() or not any(o.startswith("resume=") for o in task):
        task = [*(o for o in task if not o.startswith("resume=")), "resume=auto"]
    where = f"hydra.run.dir={quoted(relative_folder(folder, hydra))}"
    return [sys.executable, "-m", "oakleaf.sweeps.job_process", *places, *ours, *task, where]


def relative_folder(folder: Path, hydra: Any) -> str:
    """The folder as seen from where the command was given, if it is below: no home's path is told."""
    here = Path(hydra.runtime.cwd)
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def _surroundings() -> dict[str, str]:
    """This process's environment, without what would make Lightning wait for processes that SLURM starts: a job has
    one task there, and starts its other processes itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_NTASKS")}


@contextlib.contextmanager
def _job_lock(folder: Path) -> Any:
    """The job's lock; another process that ends soon, as one whose sweep was killed does, is waited for."""
    end = time.time() + PATIENCE
    while True:
        with locked(folder / LOCK) as lock:
            if lock is not None or time.time() > end:
                yield lock
                return
        time.sleep(0.5)


def _launch(line: Sequence[str], environment: Mapping[str, str], cwd: str, folder: Path, lock: int) -> tuple[int, str]:
    """Run to the end; returns the exit code and the last line that was said. What goes to stderr is kept in stderr.log.

    The child's stdin is a pipe from here: when this process dies, however it dies, the child sees it closed and ends.
    """
    with (
        (folder / "stderr.log").open("ab") as log,
        subprocess.Popen(
            line, env=dict(environment), cwd=cwd, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(lock,)
        ) as process,
    ):
        assert process.stderr is not None and process.stdin is not None
        tail = b""
        try:
            for piece in _stderr_of(process, folder / STOP):
                log.write(piece)
                log.flush()
                sys.stderr.write(piece.decode(errors="replace"))
                tail = (tail + piece)[-4096:]
        finally:
            process.stdin.close()  # after Ctrl-C the child was told as well
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
    lines = [words.strip() for words in tail.decode(errors="replace").replace("\r", "\n").splitlines()]
    return process.returncode, next((words for words in reversed(lines) if words), "")


def _stderr_of(process: Any, stop: Path) -> Iterator[bytes]:
    """What the process says on stderr until it ends. It is told to end when there is a file `stop`."""
    told = False
    while True:
        ended = process.poll() is not None  # then what it has started may still hold its stderr
        ready, *_ = select.select([process.stderr], [], [], 0.0 if ended else 1.0)
        piece = os.read(process.stderr.fileno(), 1 << 16) if ready else b""
        if piece:
            yield piece
        elif ready or ended:
            return
        if not told and stop.exists():
            told = True
            process.terminate()


def _conclude(job: Job, folder: Path, evaluated: list[str], code: int, said: str) -> None:
    """Write down what the job has come to."""
    job.seconds, job.started = job.seconds + time.time() - job.started, 0.0
    ended = read(folder / END) if has_ended(folder, job) else None
    job.images = ended["images"] if ended else images_of(folder)
    if ended:
        job.scores, job.better = scores(folder)
        job.state, job.evaluated = "done", evaluated if job.scores else []
        job.reason = "" if job.scores else f"not measured: {said}"
    elif (folder / STOP).exists():
        job.state, job.reason = "pruned", (folder / STOP).read_text().strip()
    elif code == 0 or -code in STOPPED or code - 128 in STOPPED:
        job.state, job.reason = "stopped", "told to stop"
    elif code < 0:
        job.state, job.reason = "failed", f"killed by {signal.Signals(-code).name}; {said}".rstrip("; ")
    else:
        job.state, job.reason = "failed", said or f"exit code {code}"
    write_job(folder, job)


def _wandb(folder: Path, job: Job) -> dict[str, str]:
    """The sweep is the group of its runs in W&B, and what was swept their tags, unless the environment says so."""
    ours = {
        "WANDB_RUN_GROUP": folder.parent.name,
        "WANDB_JOB_TYPE": "train",
        "WANDB_NAME": job.name,
        "WANDB_TAGS": ",".join(o[:64] for o in ["sweep", *job.swept]),
    }
    return {name: value for name, value in ours.items() if not os.environ.get(name)}
