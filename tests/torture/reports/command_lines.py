"""F11, F12, F13, F15: what is wrong with a command line itself, and what Lightning says."""

# ruff: noqa: E501

from collections.abc import Iterator
from pathlib import Path

from torture.reports.pictures import fill
from torture.reports.running import DIGITS, FOLDER, Check, faults, joined, none_left, run

DASHES = "options are written without dashes"
NO_FLAG = "there is no such flag"
FLAGS: dict[str, tuple[list[str], str]] = {  # the command and its arguments, and what is in the answer
    "--loss=hinge": (["train", "--loss=hinge"], "loss=hinge"),
    "--seed 3": (["train", "--seed", "3"], "seed=3"),
    "-seed=3": (["train", "-seed=3"], "seed=3"),
    "-seed 3": (["train", "-seed", "3"], "seed=3"),
    "sample.py --count 5": (["sample", "--count", "5"], "count=5"),
    "sample.py --count=5": (["sample", "--count=5"], "count=5"),
    "evaluate.py --checkpoint run": (["evaluate", "--checkpoint", "run"], "checkpoint=run"),
    "translate.py --input x": (["translate", "--input", "x"], "input=x"),
    "export.py --format=onnx": (["export", "--format=onnx"], "format=onnx"),
    "theory.py --lab dirac": (["theory", "--lab", "dirac"], "lab=dirac"),
    "explore.py --port 1": (["explore", "--port", "1"], "port=1"),
    "--batch-size 8": (["train", "--batch-size", "8"], "batch_size"),
    "--lr=1e-3": (["train", "--lr=1e-3"], "lr"),
    "--data.batch_size 8": (["train", "--data.batch_size", "8"], "data.batch_size=8"),
    "--verbose": (["train", "--verbose"], NO_FLAG),
    "-v": (["train", "-v"], NO_FLAG),
    "--": (["train", "--"], ""),
    "-": (["train", "-"], ""),
    "--m model=gan": (["train", "--mm", "model=gan"], NO_FLAG),
    "---seed=3": (["train", "---seed=3"], "seed=3"),
    "a long dash": (["train", "\u2014seed=3"], ""),
    "--config-name nope": (["train", "--config-name", "nope"], "nope"),
    "--config-name=nope": (["train", "--config-name=nope"], "nope"),
    "-cn nope": (["train", "-cn", "nope"], "nope"),
    "--config-name nope.yaml": (["train", "--config-name", "nope.yaml"], "nope"),
    "--config-name sample": (["train", "--config-name", "sample", "checkpoint=x"], ""),
    "--config-name without a value": (["train", "--config-name"], "--config-name"),
    "--config-path /nowhere": (["train", "--config-path", "/nowhere"], "/nowhere"),
    "--config-path=/nowhere": (["train", "--config-path=/nowhere"], "/nowhere"),
    "-cp nowhere": (["train", "-cp", "nowhere"], "nowhere"),
    "--config-dir nowhere": (["train", "--config-dir", "nowhere"], "nowhere"),
    "-cd without a value": (["train", "-cd"], ""),
    "sample.py --config-name nope": (["sample", "--config-name", "nope"], "nope"),
    "--config-path of an empty folder": (["train", "--config-path", "."], ""),
    "--cfg what": (["train", "--cfg", "what"], "--cfg"),
    "--package x": (["train", "--package"], "--package"),
    "--multirun without values": (["train", "-m", "model=nope"], "nope"),
    "model dcgan": (["train", "model", "dcgan"], "model"),
    "model: dcgan": (["train", "model:", "dcgan"], "model"),
    "model = dcgan": (["train", "model", "=", "dcgan"], ""),
    "model=dcgan,": (["train", "model=dcgan,"], ""),
    "train.yaml": (["train", "conf/train.yaml"], "train.yaml"),
    "loss=Hinge": (["train", "loss=Hinge"], "hinge"),
    "model=dc_gan": (["train", "model=dc_gan"], "dcgan"),
    "data=cifar": (["train", "data=cifar"], "cifar10"),
    "datas=digits": (["train", "datas=digits"], "data"),
    "hinge": (["train", "hinge"], "hinge"),
    "learning_rate=1": (["train", "learning_rate=1"], "lr"),
    "trainer.max_steps=5": (["train", *DIGITS, "trainer.max_steps=5"], "max_steps"),
    "resume=nowhere": (["train", "resume=nowhere"], "nowhere"),
    "resume=. of no run": (["train", "resume=."], ""),
    "checkpoint=nowhere": (["sample", "checkpoint=nowhere"], "nowhere"),
    "sample.py without a checkpoint": (["sample"], "checkpoint="),
    "evaluate.py without a checkpoint": (["evaluate"], "checkpoint="),
    "translate.py without anything": (["translate"], "checkpoint="),
    "export.py without a checkpoint": (["export"], "checkpoint="),
    "hydra/launcher=joblib": (["train", "-m", "hydra/launcher=nope", "seed=1,2"], "nope"),
    "hydra.job.name=": (["train", "hydra.verbose=abc", "data=nope"], "nope"),
}


def flags(place: Path) -> Iterator[Check]:
    """F12: each mistake is answered by one sentence, which says what is meant."""
    for name, (line, words) in FLAGS.items():
        dashes = [DASHES] if "=" in words and not words.endswith("=") else []
        text = faults(run(place, *line), 1, words, *dashes)
        yield Check(name, joined(text, none_left(place / "outputs")))


def moved(place: Path) -> Iterator[Check]:
    """F11: a command runs where it was given, or says that it does not."""
    fill(place / "pictures")
    refused = "hydra.job.chdir=true"
    run(place, "train", *DIGITS, "folder=rt")
    lines = {
        "a new run": ["train", *DIGITS, "folder=h3"],
        "a relative root": ["train", *FOLDER, "data.root=pictures"],
        "resume=": ["train", "resume=rt", "max_images=16"],
        "sample.py": ["sample", "checkpoint=rt"],
        "evaluate.py": ["evaluate", "checkpoint=rt"],
        "export.py": ["export", "checkpoint=rt"],
        "theory.py": ["theory"],
        "TRUE": ["train", *DIGITS],
    }
    for name, line in lines.items():
        word = "hydra.job.chdir=TRUE" if name == "TRUE" else refused
        ended = run(place, *line, word)
        yield Check(
            name, joined(faults(ended, 1, refused), none_left(place / "h3", place / "outputs", place / "samples"))
        )
    sweep = run(place, "train", "-m", *DIGITS, refused, "seed=1,2")
    yield Check(
        "a sweep",
        "" if sweep.code == 1 and refused in sweep.err and "Traceback" not in sweep.err else faults(sweep, 1, refused),
    )
    ended = run(place, "train", *FOLDER, "data.root=pictures", "folder=h4", "hydra.job.chdir=false")
    yield Check("hydra.job.chdir=false", faults(ended, 0))
    ended = run(place, "train", *FOLDER, "data.root=pictures", "hydra.run.dir=deep/er/h5")
    yield Check(
        "hydra.run.dir", joined(faults(ended, 0), "" if (place / "deep/er/h5/train.log").exists() else "not there")
    )


TOLD: dict[str, tuple[list[str], int, list[str]]] = {  # options, the code, what is said
    "profiler=simple": (["trainer.profiler=simple"], 0, ["profile"]),
    "profiler=advanced": (["trainer.profiler=advanced"], 0, ["profile"]),
    "profiler=nope": (["trainer.profiler=nope"], 1, ["profiler"]),
    "max_time": (["trainer.max_time=00:00:00:01", "max_images=1000000000"], 0, ["max_time"]),
    "max_time in words": (["trainer.max_time='2 hours'"], 1, ["max_time"]),
    "max_time=5": (["trainer.max_time=5"], 1, ["max_time"]),
    "min_time": (["+trainer.min_time=00:00:00:01"], 1, ["min_time"]),
    "limit_train_batches=0": (["trainer.limit_train_batches=0"], 1, ["limit_train_batches"]),
    "fast_dev_run": (["trainer.fast_dev_run=true"], 0, []),
    "enable_model_summary": (["trainer.enable_model_summary=true"], 0, ["discriminator"]),
    "detect_anomaly": (["trainer.detect_anomaly=true"], 0, []),
    "overfit_batches": (["+trainer.overfit_batches=1"], 1, ["overfit_batches"]),
    "gradient_clip_val": (["+trainer.gradient_clip_val=1"], 1, ["gradient_clip_val"]),
    "accumulate_grad_batches": (["+trainer.accumulate_grad_batches=2"], 1, ["accumulate"]),
    "precision=16-true": (["trainer.precision=16-true"], 1, ["precision"]),
    "precision=nope": (["trainer.precision=nope"], 1, ["precision"]),
    "accelerator=tpu": (["trainer.accelerator=tpu"], 1, ["trainer"]),
    "accelerator=gpu": (["trainer.accelerator=gpu"], 1, ["gpu"]),
    "devices=99": (["trainer.devices=99"], 1, ["trainer.devices=99"]),
    "logger=true": (["+trainer.logger=true"], 1, ["logger"]),
    "check_val_every_n_epoch": (["+trainer.check_val_every_n_epoch=1"], 1, ["check_val_every_n_epoch"]),
    "nope": (["trainer.nope=1"], 1, ["nope"]),
    "reload_dataloaders_every_n_epochs": (["+trainer.reload_dataloaders_every_n_epochs=1"], 0, []),
    "max_epochs": (["trainer.max_epochs=1", "max_images=null", "data.batch_size=600"], 0, ["epoch"]),
    "max_epochs=0": (["trainer.max_epochs=0", "max_images=null"], 1, ["max_epochs"]),
}


def lightnings_words(place: Path) -> Iterator[Check]:
    """F13: an option of Lightning's is obeyed, and its end is said; or it is refused."""
    for turn, (name, (options, code, words)) in enumerate(TOLD.items()):
        ended = run(place, "train", *DIGITS, f"folder=r{turn}", *options)
        yield Check(name, joined(faults(ended, code, *words), none_left(place / f"r{turn}") if code else ""))
    report = [*(place / "r0/profile").glob("*")]
    yield Check("the profile is written", "" if report else "no report in the run's folder")


MISSING = {
    "a share of Windows": r"\\server\share\pics",
    "a drive of Windows": "D:\\new\\\\x",
    "a backslash at the end": "D:\\pics\\",
    "tabs and newlines in letters": "C:\\temp\\new\\results",
    "a drive with slashes": "C:/pics",
}
NAMES = [
    "with space", "comma,comma", "back\\slash", "two\\\\slashes", "end\\", "quote'quote", 'double"quote', "dollar$HOME",
    "hash#tag", "equals=equals", "brackets[1]", "braces{a}", "paren(thesis)", "colon:colon", "grün", "日本", "emoji😀",
    "percent%20", "plus+plus", "at@at", "tilde~", "star*", "semi;colon", "am&persand", "true", "null", "1", "1e5", "-dash",
    "exclamation!", "question?", "pipe|", "lower<", "back`tick", "[list]", "'quoted'", "a, b", "caret^",
]  # fmt: skip


def paths(place: Path) -> Iterator[Check]:
    """F15: a path is the path that was written, whatever its characters."""
    for name, path in MISSING.items():
        text = faults(run(place, "train", *FOLDER, f"data.root={path}"), 1, f"{path} does not exist")
        yield Check(f"data.root: {name}", text)
    share = MISSING["a share of Windows"]
    yield Check("resume: a share", faults(run(place, "train", f"resume={share}"), 1, share))
    yield Check("checkpoint: a share", faults(run(place, "sample", f"checkpoint={share}"), 1, share))
    for name in NAMES:
        (place / "roots" / name).mkdir(parents=True)
        ended = run(place, "sample", f"checkpoint=roots/{name}")
        yield Check(f"checkpoint: {name}", faults(ended, 1, f"roots/{name}"))
    for name in ("2024", "true", "nan", "1e5", "007"):
        fill(place / name)
        ended = run(place, "train", *FOLDER, f"data.root={name}", "model=acgan")  # the folder is found and understood
        yield Check(f"data.root: {name}", faults(ended, 1, "all pictures are in one folder"))
    run(place, "train", *DIGITS, "folder=rt")
    for name in ("back\\slash", "equals=equals", "grün", "brackets[1]", "2025"):
        ended = run(place, "sample", "checkpoint=rt", "count=1", f"out={name}")
        yield Check(
            f"out: {name}", joined(faults(ended, 0), "" if (place / name / "samples.npy").exists() else "not there")
        )
        (place / "rt").rename(place / f"run {name}")
        ended = run(place, "sample", f"checkpoint=run {name}", "count=1")
        yield Check(f"checkpoint: {name}", faults(ended, 0))
        (place / f"run {name}").rename(place / "rt")
    for name in ("with space", "back\\slash", "dollar$HOME", "2026"):
        ended = run(place, "train", *DIGITS, f"folder={name}")
        yield Check(
            f"folder: {name}",
            joined(faults(ended, 0), "" if (place / name / "checkpoints/last.ckpt").exists() else "not there"),
        )
        yield Check(f"resume: {name}", faults(run(place, "train", f"resume={name}", "max_images=16"), 0))


PARTS = {"F11": [moved], "F12": [flags], "F13": [lightnings_words], "F15": [paths]}
