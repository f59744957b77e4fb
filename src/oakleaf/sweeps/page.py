"""The report of a sweep as an HTML page: ranking, curves over seeds, and samples side by side."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oakleaf.report.charts import Chart, Series
from oakleaf.report.curves import Table, charts_of, read_table
from oakleaf.report.page import picture, render
from oakleaf.report.run import chart_values
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sweeps.job_state import SCORES, Job
from oakleaf.sweeps.ranking import Combination

PAGE = "report.html"
REFRESH = 30  # seconds after which the page of a sweep that is going reloads itself
MAX_CURVES = 8  # combinations with curves: as many as there are colours
MAX_PICTURES = 24  # combinations with samples
POINTS = 120  # at which curves of several seeds are averaged
SIDE = 420  # pixels of samples at most
GOING = ("waiting", "running")


@dataclass(frozen=True)
class SweepReport:
    """What is reported of a sweep.

    Attributes:
        folder: the sweep's folder.
        command: the command that reproduces it.
        better: whether "lower" or "higher" scores are better.
        samples: number of samples of an evaluation.
        jobs: its jobs as they are now.
        ranking: its combinations, from `rank`.
        header: names of the columns of the ranking.
        rows: the ranking as text.
        verdict: how far the ranking can be trusted.
        failures: a line for each job that has failed.
    """

    folder: Path
    command: str
    better: str
    samples: int
    jobs: Sequence[Job]
    ranking: Sequence[Combination]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: str
    failures: str

    def protocol(self) -> str:
        """Return how the numbers were computed."""
        return (
            f"Each run is evaluated at its end by its best checkpoint, or by its last if none was kept, with "
            f"{self.samples:,} samples; `score/metrics.json` in a run's folder has the protocol. difference: from the "
            "first one, over the seeds that both have. s: wall time in seconds of a run's process, start-up and "
            "evaluation included. memory: the largest of a run's process, or of its GPU if it used one."
        )


def write_page(report: SweepReport) -> None:
    """Write `report.html`; while jobs are waiting or running the page reloads itself."""
    going = any(job.state in GOING for job in report.jobs)
    counts = Counter(job.state for job in report.jobs)
    page = render(
        "sweep.html.jinja",
        title=report.folder.name,
        refresh=REFRESH if going else None,
        state="running" if going else "finished",
        status=", ".join(f"{count} {state}" for state, count in counts.items()),
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=report.command,
        header=report.header,
        rows=[_linked(report, number, row) for number, row in enumerate(report.rows)],
        verdict=report.verdict,
        protocol=f"Mean and standard deviation over seeds; {report.better} is better. {report.protocol()}",
        charts=_charts(report),
        pictures=list(_pictures(report)),
        jobs=[_job_values(report.folder, job) for job in report.jobs],
    )
    with atomic_write(report.folder / PAGE) as part:
        part.write_text(page)


def _linked(report: SweepReport, number: int, row: Sequence[str]) -> dict[str, Any]:
    """Return a row of the ranking, and the page of its best run."""
    best = report.ranking[number].best
    return {"cells": row, "complete": report.ranking[number].is_complete, "page": _page_of(report.folder, best)}


def _page_of(folder: Path, job: Job | None) -> str:
    """Return the place of a run's own report, relative to the sweep's; "" if it has none."""
    return f"{job.name}/{PAGE}" if job and (folder / job.name / PAGE).is_file() else ""


def _job_values(folder: Path, job: Job) -> dict[str, Any]:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in job.scores.items())
    return {"name": job.name, "state": job.state, "text": scores or job.reason, "page": _page_of(folder, job)}


def _pictures(report: SweepReport) -> Iterator[dict[str, str]]:
    """Give the samples from which each combination's best job was evaluated."""
    for place, one in enumerate(report.ranking[:MAX_PICTURES], 1):
        if one.best is None:
            continue
        uri = picture(report.folder / one.best.name / SCORES.parent / "samples.png", SIDE)
        if uri:
            rank = str(place) if one.is_complete else "incomplete"
            yield {"uri": uri, "title": f"{rank}  {label_of(one)}", "text": f"{one.score_name} {one.mean:.4g}"}


def label_of(combination: Combination) -> str:
    """Return the swept values of a combination as text."""
    return " ".join(combination.swept) or (combination.jobs[0].name if combination.jobs else "")


def _charts(report: SweepReport) -> list[dict[str, Any]]:
    """Return the charts, each with a curve for each of the first combinations: the mean over seeds, and its band."""
    tables = [
        [read_table(report.folder / job.name / "metrics.csv") for job in combination.jobs]
        for combination in report.ranking[:MAX_CURVES]
    ]
    labels = [label_of(combination) for combination in report.ranking[:MAX_CURVES]]
    return chart_values(_mean_charts(tables, labels, False), _mean_charts(tables, labels, True))


def _mean_charts(tables: Sequence[Sequence[Table]], labels: Sequence[str], over_seconds: bool) -> list[Chart]:
    """Return a chart for each scalar.

    Args:
        tables: the scalars of each job of each combination.
        labels: names of the combinations.
        over_seconds: whether the horizontal axis is seconds of training.
    """
    found: dict[str, tuple[Chart, list[Series]]] = {}
    for label, jobs in zip(labels, tables, strict=True):
        curves: dict[str, tuple[Chart, list[Series]]] = {}
        for table in jobs:
            for chart in charts_of(table, over_seconds):
                for one in chart.series:
                    title = chart.title if len(chart.series) == 1 else f"{chart.title}: {one.name}"
                    curves.setdefault(title, (chart, []))[1].append(one)
        for title, (chart, seeds) in curves.items():
            found.setdefault(title, (chart, []))[1].append(mean_over_seeds(label, seeds))
    return [
        Chart(title, series, chart.logarithmic, "mean and standard deviation over seeds")
        for title, (chart, series) in found.items()
    ]


def mean_over_seeds(name: str, seeds: Sequence[Series]) -> Series:
    """Return the mean of the curves of several seeds, with a band of one standard deviation on each side.

    The curves are interpolated linearly at common places, which reach as far as the shortest of them.

    Args:
        name: of the mean.
        seeds: a curve for each seed.
    """
    if len(seeds) == 1:
        return Series(name, seeds[0].x, seeds[0].y)
    start, end = max(one.x[0] for one in seeds), min(one.x[-1] for one in seeds)
    if end <= start:
        longest = max(seeds, key=lambda one: one.x[-1])
        return Series(name, longest.x, longest.y)
    places = np.linspace(start, end, min(POINTS, max(len(one.x) for one in seeds)))
    values = np.stack([np.interp(places, one.x, one.y) for one in seeds])
    mean, sd = values.mean(0), values.std(0, ddof=1)
    finite = [math.isfinite(value) for value in mean]
    assert all(finite), "charts leave out what is not finite"
    return Series(name, places.tolist(), mean.tolist(), (mean - sd).tolist(), (mean + sd).tolist())
