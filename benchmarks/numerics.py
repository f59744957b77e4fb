"""Whether what makes it fast changes what it learns: python benchmarks/numerics.py [--images 60000] [--seeds 3]

First the losses of 100 turns of a small DCGAN on digits, from equal weights, latents and batches, beside the plainest
way of computing them: fp32, contiguous, eager, an optimizer that goes from tensor to tensor. Then the quality of
samples of a shortened `experiment=digits_dcgan`, in fp32 and with bf16 autocast, by a classifier's distance. On a GPU
where there is one: there "plain, repeated" shows the effect of sums in another order, and convolutions in fp32 are
TF32.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contest import HERE, record
from lightning.pytorch import Callback

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.builder.trainer import build_trainer

TURNS = 100
SMALL = ["model=dcgan", "data=digits", "model.game.generator.width=16", "model.game.discriminator.width=16"]
FP32, BF16 = "trainer.precision=32-true", "trainer.precision=bf16-mixed"
PLAIN = "plain: contiguous, eager, optimizer tensor by tensor"
WAYS: dict[str, list[str]] = {
    PLAIN: [FP32, "compile=false"],
    "plain, repeated": [FP32, "compile=false"],
    "plain, weights changed by one rounding": [FP32, "compile=false"],  # how far one rounding grows by itself
    "channels_last, fused optimizer": [FP32, "compile=false"],
    "the same, compiled": [FP32, "compile=true"],
    "the same, bf16 autocast": [BF16, "compile=false"],
}


def losses(way: str) -> list[float]:
    """What D and G paid at each turn."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    paid: list[float] = []

    class Note(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
            taken = pl_module.running_means.take()
            paid.extend(taken[f"{player}/adversarial"] for player in pl_module.players)

    options = ["logger=csv", "log_every=1000", f"max_images={64 * TURNS}", *SMALL, *WAYS[way]]
    with tempfile.TemporaryDirectory() as folder:
        module, data, recipe = build(compose_config("train", [*options, f"folder={folder}"]))
        if way.startswith("plain"):
            module.to(memory_format=torch.contiguous_format)
            for player in module.players.values():
                player.optimizer = tensor_by_tensor(player.optimizer)
        if "rounding" in way:
            with torch.no_grad():
                for weight in module.parameters():
                    weight.mul_(1 + torch.finfo(torch.float32).eps)
        recipe["callbacks"] = {"compiling": recipe["callbacks"]["compiling"]}
        trainer = build_trainer(recipe)
        trainer.callbacks.append(Note())  # type: ignore[attr-defined]
        trainer.fit(module, datamodule=data)
    return paid


def tensor_by_tensor(optimizer: Any) -> Any:
    return partial(torch.optim.Adam, **{**optimizer.keywords, "foreach": False, "fused": False})


def apart() -> list[dict[str, Any]]:
    found = {way: losses(way) for way in WAYS}
    rows = []
    for way in list(WAYS)[1:]:
        gaps = [abs(a - b) for a, b in zip(found[way], found[PLAIN], strict=True)]
        row = {"way": way, "mean difference": statistics.fmean(gaps)}
        row |= {"largest": max(gaps), "largest of the first 10": max(gaps[:20])}
        rows.append({**row, "mean loss": statistics.fmean(found[way])})
    return rows


def quality(precision: str, seed: int, images: int, folder: Path) -> float:
    """The classifier's Frechet distance of a shortened experiment=digits_dcgan."""
    run = folder / f"{precision.split('=')[1]}-{seed}"
    courses = [f"optim.{player}.schedules.lr" for player in ("generator", "discriminator")]
    shorter = [f"{course}.{key}={images // 2}" for course in courses for key in ("after", "over")]
    words = ["experiment=digits_dcgan", f"max_images={images}", f"seed={seed}", precision, "logger=csv"]
    _run("train.py", *words, *shorter, "trainer.enable_progress_bar=false", f"hydra.run.dir={run}")
    _run("evaluate.py", f"checkpoint={run}", "metric=fid")
    found = json.loads(next(run.rglob("metrics.json")).read_text())
    return next(float(score["value"]) for score in found if score["name"].startswith("fid"))


def _run(door: str, *words: str) -> None:
    subprocess.run([sys.executable, str(HERE.parent / door), *words], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=3, help="0: the losses alone")
    a = parser.parse_args()
    rows = apart()
    record("numerics losses", f"Losses of {TURNS} iterations against plain fp32, DCGAN on digits", rows)
    if a.seeds < 2:
        return
    found: dict[str, list[float]] = {FP32: [], BF16: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(a.seeds):
            for precision, distances in found.items():
                distances.append(quality(precision, seed, a.images_seen, Path(folder)))
    rows = [
        {
            "precision": precision.split("=")[1],
            "mean": statistics.fmean(each),
            "sd": statistics.stdev(each),
            "each": each,
        }
        for precision, each in found.items()
    ]
    title = f"fid-classifier of experiment=digits_dcgan after {a.images_seen} images, by precision"
    record("numerics quality", title, rows)


if __name__ == "__main__":
    main()
