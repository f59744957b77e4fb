"""Stopping runs that do badly, by the scores that they take of themselves (`callbacks=scored`)."""

import csv
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from oakleaf.sweeps.job_state import STOP

if TYPE_CHECKING:
    from oakleaf.sweeps.study import Study

log = logging.getLogger(__name__)

SECONDS = 2.0  # between two looks


@contextmanager
def watcher(folder: Path, study: "Study", names: Sequence[str], every: float = SECONDS) -> Iterator[None]:
    """While the runs of that name run, look at their scores, and put a file `stop` into the folder of one that the
    study gives up; its process sees it, wherever it runs."""
    over = threading.Event()
    eye = threading.Thread(target=_watch, args=(folder, study, names, over, every), daemon=True)
    eye.start()
    try:
        yield
    finally:
        over.set()
        eye.join()


def scores_of(folder: Path, measure: str) -> list[float]:
    """What a run has scored so far, in order: the column `score/<measure>` of its metrics.csv."""
    try:
        text = (folder / "metrics.csv").read_text()
    except OSError:
        return []
    whole = text[: text.rfind("\n") + 1]  # a line that is being written says something else
    rows = list(csv.DictReader(whole.splitlines()))
    columns = [name for name in (rows[0] if rows else {}) if _is_of(name, measure)]
    found = [_number(row[columns[0]]) for row in rows] if columns else []
    return [value for value in found if value is not None]


def _watch(folder: Path, study: "Study", names: Sequence[str], over: threading.Event, every: float) -> None:
    going = set(names)
    while not over.wait(every):
        for name in sorted(going):
            scores = scores_of(folder / name, study.measure)
            try:
                if not study.should_stop(name, scores):
                    continue
            except Exception as error:  # a database that does not answer must not end the search
                log.warning("no pruning: %s", error)
                return
            going.discard(name)
            (folder / name / STOP).write_text(f"worse than the others' median at its score {len(scores)}\n")


def _is_of(column: str, measure: str) -> bool:
    return column == f"score/{measure}" or column.startswith(f"score/{measure}-")


def _number(text: str | None) -> float | None:
    """None of an empty cell."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None
