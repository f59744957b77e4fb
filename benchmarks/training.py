"""Training, in images per second: python benchmarks/training.py [--recipe dcgan wgan_gp r1_r2] [--rounds 7]

Each recipe, on CelebA's JPEGs: Oakleaf beside the same step by hand on noise (the bare limit), compiled or not by the
same word; where it is compiled, beside itself without. DCGAN also beside the loop that everybody starts from. And each
checkout of a public repository that is named, beside Oakleaf with the same networks and batch (`checkouts.py`).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from checkouts import CHECKOUTS, SIZES, prepared
from contest import HERE, Contestant, compared, race, record

CONTESTANTS = HERE / "contestants"
RESNET = [  # `contestants/resnet32.py`, in the places of SNGAN's networks
    *["model=sngan", "~model.game.discriminator.slope", "data.size=32"],
    *["model.game.generator._target_=resnet32.Generator", "model.game.discriminator._target_=resnet32.Discriminator"],
    *["model.game.generator.width=128", "model.game.discriminator.width=128", "model.game.discriminator.norm=none"],
]
RECIPES = {
    "dcgan": ("DCGAN-64 on CelebA", ["model=dcgan"]),
    "wgan_gp": ("WGAN-GP, ResNet-32 on CelebA", [*RESNET, "loss=wasserstein_gp", "optim=wgan_gp"]),
    "r1_r2": ("RpGAN + R1 + R2, DCGAN-64 on CelebA", ["model=dcgan", "loss=relativistic", "optim=r3gan"]),
}
GPU = torch.cuda.is_available()
BATCH, TURNS, WORD = (128, 50, "true") if GPU else (64, 1, "false")  # on a CPU graphs were slower
TRUST = {"OAKLEAF_TRUST": "resnet32,r3gan64"}  # networks of `contestants/`


def framework(name: str, recipe: list[str], batch: int, iterations: int, word: str) -> Contestant:
    words = [*recipe, f"data.batch_size={batch}", "logger=csv", "max_images=1000000000", f"compile={word}"]
    words += ["trainer=gpu"] if GPU else []
    command = [sys.executable, CONTESTANTS / "framework.py", iterations, *words]
    return Contestant(name, command, iterations * batch, environment=TRUST)


def limit(recipe: list[str], batch: int, iterations: int, word: str) -> Contestant:
    words = ["random", iterations, word, *recipe, f"data.batch_size={batch}", "logger=csv"]
    command = [sys.executable, CONTESTANTS / "bare.py", *words]
    return Contestant("limit", command, iterations * batch, environment=TRUST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", nargs="*", choices=RECIPES, help="on a GPU all of them, on a CPU dcgan")
    parser.add_argument("--celeba", type=Path, default=Path("data/celeba"), help="the folder of img_align_celeba/")
    parser.add_argument("--examples", type=Path, help="a checkout of github.com/pytorch/examples, beside dcgan")
    for name, checkout in CHECKOUTS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"a checkout of {checkout.address}")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--turns", type=int, default=TURNS, help="turns between two signs of life")
    parser.add_argument("--compile", default=WORD, choices=["true", "cuda_graphs", "false"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    a = parser.parse_args()
    how = a.batch, a.iterations, a.compile
    compiled = "" if a.compile == "false" else f", compile={a.compile}"
    data = ["data=celeba", f"data.root={a.celeba.resolve()}"]
    for name in (RECIPES if GPU else ["dcgan"]) if a.recipe is None else a.recipe:
        title, words = RECIPES[name]
        recipe = [*words, *data]
        field = [framework("oakleaf", recipe, *how), limit(recipe, *how)]
        if a.compile != "false":
            field.append(framework("oakleaf, eager", recipe, a.batch, a.iterations, "false"))
        if name == "dcgan":
            field += starting(a.celeba.resolve(), a.batch, a.examples)
        rates = race(field, a.rounds, a.seconds)
        record(
            f"training {name} batch {a.batch}{compiled}",
            f"{title}, batch {a.batch}{compiled}",
            compared(rates, "oakleaf"),
        )
    for name, checkout in CHECKOUTS.items():
        if not (folder := getattr(a, name)):
            continue
        with tempfile.TemporaryDirectory() as out:
            pictures = prepared(a.celeba.resolve(), Path(out) / "pictures", SIZES[name])
            field = [checkout.contestant(folder.resolve(), pictures, Path(out), a.batch)]
            ours = [framework("oakleaf", [*checkout.recipe, *data], *how)] if checkout.recipe else []
            rates = race([*ours, *field], a.rounds, a.seconds)
        ahead = "oakleaf" if ours else field[0].name
        title = f"{checkout.title}, batch {a.batch}{compiled}"
        record(f"training {name} batch {a.batch}{compiled}", title, compared(rates, ahead))


def starting(celeba: Path, batch: int, examples: Path | None) -> list[Contestant]:
    """The loop that everybody starts from, and pytorch/examples' own."""
    field = [Contestant("tutorial", [sys.executable, CONTESTANTS / "tutorial.py", celeba, batch], batch)]
    if examples:
        script = examples.resolve() / "dcgan" / "main.py"
        words = ["--dataset", "folder", "--dataroot", celeba, "--batchSize", batch, "--workers", 2, "--outf", "/tmp"]
        words += ["--niter", 1000, "--accel"]
        sign = r"^\[\d+/\d+\]\[\d+/\d+\]"
        field.append(Contestant("pytorch/examples", [sys.executable, script, *words], batch, sign=sign))
    return field


if __name__ == "__main__":
    main()
