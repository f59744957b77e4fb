"""f-GAN: conjugates, activations and bounds against their definitions (Nowozin 2016, arXiv:1606.00709)."""

import math
from pathlib import Path

import pytest
import torch
from scipy.special import lambertw
from torch import Tensor

from helpers.composing import FP32, ROOT, composed
from helpers.training import Fit
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.losses import divergences
from oakleaf.losses.divergences import Divergence, FDivergence
from oakleaf.losses.lambert import lambert_exp
from oakleaf.losses.objectives import Saturating
from oakleaf.round import CriticOutput, Round
from oakleaf.theory.densities import Mixture, grid, integral

NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss" / "divergence").glob("*.yaml"))
ALL = [
    divergences.KullbackLeibler(),
    divergences.ReverseKullbackLeibler(),
    divergences.Pearson(),
    divergences.Neyman(),
    divergences.SquaredHellinger(),
    divergences.Jeffreys(),
    divergences.JensenShannon(),
    divergences.GAN(),
]
each = pytest.mark.parametrize("divergence", ALL, ids=lambda d: type(d).__name__)
V = torch.linspace(-4, 4, 41, dtype=torch.float64)


def derivative(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.slow
def test_every_divergence_has_a_configuration() -> None:
    nodes = [composed("loss=f_divergence", f"loss/divergence={name}", folder="x").loss.objective for name in NAMES]
    assert {type(instantiate_allowed(node).divergence) for node in nodes} == {type(divergence) for divergence in ALL}


@each
def test_the_conjugate_is_the_supremum_of_ut_minus_f(divergence: Divergence) -> None:
    u = torch.logspace(-6, 6, 200_001, dtype=torch.float64)
    for t in derivative(divergence.f, torch.logspace(-2, 2, 9, dtype=torch.float64)):  # all that occur for a ratio u
        assert divergence.conjugate(t).item() == pytest.approx(
            (u * t - divergence.f(u)).max().item(), rel=1e-6, abs=1e-6
        )


@each
def test_the_activation_rises_onto_the_domain_of_the_conjugate(divergence: Divergence) -> None:
    t = divergence.activation(V)
    assert (t.diff() > 0).all()
    assert torch.isfinite(divergence.conjugate(t)).all()
    threshold = derivative(divergence.f, torch.ones((), dtype=torch.float64))
    threshold = divergence.activation(torch.tensor(divergence.threshold, dtype=torch.float64))
    torch.testing.assert_close(threshold, threshold)


@each
def test_the_fake_loss_is_the_conjugate_of_the_activation_and_stays_finite(divergence: Divergence) -> None:
    torch.testing.assert_close(divergence.fake_loss(V), divergence.conjugate(divergence.activation(V)))
    far = torch.tensor([-1e4, -100.0, 100.0, 1e4], requires_grad=True)
    for value in (divergence.fake_loss(far), divergence.activation(far)):
        (gradient,) = torch.autograd.grad(value.sum(), far)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
        assert (gradient >= 0).all() or isinstance(divergence, divergences.Pearson)  # its f* falls for u < 0


@each
def test_at_its_optimum_the_bound_is_the_divergence(divergence: Divergence) -> None:
    p, q, x = Mixture((0.5, 0.5), (-0.5, 0.5), (0.9, 0.8)), Mixture(), grid(8001, 6.0)
    real, fake = p.log_density(x).exp(), q.log_density(x).exp()
    t = derivative(divergence.f, real / fake)  # T* = f'(p / q), section 2.2
    bound = integral(real * t - fake * divergence.conjugate(t), x)
    value = integral(fake * divergence.f(real / fake), x)
    torch.testing.assert_close(bound, value, rtol=1e-6, atol=1e-9)
    worse = integral(real * (t - 0.05) - fake * divergence.conjugate(t - 0.05), x)
    assert worse < bound


@each
def test_the_objective_is_the_bound_and_its_generators_are_equations_4_and_section_3_2(divergence: Divergence) -> None:
    real, fake = torch.tensor([0.7, -0.2, 0.4]), torch.tensor([-0.6, 0.1, 0.3])
    round = Round(real, fake, CriticOutput)
    t = divergence.activation
    bound = t(real).mean() - divergence.conjugate(t(fake)).mean()
    saturating, alternative = FDivergence(divergence, "saturating"), FDivergence(divergence)
    torch.testing.assert_close(saturating.discriminator(round), -bound)
    torch.testing.assert_close(saturating.generator(round), -divergence.conjugate(t(fake)).mean())
    torch.testing.assert_close(alternative.generator(round), -t(fake).mean())
    assert saturating.decision_threshold(round) == divergence.threshold


def test_with_goodfellows_f_it_is_the_minimax_game() -> None:
    round = Round(torch.randn(50), torch.randn(50), CriticOutput)
    ours, minimax = FDivergence(divergences.GAN(), "saturating"), Saturating()
    torch.testing.assert_close(ours.discriminator(round), minimax.discriminator(round))
    torch.testing.assert_close(ours.generator(round), minimax.generator(round))
    shifted = FDivergence(divergences.JensenShannon(), "saturating").discriminator(round)
    torch.testing.assert_close(shifted, minimax.discriminator(round) - math.log(4))


def test_closed_forms_between_gaussians() -> None:
    x = grid()
    p, q = Mixture(means=(0.3,)).log_density(x), Mixture().log_density(x)  # equal variances, 0.3 apart
    expected = {
        divergences.KullbackLeibler: 0.045,
        divergences.ReverseKullbackLeibler: 0.045,
        divergences.Jeffreys: 0.09,
        divergences.Pearson: math.exp(0.09) - 1,
        divergences.Neyman: math.exp(0.09) - 1,
        divergences.SquaredHellinger: 2 - 2 * math.exp(-0.09 / 8),
    }
    for kind, value in expected.items():
        assert integral(q.exp() * kind().f((p - q).exp()), x).item() == pytest.approx(value, rel=1e-6)


def test_lambert_w_against_scipy_with_two_derivatives() -> None:
    y = torch.linspace(-30, 300, 331, dtype=torch.float64)
    expected = torch.from_numpy(lambertw(y.exp().numpy()).real)
    torch.testing.assert_close(lambert_exp(y), expected, rtol=1e-12, atol=0.0)
    assert lambert_exp(torch.tensor(1e5)).item() == pytest.approx(1e5 - math.log(1e5 - math.log(1e5)), rel=1e-6)
    near = torch.linspace(-3, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambert_exp, near)
    assert torch.autograd.gradgradcheck(lambert_exp, near)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("generator", ["saturating", "alternative"])
@pytest.mark.slow
def test_every_divergence_trains(fit: Fit, tmp_path: Path, name: str, generator: str) -> None:
    small = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=16", "max_images=160"]
    module, _ = fit(
        *FP32, "loss=f_divergence", f"loss/divergence={name}", f"loss.objective.generator={generator}", *small
    )
    assert module.iteration == 10
    assert all(torch.isfinite(w).all() for w in module.parameters())
