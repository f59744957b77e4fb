"""Runs one job of a sweep in its own process, and records how it has ended.

Hydra's launchers call a sweep's jobs one after another in one Python process, or in a worker that serves several jobs.
There memory and GPU contexts of one job would remain for the next, and Lightning could not start the further processes
of a job with several devices, since it starts them by repeating the command line. Therefore each job is started as a
command of its own (`python -m oakleaf.cli.sweep_job`), and the launcher's process only waits for it.

A job must not outlive its sweep: it would write into a folder that the next start of the sweep uses. The standard input
of the job's process is a pipe whose other end this process holds open. When this process ends, even by SIGKILL, the
operating system closes the pipe; the job reads its end and terminates itself as by SIGTERM, with a checkpoint. For the
time until it has ended it holds the job's lock, which it has inherited, and a new runner waits for that lock.
"""

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

from oakleaf.config.overrides import quote
from oakleaf.runtime.locks import file_lock
from oakleaf.runtime.run_dir import LAST, relative_to_cwd
from oakleaf.runtime.signals import SIGNALS, Interrupted
from oakleaf.runtime.threads import CORES, available_cores
from oakleaf.sweeps.devices import reserve_gpus
from oakleaf.sweeps.job_state import LOCK, STOP, Job, images_at_end, images_seen, read_job, read_scores, write_job
from oakleaf.sweeps.report import refresh_page

JOB_VARIABLE = "OAKLEAF_JOB"  # environment variable of a job's process: what it has to do, as JSON
NOT_INHERITED = ("SLURM_NTASKS", "WANDB_RUN_ID")
STOP_TIMEOUT = 60.0  # seconds in which a stopped process has to save and end
SWEEP_OVERRIDES = ("hydra.mode", "hydra.sweep", "hydra/sweeper", "hydra/launcher", "hydra.launcher", "hydra.run.")


def run(config: DictConfig, hydra: Any) -> None:
    """Start or continue the job of a folder, or skip it while another process runs it.

    Nothing is raised for a job that fails: `job.json` has its state, and the sweep continues with the next one.

    Args:
        config: the job's composed configuration.
        hydra: Hydra's own configuration of the job (`HydraConfig.get()`).
    """
    folder = Path(hydra.runtime.output_dir)
    evaluation = evaluation_overrides(config)
    with _job_lock(folder) as lock:
        if lock is None:
            return
        job = read_job(folder)
        assert job is not None  # the sweeper has written it
        _record_start(job, folder)
        code, last_line = 1, ""
        try:
            train, cwd = images_at_end(folder, job) is None, hydra.runtime.cwd
            place = relative_to_cwd(folder, cwd)
            task = {"folder": place, "overrides": job.overrides, "train": train, "evaluate": evaluation}
            with reserve_gpus(config.trainer) as devices:
                shared = {**wandb_variables(folder, job), **core_variables(hydra.launcher), **devices}
                variables = {**shared, JOB_VARIABLE: json.dumps(task)}
                command = _command(hydra, job.overrides, (folder / LAST).is_file(), place)
                code, last_line = _run_process(command, variables, cwd, folder, lock)
        except Interrupted as interruption:
            code = -interruption.number
            raise
        except KeyboardInterrupt:  # in a launcher's worker process, where Ctrl-C is handled by Python
            code = -signal.SIGINT
            raise
        finally:
            _record_end(job, folder, evaluation, code, last_line)
            refresh_page(folder.parent)


def evaluation_overrides(config: DictConfig) -> list[str]:
    """Return how finished runs are evaluated, as overrides for evaluate.py."""
    sweep: Any = OmegaConf.to_container(config.sweep)
    metric = sweep["metric"] if isinstance(sweep["metric"], str) else f"[{','.join(sweep['metric'])}]"
    device = ["device=cpu"] if config.trainer.accelerator == "cpu" else []
    return [f"metric={metric}", f"extractor={sweep['extractor']}", f"fake={sweep['fake']}", *device]


def wandb_variables(folder: Path, job: Job) -> dict[str, str]:
    """Return the environment variables that put a job into its sweep's group in W&B, with what is swept as tags.

    Variables that the user has set are left out.
    """
    variables = {
        "WANDB_RUN_GROUP": folder.parent.name,
        "WANDB_JOB_TYPE": "train",
        "WANDB_NAME": job.name,
        "WANDB_TAGS": ",".join(override[:64] for override in ["sweep", *job.swept]),
    }
    return {name: value for name, value in variables.items() if not os.environ.get(name)}


def core_variables(launcher: Any) -> dict[str, str]:
    """Return the environment variable by which jobs that run at the same time share the cores of this machine.

    Args:
        launcher: Hydra's configuration of the launcher; `n_jobs` is joblib's number of parallel jobs, -1 for one on
            each core. Schedulers limit a job's cores by themselves.
    """
    cores, jobs = available_cores(), launcher.get("n_jobs") or 1
    return {CORES: str(max(1, cores // jobs if jobs > 0 else 1))}


@contextlib.contextmanager
def _job_lock(folder: Path) -> Iterator[int | None]:
    """Hold the job's lock; wait for a process that is about to end because its sweep was killed."""
    deadline = time.time() + STOP_TIMEOUT
    while True:
        with file_lock(folder / LOCK) as lock:
            if lock is not None or time.time() > deadline:
                yield lock
                return
        time.sleep(0.5)


def _record_start(job: Job, folder: Path) -> None:
    """Write that the job runs. If the last attempt was killed, its time up to its last checkpoint is added."""
    if job.started and (folder / LAST).is_file():
        job.seconds += max(0.0, (folder / LAST).stat().st_mtime - job.started)
    job.state, job.reason, job.started, job.attempts = "running", "", time.time(), job.attempts + 1
    (folder / STOP).unlink(missing_ok=True)
    write_job(folder, job)


def _command(hydra: Any, overrides: list[str], has_checkpoint: bool, place: str) -> list[str]:
    """Return the command of the job's process; with resume=auto it continues from the job's last checkpoint."""
    own = [o for o in hydra.overrides.hydra if not o.lstrip("+~").startswith(SWEEP_OVERRIDES)]
    config_dirs = [f"--config-dir={s.path}" for s in hydra.runtime.config_sources if s.provider == "command-line"]
    if has_checkpoint or not any(o.startswith("resume=") for o in overrides):
        overrides = [*(o for o in overrides if not o.startswith("resume=")), "resume=auto"]
    run_dir = f"hydra.run.dir={quote(place)}"
    return [sys.executable, "-m", "oakleaf.cli.sweep_job", *config_dirs, *own, *overrides, run_dir]


def _run_process(
    command: Sequence[str], variables: Mapping[str, str], cwd: str, folder: Path, lock: int
) -> tuple[int, str]:
    """Run a command to its end, and copy its stderr to the terminal and to stderr.log.

    SLURM_NTASKS is removed from its environment. With it Lightning would wait for processes that SLURM starts; a job is
    one task of SLURM's, and starts its further processes itself. So is WANDB_RUN_ID, which would make all jobs one run.

    Returns:
        The exit code and the last line of stderr.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "pass_fds": (lock,)}
    with (
        (folder / "stderr.log").open("ab") as log,
        subprocess.Popen(command, env={**inherited, **variables}, cwd=cwd, **pipes) as process,
    ):
        assert process.stdin is not None
        tail = b""
        try:
            for chunk in _stderr_of(process, folder / STOP):
                log.write(chunk)
                log.flush()
                sys.stderr.write(chunk.decode(errors="replace"))
                tail = (tail + chunk)[-4096:]
        finally:
            process.stdin.close()  # ends the process after an exception here, such as Interrupted
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
            process.kill()
    lines = [line.strip() for line in tail.decode(errors="replace").replace("\r", "\n").splitlines()]
    return process.returncode, next((line for line in reversed(lines) if line), "")


def _stderr_of(process: Any, stop: Path) -> Iterator[bytes]:
    """Yield what a process writes to stderr until it ends; terminate it as soon as the file `stop` exists.

    The end of the process is checked beside that of its stderr, which its own children can hold open longer.
    """
    terminated = False
    while True:
        ended = process.poll() is not None
        ready, *_ = select.select([process.stderr], [], [], 0.0 if ended else 1.0)
        chunk = os.read(process.stderr.fileno(), 1 << 16) if ready else b""
        if chunk:
            yield chunk
        elif ready or ended:
            return
        if not terminated and stop.exists():
            terminated = True
            process.terminate()


def _record_end(job: Job, folder: Path, evaluation: list[str], code: int, last_line: str) -> None:
    """Write the job's state by what it has left and its exit code."""
    job.seconds, job.started = job.seconds + time.time() - job.started, 0.0
    at_end = images_at_end(folder, job)
    job.images = images_seen(folder) if at_end is None else at_end
    if at_end is not None:
        job.scores, job.better = read_scores(folder)
        job.state, job.evaluated = "done", evaluation if job.scores else []
        job.reason = "" if job.scores else f"not evaluated: {last_line}"
    elif (folder / STOP).exists():
        job.state, job.reason = "pruned", (folder / STOP).read_text().strip()
    elif code == 0 or -code in SIGNALS or code - 128 in SIGNALS:
        job.state, job.reason = "stopped", "stopped by a signal"
    elif code < 0:
        job.state, job.reason = "failed", f"killed by {signal.Signals(-code).name}; {last_line}".rstrip("; ")
    else:
        job.state, job.reason = "failed", last_line or f"exit code {code}"
    write_job(folder, job)
