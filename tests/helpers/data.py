"""Small data sets on disk, and the overrides with which conditional models train on them."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra.utils import get_class
from PIL import Image
from torch import Tensor

from helpers.composing import FP32, ROOT, SMALL, composed
from helpers.training import built
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.image_grid import to_bytes

Y, X = np.mgrid[:16, :16] - 7.5
COLOURS = {
    "red": (220, 0, 0), "green": (0, 180, 0), "blue": (0, 0, 220), "yellow": (230, 220, 0), "black": (0, 0, 0),
    "pink": (250, 130, 190), "brown": (120, 70, 20),
}  # fmt: skip
SHAPES = {
    "square": np.maximum(abs(Y), abs(X)) < 6, "disc": np.hypot(Y, X) < 7, "bar": abs(Y) < 2,
    "pole": abs(X) < 2, "ring": abs(np.hypot(Y, X) - 5) < 1.5, "cross": abs(abs(Y) - abs(X)) < 2,
    "roof": abs(X) - 3 < Y,
}  # fmt: skip


def write_captioned_folder(root: Path) -> Path:
    """Write pictures of 7 shapes in 7 colours with captions such as `red square`, two variants of each."""
    (root / "images").mkdir()
    captions, groups, random = [], [], np.random.default_rng(0)
    for (colour, rgb), (shape, mask), variant in itertools.product(COLOURS.items(), SHAPES.items(), (0, 1)):
        name = f"{colour}-{shape}-{variant}.png"
        pixels = np.where(mask[:, :, None], np.array(rgb), 255) + random.integers(-20, 20, (16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / name)
        captions.append(f'{name},"{colour} {shape}{", again" if variant else ""}"')
        groups.append(f"{name},{colour} {shape}")
    (root / "captions.txt").write_text("\n".join(["image,caption", *captions]) + "\n")
    (root / "metadata.csv").write_text("\n".join(["image,base", *groups]) + "\n")
    return root


def condition_options(model: str, captions: Path) -> list[str]:
    """Return the overrides for data that hold what the model's condition reads.

    The list is empty where digits, the default, hold it. The second stage of StackGAN gets a trained first stage, and
    networks that are trained on the data are trained on few images.
    """
    key, has_first_stage = _condition(model)
    frozen = composed(f"model={model}").model.get("frozen") or {}
    quick = [f"model.frozen.{name}.training.images=1280" for name, node in frozen.items() if "training" in node]
    root = f"data.root={captions}"
    if "model.frozen.generator" in (ROOT / "conf/model" / f"{model}.yaml").read_text():
        return [f"model.frozen.generator.checkpoint={small_generator(captions)}"]
    small = ["model.game.generator.width=8", "model.game.discriminator.width=8"]
    if has_first_stage:
        small += [f"model.frozen.stage1.checkpoint={first_stage(captions)}"]
    return {
        "features": ["data=emoji_tags", root, "data.pixels=16", "data.width=8", "data.least=1"],
        "caption": ["data=emoji_captions", root, f"data.size={32 if has_first_stage else 16}", *small],
    }.get(key, []) + quick


@functools.cache
def _condition(model: str) -> tuple[str, bool]:
    """Return the batch key of the model's condition ("" without one), and whether it has a frozen first stage."""
    config = composed(f"model={model}").model
    game = config.game
    if not (condition := game.get("condition")):
        return "", False
    return condition.get("key") or get_class(condition._target_).key, "stage1" in (config.get("frozen") or {})


def first_stage(captions: Path) -> Path:
    """Return the folder of a StackGAN stage I that has seen 16 images; it is trained on the first call."""
    run = captions / "stage1"
    if not run.is_dir():
        options = ["model=stackgan", *condition_options("stackgan", captions), "data.batch_size=8", "max_images=16"]
        module, data, trainer, _ = built(*FP32, *options, folder=run)
        trainer.fit(module, datamodule=data)
    return run


def small_generator(folder: Path) -> Path:
    """Return the folder of a DCGAN on digits that has seen 16 images; it is trained on the first call."""
    run = folder / "generator"
    if not run.is_dir():
        module, data, trainer, _ = built(*FP32, *SMALL, "max_images=16", folder=run)
        trainer.fit(module, datamodule=data)
    return run


class InMemory(ImageDataModule):
    """Images and their rows as they are given.

    Args:
        rows: `image` [N, C, H, W] as stored, and whatever belongs to it.
        classes: names of the labels.
        cache: the folder of what is computed once.
    """

    digest = "in memory"

    def __init__(self, rows: dict[str, Tensor], classes: Sequence[str] = (), cache: Path = Path()) -> None:
        super().__init__("in memory", batch_size=8, epochs=1, seed=0)
        self.rows, self.classes, self.cache = rows, classes, cache
        self.channels, self.size = rows["image"].shape[1], (rows["image"].shape[2], rows["image"].shape[3])

    def stored(self, images: Tensor) -> Tensor:
        return to_bytes(images)
