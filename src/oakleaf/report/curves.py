"""The logged scalars of a run as charts."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from oakleaf.report.charts import Chart, Series

ADVERSARIAL = "adversarial"
IGNORED = ("images", "seconds", "epoch")
ALARM = "alarm/"
# by the first part of a scalar's name, in this order: title, whether the axis is logarithmic, explanation
GROUPS: Mapping[str, tuple[str, bool, str]] = {
    ADVERSARIAL: ("Adversarial losses", False, "of each player, as it minimises it"),
    "loss": ("Loss terms", False, "already multiplied by their weights"),
    "D": ("D's probability of “real”", False, "on real images D(x) and on generated ones D(G(z))"),
    "score": ("D's score", False, "on real and on generated images; larger means more real"),
    "accuracy": ("D's accuracy", False, "share of real and of generated images on the right side"),
    "gradient_norm": ("Gradient norms", True, "of each player before clipping"),
    "metric": ("Metrics", False, "of the EMA generator, against the training images"),
    "health": ("Checks of samples", False, "relative to real images: docs/reliability.md"),
    "images_per_second": ("Speed", False, "images per second since the last row"),
}
SEPARATE = ("metric", "loss")  # each of these has a chart of its own: their scales differ


class Table(NamedTuple):
    """The rows of `metrics.csv`.

    Attributes:
        images: images seen of each row.
        seconds: seconds of training of each row; NaN where they are not known.
        columns: the values by name; NaN where a row has none.
    """

    images: list[float]
    seconds: list[float]
    columns: dict[str, list[float]]


def read_table(file: Path) -> Table:
    """Read `metrics.csv`; a missing file has no rows, and rows that were not written completely are left out."""
    try:
        with file.open(newline="") as opened:
            rows = [row for row in csv.DictReader(opened) if math.isfinite(_number(row.get("images")))]
    except (OSError, csv.Error, UnicodeDecodeError):
        rows = []
    names = [name for name in (rows[0] if rows else ()) if name and name not in IGNORED]
    columns = {name: [_number(row.get(name)) for row in rows] for name in names}
    images = [_number(row["images"]) for row in rows]
    return Table(images, [_number(row.get("seconds")) for row in rows], columns)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def charts_of(table: Table, over_seconds: bool = False) -> list[Chart]:
    """Return the charts of a run's scalars.

    Args:
        table: the rows.
        over_seconds: whether the horizontal axis is seconds of training; otherwise it is images seen.
    """
    x = table.seconds if over_seconds else table.images
    groups: dict[str, list[Series]] = {}
    for name, values in table.columns.items():
        if name.startswith((ALARM, "nonfinite_steps")) and not any(value > 0 for value in values):
            continue
        if name.startswith(ALARM):
            continue
        # a scalar has no value in the rows of others; what is not finite although it was logged is written as nan
        points = [(place, value) for place, value in zip(x, values) if math.isfinite(place) and math.isfinite(value)]
        if points:
            group, label = _group_of(name)
            groups.setdefault(group, []).append(Series(label, *zip(*points)))
    order = {group: number for number, group in enumerate(GROUPS)}
    ordered = sorted(groups, key=lambda group: order.get(group.split("/")[0], len(order)))
    return [_chart(group, groups[group]) for group in ordered]


def _group_of(name: str) -> tuple[str, str]:
    """Return the chart of a scalar, and its label there."""
    first, _, rest = name.partition("/")
    if first == "loss" and rest.endswith(f"/{ADVERSARIAL}"):
        return ADVERSARIAL, rest.removesuffix(f"/{ADVERSARIAL}")
    if first == "loss":
        player, _, term = rest.partition("/")
        return f"loss/{player}", term
    if first.startswith("D("):
        return "D", name
    if first == "metric":
        return name, rest
    return first, rest or name


def _chart(group: str, series: Sequence[Series]) -> Chart:
    first, _, rest = group.partition("/")
    title, logarithmic, note = GROUPS.get(first, (first.replace("_", " "), first.startswith("lr"), ""))
    title = {"loss": f"{title} of the {rest}", "metric": rest}.get(first, title) if rest else title
    return Chart(title, series, logarithmic, note)


class AlarmPeriod(NamedTuple):
    """A time in which an alarm was raised.

    Attributes:
        name: of the alarm.
        raised: images seen when it was raised.
        cleared: images seen when it was cleared; None if it still is raised.
    """

    name: str
    raised: float
    cleared: float | None


def alarms_of(table: Table) -> list[AlarmPeriod]:
    """Return when alarms were raised and cleared, in the order of their beginning."""
    found: list[AlarmPeriod] = []
    for name, values in table.columns.items():
        if not name.startswith(ALARM):
            continue
        raised: float | None = None
        for images, value in zip(table.images, values):
            if value > 0 and raised is None:
                raised = images
            elif value == 0 and raised is not None:
                found.append(AlarmPeriod(name.removeprefix(ALARM), raised, images))
                raised = None
        if raised is not None:
            found.append(AlarmPeriod(name.removeprefix(ALARM), raised, None))
    return sorted(found, key=lambda period: period.raised)
