"""Looking ahead through the critic's own steps."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import FP32, Fit, built
from oakleaf.errors import Mistake
from oakleaf.losses.constraints import WeightClipping
from oakleaf.optim import Player, total_norm
from oakleaf.unrolling import foreseen

OPTIMIZERS = [
    lambda weights: torch.optim.Adam(weights, lr=0.1, betas=(0.5, 0.9), weight_decay=0.01),
    lambda weights: torch.optim.SGD(weights, lr=0.1),
    lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.5),
    lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.3),
    lambda weights: torch.optim.RMSprop(weights, lr=0.1, alpha=0.9),
    lambda weights: torch.optim.RMSprop(weights, lr=0.1, momentum=0.5, weight_decay=0.1),
]


def paid(weights: dict[str, Tensor], outer: Tensor) -> Tensor:
    """A critic's loss that depends on an outer player's weight."""
    return (weights["a"] * outer).sin().sum() + (weights["b"] - outer.square()).square().sum()


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_foreseen_weights_are_those_that_the_optimizer_reaches(make: Callable, before: int) -> None:
    outer = torch.tensor(0.7, dtype=torch.float64)
    weights = {"a": torch.randn(3, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}
    optimizer = make(weights.values())

    player = Player(lr=0.1, optimizer=torch.optim.Adam, clip=0.5)
    bound = WeightClipping(1.5)

    def step() -> None:
        optimizer.zero_grad()
        paid(weights, outer).backward()
        gradients = [weight.grad for weight in weights.values()]
        player.clip_(gradients, total_norm(gradients))
        optimizer.step()
        bound(nn.ParameterDict({name: nn.Parameter(weight) for name, weight in weights.items()}))

    for _ in range(before):  # the look ahead starts from the optimizer's momentum
        step()
    ahead = foreseen(lambda w: paid(w, outer), weights, optimizer, 4, player.clipped, bound.bound)
    untouched = {name: weight.detach().clone() for name, weight in weights.items()}
    for name, weight in weights.items():
        assert torch.equal(weight, untouched[name])
    for _ in range(4):
        step()
    for name, weight in weights.items():
        torch.testing.assert_close(ahead[name], weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_the_gradient_goes_through_every_step(make: Callable) -> None:
    weights = {"a": torch.randn(3, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}
    optimizer = make(weights.values())

    def after(outer: Tensor) -> Tensor:
        ahead = foreseen(lambda w: paid(w, outer), weights, optimizer, 3)
        return sum(weight.square().sum() for weight in ahead.values())

    outer = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(after(outer), outer)
    by_hand = (after(outer + 1e-6) - after(outer - 1e-6)) / 2e-6
    torch.testing.assert_close(slope, by_hand, rtol=1e-6, atol=1e-8)


def test_an_unrolled_turn_moves_g_by_the_foreseen_critic_and_leaves_d_alone(tmp_path: Path, fit: Fit) -> None:
    def weights(*options: str) -> dict[str, Tensor]:
        quick = ["model=toy", "data=toy", "data.batch_size=32", "max_images=32", "optim.ema=null"]
        module, _ = fit(*quick, *options, folder=tmp_path / str(len(options)))
        return {name: weight.detach() for name, weight in module.game.named_parameters()}

    plain, ahead = weights(), weights("optim.generator.unrolled=2")
    for name, weight in plain.items():
        assert torch.equal(weight, ahead[name]) == name.startswith("discriminator"), name


@pytest.mark.parametrize(
    "options",
    [["model=dcgan", "loss=wasserstein_gp"], ["model=cgan"], ["optim=sgd"], ["model=wgan", "optim.generator.every=1"]],
)
def test_any_system_can_be_unrolled(fit: Fit, options: list[str]) -> None:
    module, _ = fit(*options, "optim.generator.unrolled=1", "data.batch_size=4", "max_images=8")
    assert all(torch.isfinite(weight).all() for weight in module.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["optim.discriminator.optimizer._target_=torch.optim.NAdam"], "and RMSprop, not for NAdam"),
        (["optim=sgd", "+optim.discriminator.optimizer.nesterov=true"], "with nesterov=true"),
    ],
)
def test_an_optimizer_without_a_rule_is_told_in_a_sentence(tmp_path: Path, options: list[str], words: str) -> None:
    module, data, trainer, _ = built(*FP32, *options, "optim.generator.unrolled=1", folder=tmp_path)
    with pytest.raises(Mistake, match=words):
        trainer.fit(module, datamodule=data)
