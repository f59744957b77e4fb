"""Samples of all combinations side by side."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from oakleaf.sweeps.job_state import SCORE, Job
from oakleaf.sweeps.ranking import Combination

SIDE, TEXT, GAP = 240, 52, 8  # px
LARGEST = 24  # combinations on the sheet


def write_sample_grid(folder: Path, order: Sequence[Combination]) -> Image.Image | None:
    """The samples that each combination's best job was measured by, the best combination first; None of none."""
    shown = [(place, one) for place, one in enumerate(order[:LARGEST], 1) if one.best and _drawn(folder, one.best)]
    if not shown:
        return None
    columns = min(4, math.ceil(math.sqrt(len(shown))))
    rows = math.ceil(len(shown) / columns)
    whole = Image.new("RGB", (columns * (SIDE + GAP) + GAP, rows * (SIDE + TEXT) + GAP), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for i, (place, one) in enumerate(shown):
        assert one.best
        x, y = GAP + i % columns * (SIDE + GAP), GAP + i // columns * (SIDE + TEXT)
        with Image.open(_drawn(folder, one.best) or "") as samples:
            whole.paste(_fitted(samples.convert("RGB")), (x, y))
        title = f"{place}  {' '.join(one.swept) or one.best.name}"
        lines = [*textwrap.wrap(title, 40)[:2], f"{one.name} {one.mean:.4g}"]
        pen.text((x, y + SIDE + 2), "\n".join(lines), "black", font)
    return whole


def _drawn(folder: Path, job: Job) -> Path | None:
    place = folder / job.name / SCORE.parent / "samples.png"
    return place if place.is_file() else None


def _fitted(samples: Image.Image) -> Image.Image:
    """In a white square."""
    samples.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(samples, ((SIDE - samples.width) // 2, (SIDE - samples.height) // 2))
    return square
