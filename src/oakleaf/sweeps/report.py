"""The report of a sweep: report.md, report.html, results.csv and samples.png in its folder, and the same in W&B."""

import csv
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oakleaf.config.paths import conf_dir
from oakleaf.errors import UserError
from oakleaf.report.page import size
from oakleaf.report.provenance import read_sessions
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sweeps.job_state import SWEEP, Job, best_checkpoint, read_json
from oakleaf.sweeps.page import PAGE, SweepReport, write_page
from oakleaf.sweeps.ranking import Combination, Difference, describe, differences, is_lower_better, rank, verdict
from oakleaf.sweeps.sample_grid import sample_grid
from oakleaf.sweeps.status import jobs_of

log = logging.getLogger(__name__)

REPORT, RESULTS, SAMPLES = "report.md", "results.csv", "samples.png"
COLUMNS = ("score", "seeds", "difference", "s", "memory", "images", "best checkpoint")  # after the swept values


def write_report(folder: Path, wandb: Any = None) -> None:
    """Write the report, and print the ranking.

    Args:
        folder: the sweep's folder.
        wandb: the jobs' W&B logger as configured; None if they have none.

    Raises:
        UserError: some jobs have failed; the message lists them.
    """
    report = sweep_report(folder)
    samples = sample_grid(folder, report.ranking)
    with atomic_write(folder / REPORT) as part:
        part.write_text(_markdown(report))
    _write_results(folder, report.jobs)
    if samples:
        samples.save(folder / SAMPLES)
    write_page(report)
    if wandb:
        from oakleaf.sweeps.wandb_report import log_report

        written = [name for name in (REPORT, RESULTS, SAMPLES, PAGE) if (folder / name).is_file()]
        log_report(folder, wandb, report.header, report.rows, written)
    files = f"{folder / REPORT}, {PAGE}, {RESULTS}, {SAMPLES}"
    log.info("%s", "\n".join(part for part in (_align([report.header, *report.rows]), report.verdict, files) if part))
    if report.failures:
        raise UserError(report.failures)


def sweep_report(folder: Path) -> SweepReport:
    """Collect what is reported of a sweep as far as it is now.

    Raises:
        UserError: the folder is not that of a sweep, or its record is damaged.
    """
    plan, jobs = read_json(folder / SWEEP) or {}, jobs_of(folder)
    score_name = _ranking_score(plan["settings"]["measure"], jobs)
    ranking = rank(jobs, score_name)
    found = differences(ranking)
    header, rows = _ranking_table(folder, ranking, found, score_name)
    return SweepReport(
        folder=folder,
        command=f"python train.py -m {shlex.join(plan['command'])}",
        better="lower" if is_lower_better(jobs, score_name) else "higher",
        samples=plan["settings"]["fake"],
        jobs=jobs,
        ranking=ranking,
        header=header,
        rows=rows,
        verdict=verdict(ranking, found, header[len(header) - len(COLUMNS)]),
        failures=_failures(jobs, score_name),
    )


def refresh_page(folder: Path) -> None:
    """Write the HTML page of a sweep that is going; a failure is logged, and ends no job."""
    try:
        write_page(sweep_report(folder))
    except (OSError, UserError) as error:
        log.warning("%s could not be written: %s", folder / PAGE, error)


def _ranking_score(score_name: str, jobs: Sequence[Job]) -> str:
    """Return the name of the score that ranks; of a metric without a score of its name (prdc), its first number."""
    is_metric = (conf_dir() / "metric" / f"{score_name}.yaml").is_file()
    if not is_metric or any(job.score(score_name) for job in jobs):
        return score_name
    return next(
        (name for job in jobs for name, better in job.better.items() if better in ("lower", "higher")), score_name
    )


def _ranking_table(
    folder: Path, ranking: Sequence[Combination], found: Sequence[Difference | None], score_name: str
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: rank, swept values, score over seeds, its difference from the first, cost, checkpoint."""
    keys = _keys(override for combination in ranking for override in combination.swept)
    name = next((combination.score_name for combination in ranking if combination.score_name), score_name)
    rows = []
    for place, (combination, difference) in enumerate(zip(ranking, found, strict=True), 1):
        seconds, images = combination.cost()
        scored, count = len(combination.values), len(combination.jobs)
        seeds = f"{scored}" if scored == count else f"{scored} of {count}"
        shown = str(place) if combination.is_complete else "incomplete" if scored else ""
        cells = [shown, *_values(combination.swept, keys), _score(combination), seeds, describe(difference)]
        peak = _peak_memory(folder, combination.jobs)
        rows.append([*cells, f"{seconds:.0f}", peak, f"{images:,.0f}", _checkpoint(folder, combination.best)])
    return ["", *keys, name, *COLUMNS[1:]], rows


def _peak_memory(folder: Path, jobs: Sequence[Job]) -> str:
    """Return the largest memory of the jobs' processes, and of their GPUs if they used any."""
    peaks = [session.get("peak_memory", {}) for job in jobs for session in read_sessions(folder / job.name)]
    largest = {kind: max((peak.get(kind, 0) for peak in peaks), default=0) for kind in ("process", "GPU")}
    return size(largest["GPU"] or largest["process"]) if any(largest.values()) else ""


def _score(combination: Combination) -> str:
    if not combination.values:
        return "-"
    spread = "" if combination.sd is None else f" +- {combination.sd:.2g}"
    return f"{combination.mean:.4g}{spread}"


def _failures(jobs: Sequence[Job], score_name: str) -> str:
    """Return a line for each job that has failed, and a first line if no job has the score that should rank."""
    known = list(dict.fromkeys(name for job in jobs for name in job.scores))
    unknown = known and not any(job.score(score_name) for job in jobs)
    lines = [f"sweep.measure={score_name}: choose one of the computed scores: {', '.join(known)}"] if unknown else []
    failed = [job for job in jobs if job.state not in ("done", "pruned") or (job.state == "done" and not job.scores)]
    return "\n".join(lines + [f"{job.name}: {job.state}{f', {job.reason}' if job.reason else ''}" for job in failed])


def _write_results(folder: Path, jobs: Sequence[Job]) -> None:
    """Write results.csv: one row for each job, with all its scores."""
    keys = _keys(override for job in jobs for override in job.swept)
    scores = list(dict.fromkeys(name for job in jobs for name in job.scores))
    rows: list[list[Any]] = [["job", *keys, "state", *scores, "seconds", "images", "attempts", "checkpoint", "reason"]]
    for job in jobs:
        values = [job.scores.get(name, "") for name in scores]
        cost = [round(job.seconds, 1), job.images, job.attempts]
        checkpoint = _checkpoint(folder, job)
        rows.append([job.name, *_values(job.swept, keys), job.state, *values, *cost, checkpoint, job.reason])
    with (folder / RESULTS).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _keys(overrides: Any) -> list[str]:
    return list(dict.fromkeys(override.partition("=")[0] for override in overrides))


def _values(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    values = dict(override.split("=", 1) for override in overrides)
    return [values.get(key, "") for key in keys]


def _checkpoint(folder: Path, job: Job | None) -> str:
    file = best_checkpoint(folder / job.name) if job else None
    return str(file.relative_to(folder)) if file else ""


def _markdown(report: SweepReport) -> str:
    table = [report.header, ["---"] * len(report.header), *report.rows]
    parts = [
        f"# {report.folder.name}",
        f"```\n{report.command}\n```",
        "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in table),
        *([report.verdict] if report.verdict else []),
        f"Mean and standard deviation over seeds; {report.better} is better. {report.protocol()}",
        *([f"## Not finished\n\n```\n{report.failures}\n```"] if report.failures else []),
        f"![Samples of each combination's best run]({SAMPLES})",
    ]
    return "\n\n".join(parts) + "\n"


def _align(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:{width}s}" for cell, width in zip(line, widths)).rstrip() for line in lines)
