"""Quote values that Hydra's grammar cannot read: folders with accents or brackets, words with apostrophes."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

LISTS = ("[", "{", "${")  # a value that begins so, or has a comma, may mean several values


def quote_argument(argument: str) -> str:
    """Quote the value of an override that Hydra cannot read, if it can then be read as one value.

    So `data.root=/home/José/faces (small)` works without quotes. Anything else is returned unchanged.
    """
    _, _, value = argument.partition("=")
    if argument.startswith("-") or "," in value or value.startswith(LISTS) or "${" in value or _readable(argument):
        return argument
    return quoted_override(argument) or argument


def quoted_override(override: str) -> str | None:
    """Return the override with its value in quotes; None if Hydra cannot read that either."""
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
