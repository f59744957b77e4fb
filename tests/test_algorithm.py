"""The training step is the papers' Algorithm 1, compared with loops written out by hand."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.data.sampling import EpochSampler
from oakleaf.gan import GAN
from oakleaf.runtime.seeds import derive_seed


def batches(data, iterations: int, size: int) -> Iterator[Tensor]:
    """Yield the images of each iteration: rows of the seed's shuffle, scaled to [-1, 1]."""
    for _, (rows, _) in zip(range(iterations), EpochSampler(1797, size, seed=0).batches(0)):
        yield data.rows["image"][rows].float() / 127.5 - 1


def largest_difference(ours: GAN, generator: torch.nn.Module, discriminator: torch.nn.Module) -> float:
    pairs = [(ours.game.generator, generator), (ours.game.discriminator, discriminator)]
    return max((a - b).abs().max().item() for m, n in pairs for a, b in zip(m.parameters(), n.parameters()))


def test_dcgan_equals_algorithm_1_of_goodfellow_with_k_1(tmp_path: Path) -> None:
    iterations, size = 12, 16
    module, data, trainer, _ = built(*FP32, *SMALL, f"max_images={iterations * size}", folder=tmp_path)
    generator, discriminator = copy.deepcopy(module.game.generator), copy.deepcopy(module.game.discriminator)
    start = copy.deepcopy(generator)
    trainer.fit(module, datamodule=data)

    for_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for iteration, real in enumerate(batches(data, iterations, size)):
        torch.manual_seed(derive_seed(0, iteration, 0))
        fake = generator(torch.rand(size, 100) * 2 - 1).detach()
        on_real, on_fake = discriminator(real).score, discriminator(fake).score
        for_d.zero_grad()
        (bce(on_real, torch.ones(size)) + bce(on_fake, torch.zeros(size))).backward()
        for_d.step()
        on_fake = discriminator(generator(torch.rand(size, 100) * 2 - 1)).score
        for_g.zero_grad()
        bce(on_fake, torch.ones(size)).backward()
        for_g.step()

    assert module.iteration == iterations
    assert largest_difference(module, generator, discriminator) < 1e-6
    assert max((a - b).abs().max() for a, b in zip(start.parameters(), generator.parameters())) > 1e-3  # it did learn


def test_unrolling_equals_metz_equation_10_written_out(tmp_path: Path) -> None:
    iterations, size, steps, rate = 3, 16, 2, 0.05
    rates = [
        f"optim.{player}.{key}"
        for player in ("discriminator", "generator")
        for key in ("lr=0.05", "optimizer.momentum=0")
    ]
    overrides = [
        "loss=minimax",
        "optim=sgd",
        *rates,
        f"optim.generator.unrolled={steps}",
        f"max_images={iterations * size}",
    ]
    module, data, trainer, _ = built(*FP32, *SMALL, *overrides, folder=tmp_path)
    start = copy.deepcopy(module.game.generator), copy.deepcopy(module.game.discriminator)
    trainer.fit(module, datamodule=data)

    def train_by_hand(through_steps: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
        generator, discriminator = copy.deepcopy(start)

        def discriminator_loss(weights: dict[str, Tensor], real: Tensor) -> Tensor:
            on_real, on_fake = (
                functional_call(discriminator, weights, (x,)).score
                for x in (real, generator(torch.rand(size, 100) * 2 - 1))
            )
            return bce(on_real, torch.ones(size)) + bce(on_fake, torch.zeros(size))

        def after(weights: dict[str, Tensor], loss: Tensor, **options: bool) -> dict[str, Tensor]:
            gradients = torch.autograd.grad(loss, list(weights.values()), **options)
            return {name: w - rate * gradient for (name, w), gradient in zip(weights.items(), gradients)}

        for iteration, real in enumerate(batches(data, iterations, size)):
            torch.manual_seed(derive_seed(0, iteration, 0))
            mine = dict(discriminator.named_parameters())
            discriminator.load_state_dict(after(mine, discriminator_loss(mine, real)), strict=False)
            ahead = dict(discriminator.named_parameters())
            for _ in range(steps):
                ahead = after(ahead, discriminator_loss(ahead, real), create_graph=True)
                ahead = ahead if through_steps else {n: w.detach().requires_grad_() for n, w in ahead.items()}
            mine = dict(generator.named_parameters())
            generator.load_state_dict(after(mine, -discriminator_loss(ahead, real)), strict=False)
        return generator, discriminator

    assert largest_difference(module, *train_by_hand(through_steps=True)) < 1e-5
    assert (
        largest_difference(module, *train_by_hand(through_steps=False)) > 0.1
    )  # the first term of equation (10) alone


def test_wgan_gp_equals_algorithm_1_of_gulrajani_with_k_5(tmp_path: Path) -> None:
    iterations, size = 15, 16
    overrides = ["loss=wasserstein_gp", "optim=wgan_gp", f"max_images={iterations * size}"]
    module, data, trainer, _ = built(*FP32, *SMALL, *overrides, folder=tmp_path)
    generator, critic = copy.deepcopy(module.game.generator), copy.deepcopy(module.game.discriminator)
    trainer.fit(module, datamodule=data)

    for_d = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))
    for_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.0, 0.9))
    updates = 0
    for iteration, real in enumerate(batches(data, iterations, size)):
        torch.manual_seed(derive_seed(0, iteration, 0))
        fake = generator(torch.rand(size, 100) * 2 - 1).detach()
        epsilon = torch.rand(size, 1, 1, 1)
        between = ((1 - epsilon) * real + epsilon * fake).requires_grad_()
        loss = critic(fake).score.mean() - critic(real).score.mean()
        gradient = torch.autograd.grad(critic(between).score.sum(), between, create_graph=True)[0]
        loss = loss + 10 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        for_d.zero_grad()
        loss.backward()
        for_d.step()
        if iteration % 5 == 4:  # after five steps of the critic, each on a fresh batch
            for_g.zero_grad()
            (-critic(generator(torch.rand(size, 100) * 2 - 1)).score.mean()).backward()
            for_g.step()
            updates += 1

    assert updates == 3
    assert largest_difference(module, generator, critic) < 1e-6


def test_only_the_player_being_updated_gets_gradients(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=32", folder=tmp_path)
    with_gradient: dict[str, set[str]] = {}
    trainable: dict[str, set[str]] = {}  # what would take part in a graph
    step, losses = module.player_step, module.game.player_losses

    def record_gradients(name, player, optimizer, batch) -> None:
        module.zero_grad()
        step(name, player, optimizer, batch)
        with_gradient[name] = {key.split(".")[0] for key, w in module.game.named_parameters() if w.grad is not None}

    def record_trainable(name, *rest):
        trainable[name] = {key.split(".")[0] for key, w in module.game.named_parameters() if w.requires_grad}
        return losses(name, *rest)

    module.player_step, module.game.player_losses = record_gradients, record_trainable  # type: ignore[method-assign]
    trainer.fit(module, datamodule=data)
    assert trainable == with_gradient == {"discriminator": {"discriminator"}, "generator": {"generator"}}
