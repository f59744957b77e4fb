"""The same step without a framework: python bare.py DATA TURNS COMPILE OVERRIDE ...

The networks and optimizers of a recipe, its objective and penalties written out by hand below, channels last, the
device's best precision, fused Adam, no gradient for the idle player's weights, nothing read from the device.
DATA = random: one batch of noise that lies on the device, the bare limit. DATA = real: bytes on the device as networks
read them, gathered, mirrored and normalised there, and the average of G: what a careful person writes for one system.
COMPILE: a player's cost as one graph, true, cuda_graphs or false, as of `train.py`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from beat import beat
from torch import Tensor, nn
from torch.nn.functional import softplus

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.round import is_per_sample
from oakleaf.runtime.precision import best_precision

Cost = Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]


def output_and_input_gradient(D: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the squared norm of each one's gradient, [B], in one pass."""
    if torch.compiler.is_compiling():

        def scored(x: Tensor) -> tuple[Tensor, Tensor]:
            score = D(x).score
            return score.sum(), score

        gradient, score = torch.func.grad(scored, has_aux=True)(x.detach())
    else:
        x = x.detach().requires_grad_()
        score = D(x).score
        (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return score, gradient.flatten(1).float().square().sum(1)


def both(D: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of both, in one pass where there is no BatchNorm."""
    if is_per_sample(D):
        on_real, on_fake = D(torch.cat([real, fake])).score.chunk(2)
        return on_real, on_fake
    return D(real).score, D(fake).score


def dcgan_d(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    on_real, on_fake = both(D, real, G(z))
    return softplus(-on_real).mean() + softplus(on_fake).mean()


def dcgan_g(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    return softplus(-D(G(z)).score).mean()


def wgan_gp_d(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    fake = G(z)
    between = torch.lerp(real, fake.to(real.dtype), torch.rand(len(real), 1, 1, 1, device=real.device))
    penalty = (output_and_input_gradient(D, between)[1].sqrt() - 1).square().mean()
    on_real, on_fake = both(D, real, fake)
    return on_fake.mean() - on_real.mean() + 10 * penalty


def wgan_gp_g(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    return -D(G(z)).score.mean()


def r3gan_d(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    score, steepness = output_and_input_gradient(D, torch.cat([real, G(z)]))
    on_real, on_fake = score.chunk(2)
    penalty = steepness.mean() * 2  # R1 and R2, each a mean of its half
    return softplus(on_fake - on_real).mean() + penalty * 0.5


def r3gan_g(G: nn.Module, D: nn.Module, real: Tensor, z: Tensor) -> Tensor:
    return softplus(D(real).score - D(G(z)).score).mean()


BY_HAND: dict[str, tuple[Cost, Cost]] = {
    "non_saturating": (dcgan_d, dcgan_g),
    "wasserstein_gp": (wgan_gp_d, wgan_gp_g),
    "relativistic": (r3gan_d, r3gan_g),
}


def batches(kind: str, data: Any, device: torch.device, flip: bool) -> Iterator[Tensor]:
    shape = (data.batch_size, data.channels, *data.size)
    layout = torch.channels_last
    while kind == "random":
        noise = torch.rand(shape, device=device).mul_(2).sub_(1).contiguous(memory_format=layout)
        while True:
            yield noise
    data.prepare_data()
    data.setup()
    images = data.rows["image"].to(device).permute(0, 2, 3, 1).contiguous()  # whole images are copied, not pixels
    while True:
        for rows in torch.randperm(len(images), device=device).split(data.batch_size):
            if len(rows) == data.batch_size:
                batch = images[rows]
                if flip:
                    mirrored = torch.rand(len(rows), 1, 1, 1, device=device) < 0.5
                    batch = torch.where(mirrored, batch.flip(2), batch)
                yield batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def main() -> None:
    kind, iterations, word = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    module, data, recipe = build(compose_config("train", [*sys.argv[4:], "folder=."]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    if device.type == "cpu":  # what Lightning sets as it is imported: each step would open the GPU driver's library
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    G, D, prior = module.game.generator, module.game.discriminator, module.game.prior
    step_d, step_g = (player.build(module.network(name)) for name, player in module.players.items())
    cost_d, cost_g = BY_HAND[recipe["loss"]["name"]]
    replayed = word == "cuda_graphs"
    if word in ("true", "cuda_graphs"):
        graph = partial(torch.compile, fullgraph=True, dynamic=False, options={"triton.cudagraphs": replayed})
        cost_d, cost_g = graph(cost_d), graph(cost_g)
    torch.backends.cudnn.benchmark = True
    half = best_precision("auto") == "bf16-mixed"
    every = module.players["generator"].every

    def play(cost: Cost, optimizer: Any, mine: list[Tensor], other: list[Tensor], real: Tensor) -> None:
        for weight in other:
            weight.requires_grad_(False)
        for weight in mine:
            weight.requires_grad_(True)
        z = prior(len(real), device)  # type: ignore[operator]
        if replayed:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = cost(G, D, real, z)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward(inputs=mine)
        optimizer.step()

    weights_g, weights_d = module.weights["generator"], module.weights["discriminator"]
    images = 0
    for iteration, real in enumerate(batches(kind, data, device, bool(recipe["data"].get("flip"))), start=1):
        play(cost_d, step_d, weights_d, weights_g, real)
        images += len(real)
        if iteration % every == 0:
            play(cost_g, step_g, weights_g, weights_d, real)
            if kind == "real" and module.generator_ema:
                module.generator_ema.update(G, images, every * len(real))  # type: ignore[arg-type]
        if iteration % iterations == 0:
            beat()


if __name__ == "__main__":
    main()
