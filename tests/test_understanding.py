"""What is understood of a folder: formats, splits, classes, labels; said with numbers, and decided for the set."""

import json
import logging
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import SMALL
from helpers.training import built
from oakleaf.cli.real_data import real_data
from oakleaf.data import Images, manifest
from oakleaf.data.folder import Folder
from oakleaf.data.label_table import read_label_table
from oakleaf.data.listing import list_pictures
from oakleaf.data.sampling import EpochSampler
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import read_checkpoint

ODD = Path("data/odd_pictures")


def picture(file: Path, value: int = 100, form: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)


def pictures(root: Path, counts: dict[str, int], ending: str = "png") -> Path:
    for name, count in counts.items():
        for i in range(count):
            picture(root / name / f"{i:02}.{ending}", i)
    return root


def test_a_folder_is_described_with_numbers(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 20, "dog": 20})
    pictures(tmp_path, {"eel": 6}, "jpg")
    for i in range(30):
        (tmp_path / "cat" / f"{i}.heic").write_bytes(b"x")
        (tmp_path / f"n{i}").write_bytes(b"x")
    assert Folder(tmp_path).summary() == (
        "46 pictures (40 PNG, 6 JPEG), 3 classes: cat 20, dog 20, eel 6; 60 files ignored (.heic 30, no extension 30)"
    )


def test_every_format_that_pillow_reads_is_taken(tmp_path: Path) -> None:
    endings = [
        "jfif",
        "jpe",
        "png",
        "avif",
        "jp2",
        "webp",
        "tga",
        "ico",
        "pcx",
        "qoi",
        "tif",
        "gif",
        "ppm",
        "bmp",
        "sgi",
    ]
    written = []
    for ending in endings:
        try:
            picture(tmp_path / f"a.{ending}", form="JPEG" if ending in ("jfif", "jpe") else None)
            written.append(ending)
        except (KeyError, ValueError, OSError):  # a Pillow without this format
            (tmp_path / f"a.{ending}").unlink(missing_ok=True)
    assert len(written) >= 12
    data = Images("test", Folder, str(tmp_path), 8, cache=str(tmp_path.parent / "cache"))
    data.setup()
    assert data.count == len(written)


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd pictures are not here")
def test_odd_pictures_are_read_or_skipped_with_a_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"channels": 3, "on_corrupt": "skip", "range": (0, 255), "cache": str(tmp_path)}
    with caplog.at_level(logging.INFO):
        data = Images("test", lambda root: Folder(root, "none", upscale=True), str(ODD), 32, **options)
        data.setup()
    assert (data.count, len(data.source)) == (27, 29)
    assert "2 files ignored (.txt 2)" in data.summary
    assert re.search(r"\d of 29 pictures skipped, the first: .*can't be read", caplog.text)


def test_folders_of_splits_are_no_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, count in (("Training", 16), ("val", 4), ("test", 5)):
        pictures(tmp_path / split, {"cat": count, "dog": count})
    pictures(tmp_path / "test", {"eel": 1})
    with caplog.at_level(logging.INFO):
        source = Folder(tmp_path)
    assert (list(source.classes), len(source), source.split) == (["cat", "dog", "eel"], 32, "train")
    assert "the folders Training, test, val are splits, and the 32 pictures of train are used, of 51" in caplog.text
    assert len(Folder(tmp_path, split="test")) == 11
    assert Folder(tmp_path, split="val").labels["label"].tolist() == [0] * 4 + [1] * 4
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(UserError, match=r"data\.source\.split=val: the splits in .* are Training, test"):
        Folder(tmp_path, split="val")
    pictures(tmp_path / "extra", {"fox": 3})
    with caplog.at_level(logging.INFO):
        assert list(Folder(tmp_path).classes) == ["cat", "dog", "eel"] and len(Folder(tmp_path)) == 32
    assert "are used, of 46; left out: extra" in caplog.text
    shutil.rmtree(tmp_path / "test")
    assert list(Folder(tmp_path).classes) == ["Training", "extra"]  # a class may be called train


@pytest.mark.parametrize(
    "names",
    [
        ("TRAIN", "VAL", "TEST"),
        ("train", "eval", "holdout"),
        ("training_set", "validation_set", "test_set"),
        ("train2017", "val2017", "test2017"),
        ("train-images", "dev-images", "held_out"),
    ],
)
def test_usual_names_of_splits_are_known_on_either_side_of_the_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for place, parts in (("splits", "{split}/{name}"), ("classes", "{name}/{split}")):
        for split, count in zip(names, (5, 2, 3)):
            for name in ("cat", "dog"):
                pictures(tmp_path / place, {parts.format(split=split, name=name): count})
        for split, count in (("all", 10), ("train", 10), ("val", 4), ("test", 6)):
            source = Folder(tmp_path / place, split=split)  # type: ignore[arg-type]
            assert (list(source.classes), len(source)) == (["cat", "dog"], count), (place, split)


def test_words_that_begin_like_a_split_are_classes(tmp_path: Path) -> None:
    pictures(tmp_path, {"train": 3, "trainer": 3, "testbed": 3})
    assert list(Folder(tmp_path).classes) == ["testbed", "train", "trainer"]


@pytest.mark.slow
def test_a_run_on_folders_of_splits_is_evaluated_on_the_test_folder(tmp_path: Path) -> None:
    for split, count in (("train", 16), ("test", 7)):
        pictures(tmp_path / "set" / split, {"cat": count, "dog": count})
    options = [
        "data=folder",
        "data.root=set",
        "data.size=16",
        "trainer=cpu",
        "logger=csv",
        "max_images=16",
        "folder=run",
    ]
    result = quick("train", *SMALL, *options, "folder=run", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "32 pictures, 2 classes: cat 16, dog 16" in result.stdout + result.stderr
    reals = real_data(read_checkpoint(tmp_path / "run"), None, str(tmp_path / "set"))
    assert (reals.split, reals.data.count) == ("train", 32)
    assert reals.test is not None and reals.test().count == 14


def test_a_stray_picture_does_not_remove_the_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, {"cat": 9, "dog": 9})
    picture(tmp_path / "preview.png")
    with caplog.at_level(logging.WARNING):
        source = Folder(tmp_path)
    assert source.classes == ["cat", "dog"]
    assert source.labels["label"].tolist() == [0] * 9 + [1] * 9 + [-1]
    assert f"1 picture lies beside the class folders and no class: {tmp_path}/preview.png" in caplog.text
    assert source.summary() == "19 pictures (19 PNG), 2 classes: cat 9, dog 9; 1 without a class"


def test_a_class_folder_without_pictures_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "eel").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert list(Folder(tmp_path).classes) == ["cat", "dog"]
    assert "no pictures in eel, so there is no such class" in caplog.text and "hidden" not in caplog.text
    caplog.clear()
    (tmp_path / "train").mkdir()
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    assert list(Folder(tmp_path).classes) == ["cat", "dog"] and "no pictures in eel" in caplog.text


def test_why_there_are_no_classes_is_said(tmp_path: Path) -> None:
    pictures(tmp_path / "beside", {"old": 2, "new": 2, "": 20})
    pictures(tmp_path / "one", {"cat": 20})
    for root, reason in (
        ("beside", "20 of 24 pictures lie beside the folders new, old in"),
        ("one", "all pictures are in one folder; one class, cat, is none"),
    ):
        options = ["model=acgan", "data=folder", f"data.root={tmp_path / root}", "data.size=16"]
        with pytest.raises(UserError, match=f"model=acgan needs labels, and data=folder has none: {reason}"):
            built(*options, folder=tmp_path)


def test_a_folder_that_holds_all_others_is_passed_through(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "inner", {"cat": 2, "dog": 3})
    assert Folder(tmp_path / "set").classes == ["cat", "dog"]
    for split in ("train", "test"):
        pictures(tmp_path / "splits" / "inner" / split, {"a": 2, "b": 1})
    assert (len(Folder(tmp_path / "splits")), Folder(tmp_path / "splits").classes) == (3, ["a", "b"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "file,label\n00.png,cat\n01.png,dog\n02.png,cat\n"),
        ("labels.csv", "id;Class;Image\n1;cat;00\n2;dog;01\n3;cat;02\n"),
        ("labels.tsv", "\ufeffwho\twhat\n./00.png\tcat\n01.png\tdog\n02.png\tcat\n"),
        ("labels.json", json.dumps({"00.png": "cat", "01.png": "dog", "02": "cat"})),
        ("dataset.json", json.dumps({"labels": [["00.png", "cat"], ["01.png", "dog"], ["02.png", "cat"]]})),
        ("labels.json", json.dumps([{"file": f"0{i}.png", "class": c} for i, c in enumerate(["cat", "dog", "cat"])])),
    ],
)
def test_labels_are_read_from_tables(tmp_path: Path, name: str, text: str) -> None:
    pictures(tmp_path, {"": 3})
    (tmp_path / name).write_text(text)
    source = Folder(tmp_path, labels=name)
    assert list(source.classes) == ["cat", "dog"]
    assert source.labels["label"].tolist() == [0, 1, 0]
    assert Folder(tmp_path, labels=name, split="test").labels["label"].tolist() == [0]


def test_a_table_may_lack_its_header(tmp_path: Path) -> None:
    for separator in ",;\t":
        table = read_label_table(f"a.png{separator}cat\nb.png{separator}dog\n", "labels.csv")
        assert table == {"a.png": "cat", "b.png": "dog"}


def test_numbers_in_a_table_are_sorted_by_value_and_missing_ones_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path / "set" / "deep", {"": 4})
    (tmp_path / "labels.csv").write_text("file,label\ndeep/00.png,10\ndeep/01.png,9\ndeep/02.png,\nother.png,3\n")
    with caplog.at_level(logging.WARNING):
        source = Folder(tmp_path / "set", labels=str(tmp_path / "labels.csv"))
    assert (list(source.classes), source.labels["label"].tolist()) == (["9", "10"], [1, 0, -1, -1])
    assert "2 pictures have no label, 1 labels have no picture" in caplog.text


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("file,label\nx.png,1\n", "a.csv", "names none of the 2 pictures"),
        ("file\n00.png\n", "a.csv", "a header with a column for the file and one for the label"),
        ("file,label\n00.png\n", "a.csv", "a row has fewer columns than the header: 00.png"),
        ("a,file,b\n1,00.png,3\n", "a.csv", "no column is named as a label"),
        ("{", "a.json", "can't be read as JSON"),
        ("3", "a.json", r"\[\[name, label\], ...\] or a list of objects is expected"),
    ],
)
def test_tables_that_are_none_are_answered_in_one_sentence(tmp_path: Path, text: str, name: str, message: str) -> None:
    pictures(tmp_path, {"": 2})
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        Folder(tmp_path, labels=name)
    with pytest.raises(UserError, match=r"data\.source\.labels=none\.csv: folders, none, or a CSV or JSON file"):
        Folder(tmp_path, labels="none.csv")


def test_an_empty_label_is_none() -> None:
    assert read_label_table('{"a": null, "b": 3}', "x.json") == {"a": "", "b": "3"}


def test_a_zip_archive_is_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path / "set", {"cat": 3, "dog": 2})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/set/cat/._00.png", b"x")
        archive.writestr("set/labels.csv", "file,label\nset/cat/00.png,a\nset/dog/00.png,b\n")
        archive.writestr("../outside.png", b"x")
    source = Folder(tmp_path / "set.zip")
    assert source.summary() == "5 pictures (5 PNG), 2 classes: cat 3, dog 2; 1 file ignored (.csv 1)"
    found = [
        Images("test", Folder, str(tmp_path / name), 16, cache=str(tmp_path / "cache")) for name in ("set", "set.zip")
    ]
    for data in found:
        data.setup()
    assert torch.equal(found[0].images(), found[1].images())
    table = Folder(tmp_path / "set.zip", labels="set/labels.csv")
    assert table.labels["label"].tolist() == [0, -1, -1, 1, -1]
    (tmp_path / "broken.zip").write_bytes((tmp_path / "set.zip").read_bytes()[:-200])
    with pytest.raises(UserError, match=r"broken\.zip"):
        list_pictures(tmp_path / "broken.zip")


def test_a_zip_archive_is_read_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oakleaf.data.decoding.MIN_FOR_PROCESSES", 1)
    pictures(tmp_path / "set", {"": 40})
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    parts = [Images("test", Folder, str(tmp_path / name), 16, cache=str(tmp_path / "c")) for name in ("set", "set.zip")]
    for data in parts:
        data.source.name(0)
        data.setup()
    assert torch.equal(parts[0].images(), parts[1].images())


# ---- Contents are read once ------------------------------------------------------------------------------------------


def aged(root: Path, seconds: int = 60) -> None:
    """Make files look older than those that may still change."""
    for file in root.rglob("*"):
        if file.is_file():
            status = file.stat()
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


def test_contents_are_read_once_and_again_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = pictures(tmp_path / "set", {"a": 5, "b": 5}), tmp_path / "cache"
    aged(root)
    read: list[str] = []
    hashed = manifest._hash
    monkeypatch.setattr(manifest, "_hash", lambda file: read.append(file.name) or hashed(file))
    files = list_pictures(root).files
    first = manifest.content_digest(root, files, cache)
    assert (len(read), manifest.content_digest(root, files, cache), len(read)) == (10, first, 10)
    assert manifest.content_digest(root, files, None) == first  # without a cache all are read
    read.clear()
    picture(root / "b/03.png", 99)
    aged(root / "b")  # all of b have another time
    changed = manifest.content_digest(root, files, cache)
    assert changed != first and len(read) == 5
    read.clear()
    assert manifest.content_digest(root, files[:7], cache) != changed  # a split uses the same manifest
    assert not read


def test_a_file_that_may_still_change_is_not_trusted(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "set", {"a": 2}), tmp_path / "cache"
    files = list_pictures(root).files
    first = manifest.content_digest(root, files, cache)
    status = files[0].stat()
    content = bytearray(files[0].read_bytes())
    content[-20] ^= 1
    files[0].write_bytes(content)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))  # the same size, time and inode
    assert manifest.content_digest(root, files, cache) != first


def test_a_damaged_manifest_is_written_anew(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "set", {"a": 2}), tmp_path / "cache"
    aged(root)
    files = list_pictures(root).files
    first = manifest.content_digest(root, files, cache)
    (file,) = (cache / "manifests").iterdir()
    for damage in ("{", "[1]", "{}"):
        file.write_text(damage)
        assert manifest.content_digest(root, files, cache) == first
    assert len(json.loads(file.read_text())) == 2


# ---- Rare classes ----------------------------------------------------------------------------------------------------


def test_balanced_batches_have_each_class_equally_often() -> None:
    label = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    samplers = [EpochSampler(100, 6, 3, rank, 2, balance=label) for rank in (0, 1)]
    rows = torch.cat([rows for sampler in samplers for rows, _ in sampler.batches(0)])
    counts = label[rows].bincount()
    assert counts.max() - counts.min() <= 2 and len(rows) == 96
    assert len(rows[label[rows] == 0].unique()) == (label[rows] == 0).sum()  # a common class is not repeated
    assert set(rows[label[rows] == 1].tolist()) == set(range(90, 98))
    of_class = rows[label[rows] == 1].bincount()[90:]
    assert of_class.max() - of_class.min() <= 1
    plain = torch.cat([rows for rows, _ in EpochSampler(100, 12, 3).batches(0)])
    assert (label[plain] == 0).sum() > 80


def test_a_set_is_balanced_by_an_option(tmp_path: Path) -> None:
    pictures(tmp_path / "set", {"cat": 30, "dog": 2})
    options = ["data=folder", f"data.root={tmp_path / 'set'}", "data.size=16", *SMALL]
    _, data, trainer, _ = built(*options, "data.balanced=true", folder=tmp_path)
    data.setup()
    data.trainer = trainer
    batches: list[Any] = list(data.train_dataloader())
    assert torch.cat([batch["label"] for batch in batches]).bincount().tolist() == [16, 16]
    faces = ["data=faces", *options[1:]]
    with pytest.raises(UserError, match=r"data\.balanced=true: data=faces has no labels"):
        built(*faces, "data.balanced=true", folder=tmp_path)
