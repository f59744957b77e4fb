"""What one command checks of a checkpoint and its data, every command checks, with the same sentence."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import FP32, SMALL
from oakleaf.runtime.checkpoint_io import read_checkpoint

pytestmark = pytest.mark.slow

TRAIN = ["train", *SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false", "data.batch_size=8"]
SET = [*TRAIN, "data=folder", "data.root=set", "data.size=16", "data.source.upscale=true"]
CHANGED = (
    "data=folder: these are not the pictures of the training: some were added, removed or changed, or they are cropped "
    "or resized in another way"
)
COMMANDS = {
    "train": ["resume=run", "max_images=64"],
    "evaluate": ["checkpoint=run", "metric=kid", "extractor=pixels", "fake=12", "out=out"],
    "sample": ["checkpoint=run", "mode=reconstruct", "out=out"],
    "export": ["checkpoint=run", "format=safetensors", "out=out"],
}
READ_DATA = ("train", "evaluate")


def write_pictures(root: Path, classes: tuple[str, ...], count: int = 8, start: int = 0) -> None:
    generator = torch.Generator().manual_seed(start)
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            pixels = torch.randint(0, 256, (16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(root / name / f"{number}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a finished run of a conditional model on pictures of two classes."""
    write_pictures(tmp_path / "set", ("cat", "dog"))
    result = quick(*SET, "model=cdcgan", "max_images=32", "folder=run", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    return tmp_path


def test_changed_pictures_are_refused_by_resume_and_said_by_the_others(folder: Path) -> None:
    before = (folder / "run" / "checkpoints" / "last.ckpt").read_bytes()
    write_pictures(folder / "set", ("cat", "dog"), 2, start=100)
    refused = quick("train", *COMMANDS["train"], folder=folder)
    assert refused.returncode == 1 and refused.stderr.startswith(CHANGED)
    assert "a resumed run keeps its data, and a run on other data is a new one: init=RUN" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert (folder / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    evaluated = quick("evaluate", *COMMANDS["evaluate"], folder=folder)
    assert evaluated.returncode == 0 and CHANGED in evaluated.stdout + evaluated.stderr


def test_another_crop_is_another_set_of_pictures(folder: Path) -> None:
    refused = quick("train", *COMMANDS["train"], "data.crop=8", folder=folder)
    assert refused.returncode == 1 and refused.stderr.startswith(CHANGED)


def test_a_moved_folder_of_the_same_pictures_is_accepted(folder: Path) -> None:
    (folder / "set").rename(folder / "moved")
    resumed = quick("train", *COMMANDS["train"], "data.root=moved", folder=folder)
    assert resumed.returncode == 0, resumed.stderr
    evaluated = quick("evaluate", *COMMANDS["evaluate"], "root=moved", folder=folder)
    assert evaluated.returncode == 0 and "not the pictures" not in evaluated.stdout + evaluated.stderr


def test_other_classes_are_refused_by_all(folder: Path) -> None:
    (folder / "set" / "dog").rename(folder / "set" / "eel")
    answers = {name: quick(name, *COMMANDS[name], folder=folder) for name in READ_DATA}
    sentence = "of the classes that the checkpoint was trained with, number 1 is `dog`, and here it is `eel`\n"
    assert {name: (answer.returncode, answer.stderr) for name, answer in answers.items()} == dict.fromkeys(
        READ_DATA, (1, sentence)
    )


def test_a_damaged_checkpoint_is_refused_by_all(folder: Path) -> None:
    file = folder / "run" / "checkpoints" / "last.ckpt"
    file.write_bytes(file.read_bytes()[:-3000])
    answers = {name: quick(name, *arguments, folder=folder) for name, arguments in COMMANDS.items()}
    for name, answer in answers.items():
        sentence = "run/checkpoints/last.ckpt is not a checkpoint, or it is damaged ("
        assert answer.returncode == 1 and answer.stderr.startswith(sentence), (name, answer)
        assert len(answer.stderr.splitlines()) == 1


def test_a_checkpoint_of_a_set_without_a_hash_is_accepted(folder: Path) -> None:
    """As of a data set of the user's own, whose content Oakleaf does not know."""
    file = folder / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    content["trained_on"]["data"] = ""
    torch.save(content, file)
    write_pictures(folder / "set", ("cat", "dog"), 2, start=100)
    assert quick("train", *COMMANDS["train"], folder=folder).returncode == 0
    assert read_checkpoint(folder / "run")["trained_on"]["data"]
