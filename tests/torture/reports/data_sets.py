"""F4 to F7, F10, F14, M4: what is read of a folder, how it is understood, and what is said about it."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torture.reports.pictures import fill, noise, stored, tiff, tree
from torture.reports.running import DIGITS, FOLDER, Check, faults, joined, run

Write = Callable[[Path], Any]
OLD = 1_600_000_000  # a time of modification in the past


def bytes_read(place: Path, *line: str, **environment: str) -> tuple[int, str]:
    """The bytes that a command has read, and what is wrong with its end."""
    before, file = _rchar(), place / "rchar"

    def note() -> None:
        import atexit

        atexit.register(lambda: file.write_text(str(_rchar())))

    del before
    text = faults(run(place, *line, trap=note, **environment), 0)
    return int(file.read_text()), text


def _rchar() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def second_start(place: Path) -> Iterator[Check]:
    """F4: contents are read once, by whichever command comes first."""
    root, total = fill(place / "bmp", 40, ".bmp", size=300), 40 * 300 * 300 * 3
    for file in root.iterdir():
        os.utime(file, (OLD, OLD))
    line = ["train", *FOLDER, "data.root=bmp"]
    first, text = bytes_read(place, *line, "folder=a")
    yield Check("the first start reads all", joined(text, "" if first > total else f"{first} of {total} bytes"))
    repeated = {
        "the second start": [*line, "folder=b"],
        "another seed": [*line, "folder=c", "seed=1"],
        "resume=": ["train", "resume=a", "max_images=16"],
        "evaluate.py": [
            "evaluate",
            "checkpoint=a",
            "metric=diversity",
            "extractor=pixels",
            "fake=40",
            "real=40",
            "resamples=0",
        ],
    }
    for name, command in repeated.items():
        number, text = bytes_read(place, *command)
        yield Check(name, joined(text, "" if number < total // 3 else f"{number} of {total} bytes"))
    (place / "other").symlink_to(root)
    number, text = bytes_read(place, *line[:-1], "data.root=other", "folder=d")
    yield Check("by a link to the folder", joined(text, "" if number < total // 3 else f"{number} of {total} bytes"))
    size, _ = bytes_read(place, *line, "folder=e", "data.size=20")
    again, text = bytes_read(place, *line, "folder=f", "data.size=20")
    yield Check("another size, twice", joined(text, "" if again < total // 3 < size else f"{size}, {again} bytes"))
    noise(size=300, seed=99).save(root / "3.bmp")
    os.utime(root / "3.bmp", (OLD + 5, OLD + 5))
    found = run(place, "train", "resume=b", "max_images=32")
    yield Check("one file has changed", faults(found, 1, "these are not the pictures of the training"))


def _gradient(low: float, high: float, dtype: str, size: int = 20) -> np.ndarray:
    return np.linspace(low, high, size * size).reshape(size, size).astype(dtype)


def _set(low: float, high: float, dtype: str, share: float, save: Callable[[np.ndarray, Path], Any]) -> Write:
    """Ten bright pictures that use the range, and ten dark ones, at a share of it."""

    def write(root: Path) -> None:
        for i in range(10):
            save(_gradient(low, high, dtype), root / f"a{i}")
            save(np.full((20, 20), low + share * (high - low)).astype(dtype), root / f"b{i}")

    return write


def _tiff(values: np.ndarray, file: Path) -> None:
    tiff(values, file.with_suffix(".tif"))


def _big_tiff(values: np.ndarray, file: Path) -> None:
    tiff(values, file.with_suffix(".tif"), big=True)


def _png(values: np.ndarray, file: Path) -> None:
    Image.fromarray(values).save(file.with_suffix(".png"))


def _npy(values: np.ndarray, file: Path) -> None:
    np.save(file.with_suffix(".npy"), values)


def _pgm(values: np.ndarray, file: Path) -> None:
    head = b"P5 20 20 4095\n"
    file.with_suffix(".pgm").write_bytes(head + values.astype(">u2").tobytes())


RANGES: dict[str, tuple[Write, float, list[str], str]] = {  # what is written, the dark ones' share, options, words
    "float 0 to 255, some all below 1": (_set(0, 255, "f4", 0.002, _tiff), 0.002, [], ""),
    "float 0 to 4095": (_set(0, 4095, "f4", 0.1, _tiff), 0.1, [], "from 0 to 4095"),
    "float 0 to 1": (_set(0, 1, "f4", 0.1, _tiff), 0.1, [], ""),
    "float -1 to 1": (_set(-1, 1, "f4", 0.1, _tiff), 0.1, [], ""),
    "float -3 to 7": (_set(-3, 7, "f4", 0.1, _tiff), 0.1, [], "from -3 to 7"),
    "float64 0 to 1e6": (_set(0, 1e6, "f8", 0.1, _tiff), 0.1, [], "1e+06"),
    "float16 arrays 0 to 2000": (_set(0, 2000, "f2", 0.1, _npy), 0.1, [], "from 0 to 2000"),
    "int32 -1024 to 3071": (_set(-1024, 3071, "i4", 0.1, _tiff), 0.1, [], "from -1024 to 3071"),
    "int16 -1000 to 1000": (_set(-1000, 1000, "i2", 0.1, _tiff), 0.1, [], "from -1000 to 1000"),
    "int8 -128 to 127": (_set(-128, 127, "i1", 0.1, _npy), 0.1, [], "from -128 to 127"),
    "uint32 0 to 100000": (_set(0, 100000, "u4", 0.1, _tiff), 0.1, [], "from 0 to 100000"),
    "int64 arrays": (_set(0, 70000, "i8", 0.1, _npy), 0.1, [], "from 0 to 70000"),
    "16 bits": (_set(0, 65535, "u2", 0.1, _png), 0.1, [], ""),
    "16 bits, big-endian": (_set(0, 65535, "u2", 0.1, _big_tiff), 0.1, [], ""),
    "12 bits in 16": (_set(0, 4095, "u2", 0.1, _png), 0.1 * 4095 / 65535, [], "6.2 %"),
    "8 bits in 16": (_set(0, 255, "u2", 0.1, _png), 0.1 * 255 / 65535, [], "0.4 %"),
    "12 bits in 16, data.range": (_set(0, 4095, "u2", 0.1, _png), 0.1, ["data.range=[0,4095]"], ""),
    "8 bits, dark": (_set(0, 40, "u1", 0.1, _png), 0.1 * 40 / 255, [], "15.7 %"),
    "arrays of true and false": (_set(0, 1, "?", 0, _npy), 0, [], ""),
    "PGM with white at 4095": (_set(0, 4095, "u2", 0.1, _pgm), 0.1, [], ""),
    "clipped by data.range": (_set(0, 255, "u1", 0.1, _png), 0.2, ["data.range=[0,127.5]"], "10 pictures have values"),
}


def value_ranges(place: Path) -> Iterator[Check]:
    """F5: the range is one fact of the set; dark pictures stay dark, and little use of the range is said."""
    for turn, (name, (write, share, options, words)) in enumerate(RANGES.items()):
        root, cache = place / f"s{turn}", place / f"c{turn}"
        root.mkdir()
        write(root)
        line = ["train", *FOLDER, f"data.root={root}", f"folder=r{turn}", *options]
        ended = run(place, *line, OAKLEAF_CACHE=str(cache))
        text = faults(ended, 0, *filter(None, [words]))
        if not text:
            dark = stored(cache)[10:]
            worst = float(np.abs(dark - share).max())
            text = "" if worst < 0.006 else f"dark pictures are off by {worst:.3f}"
        yield Check(name, text)


def values_that_do_not_fit(place: Path) -> Iterator[Check]:
    """F5: sets of several types, ranges that are none, values that are not finite."""
    depths = fill(place / "depths", 5, grey=True)
    for i in range(5):
        _png(_gradient(0, 65535, "u2"), depths / f"deep{i}.png")
    line = ["train", *FOLDER]
    cache = {"OAKLEAF_CACHE": str(place / "c")}
    ended = run(place, *line, "data.root=depths", "folder=d", **cache)
    text = faults(ended, 0, "uint8 and uint16")
    means = [] if text else stored(place / "c").mean((1, 2, 3))
    yield Check("8 and 16 bits", joined(text, "" if text or np.allclose(means, 0.5, atol=0.05) else f"{means}"))
    floats = fill(place / "floats", 5, grey=True)
    _tiff(_gradient(0, 1, "f4"), floats / "f")
    yield Check("a float among bytes", faults(run(place, *line, "data.root=floats"), 1, "data.range=[low,high]"))
    bad = place / "nan"
    bad.mkdir()
    for i in range(4):
        _tiff(np.full((20, 20), np.nan, "f4") if i == 2 else _gradient(0, 1, "f4"), bad / f"{i}")
    yield Check("NaN in one picture", faults(run(place, *line, "data.root=nan"), 1, "2.tif"))
    skipping = run(place, *line, "data.root=nan", "data.on_corrupt=skip", "folder=skipped")
    yield Check("NaN in one picture, skipped", faults(skipping, 0, "1 of 4 pictures skipped", "2.tif"))
    flat = place / "flat"
    flat.mkdir()
    for i in range(4):
        _tiff(np.full((20, 20), 700.0, "f4"), flat / f"{i}")
    yield Check("all values equal", faults(run(place, *line, "data.root=flat"), 1, "700"))
    for given in ("[1,0]", "[3,3]", "[0]", "5", "abc", "[a,b]", "[nan,1]", "[0,inf]", "[0,1,2]", "{low: 0}"):
        ended = run(place, *line, "data.root=depths", f"data.range={given}")
        yield Check(f"data.range={given}", faults(ended, 1, "data.range"))


def classes(place: Path) -> Iterator[Check]:
    """F6: folders that are splits are no classes, and what was understood is said."""
    train = ["train", *FOLDER]
    for turn, (name, (folders, label, words, never)) in enumerate(_understood().items()):
        root = tree(place / f"s{turn}" / "set", folders)
        model = ["model=acgan"] if label else ["model=dcgan"]
        ended = run(place, *train, *model, f"data.root={root.parent}", f"folder=r{turn}")
        yield Check(name, faults(ended, 0, *words, never=never))
    stray = tree(place / "stray", {"cat": 9, "dog": 9})
    noise().save(stray / "preview.png")
    ended = run(place, *train, "model=acgan", "data.root=stray", "folder=a")
    yield Check("a stray picture", faults(ended, 0, "2 classes: cat 9, dog 9", "preview.png"))
    fill(stray, 9)
    ended = run(place, *train, "model=acgan", "data.root=stray")
    yield Check("many stray pictures", faults(ended, 1, "10 of 28 pictures lie beside", "cat"))
    ended = run(place, *train, "data.root=stray", "folder=b")
    yield Check("many stray pictures, no labels needed", faults(ended, 0, "no classes: 10 of 28", "28 pictures"))
    tree(place / "one", {"cat": 9})
    ended = run(place, *train, "model=acgan", "data.root=one")
    yield Check("a single class", faults(ended, 1, "one class, cat"))
    ended = run(place, *train, "model=acgan", "data.root=stray", "data.source.labels=none")
    yield Check("labels=none", faults(ended, 1, "labels"))
    tree(place / "empty", {"cat": 9, "dog": 9, "eel": 0})
    ended = run(place, *train, "model=acgan", "data.root=empty", "folder=c")
    yield Check("a class without pictures", faults(ended, 0, "eel"))
    broken = tree(place / "broken", {"cat": 9, "dog": 9})
    for i in range(9):
        shutil.copy(__file__, broken / f"dog/{i}.png")
    ended = run(place, *train, "model=acgan", "data.root=broken", "data.on_corrupt=skip", "folder=d")
    yield Check("a class whose pictures are damaged", faults(ended, 0, "9 of 18 pictures skipped", "dog"))


def _understood() -> dict[str, tuple[dict[str, int], bool, list[str], list[str]]]:
    """Folders and pictures; whether labels are needed; what has to be said, and what must not."""
    both = [f"{split}/{kind}" for split in ("{0}", "{1}", "{2}") for kind in ("cat", "dog")]

    def named(*splits: str) -> dict[str, int]:
        return {one.format(*splits): 16 if one.startswith("{0}") else 4 for one in both}

    said, never = ["32 pictures", "2 classes: cat 16, dog 16"], ["3 classes"]
    cases = {
        "train, val, test": named("train", "val", "test"),
        "training, validation, testing": named("training", "validation", "testing"),
        "Train, Valid, Test": named("Train", "Valid", "Test"),
        "train, dev, test": named("train", "dev", "test"),
        "train, eval, test": named("train", "eval", "test"),
        "training_set, validation_set, test_set": named("training_set", "validation_set", "test_set"),
        "train2017, val2017, test2017": named("train2017", "val2017", "test2017"),
        "train_images, val_images, test_images": named("train_images", "val_images", "test_images"),
        "train, holdout, test": named("train", "holdout", "test"),
        "TRAIN, VAL, TEST": named("TRAIN", "VAL", "TEST"),
        "splits below classes": {
            **{f"{kind}/train": 16 for kind in ("cat", "dog")},
            **{f"{kind}/{split}": 4 for kind in ("cat", "dog") for split in ("val", "test")},
        },
    }
    found: dict[str, Any] = {name: (folders, True, [*said, "splits"], never) for name, folders in cases.items()}
    flat = {"train": 16, "val": 4, "test": 4}
    found["splits without classes"] = (flat, False, ["16 pictures", "splits"], ["3 classes"])
    found["two splits"] = ({"train/a": 8, "train/b": 8, "test/a": 4, "test/b": 4}, True, ["2 classes: a 8, b 8"], [])
    found["splits and another folder"] = (
        {**named("train", "val", "test"), "extra": 3}, False, ["extra"], ["4 classes"],
    )  # fmt: skip
    found["classes that are numbers"] = ({"2": 5, "10": 5, "1": 5}, True, ["3 classes: 1 5, 2 5, 10 5"], [])
    found["classes in other scripts"] = ({"кот": 5, "собака": 6}, True, ["2 classes: кот 5, собака 6"], [])
    found["folders below classes"] = ({"cat/a": 3, "cat/b": 3, "dog/c": 6}, True, ["2 classes: cat 6, dog 6"], [])
    return found


def passed_over(place: Path) -> Iterator[Check]:
    """F7: every format is read, and every file that is passed over is counted."""
    formats = fill(place / "formats", 4)
    fill(formats, 30, ".jfif")
    for i in range(30):
        noise(seed=i).save(formats / f"n{i}", "PNG")
    ended = run(place, "train", *FOLDER, "data.root=formats", "folder=a")
    yield Check("jfif, and no extension", faults(ended, 0, "34 pictures", "30 files ignored (no extension 30)"))
    mixed = place / "mixed"
    suffixes = [
        ".png",
        ".JPG",
        ".jpe",
        ".webp",
        ".bmp",
        ".ppm",
        ".tga",
        ".gif",
        ".TIFF",
        ".jp2",
        ".avif",
        ".ico",
        ".pcx",
    ]
    for number, suffix in enumerate(suffixes):
        mixed.mkdir(exist_ok=True)
        noise(seed=number).save(mixed / f"{number}{suffix}")
    for name in ("a.heic", "b.heic", "Thumbs.db", "c.mp4", "d.psdx", "e.png.bak", "readme.txt"):
        (mixed / name).write_bytes(b"x")
    ended = run(place, "train", *FOLDER, "data.root=mixed", "folder=b")
    yield Check("13 formats", faults(ended, 0, f"{len(suffixes)} pictures", "7 files ignored", ".heic 2"))
    wrong = fill(place / "wrong", 8)
    noise().save(wrong / "jpeg.png", "JPEG")
    ended = run(place, "train", *FOLDER, "data.root=wrong", "folder=c")
    yield Check("a JPEG called .png", faults(ended, 0, "9 pictures"))
    (wrong / "text.png").write_text("no picture")
    (wrong / "zero.png").write_bytes(b"")
    ended = run(place, "train", *FOLDER, "data.root=wrong")
    yield Check("a text called .png", faults(ended, 1, "text.png"))
    ended = run(place, "train", *FOLDER, "data.root=wrong", "data.on_corrupt=skip", "folder=d")
    yield Check("a text called .png, skipped", faults(ended, 0, "2 of 11 pictures skipped", "text.png"))
    (place / "none").mkdir()
    (place / "none/a.heic").write_bytes(b"x")
    yield Check(
        "no picture at all", faults(run(place, "train", *FOLDER, "data.root=none"), 1, "no pictures", ".heic 1")
    )


def translated(place: Path) -> Iterator[Check]:
    """F7: translate.py counts what it passes over, and writes each format as such."""
    line = [one for one in FOLDER if not one.startswith("data.size")]
    fill(place / "pairs", 8, size=32)
    ended = run(
        place, "train", "model=pix2pix", *line, "data.root=pairs", "data.size=32", "data/input=edges", "folder=p"
    )
    yield Check("a translator", faults(ended, 0))
    inputs = fill(place / "in", 2, size=32)
    for suffix in (".gif", ".jfif", ".bmp", ".webp"):
        noise(size=32).save(inputs / f"x{suffix}", "JPEG" if suffix == ".jfif" else None)
    noise(size=32, grey=True).save(inputs / "g.pgm")
    noise(size=32).save(inputs / "noext", "PNG")
    (inputs / "broken.png").write_text("x")
    (inputs / "notes.heic").write_text("x")
    ended = run(place, "translate", "checkpoint=p", "input=in", "make_input=true", "out=t")
    yield Check(
        "10 files, one damaged", faults(ended, 1, "7 of 8 pictures", "broken.png", "noext", "notes.heic", several=True)
    )
    written = sorted(path.name for path in (place / "t").iterdir())
    wrong = [name for name in written if not _is_what_it_says(place / "t" / name)]
    kept = len(written) == 7 and {"g.pgm.png", "x.gif.png", "x.jfif"} <= {*written}
    yield Check("formats of what is written", f"{wrong} of {written}" if wrong or not kept else "")


def _is_what_it_says(file: Path) -> bool:
    with Image.open(file) as picture:
        known = Image.registered_extensions()[file.suffix]
        return picture.format == known and not (file.suffix == ".pgm" and file.read_bytes()[:2] != b"P5")


def other_data(place: Path) -> Iterator[Check]:
    """F10: a resumed run has the pictures that it began with."""
    pictures = fill(place / "half", 12)
    for file in pictures.iterdir():
        os.utime(file, (OLD, OLD))
    fill(place / "other", 12)
    tree(place / "classed", {"cat": 6, "dog": 6})
    run(place, "train", *FOLDER, "data.root=half", "folder=hf")
    run(place, "train", *FOLDER, "model=acgan", "data.root=classed", "folder=cl")
    refused = "a resumed run keeps its data"
    resume = ["train", "resume=hf", "max_images=64"]
    lines = {
        "another folder": [*resume, "data.root=other"],
        "another crop": [*resume, "data.crop=stretch"],
        "another way of resizing": [*resume, "data.resample=lanczos"],
        "another split": [*resume, "++data.source.split=train"],
    }
    for name, line in lines.items():
        yield Check(name, faults(run(place, *line), 1, refused))
    yield Check("another data set", faults(run(place, *resume, "data=digits"), 1, "resume= keeps the run's own data"))
    ended = run(
        place,
        "evaluate",
        "checkpoint=hf",
        "root=other",
        "metric=diversity",
        "extractor=pixels",
        "fake=12",
        "baseline=false",
        "resamples=0",
    )
    yield Check("evaluate.py says the same", faults(ended, 0, "these are not the pictures of the training"))
    shutil.move(place / "half", place / "moved")
    yield Check("the folder is gone", faults(run(place, *resume), 1, "does not exist"))
    yield Check("the folder was moved", faults(run(place, *resume[:2], "max_images=16", "data.root=moved"), 0))
    shutil.copy(place / "other/1.png", place / "moved/1.png")
    moved = [*resume, "data.root=moved"]
    yield Check("a picture has changed", faults(run(place, *moved), 1, refused))
    (place / "moved/1.png").unlink()
    yield Check("a picture is missing", faults(run(place, *moved), 1, refused))
    noise(seed=77).save(place / "moved/new.png")
    yield Check("a picture is new", faults(run(place, *moved), 1, refused))
    (place / "classed/cat").rename(place / "classed/lion")
    yield Check(
        "a class has another name",
        faults(run(place, "train", "resume=cl", "max_images=64"), 1, "was trained with", "cat"),
    )


def colours(place: Path) -> Iterator[Check]:
    """F14: what pictures lose is counted over the whole set."""
    grey = fill(place / "grey", 200, grey=True)
    for i in (1, 2, 4, 5, 8):
        noise(seed=i).save(grey / f"{i}.png")
    line = ["train", *FOLDER]
    drops = "pictures have colours that channels=1 drops"
    ended = run(place, *line, "data.root=grey", "data.channels=1", "folder=a")
    yield Check("5 of 200 in colour, one channel asked for", faults(ended, 0))
    ended = run(place, *line, "data.root=grey", "folder=b")
    words = ended.out + ended.err
    said = f"5 {drops}" in words or "3 x 16 x 16" in words
    yield Check("5 of 200 in colour", joined(faults(ended, 0), "" if said else f"nothing is said: {words[-400:]}"))
    clear = place / "clear"
    clear.mkdir()
    for i in range(12):
        picture = noise(seed=i)
        picture.putalpha(noise(grey=True, seed=i) if i > 6 else 255)
        picture.save(clear / f"{i}.png")
    yield Check("opacity", faults(run(place, *line, "data.root=clear", "folder=c"), 0, "opacity", "data.channels=4"))
    ended = run(place, *line, "data.root=clear", "data.channels=4", "folder=d")
    yield Check("opacity is kept", faults(ended, 0, "4 x 16 x 16"))
    for mode, suffix in {
        "CMYK": ".jpg",
        "LA": ".png",
        "P": ".png",
        "1": ".png",
        "LAB": ".tif",
        "YCbCr": ".jpg",
    }.items():
        root = place / f"mode{mode}"
        root.mkdir()
        for i in range(8):
            noise(seed=i).convert("RGB" if mode == "LAB" else mode).save(root / f"{i}{suffix}")
        channels = 1 if mode in ("LA", "1") else 3
        ended = run(place, *line, f"data.root={root}", f"folder=m{mode}")
        yield Check(f"mode {mode}", faults(ended, 0, f"{channels} x 16 x 16"))
    yield _turned(place)


def _turned(place: Path) -> Check:
    """Pictures that a camera has stored turned, with a note."""
    (place / "turned").mkdir()
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = 255  # white above, as it is shown
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for i in range(8):
        Image.fromarray(np.rot90(values)).save(place / f"turned/{i}.jpg", exif=exif, quality=95)
    ended = run(place, "train", *FOLDER, "data.root=turned", "folder=t", OAKLEAF_CACHE=str(place / "ct"))
    text = faults(ended, 0)
    if not text:
        image = stored(place / "ct")[0, 0]
        text = "" if image[:7].mean() > 0.95 and image[9:].mean() < 0.05 else "not upright"
    return Check("turned by EXIF", text)


def tables_and_archives(place: Path) -> Iterator[Check]:
    """M4: labels from CSV and JSON files, pictures in an archive."""
    root = fill(place / "flat", 12)
    rows = [(f"{i}.png", "cat" if i % 3 else "dog") for i in range(12)]
    (root / "labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    (root / "labels.json").write_text(json.dumps({"labels": [[name, int(label == "cat")] for name, label in rows]}))
    (root / "plain.json").write_text(json.dumps(dict(rows)))
    (root / "semicolon.csv").write_text("".join(f"{name};{label}\n" for name, label in rows))
    (root / "bom.csv").write_text("\ufefffile,label\r\n" + "".join(f"{name},{label}\r\n" for name, label in rows))
    (root / "stems.csv").write_text("file,label\n" + "".join(f"{name[:-4]},{label}\n" for name, label in rows))
    (root / "half.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows[:6]))
    (root / "others.csv").write_text("file,label\nx.png,cat\n")
    train = ["train", *FOLDER, "model=acgan"]
    said = {"labels.json": "2 classes: 0 4, 1 8", "half.csv": "6 pictures have no label", "others.csv": "names none of"}
    for file in sorted(path.name for path in root.iterdir() if path.suffix in (".csv", ".json")):
        ended = run(place, *train, "data.root=flat", f"data.source.labels={file}", f"folder=t-{file}")
        code, words = int(file == "others.csv"), said.get(file, "2 classes: cat 8, dog 4")
        yield Check(f"labels from {file}", faults(ended, code, words))
    ended = run(place, *train, "data.root=flat", "data.source.labels=nowhere.csv")
    yield Check("no such table", faults(ended, 1, "nowhere.csv"))
    tree(place / "classed", {"cat": 6, "dog": 6})
    for name, method in {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}.items():
        with zipfile.ZipFile(place / f"{name}.zip", "w", method) as archive:
            for file in (place / "classed").rglob("*.png"):
                archive.write(file, file.relative_to(place / "classed"))
        ended = run(place, *train, f"data.root={name}.zip", f"folder=z-{name}")
        yield Check(f"a ZIP archive, {name}", faults(ended, 0, "2 classes: cat 6, dog 6"))
    (place / "damaged.zip").write_bytes((place / "stored.zip").read_bytes()[:-100])
    ended = run(place, *train, "data.root=damaged.zip")
    yield Check("a damaged archive", faults(ended, 1, "damaged.zip"))
    ended = run(place, *train, "data.root=classed", "data.balanced=true", "folder=bal")
    yield Check("data.balanced", faults(ended, 0))
    ended = run(place, "train", *DIGITS, "data.balanced=true", "folder=bd")
    yield Check("data.balanced of digits", faults(ended, 0))


PARTS = {
    "F4": [second_start],
    "F5": [value_ranges, values_that_do_not_fit],
    "F6": [classes],
    "F7": [passed_over, translated],
    "F10": [other_data],
    "F14": [colours],
    "M4": [tables_and_archives],
}
