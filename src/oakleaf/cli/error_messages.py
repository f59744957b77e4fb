"""Errors as sentences. Each says what is wrong and what to do; None means that the error is ours."""

import difflib
import errno
import logging
import re
import shlex
import sys
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from oakleaf.cli.quoting import LISTS, quoted_override
from oakleaf.config.overrides import quote
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import redact_home

FREE_MEMORY = {  # what needs less memory, by command
    "train": "lower data.batch_size, data.size or the networks' width",
    "sample": "lower count, and draw the rest with other seeds",
    "evaluate": "lower fake and real",
    "translate": "use smaller pictures, or size=trained",
    "export": "use a machine with more",
}
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # the disk or the quota is full


class WithoutHome(logging.Formatter):
    """Format log records without the path of the home folder; bytes that are no text are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return str(redact_home(super().format(record))).encode(errors="backslashreplace").decode()


def error_message(error: BaseException, config: str) -> str | None:
    """Return the sentence for an error that a user can fix, or None for any other error.

    Args:
        error: the exception.
        config: name of the command's configuration.
    """
    for link in _chain(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in FULL:
            file = link.filename or "a file"
            return f"{file} could not be written ({link.strerror}): make room there, or choose another place"
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, OverrideParseException):
        return _unparsed(str(error.override))
    if several := re.search(r"Ambiguous value for argument '(.*?)'\s", str(error)):  # Hydra's
        return _several_values(several[1])
    if isinstance(error, ConfigCompositionException):
        return _composition(error, config)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return one_line_text(error)
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, by name: importing it takes seconds
        return one_line_text(error)
    if _is_out_of_memory(error):
        return f"memory is full: {FREE_MEMORY.get(config, FREE_MEMORY['train'])}"
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):  # PyTorch's
        return "batch normalisation needs at least two images per batch: data.batch_size=2, and at least two pictures"
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    links = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from oakleaf.runtime.memory import is_out_of_memory

    return any(is_out_of_memory(link) for link in _chain(error))


def _several_values(override: str) -> str:
    key, _, value = override.partition("=")
    text = shlex.quote(f"{key}={quote(value)}")
    return f"{override}: a comma separates values; {key}=[{value}] is a list, {text} one text, and -m sweeps over them"


def _unparsed(override: str) -> str:
    value = override.partition("=")[2]
    if not (value.startswith(LISTS) or value.endswith(",")) and (quoted := quoted_override(override)):
        return (
            f"{one_line_text(override)}: the value has characters with a special meaning; write {shlex.quote(quoted)}"
        )
    return f"{one_line_text(override)}: this is no override; write group=choice or some.key=value"


PLUGINS = {"joblib": "parallel", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def _missing(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, choice = str(missing).rpartition("/")
    if group == "hydra/launcher" and choice in PLUGINS:
        return f"hydra/launcher: {choice} is a separate plugin: uv pip install 'oakleaf[{PLUGINS[choice]}]'"
    if not group:
        return f"--config-name {choice}: there is no {choice}.yaml" if choice else one_line_text(error)
    options = list(error.options or [])
    near = difflib.get_close_matches(choice, options, n=1, cutoff=0.5)
    meant = f" Did you mean {group}={near[0]}?" if near else ""
    return f"{group}={choice}: there is no such {group}.{meant} Choices: {', '.join(options)}"


def _composition(error: ConfigCompositionException, config: str) -> str:
    text = str(error)
    key = re.search(r"Could not [^']*'([^']+)'", text)
    if key is None:
        return one_line_text(f"{text} {error.__cause__ or ''}")
    from oakleaf.cli.unknown_key import unknown_key

    return unknown_key(key.group(1), config)


def one_line_text(text: Any) -> str:
    """Join lines to one, without OmegaConf's lines about its own types."""
    lines = [line.strip() for line in str(text).splitlines()]
    return " ".join(
        line for line in lines if line and not line.startswith(("full_key", "object_type", "reference_type"))
    )
