"""Pruning: stops runs whose scores during training (`callbacks=scored`) are worse than those of other runs."""

import csv
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING

from oakleaf.sweeps.job_state import STOP, is_score

if TYPE_CHECKING:
    from oakleaf.sweeps.study import Study

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two checks
PREFIX = "metric/"  # of the columns of metrics.csv that hold scores


@contextmanager
def prune_in_background(
    folder: Path, study: "Study", names: Sequence[str], interval: float = INTERVAL
) -> Iterator[None]:
    """Check the scores of running jobs in a thread, while the block waits for the launcher.

    A file `stop` is written into the folder of a job that the study prunes; its runner, on whatever machine, sees the
    file and ends the run.

    Args:
        folder: the sweep's folder.
        study: its study.
        names: the running jobs.
        interval: seconds between two checks.
    """
    finished = threading.Event()
    thread = threading.Thread(target=_prune, args=(folder, study, names, finished, interval), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def training_scores(folder: Path, score_name: str) -> list[float]:
    """Return a run's scores during training in order: the column `metric/<name>` of its metrics.csv."""
    try:
        text = (folder / "metrics.csv").read_text()
    except OSError:
        return []
    complete = text[: text.rfind("\n") + 1]  # the last row may be half written
    rows = list(csv.DictReader(complete.splitlines()))
    names = [name for name in (rows[0] if rows else {}) if name.startswith(PREFIX)]
    column = next((name for name in names if is_score(name.removeprefix(PREFIX), score_name)), None)
    values = [_number(row[column]) for row in rows] if column else []
    return [value for value in values if isfinite(value)]


def _prune(folder: Path, study: "Study", names: Sequence[str], finished: threading.Event, interval: float) -> None:
    running = set(names)
    while not finished.wait(interval):
        for name in sorted(running):
            scores = training_scores(folder / name, study.score_name)
            try:
                if not study.should_prune(name, scores):
                    continue
            except Exception as error:  # a database that does not answer must not end the search
                log.warning("no run is pruned from here on: %s", error)
                return
            running.discard(name)
            (folder / name / STOP).write_text(f"pruned at its score number {len(scores)}\n")


def _number(text: str | None) -> float:
    """Return the number of a cell; NaN of an empty or damaged one."""
    try:
        return float(text or "nan")
    except ValueError:
        return nan
