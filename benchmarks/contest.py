"""Races: programs that train side by side, each in turn, so that a noisy machine slows all of them alike.

Every contestant is a process of its own that says on its standard output how far it is; between its turns it and its
loaders are stopped (SIGSTOP) and cost nothing. Only ratios of one race mean anything.
"""

import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
WARM = 2  # signs of life that are not timed after a stop: the first may have lain in the pipe


@dataclass
class Contestant:
    """A command, and what of its output is a sign of life: each match of `sign` says that `images` more were trained.

    folder: where it runs; null: here. environment: what it finds there besides.
    """

    name: str
    command: Sequence[str | Path]
    images: int
    sign: str = r"^beat$"
    folder: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


class Runner:
    """A contestant that runs, or is held."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant, self.sign = contestant, re.compile(contestant.sign)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the runner
        threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "PYTHONUNBUFFERED": "1", "WANDB_MODE": "disabled"}
        self.process = subprocess.Popen(
            [str(word) for word in contestant.command],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=contestant.folder,
            env={**os.environ, **threads, **contestant.environment},
            start_new_session=True,  # so that its loaders are stopped with it
        )

    def hold(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def iteration(self, seconds: float) -> float:
        """Let it train for so long; its images per second."""
        os.killpg(self.process.pid, signal.SIGCONT)
        for _ in range(WARM):
            self._wait()
        begin, signs = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            self._wait()
            signs += 1
        elapsed = time.perf_counter() - begin
        self.hold()
        return signs * self.contestant.images / elapsed

    def _wait(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if self.sign.search(line):
                return
        self.errors.seek(0)
        sys.exit(f"{self.contestant.name} ended early:\n{self.errors.read()[-2000:]}")

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.close()


def race(contestants: Sequence[Contestant], rounds: int = 7, seconds: float = 10.0) -> dict[str, list[float]]:
    """Images per second of each contestant by its name, one number a round; rounds go A B C, A B C, ..."""
    runners: list[Runner] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contestants end with the race
    try:
        for contestant in contestants:  # one after another, so that none warms up while another is timed
            runners.append(Runner(contestant))
            runners[-1].iteration(0.0)
        rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for runner in runners:
                rates[runner.contestant.name].append(runner.iteration(seconds))
        return rates
    finally:
        for runner in runners:
            runner.close()


def ratios(rates: dict[str, list[float]], ours: str, theirs: str) -> tuple[float, float, float]:
    """How many times as fast: the median over the rounds, and the lowest and highest."""
    each = [a / b for a, b in zip(rates[ours], rates[theirs])]
    return statistics.median(each), min(each), max(each)


def record(name: str, title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows, and keep them in `results/<machine>.json` with what they were made by."""
    print(f"\n{title}")
    for row in rows:
        print("  " + "   ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    file = RESULTS / f"{machine()}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[name] = {"title": title, "command": _command(), **circumstances(), "rows": list(rows)}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def circumstances() -> dict[str, str]:
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {"torch": torch.__version__, "commit": commit.stdout.strip(), "date": date.today().isoformat()}


def machine() -> str:
    """The accelerator's or processor's name, with what it computes by where that says little, and how many cores:
    `amd-epyc-avx512-2-cores`."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        name = next((line.split(":")[1] for line in lines if line.startswith("model name")), platform.machine())
        name += f" {torch.backends.cpu.get_cpu_capability()}"
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {os.cpu_count()} cores".lower()).strip("-")


def _command() -> str:
    words = [f".../{Path(word).name}" if word.startswith("/") else word for word in sys.argv[1:]]
    return " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(HERE.parent)), *words])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def compared(rates: dict[str, list[float]], ours: str) -> list[dict[str, Any]]:
    """A row for each contestant: its images/s (the median), and how many times as fast `ours` is."""
    rows = []
    for name, each in rates.items():
        row: dict[str, Any] = {"contestant": name, "images/s": statistics.median(each)}
        if name != ours:
            row["ratio"], row["lowest"], row["highest"] = ratios(rates, ours, name)
        rows.append(row)
    return rows
