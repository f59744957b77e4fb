"""Values that Hydra's grammar can't read as they are: folders with accents or brackets, words with apostrophes."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

LISTS = ("[", "{", "${")  # what begins so, or has a comma, may have been meant as several values


def quote_argument(argument: str) -> str:
    """An override that can't be read, with its value in quotes where it then can and is a single one, so that
    `data.root=/home/José/faces (small)` means what it says; anything else as it is."""
    _, _, value = argument.partition("=")
    if argument.startswith("-") or "," in value or value.startswith(LISTS) or "${" in value or _readable(argument):
        return argument
    return quoted_override(argument) or argument


def quoted_override(override: str) -> str | None:
    """With the value in quotes of its own; None if that does not help."""
    key, equals, value = override.partition("=")
    mark = "'" if '"' in value and "'" not in value else '"'
    quoted = f"{key}={mark}{value.replace(mark, chr(92) + mark)}{mark}"
    return quoted if equals and value.isprintable() and _readable(quoted) else None


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
