"""metric=linear_probe: linear classifiers, feature maps and k-means features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.commands import quick
from helpers.composing import FP32, SMALL
from helpers.training import Fit
from oakleaf.errors import UserError
from oakleaf.metrics.linear_probe import KMeansFeatures, linear_classifier, pooled_maps, probe


def test_the_logistic_regression_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    torch.manual_seed(0)
    x, labels = torch.randn(200, 4, dtype=torch.float64), torch.randint(3, (200,))
    weight, _ = linear_classifier(x, labels, 3, "logistic", decay=0.05)
    reference = linear_model.LogisticRegression(C=1 / (0.05 * 200), tol=1e-9, max_iter=500).fit(
        x.numpy(), labels.numpy()
    )
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-5)


def test_the_svm_is_at_the_minimum_of_its_loss() -> None:
    """The gradient of the written-out loss vanishes there, and an equal shift of the data changes the bias alone."""
    torch.manual_seed(1)
    x, labels = torch.randn(150, 5, dtype=torch.float64), torch.randint(3, (150,))
    weight, bias = linear_classifier(x, labels, 3, "svm", decay=0.1, steps=500)
    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(x, labels.tolist()):
        for k in range(3):
            sign = 1.0 if k == label else -1.0
            total = total + max(torch.zeros_like(total), 1 - sign * (w[k] @ row + b[k])) ** 2
    (total / len(x) + 0.05 * w.square().sum()).backward()
    assert w.grad.abs().max() < 1e-5 and b.grad.abs().max() < 1e-5
    moved, other = linear_classifier(x + 2.0, labels, 3, "svm", decay=0.1, steps=500)
    torch.testing.assert_close(moved, weight, atol=1e-4, rtol=0)
    torch.testing.assert_close(other, bias - 2 * weight.sum(1), atol=1e-3, rtol=0)


def test_the_weight_is_chosen_on_held_out_rows() -> None:
    torch.manual_seed(2)
    x = torch.randn(400, 150)  # so many noisy features that a small weight fits the noise
    labels = (x[:, 0] + torch.randn(400) > 0).long()
    test = torch.randn(1000, 150)
    found = {decays: probe(x, labels, test, "svm", decays) for decays in ((1e-6,), (2.0,), (1e-6, 2.0))}
    expected = (test[:, 0] > 0).long()
    small, large, chosen = (float((one == expected).float().mean()) for one in found.values())
    assert small < chosen == large


def test_maps_behind_activations_are_pooled_to_the_same_places() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 4, 4), nn.LeakyReLU(0.2))
    x = torch.randn(5, 1, 12, 12)
    found = pooled_maps(network, network, x, 4)
    first = network[1](network[0](x))
    assert torch.equal(found[:, :32], nn.functional.max_pool2d(first, 3).flatten(1))
    assert torch.equal(found[:, 32:], network(x).flatten(1))  # of 3 x 3 places
    assert not network[1]._forward_hooks
    with pytest.raises(UserError, match="needs a network with feature maps"):
        pooled_maps(nn.Linear(3, 3), nn.Linear(3, 3), torch.zeros(1, 3), 4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 10, 7), (1, 4, 4)])
def test_k_means_features_do_not_depend_on_brightness(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(3)
    pixels = torch.randint(0, 200, (40, *shape), dtype=torch.uint8)
    features = KMeansFeatures(pixels, 6)
    found = features(pixels)
    assert found.shape[0] == 40 and found.shape[1] % 6 == 0 and found.isfinite().all() and found.std() > 0
    torch.testing.assert_close(features(pixels + 30), found, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_a_discriminator_is_compared_with_its_random_weights(fit: Fit, tmp_path: Path) -> None:
    fit(*SMALL, "max_images=32", folder=tmp_path / "run")
    options = [
        "metric=linear_probe",
        "extractor=pixels",
        "metric.linear_probe.training=300",
        "metric.linear_probe.centroids=10",
    ]
    line = ["evaluate", "checkpoint=run", *options, "metric.linear_probe.decays=[0.1]", "device=cpu"]
    result = quick(*line, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("linear_probe", "linear_probe_random", "linear_probe_pixels", "linear_probe_kmeans"):
        assert name in result.stdout
    wrong = quick(*line, "metric.linear_probe.network=painter", folder=tmp_path)
    assert "network=painter: there is no such network" in wrong.stdout + wrong.stderr


@pytest.mark.slow
def test_a_conditioned_discriminator_is_given_classes(fit: Fit, tmp_path: Path) -> None:
    options = ["model=cdcgan", "model.game.generator.hidden=8", "model.game.discriminator.hidden=8"]
    fit(*SMALL, *FP32, *options, "max_images=32", folder=tmp_path / "run")
    options = [
        "metric=linear_probe",
        "extractor=pixels",
        "metric.linear_probe.training=200",
        "metric.linear_probe.centroids=8",
    ]
    result = quick("evaluate", "checkpoint=run", *options, "metric.linear_probe.decays=[0.1]", folder=tmp_path)
    assert result.returncode == 0 and "linear_probe " in result.stdout, result.stderr
