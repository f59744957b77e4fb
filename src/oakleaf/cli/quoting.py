"""Quote values that Hydra's grammar would read in another way: folders with accents, brackets, commas or backslashes,
words with apostrophes."""

import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from oakleaf.config.overrides import quote

LISTS = ("[", "{", "${")  # a value that begins so, or has a comma, may mean several values
QUOTES = ("'", '"')
PATHS = ("root", "folder", "out", "checkpoint", "resume", "input", "cache", "latents")  # keys whose values are paths
LITERAL_BACKSLASH = re.compile(r"\\(?![()\[\]{}:=,\s'\"])")  # before any other character Hydra's grammar has no escape


def quote_argument(argument: str) -> str:
    """Quote the value of an override that Hydra cannot read, or would not read as it is written.

    So `data.root=/home/José/faces (small)` works without quotes, a path of Windows keeps its backslashes, a value with
    a comma that is the name of a file or folder is one value, and a folder may be called 2024 or true. Anything else is
    returned unchanged.
    """
    key, _, value = argument.partition("=")
    if argument.startswith("-") or value.startswith((*LISTS, *QUOTES)) or "${" in value:
        return argument
    is_path = _exists(value) if "," in value else key.split(".")[-1] in PATHS and _is_no_text(argument)
    if not is_path and not LITERAL_BACKSLASH.search(value) and ("," in value or _readable(argument)):
        return argument
    return quoted_override(argument) or argument


def quoted_override(override: str) -> str | None:
    """Return the override with its value in quotes; None if Hydra cannot read that either."""
    key, equals, value = override.partition("=")
    quoted = f"{key}={quote(value)}"
    return quoted if equals and value.isprintable() and _readable(quoted) else None


def _exists(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _is_no_text(override: str) -> bool:
    """Whether Hydra would read the value as a number or as true or false."""
    try:
        return isinstance(OverridesParser.create().parse_override(override).value(), int | float)
    except HydraException:
        return False


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
