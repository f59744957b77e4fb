"""The templates of the reports, and what they need: pictures as a part of the page, durations and sizes as text."""

import base64
import io
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

TEMPLATES = Path(__file__).parent / "templates"
MAX_SIDE = 1100  # pixels of a picture in a page; larger ones are reduced
QUALITY = 82  # of WebP


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, size=size, number=number)
    return environment


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: name of a file in `templates/`.
        values: what the template reads.
    """
    return _environment().get_template(template).render(values)


def picture(file: Path, most: int = MAX_SIDE) -> str | None:
    """Return a picture file as a data URI that a page can hold; None if it cannot be read.

    Args:
        file: a picture.
        most: pixels of its longer side at most.
    """
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    if max(image.size) > most:
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    coded = io.BytesIO()
    image.save(coded, "WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(coded.getbuffer()).decode()}"


def duration(seconds: float) -> str:
    """Return a duration as text, such as "1 h 05 min"."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rounded} s"
    minutes, rest = divmod(rounded, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


def size(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def number(value: float | None) -> str:
    """Return a score as text; "" for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) < 1e6 and value == int(value) else f"{value:.4g}"
