"""Random command lines: each ends in a run or in one sentence and exit code 1.

python tests/torture/overrides.py [HOW_MANY [SEED]]
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from omegaconf import DictConfig, OmegaConf

from helpers.commands import quick
from helpers.composing import ROOT, choices, composed
from oakleaf.gan import GAN
from torture.within import Outcome, Slow, limited, report, within

VALUES = [
    "0", "-1", "1", "2", "3", "7", "1000000000", "1000000000000000000", "-1000000000", "1e-300", "1e308", "nan", "inf",
    "-inf", "0.5", "true", "false", "null", "", "abc", "[]", "{}", "[1,2]", "[[1],[2]]", "{a: 1}", "${seed}", "${nope}",
    "${model}", "${oc.env:HOME}", "${times:a,2}", "nowhere/else", "/dev/null", "a=b", "grün", "???", "0x10", "1_000",
    "{_target_: os.system, command: true}", "{_target_: oakleaf.conditioning.priors.Normal, dim: 3}",
    "{_target_: torch.nn.ReLU}", "[null]", "'a b'", "mean", "none", "batch", "auto", "1:2", "9" * 400,
]  # fmt: skip
GARBAGE = "={}[]$'\"\\,+~@:.!#()a1 \n\t%é"
LAUNCH = (
    "trainer.devices",
    "trainer.num_nodes",
)  # other numbers start other processes; tests/test_parallel.py has them
GROUPS = [p.name for p in (ROOT / "conf").iterdir() if p.is_dir() and p.name not in ("lab", "mode", "extractor")]
SHORT = ["data.workers=0", "logger=csv", "trainer.accelerator=cpu", "model.game.generator.width=8"]


def lines(count: int, seed: int) -> Iterator[list[str]]:
    """Command lines, the same for the same seed."""
    dice = random.Random(seed)
    for _ in range(count):
        first = [group(dice) for _ in range(dice.choice([0, 0, 1, 2]))]
        keys = known(tuple(sorted(first)))
        rest = [one(dice, keys) for _ in range(dice.choice([1, 1, 2, 3]))]
        yield [*(SHORT if dice.random() < 0.7 else SHORT[:3]), *first, *rest]


def group(dice: random.Random) -> str:
    name = dice.choice(GROUPS)
    choice = dice.choice([*choices(name), "nothing"]) if dice.random() < 0.9 else dice.choice(VALUES)
    return f"{name}={choice}"


def one(dice: random.Random, keys: list[str]) -> str:
    """An override of a key that is there, of one nearly there, or no override at all."""
    chance = dice.random()
    if chance < 0.08:
        return "".join(dice.choice(GARBAGE) for _ in range(dice.randint(1, 12)))
    key = dice.choice(keys)
    if chance < 0.2:
        place = dice.randrange(len(key))
        key = key[:place] + dice.choice(["", ".", "x"]) + key[place + 1 :]
    if chance < 0.26:
        return f"~{key}"
    value = dice.choice(VALUES)
    if key in LAUNCH and value.isdigit() and int(value) > 1:
        value = "0"
    return f"{dice.choice(['', '', '', '+', '++'])}{key}={value}"


def known(groups: tuple[str, ...]) -> list[str]:
    """The dotted keys of what the groups compose; of the default where they do not."""
    try:
        config = composed(*groups)
    except Exception:
        config = composed()
    return [*_keys(config, "")]


def _keys(node: DictConfig, above: str) -> Iterator[str]:
    for name in node:
        key = f"{above}.{name}" if above else str(name)
        yield key
        below = node._get_node(name)
        if OmegaConf.is_dict(below) and not below._is_none() and not below._is_interpolation():
            yield from _keys(below, key)


def tried(line: list[str], folder: Path, seconds: int = 60) -> Outcome:
    """Return the outcome of a command line of one iteration."""
    step = GAN.training_step

    def alone(self: GAN, batch: dict[str, object], number: int) -> None:
        step(self, batch, number)  # type: ignore[arg-type]
        self.trainer.should_stop = True

    try:
        with mock.patch.object(GAN, "training_step", alone), within(seconds):
            result = quick("train", *line, folder=folder)
    except Slow:
        return Outcome("hung", f"after {seconds} s")
    except Exception as error:
        return Outcome("traceback", repr(error)[:300])
    lines_printed = result.stderr.strip().splitlines()
    if "Traceback" in result.stderr or "Traceback" in result.stdout:
        return Outcome("traceback", " | ".join(lines_printed[-3:])[-400:])
    if result.returncode == 0:
        return Outcome("ran", "")
    one_line = result.returncode == 1 and len(lines_printed) >= 1 and "rror" not in result.stdout
    return Outcome(
        "sentence" if one_line and len(lines_printed) == 1 else "several lines", " | ".join(lines_printed)[:400]
    )


def main(count: int = 1000, seed: int = 0) -> int:
    limited()
    with tempfile.TemporaryDirectory() as folder:
        found = ((" ".join(line), tried(line, Path(folder))) for line in lines(count, seed))
        return report(found, good={"ran", "sentence"})


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
