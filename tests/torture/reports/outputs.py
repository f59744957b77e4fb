"""F8, F9, F16, F17, M1 to M3, M5, M6: callbacks, W&B, samples, and Oakleaf from Python."""

# ruff: noqa: E501

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from torture.reports.pictures import fill, tree
from torture.reports.running import (
    DIGITS,
    FOLDER,
    Check,
    Ended,
    faults,
    file_limit,
    joined,
    memory_limit,
    run,
)  # fmt: skip

PL = "lightning.pytorch.callbacks"
LINE = [*DIGITS, "max_images=160", "log_every=2"]
MONITORS: dict[str, tuple[list[str], int, str]] = {  # callbacks, the code, what is said
    "EarlyStopping on a loss": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: loss/discriminator/adversarial}}"], 0, ""),
    "EarlyStopping that stops": (
        [f"stop={{_target_: {PL}.EarlyStopping, monitor: loss/generator/adversarial, patience: 1, min_delta: 1000}}"], 0,
        "loss/generator/adversarial",
    ),
    "EarlyStopping on the old name": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: discriminator/adversarial}}"], 0, "Did you mean loss/discriminator/adversarial"),
    "EarlyStopping on val_loss": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: val_loss}}"], 0, "monitor=val_loss has not been logged"),
    "EarlyStopping, strict=false": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: nope, strict: false}}"], 0, ""),
    "EarlyStopping without monitor": ([f"stop={{_target_: {PL}.EarlyStopping}}"], 1, "monitor"),
    "EarlyStopping, mode=nope": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: images, mode: nope}}"], 1, "mode"),
    "ModelCheckpoint on a loss": (
        [f"keep={{_target_: {PL}.ModelCheckpoint, monitor: loss/generator/adversarial, dirpath: kept, filename: best}}"], 0, "",
    ),
    "ModelCheckpoint on a wrong name": ([f"keep={{_target_: {PL}.ModelCheckpoint, monitor: loss/gen}}"], 0, "monitor=loss/gen has not been logged"),
    "LearningRateMonitor": ([f"lr={{_target_: {PL}.LearningRateMonitor}}"], 0, ""),
    "a score of callbacks=scored": ([f"stop={{_target_: {PL}.EarlyStopping, monitor: metric/fid-classifier}}"], 0, "monitor=metric/fid-classifier has not been logged"),
    "Timer": ([f"timer={{_target_: {PL}.Timer, duration: '00:00:01:00'}}"], 0, ""),
    "StochasticWeightAveraging": ([f"swa={{_target_: {PL}.StochasticWeightAveraging, swa_lrs: 0.1}}"], 1, "StochasticWeightAveraging"),
    "GradientAccumulationScheduler": ([f"g={{_target_: {PL}.GradientAccumulationScheduler, scheduling: {{0: 2}}}}"], 1, "GradientAccumulationScheduler"),
}  # fmt: skip


def monitored(place: Path) -> Iterator[Check]:
    """F8: callbacks of Lightning find what is logged, or say what there is."""
    for turn, (name, (callbacks, code, words)) in enumerate(MONITORS.items()):
        ended = run(place, "train", *LINE, f"folder=r{turn}", *(f"+callbacks.{one}" for one in callbacks))
        yield Check(name, faults(ended, code, words))
    yield Check("the best checkpoint is there", "" if [*(place / "kept").glob("*.ckpt")] else "none")


VARIABLES = {
    "WANDB_PROJECT": "butterflies", "WANDB_ENTITY": "somebody", "WANDB_NAME": "monarch", "WANDB_RUN_GROUP": "insects",
    "WANDB_RUN_ID": "myrun123", "WANDB_TAGS": "wing,antenna", "WANDB_JOB_TYPE": "pretrain", "WANDB_NOTES": "caterpillar",
}  # fmt: skip


def wandb_variables(place: Path) -> Iterator[Check]:
    """F9: variables of the environment hold, options of the command line hold more."""
    ended = run(place, "train", *_wandb(), "folder=w", **VARIABLES)
    text = faults(ended, 0)
    (content, folder) = _recorded(place / "w/wandb") if not text else (b"", "")
    for name, value in VARIABLES.items():
        missing = [one for one in value.split(",") if one.encode() not in content and one not in folder]
        yield Check(name, text or (f"{missing} is not recorded" if missing else ""))
    ended = run(
        place, "train", *_wandb(), "folder=v", "logger.wandb.project=moths", "logger.wandb.entity=me", **VARIABLES
    )
    content, _ = _recorded(place / "v/wandb") if ended.code == 0 else (b"", "")
    wrong = b"butterflies" in content or b"moths" not in content or b"somebody" in content
    yield Check("options are above variables", joined(faults(ended, 0), "the variables are recorded" if wrong else ""))
    ended = run(place, "train", *_wandb(), "folder=d", WANDB_DIR=str(place / "elsewhere"))
    there = [*(place / "elsewhere").rglob("*.wandb")]
    yield Check(
        "WANDB_DIR", joined(faults(ended, 0), "" if there and not (place / "d/wandb").exists() else "not there")
    )
    content, _ = _recorded(place / "elsewhere/wandb")
    yield Check("no variable", "" if b"oakleaf" in content and b"dcgan-digits" in content else "not the default")
    ended = run(
        place, "train", "resume=d", "max_images=16", WANDB_PROJECT="butterflies", WANDB_DIR=str(place / "again")
    )
    first, second = ({_id(file) for file in root.rglob("*.wandb")} for root in (place / "elsewhere", place / "again"))
    yield Check("a resumed run keeps its id", joined(faults(ended, 0), "" if first == second else f"{first}, {second}"))
    for name, value in {"WANDB_MODE": "disabled", "WANDB_DISABLED": "true", "WANDB_MODE ": "offlin"}.items():
        ended = run(place, "train", *_wandb(), f"folder=m{value}", **{name.strip(): value})
        left = [*(place / f"m{value}").rglob("*.wandb")]
        yield Check(
            f"{name.strip()}={value}",
            joined(faults(ended, 0), f"{len(left)} files" if left and value != "offlin" else ""),
        )
    ended = run(
        place,
        "train",
        *_wandb(),
        "folder=e",
        WANDB_PROJECT="",
        WANDB_NAME="",
        WANDB_RUN_ID="",
        WANDB_DIR="",
        WANDB_MODE="",
    )
    yield Check(
        "empty variables", joined(faults(ended, 0), "" if [*(place / "e/wandb").rglob("*.wandb")] else "nothing")
    )
    odd = run(place, "train", *_wandb(), "folder=o", WANDB_RUN_ID="a/b c", WANDB_PROJECT="a/b")
    yield Check("an id with a slash", faults(odd, 0))


def _wandb() -> list[str]:
    return ["logger=wandb" if one == "logger=csv" else one for one in DIGITS]


def _recorded(folder: Path) -> tuple[bytes, str]:
    """The content of the run's file, and the name of its folder."""
    (file,) = folder.glob("*run-*/*.wandb")
    return file.read_bytes(), file.parent.name


def _id(file: Path) -> str:
    return file.stem.removeprefix("run-")


def many_samples(place: Path) -> Iterator[Check]:
    """F16: any number of samples needs the memory of one batch; a full disk or memory is one sentence."""
    run(place, "train", *DIGITS, "folder=rt")
    sample = ["sample", "checkpoint=rt"]
    few = run(place, *sample, "count=500", "out=few")
    many = run(place, *sample, "count=20000", "out=many")
    grown = many.memory - few.memory
    yield Check("20,000 samples", joined(faults(many, 0), "" if grown < 15 else f"{grown:.0f} MB more than for 500"))
    images = np.load(place / "many/samples.npy", mmap_mode="r")
    same = np.array_equal(images[:256], np.load(place / "few/samples.npy")[:256])
    yield Check("the same ones as few", "" if same and len(images) == 20000 else f"{images.shape}")
    files = run(place, *sample, "count=1000", "format=png", "out=files")
    written = len([*(place / "files").rglob("*.png")])
    yield Check("1,000 files", joined(faults(files, 0), "" if written == 1001 else f"{written} files"))
    full = run(place, *sample, "count=20000", "out=full", trap=lambda: file_limit(1000))
    yield Check("a full disk", joined(faults(full, 1, "could not be written"), _nothing(place / "full")))
    pairs = [*sample, "mode=interpolate", "mode.pairs=20000"]
    tight = run(place, *pairs, "out=tight", trap=lambda: memory_limit(100))
    yield Check("full memory", joined(faults(tight, 1, "memory is full"), _nothing(place / "tight")))
    for mode, options in {"interpolate": "mode.pairs=40", "walk": "mode.steps=4", "by_class": "mode.rows=2"}.items():
        ended = run(place, *sample, f"mode={mode}", options, f"out={mode}")
        expected = 1 if mode == "by_class" else 0
        yield Check(f"mode={mode} {options}", faults(ended, expected))
    for value in ("0", "-1", "1.5", "abc", "1e30", "null"):
        yield Check(f"count={value}", faults(run(place, *sample, f"count={value}"), 1, "count"))
    ended = run(place, *sample, "count=1000000000000")
    yield Check("count=1000000000000", joined(faults(ended, 1), _nothing(place / "samples")))


def _nothing(folder: Path) -> str:
    found = [path.name for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return f"left behind: {found}" if found else ""


def python(place: Path) -> Iterator[Check]:
    """F17: what docs/python.md shows; mistakes are UserErrors of one line."""
    yield Check("train, sample, evaluate, resume", _in_python(place, _all_of_it))
    yield Check("folder is null", _in_python(place, lambda: _made("data=digits")))
    yield Check("oakleaf.build", _in_python(place, _built))
    mistakes: dict[str, Any] = {
        "an unknown group": ["model=nope"], "an unknown key": ["data=digits", "nope=1"], "dashes": ["--seed=3"],
        "a text": "data=digits", "a number": [3], "no data": ["data=folder", "data.root=nowhere"],
        "resume of nothing": ["resume=nowhere"], "a sweep": ["data=digits", "seed=1,2"], "help": ["--help"],
        "no override": ["=", "="],
    }  # fmt: skip
    for name, overrides in mistakes.items():
        yield Check(f"a mistake: {name}", _in_python(place, partial(_refused, overrides)))


def _in_python(place: Path, call: object) -> str:
    ended: Ended = run(place, call=call)
    return faults(ended, 0, "fine")


def _all_of_it() -> None:
    import oakleaf

    result = oakleaf.train([*DIGITS, "folder=py"])
    assert result.sample(3).shape == (3, 1, 16, 16)
    assert result.evaluate(["metric=diversity", "extractor=pixels", "fake=16", "real=16", "resamples=0"])
    assert oakleaf.train(["resume=py", "max_images=16"]).module.images_seen == 16
    assert oakleaf.load("py").config["model"]["name"] == "dcgan"
    print("fine")


def _made(*overrides: str) -> None:
    import oakleaf

    folder = oakleaf.train([*DIGITS, *overrides]).folder
    assert (folder / "checkpoints/last.ckpt").exists() and folder.parts[-3:-1] == ("outputs", "dcgan-digits"), folder
    print("fine")


def _built() -> None:
    import oakleaf
    from oakleaf.builder.compose import compose_config

    module, _, _ = oakleaf.build(compose_config("train", DIGITS))
    assert module.images_seen == 0
    print("fine")


def _refused(overrides: Any) -> None:
    import oakleaf
    from oakleaf.errors import UserError

    try:
        oakleaf.train(overrides)
    except UserError as error:
        assert str(error) and "\n" not in str(error), error
        print("fine", error)


def files_of_samples(place: Path) -> Iterator[Check]:
    """M1, M5: a file for each sample, lists of seeds, truncation, films."""
    run(place, "train", *FOLDER, "model=acgan", f"data.root={tree(place / 'set', {'cat': 6, 'dog': 6})}", "folder=rt")
    sample = ["sample", "checkpoint=rt"]
    ended = run(place, *sample, "format=png", "count=10", "out=png")
    named = sorted(path.parent.name for path in (place / "png").rglob("*/*.png"))
    rows = (place / "png/labels.csv").read_text().splitlines() if ended.code == 0 else []
    wrong = len(set(named)) != 2 or len(named) != 10 or len(rows) != 11
    yield Check("folders by class, and labels.csv", joined(faults(ended, 0), f"{named}, {rows}" if wrong else ""))
    ended = run(place, *sample, "format=[npy,png]", "count=4", "condition=dog", "out=dogs")
    yield Check("condition=dog, both formats", faults(ended, 0, "4 images"))
    yield Check("condition=bird", faults(run(place, *sample, "condition=bird"), 1, "bird", "dog"))
    yield Check("condition=7", faults(run(place, *sample, "condition=7"), 1, "7"))
    yield Check("format=jpg", faults(run(place, *sample, "format=jpg"), 1, "npy"))


def films(place: Path) -> Iterator[Check]:
    """M5."""
    run(place, "train", *DIGITS, "folder=rt")
    sample = ["sample", "checkpoint=rt"]
    ended = run(place, *sample, "seeds=0-3,77", "out=s")
    shape = np.load(place / "s/samples.npy").shape if ended.code == 0 else ()
    yield Check("seeds=0-3,77", joined(faults(ended, 0), "" if shape[:1] == (5,) else f"{shape}"))
    for value in ("3-0", "a", "1-", "0-99999999999"):
        yield Check(f"seeds={value}", faults(run(place, *sample, f"seeds={value}"), 1, "seeds"))
    np.save(place / "z.npy", np.zeros((4, 100), np.float32))
    yield Check("latents", faults(run(place, *sample, "latents=z.npy", "out=l"), 0, "4 images"))
    np.save(place / "wrong.npy", np.zeros((4, 7), np.float32))
    yield Check("latents of another width", faults(run(place, *sample, "latents=wrong.npy"), 1, "100"))
    yield Check("truncation of uniform latents", faults(run(place, *sample, "truncation=0.5"), 1, "truncation"))
    yield Check("truncation=2", faults(run(place, *sample, "truncation=2"), 1, "truncation"))
    ended = run(place, *sample, "mode=interpolate", "mode.pairs=2", "mode.frames=6", "out=film")
    yield Check(
        "a film", joined(faults(ended, 0), "" if (place / "film/animation.gif").exists() else "no animation.gif")
    )


def against(place: Path) -> Iterator[Check]:
    """M2: pictures against pictures, without a checkpoint."""
    fill(place / "a", 40)
    fill(place / "b", 40)
    np.save(place / "b.npy", np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8))
    options = ["metric=[diversity,two_sample]", "extractor=pixels", "resamples=0"]
    for name in ("b", "b.npy"):
        ended = run(place, "evaluate", "real=a", f"fake={name}", *options, f"out=e{name}")
        numbers = json.loads((place / f"e{name}/metrics.json").read_text()) if ended.code == 0 else {}
        yield Check(f"a folder against {name}", joined(faults(ended, 0), "" if numbers else "no metrics.json"))
    for name in ("nowhere", "b.txt"):
        yield Check(
            f"a folder against {name}", faults(run(place, "evaluate", "real=a", f"fake={name}", *options), 1, name)
        )
    yield Check("only one of them", faults(run(place, "evaluate", "fake=b", *options), 1, "real"))


def initial_weights(place: Path) -> Iterator[Check]:
    """M3: a new run from an old one's weights is not there; the answer says what is."""
    ended = run(place, "train", *DIGITS, "init=rt")
    yield Check("init=RUN", faults(ended, 1, "init"))
    yield Check(
        "freeze", faults(run(place, "train", *DIGITS, "optim.discriminator.freeze=['stages.0.*']", "folder=f"), 0)
    )
    ended = run(place, "train", *DIGITS, "optim.discriminator.freeze=['nope.*']")
    yield Check("freeze of nothing", faults(ended, 1, "nope"))


def small_data(place: Path) -> Iterator[Check]:
    """M6."""
    for turn, option in enumerate(
        [
            "augment=diffaugment",
            "augment=ada",
            "augment=apa",
            "augment=noise",
            "optim.generator.accumulate=2",
            "data.flip=true",
        ]
    ):
        yield Check(option, faults(run(place, "train", *DIGITS, option, f"folder=r{turn}"), 0))
    ended = run(place, "train", *DIGITS, "optim.generator.accumulate=100")
    yield Check("more micro-batches than images", faults(ended, 1, "accumulate"))
    yield Check("augment=nope", faults(run(place, "train", *DIGITS, "augment=nope"), 1, "augment=nope"))


PARTS = {
    "F8": [monitored],
    "F9": [wandb_variables],
    "F16": [many_samples],
    "F17": [python],
    "M1": [files_of_samples],
    "M2": [against],
    "M3": [initial_weights],
    "M5": [films],
    "M6": [small_data],
}
