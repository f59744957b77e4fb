"""How well a generator's latents are found: known ones, and those of held-out pictures.

    python benchmarks/inversion.py RUN [INVERTER] [--pictures 64] [--steps 300] [--out OUT]

RUN is a run whose latents are inverted; INVERTER, if given, a run of model=inverter for it. Compared are the best of
1,000 random latents, the encoder alone, and optimisation (Adam, L-BFGS) from the mean of the prior, from the best
random latent and from the encoder. Measured are

- known latents z: the correlation of the z that is found with the true one, and the PSNR of its image;
- held-out pictures (the test split, or the last of the set where there is none): PSNR in dB, and the distance in the
  features of a classifier of the data, divided by that of two random pictures; for faces with persons the cosine of an
  identity network.

A row of pictures of each way is drawn into OUT/inversion.png. With the defaults 20 to 40 min on one thread for a DCGAN
of 64 px at a quarter of its width.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import oakleaf
from oakleaf.cli.real_data import real_data
from oakleaf.figures.grid import Layout, Panel, draw_grid
from oakleaf.frozen import Trained
from oakleaf.frozen.classifier import Training
from oakleaf.image_grid import from_bytes
from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint
from oakleaf.sampling.inversion import LBFGS, Adam, Distances, Domain, best_of, invert
from oakleaf.sampling.latents import seeded_inputs

Latents = Callable[[Tensor], Tensor]


class Bench:
    """A generator without condition, its prior, and the ways in which it is inverted.

    Args:
        run: of the generator.
        inverter: of an encoder, or None.
        steps: of the optimisation.
    """

    def __init__(self, run: oakleaf.Run, inverter: oakleaf.Run | None, steps: int) -> None:
        self.run, self.inverter, self.steps = run, inverter, steps
        self.draws = seeded_inputs(run.module.game, 10_000, 12345, with_condition=False)["latent"]
        self.domain, self.distances = Domain.of(self.draws), Distances()

    def generate(self, z: Tensor, _: Any = None) -> Tensor:
        with self.run.module.ema_scope() as game, torch.set_grad_enabled(z.requires_grad):
            return game.generate({"latent": z}).float()  # type: ignore[no-any-return]

    def distance(self, z: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        return self.distances(z, images, targets, self.domain, {})

    def encode(self, x: Tensor) -> Tensor:
        assert self.inverter is not None
        with self.inverter.module.ema_scope() as game:
            return self.domain.clamp(game.encode(x).float())

    def optimised(self, start: Latents, method: Any) -> Latents:
        def find(x: Tensor) -> Tensor:
            seeds = list(range(len(x)))
            return invert(self.generate, x, start(x), self.domain, self.distance, method, seeds).latents

        return find

    def ways(self) -> dict[str, Latents]:
        """Return how latents are found, by name."""
        adam, lbfgs = Adam(steps=self.steps), LBFGS(steps=max(1, self.steps // 4))

        def mean(x: Tensor) -> Tensor:
            return self.domain.mean.expand(len(x), -1).clone()

        def best(x: Tensor) -> Tensor:
            return best_of(self.generate, x, self.draws[:1000], self.distance)

        found = {
            "mean of the prior": mean,
            "best of 1,000 random latents": best,
            "Adam from the mean": self.optimised(mean, adam),
            "Adam from the best of 1,000": self.optimised(best, adam),
            "L-BFGS from the mean": self.optimised(mean, lbfgs),
            "L-BFGS from the best of 1,000": self.optimised(best, lbfgs),
        }
        if self.inverter is not None:
            found["encoder"] = self.encode
            found["Adam from the encoder"] = self.optimised(self.encode, adam)
            found["L-BFGS from the encoder"] = self.optimised(self.encode, lbfgs)
        return found


def psnr(images: Tensor, targets: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of images in [-1, 1]."""
    squared = (images - targets).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / squared.clamp(min=1e-10))).mean())


def held_out(place: str, count: int) -> tuple[Tensor, Any]:
    """Return pictures [count, C, H, W] that the run was not trained on, if its set has a test split, and the data."""
    content = read_checkpoint(place)
    found = real_data(content, None, None)
    data = found.test() if found.test is not None else found.data
    if found.test is None:
        print("no test split: the last pictures of the set, which the run was trained on")
    return from_bytes(data.images(torch.arange(data.count - count, data.count))).float(), found.data


def judges(data: Any, images: int) -> dict[str, Any]:
    """Return frozen networks trained on the data, by what they recognise."""
    found = {}
    for task in ("label", "attributes", "identity"):
        if task in data.columns:
            outputs = 0 if task == "identity" else len(data.classes)
            network = Trained(task, data.channels, list(data.size), outputs, Training(images=images), seed=2)
            network.initialize(data)
            found[task] = network
    return found


def measure(bench: Bench, pictures: Tensor, networks: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return a row of numbers for each way, and the images that it makes of the pictures."""
    known = seeded_inputs(bench.run.module.game, len(pictures), 777, with_condition=False)["latent"]
    samples, rows, shown = bench.generate(known), [], {"picture": pictures}
    for name, find in bench.ways().items():
        began = time.process_time()
        z, other = find(samples), find(pictures)
        seconds = (time.process_time() - began) / (2 * len(pictures))
        images = shown[name] = bench.generate(other)
        pairs = torch.stack([z.flatten() - z.mean(), known.flatten() - known.mean()])
        row = {
            "way": name,
            "r of z": float(torch.corrcoef(pairs)[0, 1]),
            "PSNR of samples": psnr(bench.generate(z), samples),
        }
        row |= {"PSNR of pictures": psnr(images, pictures)}
        for task, network in networks.items():
            with torch.no_grad():
                one, there = network(images).embedding, network(pictures).embedding
            if task == "identity":
                row["cosine of identity"] = float(cosine_similarity(one, there).mean())
            else:
                random = (there - there.roll(1, 0)).norm(dim=1).mean()
                row[f"distance by {task}"] = float((one - there).norm(dim=1).mean() / random)
        rows.append({**row, "seconds a picture": seconds})
        print(
            {key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True
        )
    return rows, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("inverter", nargs="?")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--judge-images", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("inversion"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(oakleaf.load(options.run), options.inverter and oakleaf.load(options.inverter), options.steps)
    pictures, data = held_out(str(checkpoint_path(options.run)), options.pictures)
    rows, shown = measure(bench, pictures, judges(data, options.judge_images))
    (options.out / "inversion.json").write_text(json.dumps(rows, indent=1))
    columns = list(rows[0])
    print("\n".join([f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]))
    for row in rows:
        print(f"| {' | '.join(f'{v:.3g}' if isinstance(v, float) else v for v in row.values())} |")
    few = torch.stack([images[:8] for images in shown.values()], 1).flatten(0, 1)
    panel = Panel(columns=len(shown), column_names=list(shown))
    draw_grid(few, Layout((panel,), "held-out pictures and their projections")).save(options.out / "inversion.png")


if __name__ == "__main__":
    main()
