"""Composites whose truth is known: python benchmarks/blending.py FOLDER [--count 40] [--size 128] [--checkpoint RUN].

Each photograph is the target and the truth; the source is the same photograph with the global change of colours of
data/input=pasted, and the mask is an irregular blob. A method should give the object the target's colours back. Printed
for each method, means over the photographs with their standard errors, all for values in [0, 1]:

- inside: mean absolute difference to the truth inside the mask;
- bleeding: the same outside, more than 8 px from the mask;
- seam: mean absolute difference of the gradients to the truth's in the ring of 3 px round the border;
- sharpness: energy of the gradients inside, relative to the truth's;
- PSNR of the whole picture in dB.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from oakleaf.data.inputs import Pasted
from oakleaf.data.listing import list_pictures
from oakleaf.sampling.blending import feathered, gradients
from oakleaf.sampling.composite import METHODS, Compositor, Layers, Network
from oakleaf.sampling.pictures import read_pictures

NEAR, RING = 8, 3  # pixels


def blob(size: int, generator: torch.Generator) -> Tensor:
    """Return an irregular mask [size, size] of about a quarter of the picture, away from its border."""
    noise = feathered(torch.rand(size, size, generator=generator), size / 10)
    places = torch.linspace(-1, 1, size)
    height = noise / noise.std() * 0.15 - (places[:, None] ** 2 + places**2)
    mask = (height > height.flatten().quantile(0.75)).float()
    mask[:4], mask[-4:], mask[:, :4], mask[:, -4:] = 0, 0, 0, 0
    return mask


def grown(mask: Tensor, pixels: int) -> Tensor:
    """Return a mask [H, W] that is larger by a number of pixels on each side."""
    return max_pool2d(mask[None, None], 2 * pixels + 1, 1, pixels)[0, 0]


def scores(found: Tensor, truth: Tensor, mask: Tensor) -> list[float]:
    """Return the numbers of one composite, in the order of the module's list."""
    inside, far = mask > 0, grown(mask, NEAR) == 0
    ring = (grown(mask, RING) - (1 - grown(1 - mask, RING))) > 0
    error = (found - truth).abs().mean(0)
    slopes, true = gradients(found), gradients(truth)
    seams = [(a - b).abs().mean(0)[r] for a, b, r in zip(slopes, true, (ring[1:], ring[:, 1:]))]
    energy = [
        sum(float(part[:, area].square().sum()) for part, area in zip(of, (inside[1:], inside[:, 1:])))
        for of in (slopes, true)
    ]
    psnr = -10 * math.log10(max(1e-10, float((found - truth).square().mean())))
    inner, outer, seam = (float(one.mean()) for one in (error[inside], error[far], torch.cat(seams)))
    return [inner, outer, seam, energy[0] / energy[1], psnr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--beta", type=float, nargs="*", default=[0.01, 0.1, 1.0])
    parser.add_argument("--checkpoint")
    chosen = parser.parse_args()
    data = {"size": chosen.size, "channels": 3, "crop": "center", "resample": "bilinear"}
    files = list_pictures(chosen.folder, "folder").files
    files = files[:: max(1, len(files) // chosen.count)][: chosen.count]
    network = Network(chosen.checkpoint) if chosen.checkpoint else None
    methods = {name: Compositor(name) for name in METHODS if name not in ("gp_gan", "gaussian_poisson")}
    for beta in chosen.beta:
        methods[f"gaussian_poisson, beta {beta:g}"] = Compositor("gaussian_poisson", beta=beta)
        if network is not None:
            methods[f"gp_gan, beta {beta:g}"] = Compositor("gp_gan", beta=beta, network=network)
    generator, found = torch.Generator().manual_seed(0), {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for file in files:
        truth = (read_pictures(str(file), data).images[0] + 1) / 2
        mask = blob(chosen.size, generator)
        source = (Pasted().recoloured(2 * truth[None] - 1, generator)[0] + 1) / 2
        for name, method in methods.items():
            start = time.process_time()
            composite = method(Layers(source, truth, mask))
            seconds[name] += time.process_time() - start
            found[name].append(scores(composite, truth, mask))
    print(f"{len(files)} photographs of {chosen.size} px")
    print("| method | inside | bleeding | seam | sharpness | PSNR | ms |\n|---|---|---|---|---|---|---|")
    for name, rows in found.items():
        values = torch.tensor(rows)
        errors = values.std(0) / math.sqrt(len(rows))
        cells = [f"{a:.4f} +- {b:.4f}" for a, b in zip(values.mean(0).tolist(), errors.tolist())]
        cells[-1] = f"{values[:, -1].mean():.1f} +- {errors[-1]:.1f}"
        print(f"| {name} | {' | '.join(cells)} | {1000 * seconds[name] / len(rows):.0f} |")


if __name__ == "__main__":
    main()
