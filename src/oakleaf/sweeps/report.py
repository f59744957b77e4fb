"""What a sweep ends in: report.md, results.csv and sheet.png, in its folder and in W&B."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oakleaf.sweeps.job_state import SWEEP, Job, checkpoint, read
from oakleaf.sweeps.ranking import Combination, is_lower_better, ranked
from oakleaf.sweeps.sample_grid import write_sample_grid
from oakleaf.sweeps.status import jobs_of

SHEET = "sheet.png"


def report(folder: Path, wandb: Any = None) -> tuple[str, str]:
    """Write it; returns what the terminal shows, and the table of jobs that did not end well, empty if all did.

    wandb: the jobs' W&B logger as configured; None: they have none.
    """
    plan, jobs = read(folder / SWEEP) or {}, jobs_of(folder)
    measure = plan["settings"]["measure"]
    order = ranked(jobs, measure)
    header, rows = table(folder, jobs, order, measure)
    failed = [job for job in jobs if job.state not in ("done", "pruned") or (job.state == "done" and not job.scores)]
    lost = unranked(jobs, measure) + failures(failed)
    text = _markdown(folder, plan, jobs, markdown(header, rows), lost, measure)
    picture = write_sample_grid(folder, order)
    (folder / "report.md").write_text(text)
    (folder / "results.csv").write_text(results(folder, jobs))
    if picture:
        picture.save(folder / SHEET)
    if wandb:
        from oakleaf.sweeps.dashboard import show

        show(folder, wandb, header, rows)
    return f"{_columns([header, *rows])}\n{folder / 'report.md'}, results.csv, {SHEET}", lost


def table(
    folder: Path, jobs: Sequence[Job], order: Sequence[Combination], measure: str
) -> tuple[list[str], list[list[str]]]:
    """The ranking: what was chosen, the measure's mean and sd over seeds, a job's cost, the best one's checkpoint."""
    keys = list(dict.fromkeys(override.partition("=")[0] for one in order for override in one.swept))
    name = next((one.name for one in order if one.name), measure)
    header = ["", *keys, name, "seeds", "s", "images", "best checkpoint"]
    rows = []
    for place, one in enumerate(order, 1):
        chosen = dict(override.split("=", 1) for override in one.swept)
        seconds, images = one.cost()
        best = checkpoint(folder / one.best.name) if one.best else None
        where = str(best.relative_to(folder)) if best else ""
        of = f"{len(one.values)}" if len(one.values) == len(one.jobs) else f"{len(one.values)} of {len(one.jobs)}"
        rank = str(place) if one.values else ""
        cells = [rank, *(chosen.get(key, "") for key in keys), number(one), of, f"{seconds:.0f}", f"{images:,.0f}"]
        rows.append([*cells, where])
    return header, rows


def number(one: Combination) -> str:
    if not one.values:
        return "-"
    return f"{one.mean:.4g}" if one.sd is None else f"{one.mean:.4g} +- {one.sd:.2g}"


def failures(jobs: Sequence[Job]) -> str:
    """A line for each job that did not end well, with its reason."""
    return "\n".join(f"{job.name}: {job.state}{f', {job.reason}' if job.reason else ''}" for job in jobs)


def unranked(jobs: Sequence[Job], measure: str) -> str:
    """What to say where nothing that was measured is called so."""
    known = list(dict.fromkeys(name for job in jobs for name in job.scores))
    if not known or any(job.score(measure) for job in jobs):
        return ""
    return f"sweep.measure={measure}: none of the numbers that were measured: {', '.join(known)}\n"


def results(folder: Path, jobs: Sequence[Job]) -> str:
    """One line a job, with all that was measured."""
    keys = list(dict.fromkeys(override.partition("=")[0] for job in jobs for override in job.swept))
    scores = list(dict.fromkeys(name for job in jobs for name in job.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, "state", *scores, "seconds", "images", "attempts", "checkpoint", "reason"])
    for job in jobs:
        chosen = dict(override.split("=", 1) for override in job.swept)
        place = checkpoint(folder / job.name)
        measured = [job.scores.get(name, "") for name in scores]
        cost = [round(job.seconds, 1), job.images, job.attempts]
        where = place.relative_to(folder) if place else ""
        writer.writerow([job.name, *(chosen.get(k, "") for k in keys), job.state, *measured, *cost, where, job.reason])
    return text.getvalue()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _markdown(folder: Path, plan: dict[str, Any], jobs: Sequence[Job], ranking: str, lost: str, measure: str) -> str:
    way = "lower" if is_lower_better(jobs, measure) else "higher"
    fake = plan["settings"]["fake"]
    parts = [
        f"# {folder.name}",
        f"```\npython train.py -m {shlex.join(plan['command'])}\n```",
        ranking,
        f"Mean and standard deviation over seeds; {way} is better. Each run is measured at its end by its best "
        f"checkpoint, or its last where none was kept, with {fake:,} samples; `score/metrics.json` in a run's folder "
        "has the protocol. s: wall time of a run's process, start-up and measuring included.",
        *([f"## Not finished\n\n```\n{lost}\n```"] if lost else []),
        f"![Samples of each combination's best run]({SHEET})",
    ]
    return "\n\n".join(parts) + "\n"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    """As the terminal shows it."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:{width}s}" for cell, width in zip(line, widths)).rstrip() for line in lines)
