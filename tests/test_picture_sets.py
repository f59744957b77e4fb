"""Evaluation of two sets of pictures without a checkpoint: folders, archives and arrays."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.commands import Result, quick
from oakleaf.data.array_file import ArrayFile, picture_set
from oakleaf.errors import UserError

QUICK = ["extractor=pixels", "resamples=0"]


def noise(count: int, seed: int, mean: float = 128) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(mean, 30, (count, 12, 12, 3))).clip(0, 255).astype(np.uint8)


def write_folder(images: np.ndarray, root: Path, suffix: str = "png") -> Path:
    root.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(root / f"{i:04d}.{suffix}")
    return root


def write_zip(images: np.ndarray, file: Path) -> Path:
    folder = write_folder(images, file.with_suffix(""))
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"inner/{path.name}")
        archive.writestr("__MACOSX/._0000.png", b"none")
        archive.writestr("readme.txt", b"none")
    return file


def evaluated(folder: Path, *arguments: str) -> Result:
    return quick("evaluate", *QUICK, f"out={folder}/out", *arguments, folder=folder)


def scores(folder: Path) -> dict[str, float]:
    return {one["name"]: one["value"] for one in json.loads((folder / "out/metrics.json").read_text())}


def test_sets_of_each_kind_hold_the_same_pictures(tmp_path: Path) -> None:
    images = noise(7, 0)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "first.npy", images.transpose(0, 3, 1, 2))
    np.save(tmp_path / "grey.npy", images[:, :, :, 0])
    write_folder(images, tmp_path / "folder")
    write_zip(images, tmp_path / "b.zip")
    for name in ("a.npy", "first.npy", "folder", "b.zip"):
        source = picture_set(tmp_path / name)
        assert len(source) == 7
        assert np.array_equal(np.stack([np.asarray(source.read(i)) for i in range(7)]), images)
        assert source.name(3)
    assert np.array_equal(np.asarray(picture_set(tmp_path / "grey.npy").read(2)), images[2, :, :, 0])
    assert picture_set(tmp_path / "b.zip").digest == picture_set(tmp_path / "b.zip").digest
    np.save(tmp_path / "other.npy", noise(7, 1))
    assert ArrayFile(tmp_path / "a.npy").digest != ArrayFile(tmp_path / "other.npy").digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"no archive", "a ZIP archive or a .npy file is needed"),
        ("a.npy", b"no array", "is not an array"),
        ("a.txt", b"text", "a ZIP archive or a .npy file is needed"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        picture_set(tmp_path / name)
    np.save(tmp_path / "flat.npy", np.zeros((4, 5)))
    with pytest.raises(UserError, match="pictures are"):
        picture_set(tmp_path / "flat.npy")


def test_two_sets_are_compared_without_a_checkpoint(tmp_path: Path) -> None:
    write_folder(noise(300, 0), tmp_path / "real")
    np.save(tmp_path / "same.npy", noise(120, 1))
    write_zip(noise(120, 2, mean=60), tmp_path / "dark.zip")
    result = evaluated(tmp_path, "real=real", "fake=same.npy", "metric=[kid,prdc,two_sample,diversity,memorisation]")
    assert result.returncode == 0, result.stderr
    assert "120 pictures of same.npy against" in result.stdout
    assert "metrics.json" in result.stdout and "neighbours.png" in result.stdout
    same = scores(tmp_path)
    (tmp_path / "out/metrics.json").unlink()
    assert evaluated(tmp_path, "real=real", "fake=dark.zip", "metric=kid").returncode == 0
    dark = scores(tmp_path)
    assert dark["kid-pixels"] > 10 * abs(same["kid-pixels"])
    entries = json.loads((tmp_path / "out/metrics.json").read_text())
    assert entries[0]["protocol"]["fake_data"] == "dark.zip"
    assert entries[0]["baseline"] is not None


def test_sizes_are_those_of_the_generated_pictures(tmp_path: Path) -> None:
    write_folder(noise(30, 0), tmp_path / "real")
    large = write_folder(np.repeat(np.repeat(noise(30, 1), 2, 1), 2, 2)[:, :, :20, :1].repeat(3, 3), tmp_path / "fake")
    assert Image.open(large / "0000.png").size == (20, 24)
    result = evaluated(tmp_path, "real=real", "fake=fake", "metric=two_sample", "baseline=false")
    assert result.returncode == 0, result.stderr
    entry, *_ = json.loads((tmp_path / "out/metrics.json").read_text())
    assert entry["protocol"]["shape"] == [3, 24, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real=real"], "real= and fake= are both sets of pictures"),
        (["checkpoint=x", "real=real", "fake=real"], "real= and fake= are both sets of pictures"),
        (["real=nowhere", "fake=real"], "nowhere does not exist"),
        (["real=real", "fake=real", "metric=code_error"], "needs a generator"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, arguments: list[str], message: str) -> None:
    write_folder(noise(20, 0), tmp_path / "real")
    result = evaluated(tmp_path, *arguments)
    assert result.returncode == 1
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
