"""The baselines without an adversary: likelihoods equal closed forms, densities are those of the codes."""

import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily, Normal, kl_divergence

from helpers.composing import FP32, choices, composed
from helpers.marks import slow_except
from helpers.training import Fit
from oakleaf.builder.load import load
from oakleaf.config.validate import validate
from oakleaf.errors import UserError
from oakleaf.losses.likelihood import CodeDivergence, GaussianError, NegativeLogLikelihood, SquaredError
from oakleaf.metrics.modes import count_modes
from oakleaf.networks.autoencoder import AutoEncoder, Encoder
from oakleaf.networks.dcgan import Generator
from oakleaf.networks.density import CodeDensity, fit, log_joint
from oakleaf.networks.kmeans import kmeans, select_component
from oakleaf.networks.mixture import FactorAnalysers
from oakleaf.round import CriticOutput, Round

MODELS = ["autoencoder", "vae", "gmm"]
NARROW = {
    "autoencoder": ["model.game.generator.encoder.width=4", "model.game.generator.decoder.width=4"],
    "vae": ["model.game.generator.encoder.width=4", "model.game.generator.decoder.width=4"],
    "gmm": ["model.game.generator.components=4"],
}
NO_SHEETS = "callbacks.samples=null"


def round_of(x: torch.Tensor, fake: torch.Tensor | None = None, **inputs: torch.Tensor) -> Round:
    return Round(x, x if fake is None else fake, lambda x: CriticOutput(x.flatten(1).sum(1)), fake_inputs=inputs)


def analysers(components: int = 3, factors: int = 2, **more) -> FactorAnalysers:
    torch.manual_seed(1)
    mixture = FactorAnalysers(1, (2, 3), components, factors, **more)
    with torch.no_grad():
        mixture.logit.normal_()
        mixture.factors.normal_()
        mixture.spread.uniform_(0.1, 0.5)
    return mixture


def test_log_likelihood_equals_scipy_with_full_covariances() -> None:
    mixture, x = analysers(), torch.randn(20, 1, 2, 3)
    weights = mixture.logit.softmax(0).tolist()
    each = []
    for k, weight in enumerate(weights):
        low = mixture.factors[k].detach().double().numpy()
        full = low @ low.T + np.diag(mixture.variance()[k].detach().double().numpy())
        density = multivariate_normal(mixture.mean[k].detach().double().numpy(), full)
        each.append(np.log(weight) + density.logpdf(x.flatten(1).double().numpy()))
    np.testing.assert_allclose(mixture.log_likelihood(x).detach(), logsumexp(each, axis=0), atol=1e-5)


def test_log_likelihood_and_its_gradient_equal_torch_low_rank_mixture() -> None:
    mixture, x = analysers(), torch.randn(20, 1, 2, 3)
    parts = LowRankMultivariateNormal(mixture.mean, mixture.factors, mixture.variance())
    theirs = MixtureSameFamily(Categorical(logits=mixture.logit), parts).log_prob(x.flatten(1))
    torch.testing.assert_close(mixture.log_likelihood(x), theirs.double(), atol=1e-4, rtol=1e-4)
    weights = list(mixture.parameters())
    gradients = (torch.autograd.grad(s.sum(), weights) for s in (mixture.log_likelihood(x), theirs))
    for ours, other in zip(*gradients):
        torch.testing.assert_close(ours, other, atol=1e-3, rtol=1e-3)


def test_log_likelihood_of_narrow_gaussians_far_from_zero_is_precise() -> None:
    mixture = FactorAnalysers(2, 1, components=1, factors=2)
    with torch.no_grad():
        mixture.mean.fill_(0.9)
        mixture.factors.zero_()
        mixture.floor.fill_(1e-4)
        mixture.spread.zero_()
    x = 0.9 + 1e-4 * torch.randn(100, 2, 1, 1)
    standardised = (x.flatten(1).double() - mixture.mean.double().detach()) / mixture.floor.double()
    by_hand = Normal(0.0, 1.0).log_prob(standardised).sum(1) - 2 * mixture.floor.double().log()
    torch.testing.assert_close(mixture.log_likelihood(x).detach(), by_hand, atol=1e-4, rtol=1e-5)


def test_samples_have_the_moments_of_their_density() -> None:
    mixture = analysers(bounded=False)
    x = mixture(torch.randn(200_000, mixture.latent)).flatten(1).detach()
    weights = mixture.logit.softmax(0).detach()
    mean = weights @ mixture.mean.detach()
    each = mixture.factors @ mixture.factors.mT + torch.diag_embed(mixture.variance())
    offset = mixture.mean - mean
    covariance = (weights[:, None, None] * (each + offset[:, :, None] * offset[:, None])).sum(0).detach()
    assert (x.mean(0) - mean).abs().max() < 0.02
    assert (x.T.cov() - covariance).abs().max() < 0.05
    assert analysers()(torch.randn(100, mixture.latent)).abs().max() <= 1  # bounded by default


def test_the_first_number_selects_components_by_their_weights() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.1, 0.6, 0.3])
    share = torch.bincount(select_component(torch.randn(100_000), weights), minlength=3) / 100_000
    assert (share - weights).abs().max() < 0.01
    assert select_component(torch.tensor([-50.0, 50.0]), weights).tolist() == [0, 2]


def test_kmeans_finds_separated_clusters() -> None:
    torch.manual_seed(0)
    centres = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    truth = torch.arange(25).repeat(40)
    label = kmeans(centres[truth] + 0.05 * torch.randn(1000, 2), 25)
    pairs = {(int(a), int(b)) for a, b in zip(truth, label)}
    assert len(pairs) == 25  # one to one
    assert kmeans(torch.ones(10, 2), 3).tolist() == [0] * 10  # none is empty


@pytest.mark.slow
def test_gradients_increase_the_likelihood(fit: Fit) -> None:
    """Of the images that it was trained on, from where k-means leaves it."""
    options = ["model=gmm", "model.game.generator.components=10", "data.batch_size=100", "optim.generator.lr=2e-3"]
    found = []
    for images in (100, 10_000):
        module, trainer = fit(*options, f"max_images={images}", "optim.ema=null", "callbacks={}")
        x = trainer.datamodule.rows["image"].float() / 127.5 - 1
        found.append(module.game.log_likelihood_output(x).score.mean().item())
    assert found[1] > found[0] + 5  # nats an image


@pytest.mark.slow
def test_two_known_gaussians_are_recovered(fit: Fit) -> None:
    """Two overlapping Gaussians on the first axis, in the plane's units: +-1 / 1.25, sd 0.4 / 1.25."""
    module, _ = fit(
        *("model=gmm", "data=toy", "data/mixture=two_gaussians", "data.mixture.sd=0.4", "data.batch_size=1000"),
        *("model.game.generator.components=2", "model.game.generator.factors=2", "model.game.generator.bounded=false"),
        *("optim.generator.lr=5e-3", "max_images=200000", "callbacks={}"),
    )
    mixture = module.generator_ema.network  # without the noise of the last steps
    order = mixture.mean[:, 0].argsort()
    covariances = mixture.factors @ mixture.factors.mT + torch.diag_embed(mixture.variance())
    assert (mixture.logit.softmax(0) - 0.5).abs().max() < 0.02
    assert (mixture.mean[order] - torch.tensor([[-0.8, 0.0], [0.8, 0.0]])).abs().max() < 0.02
    assert (covariances - torch.eye(2) * 0.32**2).abs().max() < 0.01


@pytest.mark.parametrize(("mixture", "count"), [("ring", 8), ("grid", 25)])
@pytest.mark.slow
def test_all_modes_are_found(fit: Fit, mixture: str, count: int) -> None:
    module, trainer = fit(f"experiment=gmm_{mixture}", "max_images=10000", "callbacks={}")
    torch.manual_seed(0)
    points = module.sample(module.game.sample_inputs(2500)).flatten(1).double()
    truth = trainer.datamodule.mixture
    found = count_modes(points * truth.scale, truth.means, truth.sd)
    assert found["modes"] == count
    assert found["high_quality"] > 0.97


def test_terms_equal_their_formulas() -> None:
    torch.manual_seed(0)
    x, fake = torch.randn(5, 1, 2, 3), torch.randn(5, 1, 2, 3)
    round = round_of(x, fake)
    squared = ((x - fake) ** 2).sum() / 5
    assert SquaredError().measure(round).item() == pytest.approx(squared.item(), rel=1e-6)
    by_hand = -Normal(fake, 0.3).log_prob(x).sum() / 5
    assert GaussianError(sd=0.3).measure(round).item() == pytest.approx(by_hand.item(), rel=1e-5)
    best = float((squared / 6).sqrt())
    assert GaussianError().measure(round).item() == pytest.approx(GaussianError(best).measure(round).item(), rel=1e-5)
    assert all(GaussianError().measure(round) < GaussianError(best * s).measure(round) for s in (0.9, 1.1))
    assert NegativeLogLikelihood().measure(round).item() == pytest.approx(-x.sum().item() / 5, rel=1e-5)


def test_code_divergence_equals_the_closed_form() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(7, 4), torch.randn(7, 4)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1).mean()
    x = torch.zeros(7, 1, 1, 1)
    ours = CodeDivergence().measure(round_of(x, mean=mean, log_variance=log_variance))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    none = torch.zeros(7, 4)
    assert CodeDivergence().measure(round_of(x, mean=none, log_variance=none)).item() == 0


def test_the_variational_bound_is_the_likelihood_where_the_posterior_is_exact() -> None:
    """x = w z + noise, z ~ N(0, 1): both terms together are then -log N(x; 0, w^2 + sd^2)."""
    torch.manual_seed(0)
    w, sd, value, draws = 1.5, 0.4, 0.7, 400_000
    variance = 1 / (1 + w**2 / sd**2)
    mean = torch.full((draws, 1), variance * w * value / sd**2)
    log_variance = torch.full((draws, 1), variance).log()
    z = mean + variance**0.5 * torch.randn(draws, 1)
    x, fake = torch.full((draws, 1, 1, 1), value), (w * z)[:, :, None, None]
    round = round_of(x, fake, mean=mean, log_variance=log_variance)
    bound = GaussianError(sd).measure(round) + CodeDivergence().measure(round)
    exact = -Normal(0.0, (w**2 + sd**2) ** 0.5).log_prob(torch.tensor(value))
    assert bound.item() == pytest.approx(exact.item(), abs=2e-3)
    wrong = round_of(x, fake, mean=mean + 0.1, log_variance=log_variance)
    assert CodeDivergence().measure(wrong) > CodeDivergence().measure(round)


@pytest.mark.parametrize("components", [1, 3])
def test_the_density_has_mean_and_covariance_of_the_codes(components: int) -> None:
    torch.manual_seed(0)
    density = CodeDensity(2, components, memory=600)
    codes = torch.cat([torch.randn(400, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.2]]), torch.randn(400, 2) + 5])
    for part in codes.split(50):
        density.remember(part)
    kept = codes[-600:].double()  # the oldest 200 are gone
    weights, means, covariances = density.mixture()
    mean = weights @ means
    offset = means - mean
    covariance = (weights[:, None, None] * (covariances + offset[:, :, None] * offset[:, None])).sum(0)
    torch.testing.assert_close(mean, kept.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(covariance, kept.T.cov(correction=0), atol=1e-4, rtol=0)
    drawn = density(torch.randn(100_000, 3))
    assert (drawn.mean(0) - kept.mean(0)).abs().max() < 0.05
    assert (drawn.T.cov() - covariance).abs().max() < 0.15
    assert len(weights) == components


def test_expectation_maximisation_increases_the_likelihood_of_the_codes() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(300, 2), 0.3 * torch.randn(100, 2) + torch.tensor([1.5, 0.0])]).double()
    course = [log_joint(x, fit(x, 2, rounds)).logsumexp(1).mean().item() for rounds in (0, 1, 5, 50)]
    assert all(b >= a for a, b in pairwise(course))
    assert course[-1] > course[0] + 0.01


def test_code_density_is_standard_normal_without_codes_and_finite_with_few() -> None:
    density = CodeDensity(3, components=10)
    z = torch.randn(5, 4)
    torch.testing.assert_close(density(z), z[:, 1:])  # N(0, I)
    density.remember(torch.randn(4, 3))
    assert torch.isfinite(density(z)).all()


@pytest.mark.parametrize("model", slow_except(["gmm"], MODELS))
def test_resumed_equals_uninterrupted(fit: Fit, tmp_path: Path, model: str) -> None:
    run = [f"model={model}", *NARROW[model], "data.batch_size=200", "callbacks.checkpoint.keep_every=200", NO_SHEETS]
    uninterrupted, _ = fit(*run, "max_images=2400", folder=tmp_path / "a")
    for cut in (1, 9):  # 8 iterations an epoch
        checkpoint = tmp_path / "a" / "checkpoints" / f"{cut * 200:012d}.ckpt"
        again, _ = fit(*run, "max_images=2400", checkpoint=checkpoint, folder=tmp_path / f"b{cut}")
        one, other = uninterrupted.state_dict(), again.state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), f"cut at {cut}"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_sampling_needs_only_the_checkpoint(fit: Fit, tmp_path: Path, model: str) -> None:
    module, _ = fit(f"model={model}", *NARROW[model], "data.batch_size=50", "max_images=400")
    again = load(tmp_path / "checkpoints" / "last.ckpt", {"data.root": "nowhere"})
    request = module.game.sample_inputs(16)
    images = again.sample(request)
    assert images.shape == (16, 1, 16, 16)
    assert torch.equal(images, module.sample(request))
    assert torch.equal(images, again.sample(request))  # a function of the latents
    assert images.std(0).mean() > 1e-5  # and not the same for all
    assert set(again.players) == {"generator"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_the_loss_has_no_effect(fit: Fit, tmp_path: Path, model: str) -> None:
    run = [f"model={model}", *NARROW[model], "data.batch_size=50", "max_images=200"]
    one, _ = fit(*run, "loss=hinge", folder=tmp_path / "a")
    other, _ = fit(*run, "loss=wasserstein", "augment=noise", folder=tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_every_optim_composes_and_the_command_line_overrides_it(model: str) -> None:
    for optim in choices("optim"):
        config = composed(f"model={model}", f"optim={optim}", "optim.generator.lr=1e-5", "loss=hinge", folder="x")
        assert config.optim.discriminator is None
        assert config.optim.generator.lr == 1e-5
        assert config.loss.name == "hinge"
        assert config.optim.generator.every == composed(f"optim={optim}", folder="x").optim.generator.every


@pytest.mark.slow
def test_a_generator_without_a_term_is_refused_and_a_lazy_term_is_computed_on_its_iterations(fit: Fit) -> None:
    term = "model.game.terms.generator.negative_log_likelihood"
    with pytest.raises(UserError, match="without a discriminator the generator needs a term"):
        fit("model=gmm", f"{term}=null", "max_images=100")
    runs = [["max_images=100"], [f"{term}.every=2", "max_images=100"], [f"{term}.every=2", "max_images=200"]]
    lazy = [fit("model=gmm", *NARROW["gmm"], "data.batch_size=100", *run)[0].game.generator.mean for run in runs]
    start = copy.deepcopy(lazy[1])  # one iteration, on which no term was computed
    assert not torch.equal(lazy[0], start)
    assert not torch.equal(lazy[2], start)


def test_unrolling_is_refused_without_a_discriminator(fit: Fit) -> None:
    with pytest.raises(UserError, match="no critic"):
        fit("model=gmm", *NARROW["gmm"], "optim.generator.unrolled=2", "max_images=100")


def test_the_likelihood_is_logged_and_nothing_adversarial(fit: Fit) -> None:
    module, _ = fit("model=gmm", *NARROW["gmm"], "data.batch_size=100", "max_images=200", "log_every=1")
    assert {"loss/generator/negative_log_likelihood", "log_likelihood/real"} <= module.last_scalars.keys()
    assert not [name for name in module.last_scalars if "adversarial" in name or "discriminator" in name]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.slow
def test_other_precisions_train(fit: Fit, model: str, precision: str) -> None:
    module, _ = fit(f"model={model}", *NARROW[model], f"trainer.precision={precision}", "max_images=128")
    assert all(torch.isfinite(w).all() for w in module.parameters())
    assert torch.isfinite(module.sample(module.game.sample_inputs(4))).all()


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 28), (5, (32, 64))])
def test_auto_encoders_take_the_sizes_of_dcgan(channels: int, size) -> None:
    network = AutoEncoder(Encoder(8, channels, size, width=2), Generator(8, channels, size, width=2), latent=8)
    x = torch.rand(4, channels, *((size, size) if isinstance(size, int) else size)) * 2 - 1
    code = network.encode(x)["latent"]
    assert code.shape == (4, 8)
    assert network(code).shape == x.shape


@pytest.mark.slow
def test_an_auto_encoder_learns_to_reconstruct(fit: Fit) -> None:
    options = ["model=autoencoder", *FP32, "data.batch_size=64", "optim.generator.lr=2e-3", "log_every=1", NO_SHEETS]
    narrow = ["model.game.generator.encoder.width=8", "model.game.generator.decoder.width=8"]
    first, _ = fit(*options, *narrow, "max_images=64")
    last, _ = fit(*options, *narrow, "max_images=3200")
    assert last.last_scalars["reconstruction/rmse"] < 0.5 * first.last_scalars["reconstruction/rmse"]


@pytest.mark.parametrize("experiment", ["autoencoder_mnist", "vae_mnist", "gmm_mnist", "gmm_ring", "gmm_grid"])
@pytest.mark.slow
def test_experiments_have_one_player(experiment: str) -> None:
    config = composed(f"experiment={experiment}", folder="x")
    assert config.optim.discriminator is None
    validate(dict(config.optim.generator.schedules), "x")
