"""The report of a run, `report.html`: made of nothing but the files in the run's folder."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.report.charts import Chart, colour_of, svg, write_png
from oakleaf.report.curves import alarms_of, charts_of, read_table
from oakleaf.report.page import duration, number, picture, render, size
from oakleaf.report.provenance import Session, read_sessions
from oakleaf.runtime.run_dir import CONFIG, LAST, atomic_write

REPORT, CURVES, TABLE, NEIGHBOURS = "report.html", "curves.png", "metrics.csv", "neighbours.png"
SAMPLES = "samples"
MAX_FRAMES = 60  # sample grids in the page
FRAME_SIDE = 900  # pixels of one of them at most
SCORES = ("metrics.json", "score/metrics.json", "scores/metrics.json")  # evaluate.py, of a sweep, while training
RUNNING, INTERRUPTED = "running", "ended without a last word"
UNKNOWN = "not recorded"


class RunReport:
    """Writes the report of a run.

    Args:
        folder: the run's folder.
        advice: for each alarm, what to try.
    """

    def __init__(self, folder: Path, advice: Mapping[str, str]) -> None:
        self.folder, self.advice = folder, advice
        self.pictures: dict[tuple[Path, int], str | None] = {}  # by file and time of its last change

    def write(self, refresh: int | None = None) -> None:
        """Write `report.html`.

        Args:
            refresh: seconds after which the page reloads itself, while the run is going; None: the run has ended.
        """
        page = render("run.html.jinja", **self.content(refresh))
        with atomic_write(self.folder / REPORT) as part:
            part.write_text(page)

    def write_curves(self) -> None:
        """Write `curves.png`, unless nothing was logged."""
        table = read_table(self.folder / TABLE)
        if charts := charts_of(table):
            with atomic_write(self.folder / CURVES) as part:
                write_png(charts, "images seen", self._title(), part)

    def content(self, refresh: int | None) -> dict[str, Any]:
        """Return what the template shows."""
        sessions, config, table = read_sessions(self.folder), self._config(), read_table(self.folder / TABLE)
        status = str(sessions[-1].get("status", RUNNING)) if sessions else UNKNOWN
        if status == RUNNING and not refresh:
            status = INTERRUPTED
        last = sessions[-1] if sessions else {}
        return {
            "title": self._title(),
            "refresh": refresh,
            "state": status.split(" ")[0].rstrip(":"),
            "status": f"{status}{_progress(last) if status == RUNNING else ''}",
            "written": time.strftime("%Y-%m-%d %H:%M:%S"),
            "written_seconds": round(time.time()),
            "facts": _facts(sessions, table.images),
            "command": last.get("command") or f"python train.py: the command was {UNKNOWN}",
            "alarms": [{**one._asdict(), "advice": self.advice.get(one.name, "")} for one in alarms_of(table)],
            "frames": self._frames(),
            "charts": chart_values(charts_of(table), charts_of(table, over_seconds=True)),
            "scores": _scores(self.folder),
            "neighbours": self._neighbours(),
            "commands": _commands(str(config.get("folder") or self.folder), self.folder),
            "groups": _groups(config),
            "sessions": [_session_values(session) for session in sessions],
        }

    def _title(self) -> str:
        config = self._config()
        names = [OmegaConf.select(config, f"{group}.name") for group in ("model", "data")]
        named = " on ".join(str(name) for name in names if name)
        return f"{named}, {self.folder.name}" if named else self.folder.name

    def _config(self) -> DictConfig:
        try:
            config = OmegaConf.load(self.folder / CONFIG)
        except Exception:  # missing, or damaged in any way
            return OmegaConf.create()
        return config if isinstance(config, DictConfig) else OmegaConf.create()

    def _frames(self) -> list[dict[str, str]]:
        """Return sample grids at equal distances in the run, with the images seen."""
        files = sorted((self.folder / SAMPLES).glob("[0-9]*.png"))
        chosen = (
            [files[round(i * (len(files) - 1) / (MAX_FRAMES - 1))] for i in range(MAX_FRAMES)]
            if len(files) > MAX_FRAMES
            else files
        )
        pictures = ((f"{int(file.stem):,} images", self._picture(file, FRAME_SIDE)) for file in chosen)
        return [{"label": label, "uri": uri} for label, uri in pictures if uri]

    def _neighbours(self) -> str | None:
        places = (self.folder / NEIGHBOURS, self.folder / "score" / NEIGHBOURS)
        return next((self._picture(file) for file in places if file.is_file()), None)

    def _picture(self, file: Path, most: int = 1100) -> str | None:
        """Return a picture as a part of the page; it is converted once."""
        try:
            key = file, file.stat().st_mtime_ns
        except OSError:
            return None
        if key not in self.pictures:
            self.pictures[key] = picture(file, most)
        return self.pictures[key]


def chart_values(over_images: Sequence[Chart], over_seconds: Sequence[Chart]) -> list[dict[str, Any]]:
    """Return what the template shows of charts, over images and over seconds of training."""
    seconds = {chart.title: chart for chart in over_seconds}
    return [
        {
            "title": chart.title,
            "note": chart.note,
            "legend": [
                {"name": one.name, "colour": colour_of(i), "last": number(one.y[-1])}
                for i, one in enumerate(chart.series)
            ],
            "over_images": svg(chart, "images seen"),
            "over_seconds": svg(seconds[chart.title], "seconds of training") if chart.title in seconds else "",
        }
        for chart in over_images
    ]


def _progress(session: Session) -> str:
    """Return the share of the run that is done, and the time that is left."""
    images, total, start = (session.get(key) for key in ("images", "total_images", "start_images"))
    seconds = session.get("seconds") or 0.0
    if not images or not total or images <= (start or 0):
        return ""
    left = seconds * max(0, total - images) / (images - (start or 0))
    return f", {images / total:.0%}, about {duration(left)} left"


def _facts(sessions: Sequence[Session], images: Sequence[float]) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page."""
    seen = max([session.get("images", 0) for session in sessions] + [int(value) for value in images[-1:]], default=0)
    facts = [("images seen", f"{seen:,}")]
    seconds = sum(session.get("seconds", 0.0) for session in sessions)
    trained = sum(session.get("images", 0) - session.get("start_images", 0) for session in sessions)
    if seconds:
        facts += [("wall time", duration(seconds)), ("images per second", f"{trained / seconds:,.0f}")]
    for kind in ("process", "GPU"):
        peak = max((session.get("peak_memory", {}).get(kind, 0) for session in sessions), default=0)
        if peak:
            facts.append((f"peak memory, {kind}", size(peak)))
    if sessions and sessions[-1].get("device"):
        facts.append(("device", sessions[-1]["device"]))
    if sessions and sessions[-1].get("report_seconds") and seconds:
        share = sum(session.get("report_seconds", 0.0) for session in sessions) / seconds
        facts.append(("of the time for this report", f"{share:.2%}"))
    return facts


def _scores(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of all evaluations, the last one of each protocol first."""
    entries: list[dict[str, Any]] = []
    for name in SCORES:
        try:
            found = json.loads((folder / name).read_text())
        except (OSError, ValueError):
            continue
        kept = found if name != SCORES[2] else {entry["name"]: entry for entry in found}.values()
        entries += [_score_values(entry) for entry in kept]
    return entries


def _score_values(entry: dict[str, Any]) -> dict[str, Any]:
    protocol = entry.get("protocol", {})
    fake, real, seen = (protocol.get(key) for key in ("fake", "real", "images_seen"))
    parts = [f"{fake:,} samples" if fake else "", f"{real:,} real images" if real else ""]
    return {
        "name": entry["name"],
        "value": entry["value"],
        "baseline": entry.get("baseline"),
        "better": entry.get("better", ""),
        "images": f"{seen:,}" if isinstance(seen, int) else "",
        "summary": ", ".join(part for part in parts if part) or "protocol",
        "protocol": [(key, _plain(value)) for key, value in protocol.items() if value is not None],
    }


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return " x ".join(str(one) for one in value)
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _commands(place: str, folder: Path) -> list[tuple[str, str]]:
    """Return commands that go on with the run."""
    if not (folder / LAST).is_file():
        return [("resume", "no checkpoint was saved yet")]
    return [
        ("resume", f"python train.py resume={place}"),
        ("train longer", f"python train.py resume={place} max_images=NUMBER"),
        ("sample", f"python sample.py checkpoint={place} count=64"),
        ("single pictures", f"python sample.py checkpoint={place} format=png seeds=0-35"),
        ("video", f"python sample.py checkpoint={place} mode=walk"),
        ("evaluate", f"python evaluate.py checkpoint={place}"),
        ("export", f"python export.py checkpoint={place} format=[safetensors,onnx]"),
    ]


def _groups(config: DictConfig) -> list[tuple[str, str]]:
    """Return the configuration by group, as YAML; single values come first."""
    single = {key: value for key, value in config.items() if not isinstance(value, DictConfig)}
    groups = [(str(key), OmegaConf.to_yaml(value)) for key, value in config.items() if isinstance(value, DictConfig)]
    return [("single values", OmegaConf.to_yaml(single)), *groups] if single else groups


def _session_values(session: Session) -> dict[str, Any]:
    """Return what the template shows of a session."""
    rows = [("command", session.get("command", UNKNOWN)), ("commit", session.get("commit") or UNKNOWN)]
    rows += [("status", str(session["status"]))] if "status" in session else []
    rows += [(name, value) for name, value in session.get("versions", {}).items()]
    rows += [(name, value) for name, value in session.get("machine", {}).items()]
    return {"started": session.get("started", UNKNOWN), "rows": rows}
