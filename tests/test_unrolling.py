"""Looking ahead through the critic's own steps."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.composing import FP32
from helpers.training import Fit, built
from oakleaf.errors import UserError
from oakleaf.losses.constraints import WeightClipping
from oakleaf.optim.player import Player, total_norm
from oakleaf.optim.unrolled import unrolled_weights

OPTIMIZERS = [
    lambda weights: torch.optim.Adam(weights, lr=0.1, betas=(0.5, 0.9), weight_decay=0.01),
    lambda weights: torch.optim.SGD(weights, lr=0.1),
    lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.5),
    lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.3),
    lambda weights: torch.optim.RMSprop(weights, lr=0.1, alpha=0.9),
    lambda weights: torch.optim.RMSprop(weights, lr=0.1, momentum=0.5, weight_decay=0.1),
]


def quadratic_loss(weights: dict[str, Tensor], outer: Tensor) -> Tensor:
    """A critic's loss that depends on an outer player's weight."""
    return (weights["a"] * outer).sin().sum() + (weights["b"] - outer.square()).square().sum()


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_unrolled_weights_equal_those_of_the_optimizer(make: Callable, before: int) -> None:
    outer = torch.tensor(0.7, dtype=torch.float64)
    weights = {"a": torch.randn(3, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}
    optimizer = make(weights.values())

    player = Player(lr=0.1, role="critic", optimizer=torch.optim.Adam, clip=0.5)
    bound = WeightClipping(1.5)

    def step() -> None:
        optimizer.zero_grad()
        quadratic_loss(weights, outer).backward()
        gradients = [weight.grad for weight in weights.values()]
        player.clip_(gradients, total_norm(gradients))
        optimizer.step()
        bound(nn.ParameterDict({name: nn.Parameter(weight) for name, weight in weights.items()}))

    for _ in range(before):  # the look ahead starts from the optimizer's momentum
        step()
    ahead = unrolled_weights(lambda w: quadratic_loss(w, outer), weights, optimizer, 4, player.clipped, bound.project)
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
        ahead = unrolled_weights(lambda w: quadratic_loss(w, outer), weights, optimizer, 3)
        return sum(weight.square().sum() for weight in ahead.values())

    outer = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(after(outer), outer)
    by_hand = (after(outer + 1e-6) - after(outer - 1e-6)) / 2e-6
    torch.testing.assert_close(gradient, by_hand, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_an_unrolled_step_updates_g_by_the_unrolled_critic_and_leaves_d_unchanged(tmp_path: Path, fit: Fit) -> None:
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
@pytest.mark.slow
def test_any_system_can_be_unrolled(fit: Fit, options: list[str]) -> None:
    module, _ = fit(*options, "optim.generator.unrolled=1", "data.batch_size=4", "max_images=8")
    assert all(torch.isfinite(weight).all() for weight in module.parameters())


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_unrolled_weights_depend_on_g_through_the_penalties_too(fit: Fit, loss: str) -> None:
    quick = ["model=toy", f"loss={loss}", "optim=sgd", "optim.ema=null", "model.game.discriminator.waves=0"]
    widths = [f"model.game.{player}.hidden=[8]" for player in ("generator", "discriminator")]
    module, trainer = fit(*quick, *widths, "data=toy", "data.batch_size=8", "max_images=8")
    batch, weight = next(iter(trainer.train_dataloader)), next(module.game.generator.parameters())
    module.double().requires_grad_()
    batch = {name: rows.double() if rows.is_floating_point() else rows for name, rows in batch.items()}

    def after() -> Tensor:
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)  # of latents
        try:
            return torch.stack([ahead.square().sum() for ahead in module._unrolled_weights(2, batch).values()]).sum()
        finally:
            torch.set_default_dtype(torch.float32)

    (gradient,) = torch.autograd.grad(after(), weight)
    way = torch.randn_like(weight)
    sides = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            weight += step * way
        sides.append(after().item())
        with torch.no_grad():
            weight -= step * way
    assert (gradient * way).sum().item() == pytest.approx((sides[0] - sides[1]) / 2e-4, rel=1e-2)


def test_unrolled_steps_are_not_compiled(fit: Fit) -> None:
    module, trainer = fit("model=toy", "data=toy", "data.batch_size=8", "max_images=8")
    graphs = dict.fromkeys(module.players, lambda *_: pytest.fail("a graph has no second way back"))
    module.game.compiled = graphs
    module._unrolled_weights(1, next(iter(trainer.train_dataloader)))
    assert module.game.compiled is graphs


def test_nobody_foresees_its_own_steps(fit: Fit) -> None:
    with pytest.raises(UserError, match="only another player can unroll a critic's steps"):
        fit("model=toy", "data=toy", "+optim.discriminator.unrolled=1", "max_images=8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["optim.discriminator.optimizer._target_=torch.optim.NAdam"], "and RMSprop, not for NAdam"),
        (["optim=sgd", "+optim.discriminator.optimizer.nesterov=true"], "with nesterov=true"),
    ],
)
def test_an_optimizer_that_cannot_be_unrolled_is_refused(tmp_path: Path, options: list[str], words: str) -> None:
    module, data, trainer, _ = built(*FP32, *options, "optim.generator.unrolled=1", folder=tmp_path)
    with pytest.raises(UserError, match=words):
        trainer.fit(module, datamodule=data)
