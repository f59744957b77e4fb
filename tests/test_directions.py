"""Named directions: planes of attributes, weights, features; the file; mode=edit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.commands import quick
from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.builder.load import load as load_run
from oakleaf.errors import UserError
from oakleaf.sampling.explorer import Explorer
from oakleaf.sampling.named_directions import (
    Direction,
    choose,
    first_layer,
    judged_directions,
    load,
    logistic_normal,
    one_against_the_rest,
    pca_directions,
    save,
    sefa_directions,
    without,
)

RUN = [*SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]
SHORT = ["training.images=600", "training.epochs=2", "training.width=4", "training.features=8", "training.batch=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = quick("train", *RUN, "max_images=64", "model.game.prior.dim=6", "folder=run", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


def test_the_plane_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    torch.manual_seed(0)
    z = torch.randn(300, 5)
    positive = z @ torch.tensor([1.0, -2, 0.5, 0, 3]) + torch.randn(300) > 0.3
    weight, bias = logistic_normal(z, positive, decay=1e-2)
    reference = linear_model.LogisticRegression(C=1 / (1e-2 * 300), tol=1e-10, solver="newton-cholesky")
    reference.fit(z.double().numpy(), positive.numpy())
    np.testing.assert_allclose(weight.numpy(), reference.coef_[0], atol=1e-6)
    assert float(bias) == pytest.approx(float(reference.intercept_[0]), abs=1e-6)


def test_a_planted_attribute_is_found_and_constant_ones_are_left_out() -> None:
    torch.manual_seed(1)
    z, normal = torch.randn(4000, 8), nn.functional.normalize(torch.randn(8), dim=0)
    logits = torch.stack([z @ normal - 0.2, z[:, 0].abs() + 1, -z[:, 1].square() - 1], 1)
    (found,), left_out = judged_directions(z, logits, ["a", "always", "never"], "attributes")
    assert float(found.vector @ normal) > 0.99 and found.vector.norm() == pytest.approx(1, abs=1e-5)
    assert found.measured["accuracy"] > 0.9 and left_out == ["always", "never"]
    assert found.measured["positive"] == pytest.approx(0.42, abs=0.03)


def test_log_odds_of_a_class() -> None:
    logits = torch.randn(20, 4, dtype=torch.float64)
    p = logits.softmax(1)
    torch.testing.assert_close(one_against_the_rest(logits), torch.log(p / (1 - p)), atol=1e-6, rtol=1e-6)
    sure = one_against_the_rest(torch.tensor([[50.0, 0.0]]))
    assert sure.isfinite().all() and sure[0, 0] > 10 > -10 > sure[0, 1]


def test_conditional_projection() -> None:
    one, others = torch.tensor([1.0, 1, 1, 0]), torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 0, 0]])
    left = without(one, others)
    assert torch.allclose(others @ left, torch.zeros(2), atol=1e-6) and torch.allclose(
        left, torch.tensor([0.0, 0, 1, 0])
    )
    with pytest.raises(UserError, match="the same as those that should be kept"):
        without(others[0], others)


class Layers(nn.Module):
    """A generator of one linear layer, whose other inputs are a condition, and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.after, self.activation, self.first = nn.Linear(9, 4), nn.Tanh(), nn.Linear(5, 9)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.after(self.activation(self.first(torch.cat([z, torch.ones(len(z), 2)], 1))))


def test_sefa_and_pca_of_a_known_network() -> None:
    torch.manual_seed(2)
    network = Layers()
    with torch.no_grad():
        network.first.weight[:, :3] *= torch.tensor([0.05, 0.2, 0.02])
    _, values, vectors = torch.linalg.svd(network.first.weight[:, :3].detach())
    found = sefa_directions(network, lambda: network(torch.zeros(1, 3)), 3, 2)
    for k, one in enumerate(found):
        assert abs(float(one.vector @ vectors[k])) == pytest.approx(1, abs=1e-4)
        assert one.vector[one.vector.abs().argmax()] > 0
        assert one.measured["share"] == pytest.approx(float(values[k] ** 2 / (values**2).sum()), abs=1e-4)
    z = torch.randn(3000, 3)
    first, second = pca_directions(network, network, z, 2)  # nearly linear, so they are those of the weights
    assert abs(float(first.vector @ vectors[0])) > 0.98
    assert first.measured["share"] > second.measured["share"] > 0
    with pytest.raises(UserError, match="has no layer of the kind"):
        first_layer(nn.Sequential(nn.Linear(2, 2)), lambda: None, lambda _: True)


def test_the_file_keeps_other_names_and_refuses_damage(tmp_path: Path) -> None:
    file = tmp_path / "directions.json"
    save(file, [Direction("a", torch.tensor([0.6, 0.8]), "pca", {"share": 0.5}, "x")])
    save(
        file, [Direction("b", torch.tensor([1.0, 0.0]), "sefa", {}), Direction("a", torch.tensor([0.0, 1]), "pca", {})]
    )
    known = load(file)
    assert [one.name for one in known] == ["a", "b"] and torch.equal(known[0].vector, torch.tensor([0.0, 1]))
    with pytest.raises(UserError, match=r"direction=c: .*directions.json has no such direction; it has a, b"):
        choose(known, ["c"], file)
    for text in ("{}", "nothing", json.dumps({"directions": [{"name": "a"}]}), '{"directions": [{"vector": "x"}]}'):
        file.write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            load(file)


@pytest.mark.slow
def test_directions_are_found_edited_and_in_the_explorer(run: Path, tmp_path: Path) -> None:
    line = ["directions", f"checkpoint={run}", "device=cpu"]
    for by in (["by=sefa", "count=2"], ["by=pca", "count=2", "samples=200"]):
        result = quick(*line, *by, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    assert [one.name for one in load(run / "directions.json")] == ["sefa1", "sefa2", "pca1", "pca2"]
    options = [f"checkpoint={run}", "mode=edit", "device=cpu", "mode.count=2", "mode.steps=3", "mode.reach=2"]
    result = quick("sample", *options, "direction=[sefa1,pca1]", "mode.keep=[sefa2]", "out=edited", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    images = np.load(tmp_path / "edited/samples.npy")
    assert len(images) == 2 * 2 * 3
    grid = quick("sample", f"checkpoint={run}", "count=2", "device=cpu", "out=plain", folder=tmp_path)
    assert grid.returncode == 0
    plain = np.load(tmp_path / "plain/samples.npy").astype(int)
    assert np.abs(images[[1, 4]].astype(int) - plain).max() <= 1  # the middle column is the latent itself
    assert np.array_equal(images[[1, 4]], images[[7, 10]])
    explorer = Explorer(load_run(run), 1, load(run / "directions.json"))
    assert explorer.labels[:4] == ["sefa1", "sefa2", "pca1", "pca2"] and len(explorer.vectors) == 5
    moved, still = (np.asarray(explorer.image(0, offsets)) for offsets in ([9.0, 0, 0], [0.0, 0, 0]))
    assert not np.array_equal(moved, still)


@pytest.mark.slow
def test_directions_of_classes(run: Path, tmp_path: Path) -> None:
    """With a generator whose images are read as several digits: here noise of high contrast."""
    result = quick(
        "directions", f"checkpoint={run}", "by=classifier", "samples=300", *SHORT, "device=cpu", folder=tmp_path
    )
    assert result.returncode == 0 or "no attribute is read in some samples" in result.stderr, result.stderr
    wrong = quick("directions", f"checkpoint={run}", "by=attributes", "samples=100", folder=tmp_path)
    assert wrong.returncode == 1 and "has no `attributes`; it has label; by=pca needs none" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["sample", "mode=edit"], "direction= is missing"),
        (["sample", "direction=Smiling"], "direction=: mode=edit takes it"),
        (["directions", "by=magic"], "by=magic"),
        (["directions", "share=0.7"], "share=0.7: below 0.5"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(run: Path, tmp_path: Path, options: list[str], said: str) -> None:
    result = quick(options[0], f"checkpoint={run}", *options[1:], folder=tmp_path)
    assert result.returncode == 1 and said in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_run_without_directions_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no directions.json: python directions.py checkpoint="):
        load(tmp_path / "directions.json")
    module, *_ = built("model=dcgan", *SMALL, folder=tmp_path)
    with pytest.raises(UserError, match="is no direction of latents of 100 numbers"):
        Explorer(module.eval(), 1, [Direction("a", torch.ones(3), "pca", {})])
