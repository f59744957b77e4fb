"""What the README says can be typed."""

import contextlib
import re
import shlex

import pytest
from hydra.errors import ConfigCompositionException

from helpers.composing import ROOT, choices, composed

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python train\.py (.+)$", README, re.MULTILINE)
INLINE = re.findall(r"`([^`\n]+)`", README)
OPTIONS = [code for code in INLINE if re.match(r"'?[+~]?[a-z_]+(\.[a-z_0-9]+)*=[^ A-Z]|~", code) and "mode" not in code]
OPTIONS = [code for code in OPTIONS if not code.startswith("metric=")]  # of evaluate.py


@pytest.mark.parametrize("command", COMMANDS + OPTIONS)
def test_every_command_composes(command: str) -> None:
    overrides = [word.split(",")[0] if "{" not in word else word for word in shlex.split(command) if word != "-m"]
    for loss in ("relativistic", "non_saturating"):  # some options belong to one of them
        with contextlib.suppress(ConfigCompositionException):
            composed(f"loss={loss}", *overrides, folder="x")
            return
    composed(*overrides, folder="x")


def test_there_are_commands_to_test() -> None:
    assert len(COMMANDS) >= 4
    assert len(OPTIONS) >= 20, OPTIONS


@pytest.mark.parametrize("group", ["model", "loss", "optim", "data"])
def test_the_tables_name_every_choice(group: str) -> None:
    assert not [choice for choice in choices(group) if f"`{choice}`" not in README]


def test_the_system_shown_is_the_one_in_conf() -> None:
    assert (ROOT / "conf" / "model" / "dcgan.yaml").read_text().strip() in README
