"""Damaged and forged checkpoints: each loads, or is refused in one sentence.

python tests/torture/checkpoints.py [HOW_MANY [SEED]]
"""

import io
import json
import random
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from torture.within import Outcome, Slow, limited, report, within

FORGED: list[Any] = [
    0, -1, 2**31, 2**63, 2**200, 1e308, float("nan"), True, None, "", "abc", "${seed}", "${nope}", [], {}, [1, 2],
    {"_target_": "os.system"}, {"_target_": "torch.nn.ReLU"}, {"_target_": 3}, torch.zeros(2), "x" * 10**6,
]  # fmt: skip


def small(folder: Path) -> bytes:
    """Return the checkpoint of a run of two iterations."""
    short = [*SMALL, "data.batch_size=8", "max_images=16", "callbacks.samples=null"]
    module, data, trainer, _ = built(*FP32, *short, folder=folder)
    trainer.fit(module, datamodule=data, weights_only=True)
    return (folder / "checkpoints" / "last.ckpt").read_bytes()


def damaged(content: bytes, dice: random.Random) -> tuple[str, bytes]:
    """How, and what is left."""
    how = dice.choice(["flip", "truncate", "zeros", "pickle", "pickle", "recipe", "recipe", "recipe", "tensor", "part"])
    data, at = bytearray(content), dice.randrange(len(content))
    if how == "flip":
        for _ in range(dice.randint(1, 200)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif how == "truncate":
        del data[at:]
    elif how == "zeros":
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    elif how == "pickle":
        return how, _with_pickle(content, dice)
    else:
        return how, _forged(content, how, dice)
    return how, bytes(data)


def _with_pickle(content: bytes, dice: random.Random) -> bytes:
    """Return an intact archive around a damaged pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            data = bytearray(old.read(entry))
            if entry.filename.endswith("data.pkl"):
                for _ in range(dice.randint(1, 5)):
                    data[dice.randrange(len(data))] = dice.randrange(256)
            new.writestr(entry.filename, bytes(data))
    return out.getvalue()


def _forged(content: bytes, how: str, dice: random.Random) -> bytes:
    """Return a well-formed checkpoint with one value replaced."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    if how == "part":
        checkpoint[dice.choice(list(checkpoint))] = dice.choice(FORGED)
    elif how == "tensor":
        name = dice.choice(list(checkpoint["state_dict"]))
        replaced = [torch.zeros(3), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=torch.complex64), None, "abc"]
        checkpoint["state_dict"][name] = dice.choice([*replaced, torch.eye(3).to_sparse()])
    else:
        checkpoint["hyper_parameters"] = node = json.loads(json.dumps(checkpoint["hyper_parameters"]))
        while True:
            key = dice.choice(list(node))
            if not isinstance(node[key], dict) or not node[key] or dice.random() < 0.2:
                break
            node = node[key]
        node[key] = dice.choice(FORGED)
    out = io.BytesIO()
    torch.save(checkpoint, out)
    return out.getvalue()


def tried(content: bytes, file: Path, seconds: int = 60) -> Outcome:
    file.write_bytes(content)
    try:
        with within(seconds):
            module = load(file)
            module.sample(module.game.sample_inputs(2))
    except Slow:
        return Outcome("hung", f"after {seconds} s")
    except UserError as error:
        return Outcome("sentence" if "\n" not in str(error) else "several lines", str(error)[:300])
    except Exception as error:
        return Outcome("traceback", repr(error)[:300])
    return Outcome("loaded", "")


def all_tried(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Outcome]]:
    dice, content = random.Random(seed), small(folder / "run")
    for number in range(count):
        how, data = damaged(content, dice)
        yield f"{number}: {how}", tried(data, folder / "it.ckpt")


def main(count: int = 100, seed: int = 0) -> int:
    limited()
    with tempfile.TemporaryDirectory() as folder:
        return report(all_tried(count, seed, Path(folder)), good={"loaded", "sentence"})


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
