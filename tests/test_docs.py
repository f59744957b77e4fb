"""Everything that README and docs/ show can be typed: commands, options, make targets, files, links."""

import functools
import re
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.utils.data import Dataset

from helpers.composing import ROOT, choices
from helpers.marks import slow_except
from oakleaf.builder.compose import compose_config
from oakleaf.cli.composite import quoted_place
from oakleaf.cli.sample import quoted_seeds
from oakleaf.config.validate import validate
from oakleaf.errors import UserError

README = ROOT / "README.md"
USER_PAGES = [README, *ROOT.glob("README.*.md"), *sorted((ROOT / "docs").rglob("*.md"))]  # their commands are tested
PAGES = [*USER_PAGES, *(page for page in sorted(ROOT.glob("*.md")) if page not in USER_PAGES)]
OPTION_PAGES = [page for page in USER_PAGES if page in (README, ROOT / "README.zh.md", ROOT / "docs/options.md")]
COMMANDS = ("train", "sample", "evaluate", "translate", "export", "explore", "directions", "theory", "composite")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(rf"(?:^|\s)(?:(?:python )?({'|'.join(COMMANDS)})\.py|oakleaf-({'|'.join(COMMANDS)}))(?:\s|$)")
OPTION = re.compile(r"'?(\+|\+\+)?[a-z_0-9/.@]+=[^ A-Z$]|'?~[a-z_0-9/.@]+'?$")
PLACEHOLDER = re.compile(r"\.\.\.|=NAME\b")  # not a command that can be typed
FOREIGN = re.compile(r"_target_[=:] *(?!oakleaf|torch|lightning|optuna)")
MAKE = re.compile(r"(?:^|\s)make ([a-z][a-z_-]*)")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the fenced blocks in these languages ("" for none)."""
    for language, text in FENCE.findall(page.read_text()):
        if language in languages:
            yield text


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def shell_lines(page: Path) -> Iterator[str]:
    """Yield what a shell would run: lines of blocks without comments, continued lines joined, variables replaced."""
    for block in blocks(page, "", "bash", "sh", "shell", "console"):
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ")
            line = re.sub(r"\$([A-Z]+)", lambda match, known=variables: known.get(match[1], match[0]), line)
            if found := re.fullmatch(r'([A-Z]+)="(.*)"', line):
                variables[found[1]] = found[2]
            elif line:
                yield line


def commands() -> dict[str, str]:
    """Return the pages by command line, from blocks and from code within the text."""
    found: dict[str, str] = {}
    for page in USER_PAGES:
        for line in [*shell_lines(page), *(code for code in inline_code(page) if COMMAND.match(code))]:
            if COMMAND.search(line) and not PLACEHOLDER.search(line):
                found.setdefault(line, str(page.relative_to(ROOT)))
    return found


def options() -> dict[str, str]:
    """Return the pages by options that stand alone, such as `loss=hinge optim.generator.lr=1e-4`."""
    found: dict[str, str] = {}
    for page in OPTION_PAGES:
        for code in inline_code(page):
            if not PLACEHOLDER.search(code) and all(OPTION.match(word) for word in code_words(code)):
                found.setdefault(code, str(page.relative_to(ROOT)))
    return found


def code_words(code: str) -> list[str]:
    """Split at spaces outside quotes; the quotes stay."""
    return re.findall(r"(?:[^\s']|'[^']*')+", code) or [code]


SHOWN_COMMANDS, SHOWN_OPTIONS = commands(), options()
SMOKE_COMMANDS = [line for line, page in SHOWN_COMMANDS.items() if page == "README.md"]
SMOKE_OPTIONS = list(SHOWN_OPTIONS)[::6]


def swept_values(override: Override) -> list[str]:
    """Return the overrides of single runs of one that is swept: each choice of a group, the ends of other ranges."""
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}"]
    if isinstance(value, Glob):
        return [f"{key}={choice}" for choice in choices(override.key_or_group)]
    each = [f"{key}={one}" for one in override.sweep_string_iterator()]
    return each if (ROOT / "conf" / override.key_or_group).is_dir() else [each[0], each[-1]]


def single_runs(overrides: list[str], multirun: bool) -> Iterator[list[str]]:
    """Yield overrides of runs in which each swept value occurs; one combination at least."""
    values = []
    for text, override in zip(overrides, OverridesParser.create().parse_overrides(overrides)):
        swept = multirun and override.is_sweep_override()
        values.append(swept_values(override) if swept else [text])
    first = [each[0] for each in values]
    yield first
    for place, each in enumerate(values):
        for other in each[1:]:
            yield [*first[:place], other, *first[place + 1 :]]


@functools.cache
def check(command: str, overrides: tuple[str, ...]) -> None:
    """Compose the configuration of a command, resolve it, and compare its keys and values with the classes' signatures.

    Classes of a user's own package are not here, so a configuration with one is only composed and resolved.

    Raises:
        HydraException, OmegaConfBaseException: a group, choice or key does not exist.
        UserError: a value does not fit.
    """
    config = compose_config(command, overrides)
    if any(FOREIGN.search(override) for override in overrides):
        OmegaConf.to_container(config, resolve=True)
    elif command == "train":
        fill_from_data(config)
        validate(OmegaConf.to_container(config, resolve=True))
    else:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        validate(plain, fixed={"": dict.fromkeys(plain, Any)})


def fill_from_data(config: DictConfig) -> None:
    """Set what a run takes from its data."""
    config.folder = "outputs/x"
    data = config.data
    data.channels, data.size = data.channels or 3, data.size or 64
    data.classes, data.input_channels = data.classes or 10, data.input_channels or 1


@pytest.fixture(autouse=True)
def _package_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docs call a user's package `mine`; here its modules have the classes that the docs name."""
    monkeypatch.setenv("OAKLEAF_TRUST", "mine")
    for name in {name for line in [*SHOWN_COMMANDS, *SHOWN_OPTIONS] for name in re.findall(r"mine\.[\w.]*\w", line)}:
        module, _, kind = name.rpartition(".")
        found = type(kind, (Dataset,), {"__module__": module, "__init__": lambda self, **options: None})
        for place in ("mine", module):
            if place not in sys.modules:
                monkeypatch.setitem(sys.modules, place, types.ModuleType(place))
        monkeypatch.setattr(sys.modules[module], kind, found, raising=False)


@pytest.mark.parametrize("line", slow_except(SMOKE_COMMANDS, SHOWN_COMMANDS))
def test_commands_in_the_docs_compose(line: str) -> None:
    found = COMMAND.search(line)
    assert found
    words = shlex.split(line[found.end() :])
    if "--config-dir" in words:
        pytest.skip("the folder is the user's own")
    flags = [word for word in words if word.startswith("-")]
    assert set(flags) <= {"-m", "--multirun", "--help"}, SHOWN_COMMANDS[line]
    overrides = [quoted_place(quoted_seeds(word)) for word in words if not word.startswith("-")]
    for run in single_runs(overrides, multirun=bool({"-m", "--multirun"} & set(flags))):
        check(found[1] or found[2], tuple(run))


@pytest.mark.parametrize("code", slow_except(SMOKE_OPTIONS, SHOWN_OPTIONS))
def test_options_in_the_docs_belong_to_a_command(code: str) -> None:
    """They compose with the defaults of `train.py`, or of another command."""
    reasons = []
    for command in COMMANDS:
        try:
            check(command, tuple(shlex.split(code)))
            return
        except (HydraException, OmegaConfBaseException, UserError) as error:
            reasons.append(f"{command}: {error}")
    pytest.fail(f"{SHOWN_OPTIONS[code]}: {code}\n" + "\n".join(reasons))


def test_there_are_commands_and_options_to_test() -> None:
    """Else a change of the format would leave nothing to compose."""
    assert len(SHOWN_COMMANDS) >= 40, SHOWN_COMMANDS
    assert {found[1] or found[2] for line in SHOWN_COMMANDS if (found := COMMAND.search(line))} == set(COMMANDS)
    assert len(SHOWN_OPTIONS) >= 20, SHOWN_OPTIONS


def test_make_targets_and_scripts_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z_-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing = []
    for page in PAGES:
        for line in [*shell_lines(page), *inline_code(page)]:
            missing += [f"{page.name}: make {name}" for name in MAKE.findall(line) if name not in targets]
            scripts = re.findall(r"(?:^|\s)python3? ([\w/]+\.py)", line)
            missing += [f"{page.name}: {script}" for script in scripts if not (ROOT / script).exists()]
    assert not missing


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return text.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    broken = []
    for link in re.findall(r"\]\(([^()\s]+(?:\([^()\s]*\))?)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            broken.append(link)
        elif anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", target.read_text()), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(link)
    assert not broken


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1500


def test_yaml_files_shown_in_the_docs_are_those_in_conf() -> None:
    """A block of YAML after a paragraph that names one file of conf/ is a part of that file."""
    shown = 0
    for page in USER_PAGES:
        if page.name == "extending.md":  # its files are those of tests/extension, see test_extending.py
            continue
        for paragraph, block in re.findall(
            r"([^\n]+)\n\n```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        ):
            files = re.findall(r"`(conf/[\w/]+\.yaml)`[^`]*[:\uff1a]$", paragraph)
            if len(files) == 1:
                assert block.strip() in (ROOT / files[0]).read_text(), f"{page.name}: {files[0]}"
                shown += page == README
    assert shown


def test_python_in_the_docs_is_valid() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, f"{page.name}: {block[:60]!r}", "exec")
