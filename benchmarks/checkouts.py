"""Public repositories as contestants, each from a checkout, by its own training script and what that prints.

Read against their sources at the commits named here, and not run: they want an NVIDIA GPU. Each is started with the
checkout's own `.venv/bin/python` where there is one, since they need older libraries than Oakleaf: torch before 2.6 for
R3GAN, whose Adam has whole numbers as betas.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contest import Contestant
from PIL import Image, ImageOps

SIZES = {"r3gan": 64, "stylegan2": 64, "studiogan": 32}  # pixels
TICK = r"^tick [1-9]\d* +kimg "  # the line of every so many thousand images; tick 0 is that of the first batch


@dataclass(frozen=True)
class Checkout:
    """address, commit: what its adapter was read against. recipe: Oakleaf's with the same networks, losses and k; empty
    where it has none, and then there is no ratio.
    """

    address: str
    commit: str
    title: str
    recipe: tuple[str, ...]
    contestant: Callable[[Path, Path, Path, int], Contestant]  # of checkout, pictures, a folder to write to, and batch


def r3gan(checkout: Path, pictures: Path, out: Path, batch: int) -> Contestant:
    words = ["--outdir", out, "--data", pictures, "--gpus", 1, "--batch", batch, "--preset", "FFHQ-64", "--mirror", 1]
    words += ["--aug", 0, "--tick", 1, "--snap", 1_000_000, "--metrics", "none"]
    images = batch * math.ceil(1000 / batch)
    return Contestant("R3GAN's code", [_python(checkout), "train.py", *words], images, TICK, checkout)


def stylegan2(checkout: Path, pictures: Path, out: Path, batch: int) -> Contestant:
    words = ["--outdir", out, "--data", pictures, "--gpus", 1, "--batch", batch, "--cfg", "auto", "--mirror", 1]
    words += ["--aug", "noaug", "--snap", 1_000_000, "--metrics", "none"]
    images = batch * math.ceil(4000 / batch)  # training_loop.py's kimg_per_tick, which has no option
    return Contestant("StyleGAN2-ADA's code", [_python(checkout), "train.py", *words], images, TICK, checkout)


def studiogan(checkout: Path, pictures: Path, out: Path, batch: int) -> Contestant:
    """Its WGAN-GP of CIFAR-10 on these pictures, with what its README calls fast: all in memory, mixed precision."""
    recipe = out / "wgan_gp.yaml"
    sizes = f"DATA: {{name: faces, img_size: {SIZES['studiogan']}, num_classes: 1}}"
    loss = "LOSS: {adv_loss: wasserstein, apply_gp: true, gp_lambda: 10.0}"  # configs/CIFAR10/WGAN-GP.yaml
    recipe.write_text(f"{sizes}\n{loss}\nOPTIMIZATION: {{batch_size: {batch}}}\n")
    words = ["-t", "-mpc", "-hdf5", "-l", "-metrics", "none", "-cfg", recipe, "-data", pictures, "-save", out]
    words += ["--print_freq", 10, "--save_freq", 1_000_000]
    images = 10 * 5 * batch  # a step is five of the critic, each with images of its own, and one of the generator
    one = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}  # else DataParallel
    sign = r"> Step: +\d+ Progress: "
    return Contestant("StudioGAN", [_python(checkout), "src/main.py", *words], images, sign, checkout, one)


def _python(checkout: Path) -> Path:
    own = checkout / ".venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def prepared(celeba: Path, folder: Path, side: int, count: int = 10_000) -> Path:
    """Pictures as all of them read: square PNGs of their final size, a folder of folders."""
    inner = folder / "train" / "faces"
    inner.mkdir(parents=True)
    for i, file in enumerate(sorted(celeba.rglob("*.jpg"))[:count]):
        with Image.open(file) as picture:
            ImageOps.fit(picture.convert("RGB"), (side, side)).save(inner / f"{i:06}.png", compress_level=0)
    return folder


CHECKOUTS = {
    "r3gan": Checkout(
        "github.com/brownvc/R3GAN",
        "19a7ddf",
        "R3GAN's networks of FFHQ-64 on CelebA",
        (
            *("model=sngan", "model.game.prior.dim=64", "loss=relativistic", "optim=r3gan"),
            *("~model.game.generator.width", "~model.game.generator.norm", "~model.game.discriminator.width"),
            *("~model.game.discriminator.norm", "~model.game.discriminator.slope"),
            *("model.game.generator._target_=r3gan64.Generator", "data.size=64"),
            "model.game.discriminator._target_=r3gan64.Discriminator",
        ),
        r3gan,
    ),
    "stylegan2": Checkout(
        "github.com/NVlabs/stylegan2-ada-pytorch", "d72cc7d", "StyleGAN2-64 on CelebA", (), stylegan2
    ),
    "studiogan": Checkout(
        "github.com/POSTECH-CVLab/PyTorch-StudioGAN",
        "947b35e",
        "StudioGAN's WGAN-GP networks on CelebA, 32 px",
        (
            *("model=sngan", "loss=wasserstein_gp", "optim=wgan_gp", "data.size=32"),
            *(
                "~model.game.discriminator.slope",
                "model.game.generator.width=256",
                "model.game.discriminator.width=128",
            ),
            *("model.game.generator._target_=resnet32.Generator", "model.game.discriminator.norm=batch"),
            "model.game.discriminator._target_=resnet32.Discriminator",
        ),
        studiogan,
    ),
}
