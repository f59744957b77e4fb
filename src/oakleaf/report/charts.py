"""Curves: as SVG, which is a part of an HTML page, and as a PNG file drawn by matplotlib."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")  # Okabe and Ito
MAX_POINTS = 300  # of a curve that is drawn; a longer one is reduced to means, with a band from least to greatest
FEW_POINTS = 30  # of a curve whose points are marked
WIDTH, HEIGHT = 460, 230  # of an SVG, in its own unit
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 8, 34  # margins


@dataclass(frozen=True)
class Series:
    """A curve.

    Args:
        name: for the legend.
        x: ascending.
        y: values; where one is not finite, the curve has a gap.
        low: lower border of a band around the curve; empty for no band.
        high: upper border of the band.
        marked: whether each point is marked, for few points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def reduced(self, most: int = MAX_POINTS) -> "Series":
        """Return the curve with at most `most` points: means of adjacent ones, and the range of each mean as band."""
        if len(self.x) <= most:
            return self
        size = math.ceil(len(self.x) / most)
        parts = [slice(i, i + size) for i in range(0, len(self.x), size)]
        finite = [[value for value in self.y[part] if math.isfinite(value)] for part in parts]
        return Series(
            self.name,
            [_mean(self.x[part]) for part in parts],
            [_mean(values) for values in finite],
            [min(self.low[part]) if self.low else min(values, default=math.nan) for part, values in zip(parts, finite)],
            [
                max(self.high[part]) if self.high else max(values, default=math.nan)
                for part, values in zip(parts, finite)
            ],
        )


@dataclass(frozen=True)
class Chart:
    """Curves with common axes.

    Args:
        title: above the chart.
        series: the curves.
        logarithmic: whether the vertical axis is logarithmic; it is linear anyway if a value is not positive.
        note: a sentence below the title.
    """

    title: str
    series: Sequence[Series] = field(default_factory=tuple)
    logarithmic: bool = False
    note: str = ""


@dataclass(frozen=True)
class Axes:
    """The ranges of a chart, and the conversion of values to places in its SVG."""

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point, with the origin above and to the left."""
        low, high = (math.log10(value) if self.logarithmic else value for value in self.y)
        value = math.log10(y) if self.logarithmic else y
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (value - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def colour_of(number: int) -> str:
    """Return the colour of a chart's curve by its number."""
    return COLOURS[number % len(COLOURS)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= count + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return powers of ten from low to high, at most about six."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil((last - first) / 6))
    return [10.0**exponent for exponent in range(first, last + 1, step) if low <= 10.0**exponent <= high]


def tick_label(value: float) -> str:
    """Return a tick's number in few characters: 1.5, 200k, 3M, 1e-05."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.4g}{unit}"
    return "0" if abs(value) < 1e-12 else f"{value:.4g}"


def axes_of(chart: Chart) -> Axes | None:
    """Return the axes of a chart; None if it has no finite value."""
    finite = [(x, y) for one in chart.series for x, y in zip(one.x, one.y) if math.isfinite(y) and math.isfinite(x)]
    bands = [y for one in chart.series for y in (*one.low, *one.high) if math.isfinite(y)]
    if not finite:
        return None
    xs, ys = [x for x, _ in finite], [y for _, y in finite] + bands
    logarithmic = chart.logarithmic and min(ys) > 0 and max(ys) / min(ys) > 5
    return Axes(_widened(min(xs), max(xs), 0, False), _widened(min(ys), max(ys), 0.04, logarithmic), logarithmic)


def _widened(low: float, high: float, share: float, logarithmic: bool) -> tuple[float, float]:
    """Return a range with a margin, that is not empty."""
    if logarithmic:
        factor = max((high / low) ** share, 1.05)
        return low / factor, high * factor
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(high) / 2 or 0.5
        return low - margin, high + margin
    return low - share * (high - low), high + share * (high - low)


def svg(chart: Chart, x_name: str) -> str:
    """Return a chart as an SVG element; "" if it has no finite value.

    Args:
        chart: the chart.
        x_name: name of the horizontal axis.
    """
    axes = axes_of(chart)
    if axes is None:
        return ""
    series = [one.reduced() for one in chart.series]
    curves = (part for number, one in enumerate(series) for part in _curve(one, axes, colour_of(number)))
    parts = [*_frame(axes, x_name), *curves]
    title = escape(f"{chart.title}: {', '.join(one.name for one in chart.series)}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _frame(axes: Axes, x_name: str) -> Iterator[str]:
    """Give the grid, the ticks and their numbers."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    values = decades(*axes.y) if axes.logarithmic else ticks(*axes.y)
    for value in values if len(values) > 1 or not axes.logarithmic else axes.y:
        _, y = axes.place(axes.x[0], value)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick_label(value)}</text>'
    for value in ticks(*axes.x):
        x, _ = axes.place(value, axes.y[0])
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick_label(value)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text class="name" x="{right}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_name)}</text>'


def _curve(one: Series, axes: Axes, colour: str) -> Iterator[str]:
    """Give the band and the lines of a curve; a value that is not finite makes a gap."""
    if one.low:
        upper = [axes.place(x, y) for x, y in zip(one.x, one.high) if math.isfinite(y)]
        lower = [axes.place(x, y) for x, y in zip(one.x, one.low) if math.isfinite(y)]
        yield f'<polygon points="{_points([*upper, *reversed(lower)])}" fill="{colour}" opacity="0.18"/>'
    for run in _runs(one):
        places = [axes.place(x, y) for x, y in run]
        label = escape(f"{one.name}: {run[-1][1]:.4g}")
        if len(places) > 1:
            line = f'<polyline points="{_points(places)}" fill="none" stroke="{colour}" stroke-width="1.6">'
            yield f"{line}<title>{label}</title></polyline>"
        if len(one.x) <= FEW_POINTS:
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"/>' for x, y in places)


def _runs(one: Series) -> list[list[tuple[float, float]]]:
    """Return the points of a curve, divided where values are not finite."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(one.x, one.y):
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def write_png(charts: Sequence[Chart], x_name: str, title: str, path: Path) -> None:
    """Draw charts side by side as a PNG file.

    Args:
        charts: those without a finite value are left out.
        x_name: name of the horizontal axis.
        title: above all charts.
        path: where the file is written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [chart for chart in charts if axes_of(chart)]
    columns = min(3, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(5 * columns, 3.1 * rows + 0.4), dpi=100)
    _place_axes(figure, columns, rows)
    FigureCanvasAgg(figure)
    for number, chart in enumerate(shown, 1):
        axes, ranges = figure.add_subplot(rows, columns, number), axes_of(chart)
        for index, one in enumerate(series.reduced() for series in chart.series):
            marker = "o" if len(one.x) <= FEW_POINTS else ""
            axes.plot(one.x, one.y, color=colour_of(index), label=one.name, linewidth=1.2, marker=marker, markersize=3)
            if one.low:
                axes.fill_between(one.x, one.low, one.high, color=colour_of(index), alpha=0.18, linewidth=0)
        axes.set(title=chart.title, xlabel=x_name, yscale="log" if ranges and ranges.logarithmic else "linear")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    figure.suptitle(title)
    figure.savefig(path, format="png")


def _place_axes(figure: Any, columns: int, rows: int) -> None:
    """Set margins in inches, because a layout that measures all texts takes longer than drawing."""
    width, height = figure.get_size_inches()
    left, right, top, bottom = 0.8, 0.15, 0.75, 0.5  # of the figure
    across, down = 0.8, 0.85  # between two charts
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=across * columns / (width - left - right - across * (columns - 1)),
        hspace=down * rows / (height - top - bottom - down * (rows - 1)),
    )
