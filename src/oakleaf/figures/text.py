"""Text in pictures: a font for any script, and text that is shortened or wrapped to fit.

The font is DejaVu Sans, which comes with matplotlib and has the Latin, Greek, Cyrillic, Hebrew and Arabic scripts. For
other scripts, such as Chinese, a font of the system is used if fontconfig (`fc-list`) finds one. Where there is none,
each missing character is replaced, since a font would draw an empty box for it; class names become class numbers.
"""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont
REPLACEMENT = "?"  # for a character that no font has
MISSING = "\uffff"  # no font has this character; what is drawn for it is drawn for every missing one


@cache
def _default_file(bold: bool) -> str:
    """Return matplotlib's DejaVu Sans; matplotlib itself is not imported, which takes a second."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf")


@lru_cache(maxsize=256)
def _load(file: str, size: int) -> Font:
    return ImageFont.truetype(file, size)


@cache
def _has(file: str, character: str) -> bool:
    """Return whether a font file has a character: whether it is drawn differently from a missing one."""
    if character.isspace():
        return True
    font = _load(file, 16)
    drawn, missing = font.getmask(character), font.getmask(MISSING)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@cache
def _system_file(characters: str) -> str | None:
    """Return a font file of the system that has all characters, by fontconfig; None if there is none."""
    if shutil.which("fc-list") is None:
        return None
    pattern = f":charset={' '.join(f'{ord(character):x}' for character in characters)}"
    found = subprocess.run(["fc-list", pattern, "file"], capture_output=True, text=True, check=False).stdout
    files = sorted(line.strip().rstrip(":") for line in found.splitlines())
    usable = (file for file in files if file.lower().endswith((".ttf", ".ttc", ".otf")))
    return next((file for file in usable if all(_has(file, character) for character in characters)), None)


def _file_for(text: str, bold: bool = False) -> str | None:
    """Return the first font file that has all characters of a text; None if there is none."""
    default = _default_file(bold)
    if all(_has(default, character) for character in text):
        return default
    return _system_file("".join(sorted({character for character in text if not character.isspace()})))


def has_font(text: str) -> bool:
    """Return whether some font here has all characters of a text."""
    return _file_for(text) is not None


def drawable(text: str) -> str:
    """Return a text with each character that no font has replaced by a question mark."""
    text = " ".join(text.split())  # control characters such as tabs have no glyphs
    return text if has_font(text) else "".join(c if _has(_default_file(False), c) else REPLACEMENT for c in text)


def class_labels(names: Sequence[str]) -> list[str]:
    """Return names of classes for a picture: their numbers where a name is empty or cannot be drawn in any font."""
    return [name if name.strip() and has_font(name) else f"class {number}" for number, name in enumerate(names)]


def font_for(text: str, size: int, bold: bool = False) -> Font:
    """Return the font for a text.

    Args:
        text: what will be drawn, as `drawable` returns it.
        size: of the font, in pixels.
        bold: whether the font is bold, if the default font has the text.
    """
    return _load(_file_for(text, bold) or _default_file(bold), size)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Return the width of a line of text in pixels."""
    return round(font_for(text, size, bold).getlength(text))


def line_height(size: int) -> int:
    """Return the height of a line of text in pixels, with the space to the next one."""
    return round(1.35 * size)


def shorten(text: str, size: int, width: int, bold: bool = False) -> str:
    """Return a text that is at most `width` pixels wide; where its end was cut off, it ends in an ellipsis."""
    text = drawable(text)
    if text_width(text, size, bold) <= width:
        return text
    shortest, longest = 0, len(text)  # so many characters fit, with the ellipsis; so many do not
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        fits = text_width(text[:middle].rstrip() + "…", size, bold) <= width
        shortest, longest = (middle, longest) if fits else (shortest, middle)
    return text[:shortest].rstrip() + "…"


def wrap(text: str, size: int, width: int, most: int = 3, bold: bool = False) -> list[str]:
    """Return a text as lines of at most `width` pixels, broken between words; a longer word is cut off.

    Args:
        text: the text.
        size: of the font, in pixels.
        width: of a line, in pixels.
        most: lines at most; the last one is cut off if there would be more.
        bold: whether the font is bold.
    """
    lines: list[str] = []
    words = drawable(text).split()
    while words and len(lines) < most - 1:
        count = 1
        while count < len(words) and text_width(" ".join(words[: count + 1]), size, bold) <= width:
            count += 1
        lines.append(shorten(" ".join(words[:count]), size, width, bold))
        words = words[count:]
    return [*lines, shorten(" ".join(words), size, width, bold)] if words else lines


def vertical(text: str, size: int, length: int, colour: str) -> Image.Image:
    """Draw a line of text that runs upwards, on white, at most `length` pixels long."""
    text = shorten(text, size, length)
    image = Image.new("RGB", (max(1, text_width(text, size)), line_height(size)), "white")
    ImageDraw.Draw(image).text((0, 0), text, colour, font_for(text, size))
    return image.transpose(Image.Transpose.ROTATE_90)
