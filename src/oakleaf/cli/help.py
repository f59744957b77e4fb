"""`--help`: what a command does, the groups that it uses, and its composed options with the YAML files' comments."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from oakleaf import compat
from oakleaf.builder.resolvers import register
from oakleaf.config.paths import conf_dir

Comments = dict[str, str]  # by dotted key

INTERNAL = ("hydra", "data/base", "model/player")  # groups that no command line chooses from
COMMENT = re.compile(r"""(?:[^'"#]|'[^']*'|"[^"]*"|(?<!\s)#)*#\s*(.+)""")  # in a line, behind its key
LINE = 118  # characters; a comment that would make a line longer stands above it


def help_text(command: str, overrides: Sequence[str] = ()) -> str:
    """Return the help of a command.

    Args:
        command: name of its YAML file in `conf/`, without suffix.
        overrides: the command line's other arguments; the options are shown as they compose them.

    Raises:
        HydraException: an override does not fit.
    """
    register()
    with compat.second_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration(command, list(overrides), RunMode.RUN)
        defaults = loader.compute_defaults_list(command, list(overrides), RunMode.RUN).defaults
    comments: Comments = {}
    for default in defaults:
        file = conf_dir() / f"{default.config_path}.yaml"
        if file.is_file():
            comments |= yaml_comments(file, default.package or "")
    options: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    used = {default.config_path.partition("/")[0] for default in defaults if "/" in (default.config_path or "")}
    used |= {str(key).partition("@")[0].partition("/")[0] for key in config.hydra.runtime.choices}
    groups, shown = "".join(f"{line}\n" for line in group_lines(used)), "\n".join(option_lines(options, comments))
    return str(config.hydra.help.template).replace("$APP_CONFIG_GROUPS", groups).replace("$CONFIG", shown).rstrip()


def group_lines(used: Collection[str]) -> Iterator[str]:
    """Yield the lines `group: choice, choice` of groups and of the groups below them."""
    for folder in sorted(path for path in conf_dir().rglob("*") if path.is_dir()):
        name = folder.relative_to(conf_dir()).as_posix()
        choices = sorted(path.stem for path in folder.glob("*.yaml"))
        if name.partition("/")[0] in used and not name.startswith(INTERNAL) and choices:
            yield f"{name}: {', '.join(choices)}"


def option_lines(options: dict[str, Any], comments: Comments, path: str = "") -> Iterator[str]:
    """Yield the lines of options as YAML, each with its comment.

    Args:
        options: plain containers.
        comments: comments by dotted key.
        path: the dotted key of `options`.
    """
    indent = "  " * (path.count(".") + 1 if path else 0)
    for key, value in options.items():
        name = f"{path}.{key}" if path else str(key)
        nested = isinstance(value, dict) and bool(value)
        line = f"{indent}{key}:" if nested else f"{indent}{key}: {_flow(value)}"
        comment = comments.get(name, "")
        if comment and len(line) + len(comment) + 4 > LINE:
            yield f"{indent}# {comment}"
            yield line
        else:
            yield f"{line}  # {comment}" if comment else line
        if nested:
            yield from option_lines(value, comments, name)


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return str(text).removesuffix("...\n").strip()


def yaml_comments(file: Path, package: str = "") -> Comments:
    """Return the comments of a YAML file's keys: what stands behind `#` in the line of a key.

    Args:
        file: the file.
        package: the dotted key below which its content is placed.
    """
    text = file.read_text()
    lines, comments = text.splitlines(), {}
    for path, node in _keys(yaml.compose(text, Loader=yaml.CSafeLoader), package):
        line = lines[node.start_mark.line]
        is_first = re.fullmatch(r"\s*(- )?", line[: node.start_mark.column])  # key of its line
        if is_first and (found := COMMENT.fullmatch(line[node.end_mark.column :])):
            comments[path] = found[1].strip()
    return comments


def _keys(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the node of each key of a mapping and of those in it."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            yield name, key
            yield from _keys(value, name)
