"""Objectives against their formulas, and the options that a loss carries."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from oakleaf.augment.noise import Noise
from oakleaf.losses import objectives
from oakleaf.losses.constraints import WeightClipping
from oakleaf.round import CriticOutput, Round

REAL, FAKE = torch.tensor([2.0, -0.5, 0.3]), torch.tensor([-1.0, 0.7, 0.1])


def round_of(real: Tensor = REAL, fake: Tensor = FAKE) -> Round:
    """A round whose scores are the images themselves."""
    return Round(real, fake, CriticOutput)


def test_saturating_is_the_minimax_value_with_both_signs() -> None:
    loss = objectives.Saturating()
    value = torch.log(REAL.sigmoid()).mean() + torch.log(1 - FAKE.sigmoid()).mean()  # V(D, G), eq. (1)
    assert loss.discriminator(round_of()).item() == pytest.approx(-value.item(), rel=1e-6)
    assert loss.generator(round_of()).item() == pytest.approx(torch.log(1 - FAKE.sigmoid()).mean().item(), rel=1e-6)


def test_non_saturating_and_one_sided_smoothing_are_cross_entropies() -> None:
    loss = objectives.NonSaturating(smoothing=0.1)
    expected = bce(REAL, torch.full((3,), 0.9)) + bce(FAKE, torch.zeros(3))  # fake targets stay 0
    assert loss.discriminator(round_of()).item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.generator(round_of()).item() == pytest.approx(bce(FAKE, torch.ones(3)).item(), rel=1e-6)


def test_at_the_optimum_of_equal_densities_the_value_is_minus_log_4() -> None:
    threshold = round_of(torch.zeros(5), torch.zeros(5))
    assert -objectives.Saturating().discriminator(threshold).item() == pytest.approx(-math.log(4), rel=1e-6)


def test_least_squares_hinge_wasserstein_and_relativistic_by_hand() -> None:
    squares = objectives.LeastSquares(-1.0, 1.0, 0.0)
    assert squares.discriminator(round_of()).item() == pytest.approx(
        (((REAL - 1) ** 2).mean() / 2 + ((FAKE + 1) ** 2).mean() / 2).item(), rel=1e-6
    )
    assert squares.generator(round_of()).item() == pytest.approx(((FAKE**2).mean() / 2).item(), rel=1e-6)
    assert objectives.Hinge().discriminator(round_of()).item() == pytest.approx(
        (0 + 1.5 + 0.7) / 3 + (0 + 1.7 + 1.1) / 3
    )
    assert objectives.Wasserstein().discriminator(round_of()).item() == pytest.approx(
        (FAKE.mean() - REAL.mean()).item()
    )
    pairs = torch.log1p(torch.exp(-(REAL - FAKE))).mean()  # each real image against one fake one
    assert objectives.Relativistic().discriminator(round_of()).item() == pytest.approx(pairs.item(), rel=1e-6)
    swapped = torch.log1p(torch.exp(-(FAKE - REAL))).mean()
    assert objectives.Relativistic().generator(round_of()).item() == pytest.approx(swapped.item(), rel=1e-6)


def test_critic_outputs_are_computed_only_if_the_loss_uses_them() -> None:
    inputs: list[Tensor] = []

    def critic(x: Tensor) -> CriticOutput:
        inputs.append(x)
        return CriticOutput(x)

    round = Round(REAL, FAKE, critic)
    objectives.Hinge().generator(round)
    objectives.Hinge().generator(round)
    assert len(inputs) == 1
    assert inputs[0] is FAKE


def test_clipping_keeps_every_weight_within_its_limit() -> None:
    critic = nn.Linear(4, 3)
    nn.init.normal_(critic.weight, std=5)
    WeightClipping(0.01)(critic)
    assert all(w.abs().max() <= 0.01 for w in critic.parameters())


def test_instance_noise_falls_to_zero_and_is_drawn_anew_for_each_critic_pass() -> None:
    noise = Noise(sd=0.4, images=1000)
    assert [noise.sd_at(images) for images in (0, 500, 1000, 5000)] == pytest.approx([0.4, 0.2, 0.0, 0.0])
    torch.manual_seed(0)
    noise.prepare(500)
    round = round_of(torch.zeros(20_000), torch.zeros(20_000))
    round.critic = round.critic.changed(augment=noise)
    assert round.on_real.score.std().item() == pytest.approx(0.2, rel=0.03)
    assert not torch.equal(round.on_real.score, round.on_fake.score)
