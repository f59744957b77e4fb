"""Gradient penalties, against finite differences and closed forms."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.composing import FP32
from helpers.marks import slow_except
from helpers.training import built
from oakleaf.losses.penalties import GradientPenalty, input_gradient
from oakleaf.round import CriticOutput, Round


class Bowl(nn.Module):
    """A smooth critic in double precision whose input gradient differs from sample to sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 3, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def forward(self, x: Tensor) -> CriticOutput:
        return CriticOutput(self.layers(x).squeeze(1))


def images(seed: int, n: int = 4) -> Tensor:
    return torch.randn(n, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def numeric_slope(critic: nn.Module, x: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences, one value of the image at a time."""
    result = torch.zeros_like(x)
    for at in range(x[0].numel()):
        shift = torch.zeros_like(x).flatten(1)
        shift[:, at] = h
        shift = shift.view_as(x)
        result.view(len(x), -1)[:, at] = (critic(x + shift).score - critic(x - shift).score) / (2 * h)
    return result


def test_input_gradient_equals_finite_differences() -> None:
    critic, x = Bowl(), images(1)
    torch.testing.assert_close(input_gradient(critic, x), numeric_slope(critic, x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("at", ["real", "fake"])
def test_r1_and_r2_are_half_gamma_times_the_squared_norm_over_all_of_c_h_w(at: str) -> None:
    critic, real, fake = Bowl(), images(1), images(2)
    penalty = GradientPenalty(at=at, weight=0.5 * 3.0)(Round(real, fake, critic))
    numeric = numeric_slope(critic, real if at == "real" else fake)
    expected = 0.5 * 3.0 * (numeric**2).sum(dim=(1, 2, 3)).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)


def test_gradient_penalty_has_one_interpolation_weight_a_sample_and_the_norm_over_all_of_c_h_w() -> None:
    critic, real, fake = Bowl(), images(1), images(2)
    torch.manual_seed(7)
    penalty = GradientPenalty(at="between", weight=10.0, target=1.0)(Round(real, fake, critic))
    torch.manual_seed(7)
    epsilon = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    assert len(epsilon.unique()) == 4
    numeric = numeric_slope(critic, real + epsilon * (fake - real))
    expected = 10 * ((numeric.flatten(1).norm(dim=1) - 1) ** 2).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)


def test_gradient_of_the_penalty_equals_finite_differences() -> None:
    critic, real, fake = Bowl(), images(1), images(2)
    penalty = GradientPenalty(at="real", weight=1.0)
    weight = critic.layers[1].weight
    gradient = torch.autograd.grad(penalty(Round(real, fake, critic)), weight)[0][3, 5].item()
    values = []
    for shift in (1e-4, -1e-4):
        with torch.no_grad():
            weight[3, 5] += shift
        values.append((numeric_slope(critic, real) ** 2).sum(dim=(1, 2, 3)).mean().item())
        with torch.no_grad():
            weight[3, 5] -= shift
    assert gradient == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-3)


def test_a_zero_input_gradient_has_a_finite_penalty_gradient() -> None:
    critic = Bowl()
    nn.init.zeros_(critic.layers[3].weight)
    GradientPenalty(at="real", weight=1.0)(Round(images(1), images(2), critic)).backward()
    assert all(torch.isfinite(w.grad).all() for w in critic.parameters() if w.grad is not None)


def test_a_lazy_penalty_is_n_times_as_heavy() -> None:
    round = Round(images(1), images(2), Bowl())
    often, seldom = (GradientPenalty(at="real", weight=0.5, every=every)(round) for every in (1, 4))
    assert seldom.item() == pytest.approx(4 * often.item())


def test_dragan_penalises_around_the_real_images() -> None:
    penalty, real = GradientPenalty(at="around", weight=10.0, target=1.0), images(1, 64)
    away = penalty.points(Round(real, images(2, 64), Bowl())) - real
    assert (away >= 0).all()
    assert away.max() <= 0.5 * real.std()


@pytest.mark.parametrize("at", ["real", "fake"])
def test_the_input_gradient_of_a_retained_critic_pass_is_the_same(at: str) -> None:
    critic, real, fake = Bowl(), images(1), images(2)
    penalty, passes = GradientPenalty(at=at, weight=2.0), []
    gradients = []
    for prepared in (False, True):
        round = Round(real, fake, lambda x: passes.append(x) or critic(x))
        passes.clear()
        if prepared:
            penalty.prepare(round)
        loss = round.on_fake.score.mean() - round.on_real.score.mean() + penalty(round)
        gradients.append(torch.autograd.grad(loss, list(critic.parameters())))
    assert len(passes) == 2  # no third pass of the critic
    for separate, shared in zip(*gradients):
        torch.testing.assert_close(separate, shared)


JOINT = [
    (["loss=relativistic"], 1),  # R1 and R2: both input gradients are of the one pass
    (["loss=relativistic", "~loss.penalties.r2"], 2),  # R1 alone: its backward pass does not go through the fakes
    (["loss=wasserstein_gp"], 2),  # and one between them
    (["loss=hinge"], 2),  # BatchNorm
    (["loss=hinge", "loss.norm=none"], 1),
    (["model=projection"], 1),  # conditioned on a label
    (["model=toy", "data=toy", "model.game.discriminator.minibatch=4"], 2),  # sees how alike a batch's images are
    (["model=lapgan", "data.size=32", "loss=least_squares", "loss.norm=none"], 3),  # three critics
]


@pytest.mark.parametrize("choices, passes", slow_except(JOINT[:3], JOINT))
def test_real_and_fake_are_scored_in_one_pass_if_that_changes_nothing(
    tmp_path: Path, choices: list[str], passes: int
) -> None:
    module, data, *_ = built(*FP32, *choices, "data.batch_size=4", folder=tmp_path)
    data.setup()
    game, batch = module.game.eval(), data.batch(torch.arange(4))  # eval: dropout would draw others
    game.generator.requires_grad_(False)
    calls: list[object] = []
    for critic in getattr(game.discriminator, "levels", [game.discriminator]):
        critic.register_forward_hook(lambda *_: calls.append(1))
    gradients, counts = [], []
    for batched in ({}, {"discriminator": False}):  # empty: to be found out
        game.batched = dict(batched)
        torch.manual_seed(3)
        calls.clear()
        terms, _ = game.player_losses("discriminator", batch, 0)
        counts.append(len(calls))
        gradients.append(torch.autograd.grad(sum(terms.values()), list(game.discriminator.parameters())))
    assert counts[0] == passes
    for joint, separate in zip(*gradients):
        torch.testing.assert_close(joint, separate, rtol=1e-4, atol=1e-6)
