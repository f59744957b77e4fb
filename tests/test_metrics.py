"""Metrics against closed forms, reference libraries and cases with a known answer."""

from math import log, pi
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.cmmd import EmbeddingMMD
from oakleaf.metrics.colours import Colours, histograms
from oakleaf.metrics.conditional import ConditionalAccuracy
from oakleaf.metrics.diversity import Diversity, class_entropy, vendi
from oakleaf.metrics.fid import FrechetDistance, frechet_distance
from oakleaf.metrics.fid_infinity import FrechetInfinity, intercept
from oakleaf.metrics.image_set import Features, ImageSet, Moments, moments
from oakleaf.metrics.inception_score import InceptionScore
from oakleaf.metrics.intra_fid import IntraFrechetDistance
from oakleaf.metrics.kid import KernelDistance
from oakleaf.metrics.memorization import Copies, Memorisation
from oakleaf.metrics.modes import count_modes, reverse_kl
from oakleaf.metrics.neighbours import nearest
from oakleaf.metrics.parzen import log_likelihood
from oakleaf.metrics.precision_recall import Prdc, prdc
from oakleaf.metrics.two_sample import TwoSample


def normal(count: int, dims: int, seed: int, mean: float = 0.0, sd: float = 1.0) -> Tensor:
    return mean + sd * torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))


def sample(features: Tensor, logits: Tensor | None = None, label: Tensor | None = None) -> ImageSet:
    return ImageSet(Features(features, logits), features[:, None, None, :], label)


# --- distances between distributions


def test_frechet_distance_of_identical_sets_is_0() -> None:
    x = normal(500, 64, 0) @ normal(64, 64, 1)
    assert frechet_distance(moments(x), moments(x)) < 1e-6 * float(moments(x).covariance.trace())
    few = normal(20, 64, 0)  # a singular covariance
    assert frechet_distance(moments(few), moments(few)) < 1e-6


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (3.0, 1.0), (0.0, 2.0), (1000.0, 0.5)])
def test_frechet_distance_of_gaussians_is_the_closed_form(shift: float, scale: float) -> None:
    d = 10
    spread = torch.arange(1.0, d + 1).double()
    one = Moments(torch.zeros(d).double(), torch.diag(spread))
    two = Moments(torch.full((d,), shift).double(), torch.diag(spread * scale**2))
    expected = d * shift**2 + float(spread.sum()) * (1 - scale) ** 2
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_frechet_distance_of_rotated_gaussians_is_the_closed_form() -> None:
    iteration = torch.linalg.qr(normal(6, 6, 3).double())[0]
    one = Moments(torch.zeros(6).double(), iteration @ torch.diag(torch.arange(1.0, 7).double()) @ iteration.T)
    two = Moments(torch.zeros(6).double(), 4 * one.covariance)
    assert frechet_distance(one, two) == pytest.approx(21.0, rel=1e-9)  # they commute: tr C (1 - 2)^2


def test_moments_are_those_of_numpy_even_far_from_0() -> None:
    x = normal(20_000, 5, 0, mean=1000.0)
    found = moments(x)
    np.testing.assert_allclose(found.mean, x.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.double().numpy().T), rtol=1e-9, atol=1e-12)


def two_sets() -> tuple[Tensor, Tensor]:
    mix = normal(32, 32, 9)
    return normal(1500, 32, 1) @ mix, normal(1200, 32, 2, mean=0.3, sd=1.2) @ mix


def test_frechet_and_kernel_distance_agree_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    class Seen(torch.nn.Module):
        """Reads features from what torchmetrics takes for images."""

        num_features = 32

        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0, :]

    real, fake = two_sets()
    theirs = FrechetInceptionDistance(feature=Seen(), input_img_size=(1, 1, 32))
    theirs.update(real[:, None, None, :], real=True)
    theirs.update(fake[:, None, None, :], real=False)
    ours = FrechetDistance()(sample(real), sample(fake))["fid"]
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    kernel = KernelInceptionDistance(feature=Seen(), subsets=20, subset_size=1000)
    kernel.update(real[:, None, None, :], real=True)
    kernel.update(fake[:, None, None, :], real=False)
    mean, sd = kernel.compute()
    assert KernelDistance(20, 1000)(sample(real), sample(fake))["kid"] == pytest.approx(float(mean), abs=4 * float(sd))
    least = min(len(real), len(fake))  # one subset of all: no chance is left
    kernel = KernelInceptionDistance(feature=Seen(), subsets=1, subset_size=least)
    kernel.update(real[:least, None, None, :], real=True)
    kernel.update(fake[:least, None, None, :], real=False)
    distance = KernelDistance(1, least)(sample(real[:least]), sample(fake[:least]))["kid"]
    assert distance == pytest.approx(float(kernel.compute()[0]), rel=1e-3)


@pytest.mark.slow
def test_all_agree_with_torch_fidelity() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = two_sets()
    moments = [fid_features_to_statistics(features) for features in (real, fake)]
    distance = fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert FrechetDistance()(sample(real), sample(fake))["fid"] == pytest.approx(distance, rel=1e-3)
    theirs = kid_features_to_metric(real, fake, kid_subsets=30, kid_subset_size=1000, rng_seed=0, verbose=False)
    ours = KernelDistance(30, 1000)(sample(real), sample(fake))["kid"]
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=0.05)  # other subsets
    everything = KernelDistance(1, 1200)(sample(real[:1200]), sample(fake))["kid"]
    scores = kid_features_to_metric(real[:1200], fake, kid_subsets=1, kid_subset_size=1200, verbose=False)
    assert everything == pytest.approx(scores["kernel_inception_distance_mean"], rel=1e-3)

    logits = normal(1000, 10, 4, sd=3.0)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    them = isc_features_to_metric(logits[order], splits=10, shuffle=False)
    us = InceptionScore(10)(sample(logits), sample(logits, logits))
    assert us["inception_score"] == pytest.approx(them["inception_score_mean"], rel=1e-3)
    assert us["inception_score_sd"] == pytest.approx(them["inception_score_std"], rel=1e-3)

    found = prc_features_to_metric(fake, real[:1200], prc_neighborhood=3, prc_batch_size=1000, verbose=False)
    other = prc_features_to_metric(real[:1200], fake, prc_neighborhood=3, prc_batch_size=1000, verbose=False)
    mine = prdc(real[:1200], fake, 3)
    pairs = [{found["precision"], found["recall"]}, {other["precision"], other["recall"]}]
    for pair in pairs:  # which of them is which, this library itself has swapped; ours is held by cases below
        assert {round(mine["precision"], 3), round(mine["recall"], 3)} == {round(v, 3) for v in pair}


def test_frechet_distance_agrees_with_scipys_matrix_root() -> None:
    from scipy.linalg import sqrtm

    one, two = (moments(x) for x in two_sets())
    root = sqrtm(one.covariance.numpy() @ two.covariance.numpy()).real
    expected = (
        float((one.mean - two.mean).square().sum() + (one.covariance + two.covariance).trace()) - 2 * root.trace()
    )
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6)


def test_too_few_samples_for_a_covariance_are_refused() -> None:
    with pytest.raises(UserError, match="30 images are too few: the covariance of 64 features needs at least 65"):
        FrechetDistance()(sample(normal(100, 64, 0)), sample(normal(30, 64, 1)))


# --- quality and diversity


def test_precision_falls_for_bad_samples_and_recall_for_missing_modes() -> None:
    left, right = normal(400, 8, 0), normal(400, 8, 1, mean=20.0)
    both = torch.cat([left, right])
    missing = prdc(both, torch.cat([normal(800, 8, 2)]), 5)  # good, but only one of two modes
    assert missing["precision"] > 0.8 > 0.6 > missing["recall"]
    assert missing["coverage"] < 0.6
    extra = prdc(torch.cat([left, normal(400, 8, 3)]), both, 5)  # all of it, and something that is not there
    assert extra["recall"] > 0.8 > 0.6 > extra["precision"]
    assert extra["density"] < 0.7


def test_precision_has_the_published_k_and_density_its_own() -> None:
    real, fake = normal(300, 6, 0), normal(300, 6, 1, sd=0.8)
    found = Prdc()(sample(real), sample(fake))
    three, five = prdc(real, fake, 3), prdc(real, fake, 5)
    expected = {name: (three if name in ("precision", "recall") else five)[name] for name in found}
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, prdc(real[order], fake[order], 3, 5))
    assert found == pytest.approx(expected)


def test_prdc_equals_its_definition() -> None:
    real, fake, k = normal(40, 3, 0), normal(30, 3, 1, sd=1.5), 3
    among = [torch.cdist(x, x).sort(1).values[:, k] for x in (real, fake)]
    within = torch.cdist(real, fake) < among[0][:, None]  # [real, fake]
    found = prdc(real, fake, k)
    assert found["precision"] == pytest.approx(within.any(0).float().mean().item())
    assert found["recall"] == pytest.approx((torch.cdist(real, fake) < among[1]).any(1).float().mean().item())
    assert found["density"] == pytest.approx(within.sum().item() / k / 30)
    assert found["coverage"] == pytest.approx(within.any(1).float().mean().item())


@pytest.mark.parametrize("twins", [1, 7, 70])
def test_prdc_of_a_set_with_itself_is_1_also_with_duplicates(twins: int) -> None:
    real = (normal(70 // twins, 16, 0) + 3).repeat(twins, 1)
    again = (real + 1e-7 * normal(70, 16, 1))[torch.randperm(70, generator=torch.Generator().manual_seed(0))]
    for fake in (real, again):
        found = prdc(real, fake, 5)
        assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
        assert found["density"] == pytest.approx(max(5, twins) / 5)


def test_prdc_of_the_same_distribution_is_about_1() -> None:
    found = Prdc()(sample(normal(1000, 4, 0)), sample(normal(1000, 4, 1)))
    assert all(0.85 < value < 1.15 for value in found.values()), found


def test_inception_score_has_its_known_extremes() -> None:
    sure = torch.eye(10).repeat(100, 1) * 50
    assert InceptionScore(1)(sample(sure), sample(sure, sure))["inception_score"] == pytest.approx(10)
    one_class = sure[:1].repeat(1000, 1)
    assert InceptionScore(1)(sample(sure), sample(sure, one_class))["inception_score"] == pytest.approx(1)


def test_inception_score_names_the_extractor_that_suits_the_data() -> None:
    pixels = normal(60, 4, 0)
    for label, suitable in (
        (torch.arange(60) % 3, "use extractor=classifier"),
        (torch.zeros(60, dtype=torch.long), "use data with labels, or extractor=inception"),
        (None, "use data with labels, or extractor=inception"),
    ):
        with pytest.raises(UserError, match=suitable):
            InceptionScore()(sample(pixels, label=label), sample(pixels))


def test_diversity_has_its_known_extremes() -> None:
    assert vendi(torch.eye(7).repeat(3, 1)) == pytest.approx(7)
    assert vendi(torch.ones(20, 5)) == pytest.approx(1)
    assert class_entropy(torch.eye(10)) == pytest.approx(1)
    assert class_entropy(torch.eye(10)[:5]) == pytest.approx(log(5) / log(10))
    real = normal(500, 6, 0)
    assert Diversity()(sample(real), sample(normal(500, 6, 1, sd=0.5)))["spread"] == pytest.approx(0.5, rel=0.05)
    assert "class_entropy" not in Diversity()(sample(real), sample(real))


def test_colours_in_common_are_counted_for_each_coordinate() -> None:
    def painted(*colours: tuple[int, ...]) -> ImageSet:
        pixels = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 3, 5)
        return ImageSet(Features(torch.zeros(len(pixels), 1), None), pixels)

    red, blue, grey = (255, 0, 0), (0, 0, 255), (119, 119, 119)
    assert Colours()(painted(red, blue), painted(blue, red)) == dict.fromkeys(Colours.better, 1.0)
    assert Colours()(painted(red, blue, blue, blue), painted(red, grey)) == dict.fromkeys(Colours.better, 0.25)
    alike = Colours()(painted(grey), painted((255, 255, 255)))
    assert alike == {"colours_lightness": 0.0, "colours_red": 1.0, "colours_yellow": 1.0}
    assert Colours()(painted((0,), (119,)), painted((119,))) == {"colours_lightness": 0.5}
    lightness, *_ = histograms(painted(grey).pixels)
    assert int(lightness.argmax()) * 100 / 255 == pytest.approx(50.0, abs=0.3)  # L* of sRGB 119
    with pytest.raises(UserError, match="1 or 3 channels, and these have 2"):
        histograms(torch.zeros(1, 2, 1, 1))


def test_two_sample_test_separates_what_differs() -> None:
    real = normal(600, 5, 0)
    assert TwoSample()(sample(real), sample(normal(600, 5, 1)))["two_sample"] == pytest.approx(0.5, abs=0.06)
    assert TwoSample()(sample(real), sample(normal(600, 5, 1, mean=50.0)))["two_sample"] == 1.0
    order = torch.randperm(600, generator=torch.Generator().manual_seed(3))
    assert TwoSample()(sample(real), sample(real[order]))["two_sample"] < 0.1  # copies
    assert set(TwoSample.better.values()) == {"0.5"}


def images(count: int, seed: int, side: int = 16) -> ImageSet:
    """Smooth random images, so that a shift of a pixel changes them a little."""
    coarse = torch.rand(count, 1, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    pixels = (255 * torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)).byte()
    return ImageSet(Features(torch.zeros(count, 1), None), pixels, rows=torch.arange(count))


def samples_of(pixels: Tensor) -> ImageSet:
    return ImageSet(Features(torch.zeros(len(pixels), 1), None), pixels)


def memorisation(real: ImageSet, mirrors: bool = False, **options: int) -> Memorisation:
    evaluation = mock.Mock()
    evaluation.data.count, evaluation.data.mirrors = len(real), mirrors
    evaluation.data.images = lambda rows: real.pixels[rows]
    measure = Memorisation(**options)
    measure.prepare(evaluation)
    return measure


def test_memorisation_finds_copies_and_shows_them() -> None:
    real, new = images(400, 0), samples_of(images(300, 1).pixels)
    measure = memorisation(real, shown=3, neighbours=2)
    looked_at = real[torch.arange(250)]  # copies are found also of images that other metrics do not use
    found = measure(looked_at, new)
    assert found["nearest_training"] == pytest.approx(1, abs=0.1)
    assert found["copied"] < 0.05
    near = samples_of(real.pixels[:300].clone())
    near.pixels[:, 0, 0, 0] ^= 1
    copies = measure(looked_at, near)
    assert copies["nearest_training"] < 0.02
    assert copies["copied"] == 1
    assert measure.pictures(looked_at, near)["neighbours"].size[0] >= 256
    turned = samples_of(near.pixels.flip(3))
    assert measure(looked_at, turned)["copied"] < 0.05
    mirrored = memorisation(real, mirrors=True)
    assert [mirrored(looked_at, subject)["copied"] for subject in (near, turned)] == [1, 1]
    assert mirrored(looked_at, new)["copied"] < 0.05
    evaluation = mock.Mock(is_training_data=False)
    with pytest.raises(UserError, match="these are others"):
        measure.prepare(evaluation)


def test_shifted_and_noisy_copies_are_found() -> None:
    real = images(400, 0, side=28)
    measure = memorisation(real)
    source = real.pixels[:200].float()
    noise = 25 * torch.randn(source.shape, generator=torch.Generator().manual_seed(2))
    shifted = {shift: source.roll(shift, (2, 3)).byte() for shift in [(1, 0), (0, -1), (2, 1)]}
    assert {shift: measure(real, samples_of(pixels))["copied"] for shift, pixels in shifted.items()} == dict.fromkeys(
        shifted, 1.0
    )
    assert measure(real, samples_of((source + noise).clamp(0, 255).byte()))["copied"] > 0.9
    assert measure(real, samples_of(images(200, 1, side=28).pixels))["copied"] < 0.05
    far = samples_of(source.roll((9, 9), (2, 3)).byte())
    assert measure(real, far)["copied"] < 0.05  # no small shift


def test_real_images_are_no_copies_of_themselves() -> None:
    real = images(600, 0)
    measure = memorisation(real)
    held_out = real[torch.arange(400, 600)]
    assert measure(real[torch.arange(400)], held_out)["copied"] < 0.05
    assert measure(real[torch.arange(400)], samples_of(held_out.pixels))["copied"] == 1


def test_memorisation_with_duplicates_and_small_sets() -> None:
    real = images(200, 0)
    real.pixels[100:120] = real.pixels[:20]
    assert memorisation(real)(real, samples_of(real.pixels[:100]))["copied"] == 1  # though 40 are as near to another
    few = real[torch.arange(12)]
    found = memorisation(few)(few, samples_of(few.pixels))
    assert set(found) == {"nearest_training"}
    assert found["nearest_training"] == 0


def test_shifts_of_points_and_small_images_are_none() -> None:
    points = ImageSet(Features(torch.zeros(300, 1), None), normal(300, 2, 0)[:, :, None, None], rows=torch.arange(300))
    found = memorisation(points)(points, samples_of(normal(200, 2, 1)[:, :, None, None]))
    assert found["copied"] < 0.05
    row = memorisation(points).search(points.pixels[7:9], 1).row[:, 0]
    assert row.tolist() == [7, 8]


def test_copies_are_found_in_feature_space() -> None:
    real, new = sample(normal(500, 8, 0)), sample(normal(300, 8, 1))
    copied = sample(real.features[:300] + 1e-3 * normal(300, 8, 2))
    assert Copies()(real, copied)["copied"] == 1
    assert Copies()(real, new)["copied"] < 0.05
    twice = sample(torch.cat([real.features, real.features[:100]]))
    assert Copies()(twice, new)["copied"] < 0.05  # duplicates among the real images set no threshold


def test_duplicates_are_at_distance_zero() -> None:
    real = images(60, 0).pixels
    assert (nearest(real, torch.cat([real, real]), 2).distance == 0).all()


def test_vendi_has_no_better_direction() -> None:
    """Noise, which no real image is like, raises it: it is best near that of real images."""
    real = normal(600, 3, 0) @ normal(3, 12, 1)
    noisy = real + 2 * normal(600, 12, 2)
    numbers = [Diversity()(sample(real), sample(images))["vendi"] for images in (real, noisy)]
    assert numbers[1] > 1.2 * numbers[0]
    assert Diversity.better["vendi"] == "baseline"


def test_diversity_of_identical_images_is_refused() -> None:
    same = sample(torch.ones(20, 4))
    with pytest.raises(UserError, match="have the same features"):
        Diversity()(same, same)


def test_nearest_is_brute_force() -> None:
    x, y = normal(50, 4, 0), normal(70, 4, 1)
    found = nearest(x, y, 3)
    expected = torch.cdist(x, y).topk(3, largest=False)
    torch.testing.assert_close(found.distance, expected.values)
    assert torch.equal(found.row, expected.indices)
    assert not (nearest(x, x, 1, exclude_self=True).row[:, 0] == torch.arange(50)).any()


# --- protocols


def test_parzen_is_the_mixtures_density() -> None:
    x, centres, sigmas = normal(7, 12, 0), normal(5, 12, 1), torch.tensor([0.3, 1.0]).double()
    found = log_likelihood(x, centres, sigmas)
    for sigma, row in zip(sigmas, found):
        parts = torch.distributions.Normal(centres.double(), sigma).log_prob(x.double()[:, None]).sum(2)
        torch.testing.assert_close(row, parts.logsumexp(1) - log(5), rtol=1e-5, atol=1e-4)
    alone = log_likelihood(centres[:1], centres[:1], sigmas[:1])
    assert alone.item() == pytest.approx(-6 * log(2 * pi * 0.09), rel=1e-5)


def test_modes_are_counted_by_hand() -> None:
    means = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]).double()
    points = torch.tensor([[0.0, 0.02], [0.01, 0.0], [1.0, 0.029], [1.0, 0.031], [0.0, 1.05]]).double()
    found = count_modes(points, means, sd=0.01)
    assert found["modes"] == 2
    assert found["high_quality"] == pytest.approx(3 / 5)
    share = np.array([2 / 3, 1 / 3])
    assert found["reverse_kl"] == pytest.approx(float((share * np.log(share * 4)).sum()))
    assert reverse_kl(torch.ones(9) / 9) == pytest.approx(0, abs=1e-6)
    assert reverse_kl(torch.zeros(9)) == float("inf")


@pytest.mark.parametrize("kind", ["Ring", "Grid"])
def test_the_true_density_has_the_papers_ceiling(kind: str) -> None:
    from oakleaf.data import toy

    mixture = {"Ring": toy.Ring(name="ring", sd=0.01), "Grid": toy.Grid(name="grid", sd=0.05)}[kind]
    points, label = mixture.draw(200_000, torch.Generator().manual_seed(0))
    found = count_modes(points, mixture.means, mixture.sd)
    assert found["modes"] == len(mixture.means) == len(label.unique())
    assert len({tuple(np.round(mean, 9)) for mean in mixture.modes()}) == len(mixture.means)  # none twice
    assert found["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.001)  # 98.89 %
    assert found["sd_ratio"] == pytest.approx(1, abs=0.01)
    assert (points / mixture.scale).abs().max() < 1


def test_conditional_accuracy_needs_labels() -> None:
    logits = torch.eye(4)
    measure = ConditionalAccuracy()
    evaluation = mock.Mock()
    evaluation.data.classes = range(4)
    measure.prepare(evaluation)
    told = sample(logits, logits, torch.tensor([0, 1, 2, 0]))
    assert measure(told, told)["conditional_accuracy"] == 0.75
    with pytest.raises(UserError, match="this generator is not conditioned on labels"):
        measure(told, sample(logits, logits))


# --- Frechet distances of more samples, of classes, and of embeddings


def test_fid_infinity_has_no_bias_from_few_samples() -> None:
    real = sample(normal(20_000, 16, 0))
    plain, extrapolated = [], []
    for seed in range(12):
        fake = sample(normal(400, 16, 10 + seed))  # its true distance is 0
        plain.append(FrechetDistance()(real, fake)["fid"])
        extrapolated.append(FrechetInfinity()(real, fake)["fid_infinity"])
    assert np.mean(plain) > 0.15
    assert abs(np.mean(extrapolated)) < 0.04
    line = torch.tensor([1.0, 2.0, 4.0]).double()
    assert intercept(line, 3 - 2 * line) == pytest.approx(3)
    with pytest.raises(UserError, match="the extrapolation with 16 features needs at least 128"):
        FrechetInfinity()(real, sample(normal(60, 16, 1)))


def test_intra_fid_is_the_distance_of_each_class() -> None:
    label = torch.arange(6000) % 3
    real, fake = sample(normal(6000, 4, 0), label=label), sample(normal(6000, 4, 1), label=label)
    fake.features[label == 2] += 3.0
    measure = IntraFrechetDistance()
    measure.prepare(mock.Mock(data=mock.Mock(classes=["a", "b", "c"])))
    found = measure(real, fake)
    assert found["intra_fid_worst"] == pytest.approx(36, rel=0.05)  # 4 x 3^2
    assert found["intra_fid"] == pytest.approx(12, rel=0.05)
    assert measure.protocol()["by_class"]["a"] < 0.05
    swapped = sample(fake.features, label=(label + 1) % 3)
    assert measure(real, swapped)["intra_fid"] == pytest.approx(12, rel=0.05)  # 36, 0, 0
    few = sample(normal(20, 4, 1), label=torch.tensor([0] * 10 + [1] * 8 + [2] * 2))
    with pytest.raises(UserError, match="class 'c' has 2 images, and the covariance of 4 features needs 5"):
        measure(real, few)
    with pytest.raises(UserError, match="not conditioned on labels"):
        measure(real, sample(fake.features))


def test_cmmd_is_the_formula_of_its_code() -> None:
    x, y = normal(60, 16, 0), normal(45, 16, 1, mean=0.5)
    found = EmbeddingMMD()(sample(x), sample(y))["cmmd"]
    a, b = (v.double().numpy() / np.linalg.norm(v.double().numpy(), axis=1, keepdims=True) for v in (x, y))
    squared = {
        name: np.square(one).sum(1)[:, None] + np.square(two).sum(1) - 2 * one @ two.T
        for name, one, two in (("aa", a, a), ("bb", b, b), ("ab", a, b))
    }
    kernel = {name: np.exp(-distance / (2 * 10.0**2)).mean() for name, distance in squared.items()}
    assert found == pytest.approx(1000 * (kernel["aa"] + kernel["bb"] - 2 * kernel["ab"]), rel=1e-9)
    one, opposite = torch.tensor([[3.0, 0.0]]).repeat(20, 1), torch.tensor([[-0.1, 0.0]]).repeat(20, 1)
    closed = 1000 * 2 * (1 - np.exp(-4 / 200))  # two points of length 1 at distance 2
    assert EmbeddingMMD()(sample(one), sample(opposite))["cmmd"] == pytest.approx(closed, rel=1e-9)
