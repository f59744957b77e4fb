"""One image with the samples of all combinations of a sweep."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from oakleaf.figures.text import font_for, wrap
from oakleaf.sweeps.job_state import SCORES, Job
from oakleaf.sweeps.ranking import Combination

SIDE, TEXT_HEIGHT, GAP = 240, 56, 8  # pixels
TEXT = 13  # size of the font
MAX_COMBINATIONS = 24


def sample_grid(folder: Path, ranking: Sequence[Combination]) -> Image.Image | None:
    """Draw the samples from which each combination's best job was evaluated, side by side.

    Args:
        folder: the sweep's folder.
        ranking: its combinations, the best one first.

    Returns:
        The image; None if no job has left samples.
    """
    shown = [
        (place, combination, file)
        for place, combination in enumerate(ranking[:MAX_COMBINATIONS], 1)
        if combination.best and (file := _samples_of(folder, combination.best)).is_file()
    ]
    if not shown:
        return None
    columns = min(4, math.ceil(math.sqrt(len(shown))))
    rows = math.ceil(len(shown) / columns)
    grid = Image.new("RGB", (columns * (SIDE + GAP) + GAP, rows * (SIDE + TEXT_HEIGHT) + GAP), "white")
    draw = ImageDraw.Draw(grid)
    for i, (place, combination, file) in enumerate(shown):
        x, y = GAP + i % columns * (SIDE + GAP), GAP + i // columns * (SIDE + TEXT_HEIGHT)
        with Image.open(file) as samples:
            grid.paste(_fit(samples.convert("RGB")), (x, y))
        shown_rank = str(place) if combination.is_complete else "incomplete"
        title = f"{shown_rank}  {' '.join(combination.swept) or combination.best.name}"  # type: ignore[union-attr]
        lines = [*wrap(title, TEXT, SIDE, most=2), f"{combination.score_name} {combination.mean:.4g}"]
        for number, line in enumerate(lines):
            draw.text((x, y + SIDE + 2 + number * (TEXT + 4)), line, "black", font_for(line, TEXT))
    return grid


def _samples_of(folder: Path, job: Job) -> Path:
    return folder / job.name / SCORES.parent / "samples.png"


def _fit(samples: Image.Image) -> Image.Image:
    """Shrink an image to fit, in the middle of a white square."""
    samples.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(samples, ((SIDE - samples.width) // 2, (SIDE - samples.height) // 2))
    return square
