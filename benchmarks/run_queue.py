"""Work off the list of runs in benchmarks/runs.yaml, one at a time: python benchmarks/run_queue.py [NAME ...]

Each entry is a sweep over seeds, trained and evaluated by `train.py -m` in outputs/results/NAME with one thread at low
priority, or a script. A queue that was killed continues with the same command: finished runs are skipped, stopped ones
continue from their last checkpoint. After each entry, benchmarks/results/runs.json gets a row for each seed (scores
with those of real images, commit, machine, seconds, processor time), and the table in docs/zoo.md is written again.
Rows of runs.json whose command is that of runs.yaml count as done, also on another machine.

Options:
    NAME ...   these entries alone
    --list     print what is done and what is left, and run nothing
    --render   write the table in docs/zoo.md, and run nothing
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

from oakleaf.report.provenance import commit, machine, read_sessions
from oakleaf.sweeps.job_state import SCORES, read_job

ROOT = Path(__file__).resolve().parents[1]
RUNS, ROWS = ROOT / "benchmarks/runs.yaml", ROOT / "benchmarks/results/runs.json"
OUTPUTS = ROOT / "outputs/results"
ZOO, BEGIN, END = ROOT / "docs/zoo.md", "<!-- runs: begin -->", "<!-- runs: end -->"
COST = "cost.json"  # in an entry's folder: processor seconds of all its processes so far
NICE = 15
FIXED = ["trainer=cpu", "threads=1", "trainer.enable_progress_bar=false", "logger=csv"]


class Entry(NamedTuple):
    """One line of the list.

    Args:
        name: of the entry and of its folder.
        purpose: what the numbers are for.
        hours: processor hours of one seed, expected.
        seeds: the seeds that are trained.
        train: overrides of `train.py`.
        metric: metrics of the evaluation at the end of each run.
        evaluate: further `sweep.` options, such as the extractor and the number of samples.
        script: instead of a training, a script of this repository and its arguments.
    """

    name: str
    purpose: str
    hours: float
    seeds: list[int] = []
    train: list[str] = []
    metric: list[str] = ["fid", "prdc"]
    evaluate: list[str] = []
    script: list[str] = []

    @property
    def folder(self) -> Path:
        return OUTPUTS / self.name

    @property
    def command(self) -> list[str]:
        """The command of the entry, relative to the repository, without the seeds."""
        if self.script:
            return ["python", *self.script]
        metric = f"sweep.metric=[{','.join(self.metric)}]"
        return ["python", "train.py", "-m", *self.train, *FIXED, metric, *self.evaluate]

    def arguments(self) -> list[str]:
        """What is executed."""
        if self.script:
            return [sys.executable, *self.script]
        seeds = f"seed={','.join(map(str, self.seeds))}"
        return [sys.executable, *self.command[1:], seeds, f"hydra.sweep.dir={self.folder}"]


def entries() -> list[Entry]:
    """Read the list."""
    return [Entry(**content) for content in yaml.safe_load(RUNS.read_text())]


def rows() -> list[dict[str, Any]]:
    """Read the rows of all runs that were done, here or elsewhere."""
    return json.loads(ROWS.read_text()) if ROWS.is_file() else []


def missing(entry: Entry, done: Sequence[dict[str, Any]]) -> list[int]:
    """Return the seeds of an entry that are not done; a script counts as seed 0."""
    found = {row["seed"] for row in done if row["name"] == entry.name and row["command"] == " ".join(entry.command)}
    return [seed for seed in entry.seeds or [0] if seed not in found]


def run(entry: Entry) -> int:
    """Run an entry with one thread at low priority; return its exit code."""
    entry.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OAKLEAF_RESULTS": str(entry.folder)}
    with (entry.folder / "queue.log").open("a") as log:
        process = subprocess.Popen(
            entry.arguments(), cwd=ROOT, stdout=log, stderr=log, env=environment, preexec_fn=lambda: os.nice(NICE)
        )
        before = _children_seconds()
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            cost = _cost(entry) + _children_seconds() - before
            (entry.folder / COST).write_text(json.dumps(cost))
    return code


def _children_seconds() -> float:
    """Processor time of all child processes that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cost(entry: Entry) -> float:
    file = entry.folder / COST
    return float(json.loads(file.read_text())) if file.is_file() else 0.0


def collect(entry: Entry) -> list[dict[str, Any]]:
    """Return a row for each finished seed of an entry."""
    common = {"name": entry.name, "purpose": entry.purpose, "command": " ".join(entry.command)}
    if entry.script:
        row = {"seed": 0, "commit": commit(), "machine": machine(), "core_hours": _cost(entry) / 3600, "scores": []}
        return [{**common, **row}]
    jobs = [(folder, job) for folder in sorted(entry.folder.iterdir()) if (job := read_job(folder))]
    finished = [(folder, job) for folder, job in jobs if job.state == "done"]
    found = []
    for folder, job in finished:
        sessions = read_sessions(folder)
        seed = next(int(one.partition("=")[2]) for one in job.swept if one.startswith("seed="))
        found.append(
            {
                **common,
                "seed": seed,
                "images": job.images,
                "seconds": round(job.seconds),
                "core_hours": round(_cost(entry) / len(finished) / 3600, 2),
                "commit": sessions[-1]["commit"] if sessions else "",
                "machine": sessions[-1]["machine"] if sessions else {},
                "scores": _scores(folder),
            }
        )
    return found


def _scores(folder: Path) -> list[dict[str, Any]]:
    keys = ("name", "value", "baseline", "better")
    return [{key: score.get(key) for key in keys} for score in json.loads((folder / SCORES).read_text())]


def merge(new: Sequence[dict[str, Any]]) -> None:
    """Add rows to those that were done before, in the order of the list."""
    order = {entry.name: number for number, entry in enumerate(entries())}
    kept = {(row["name"], row["command"], row["seed"]): row for row in [*rows(), *new]}
    ordered = sorted(kept.values(), key=lambda row: (order.get(row["name"], len(order)), row["name"], row["seed"]))
    ROWS.write_text(json.dumps(ordered, indent=1) + "\n")


def table() -> str:
    """Return the table of all finished runs: a row for each entry, means and standard deviations over its seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows():
        if row["scores"]:
            groups.setdefault((row["name"], row["command"]), []).append(row)
    lines = [
        "| run | for | seeds | images | scores (real images) | core-hours | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, _), found in groups.items():
        first = found[0]
        scores = [
            _cell(score, [other["value"] for row in found for other in row["scores"] if other["name"] == score["name"]])
            for score in first["scores"]
        ]
        hours = sum(row["core_hours"] for row in found)
        seeds = ", ".join(str(row["seed"]) for row in found)
        cells = (seeds, f"{first['images']:,}", "; ".join(scores), f"{hours:.1f}", first["commit"])
        lines.append(f"| [`{name}`](../benchmarks/runs.yaml) | {first['purpose']} | {' | '.join(cells)} |")
    hours = sum(row["core_hours"] for row in rows())
    lines += ["", f"{len(rows())} runs, {hours:.1f} core-hours. Machines: {_machines()}."]
    return "\n".join(lines)


def _cell(score: dict[str, Any], values: list[float]) -> str:
    spread = f" +- {stdev(values):.2g}" if len(values) > 1 else ""
    real = "" if score["baseline"] is None else f" ({score['baseline']:.3g})"
    return f"{score['name']} {mean(values):.4g}{spread}{real}"


def _machines() -> str:
    known = {row["machine"].get("processor", "unknown") for row in rows()}
    return ", ".join(sorted(f"{name}, one thread" for name in known)) or "none"


def render() -> None:
    """Write the table into docs/zoo.md, between its two marks."""
    text = ZOO.read_text()
    before, rest = text.split(BEGIN)
    ZOO.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    known = {entry.name: entry for entry in entries()}
    if unknown := [name for name in arguments.names if name not in known]:
        sys.exit(f"{', '.join(unknown)}: not in {RUNS.name}, which has {', '.join(known)}")
    if arguments.render:
        return render()
    failed = []
    for entry in [known[name] for name in arguments.names or known]:
        left = missing(entry, rows())
        if arguments.list or not left:
            print(f"{entry.name}: {f'seeds {left} left, {len(left) * entry.hours:.1f} core-hours' if left else 'done'}")
            continue
        print(f"{entry.name}: {entry.purpose}; about {len(left) * entry.hours:.1f} core-hours", flush=True)
        code = run(entry)
        if not entry.script or code == 0:
            merge(collect(entry))
            render()
        if code:
            failed.append(f"{entry.name} (exit code {code}, {entry.folder / 'queue.log'})")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
