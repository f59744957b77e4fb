"""Truncated samples: normal latents drawn again, or a row for a generator that takes it; in all commands."""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import norm

import oakleaf
from helpers.commands import quick
from helpers.composing import SMALL
from helpers.training import Fit, built
from oakleaf.conditioning.priors import Normal
from oakleaf.errors import UserError
from oakleaf.sampling.latents import ByClass, Interpolate, seeded_inputs

NORMAL = "model.game.prior={_target_: oakleaf.conditioning.priors.Normal, dim: 24}"
TAKES_IT = "model.game.generator={_target_: helpers.own_data.TruncatedGenerator}"


def test_truncated_latents_have_the_density_of_a_truncated_normal() -> None:
    torch.manual_seed(0)
    z, threshold = Normal(50)(20_000), torch.tensor([0.4, 1.0]).repeat(10_000)
    changed = Normal(50).truncated(z, threshold)
    for t, rows in ((0.4, changed[::2]), (1.0, changed[1::2])):
        assert rows.abs().max() <= t
        variance = 1 - 2 * t * norm.pdf(t) / (2 * norm.cdf(t) - 1)
        assert rows.var().item() == pytest.approx(variance, rel=0.01)
        assert rows.mean().abs() < 0.01 * math.sqrt(variance)
    within = z.abs() <= threshold[:, None]
    assert torch.equal(changed[within], z[within])


def test_one_seed_gives_the_same_latents_where_they_are_within_the_truncation(tmp_path: Path) -> None:
    game = built(*SMALL, NORMAL, folder=tmp_path)[0].game
    without = seeded_inputs(game, 100, seed=3)["latent"]
    assert torch.equal(seeded_inputs(game, 100, 3, truncation=1)["latent"], without)
    for truncation in (0.9, 0.5):
        latent = seeded_inputs(game, 100, 3, truncation=truncation)["latent"]
        assert latent.abs().max() <= truncation
        assert torch.equal(latent != without, without.abs() > truncation)
        assert torch.equal(latent[:70], seeded_inputs(game, 70, 3, truncation=truncation)["latent"])
    mode = Interpolate(pairs=2, steps=3)
    mode.truncation = 0.5
    ends = mode(game, 3)[0]["latent"].view(2, 3, -1)[:, [0, -1]]
    torch.testing.assert_close(ends.transpose(0, 1).flatten(0, 1), seeded_inputs(game, 4, 3, truncation=0.5)["latent"])


def test_a_generator_that_names_it_gets_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAKLEAF_TRUST", "helpers")
    module = built(*SMALL[1:], TAKES_IT, folder=tmp_path)[0]
    plain, inputs = (seeded_inputs(module.game, 5, 0, truncation=t) for t in (None, 0.5))
    assert torch.equal(plain["latent"], inputs["latent"])
    assert inputs["truncation"].tolist() == [0.5] * 5
    torch.testing.assert_close(module.sample(inputs), 0.5 * module.sample(plain))
    inputs["truncation"] = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])
    assert module.sample(inputs).flatten(1).any(1).tolist() == [False, True, False, True, False]


def test_the_row_reaches_every_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAKLEAF_TRUST", "helpers")
    game = built("model=acgan", SMALL[1], folder=tmp_path)[0].game
    monkeypatch.setattr(type(game), "takes_option", lambda self, name: name == "truncation")
    mode = ByClass(rows=2)
    mode.truncation = 0.5
    inputs, _ = mode(game, 0)
    assert inputs["truncation"].shape == (20,) and inputs["label"].tolist() == [*range(10)] * 2


def test_what_cannot_be_truncated_is_answered_in_one_sentence(tmp_path: Path) -> None:
    game = built(*SMALL, folder=tmp_path)[0].game
    assert torch.equal(*(seeded_inputs(game, 5, 0, truncation=t)["latent"] for t in (None, 1)))
    with pytest.raises(UserError, match=r"truncation=0\.7: .* does not take a truncation, and its latents are Uniform"):
        seeded_inputs(game, 5, 0, truncation=0.7)


@pytest.mark.slow
def test_commands_and_python_truncate(fit: Fit, tmp_path: Path) -> None:
    fit(*SMALL, NORMAL, "max_images=32", "callbacks.samples=null", folder=tmp_path / "run")
    options = [
        "checkpoint=run",
        "metric=[diversity,two_sample]",
        "extractor=pixels",
        "fake=100",
        "truncation=[1,0.8,0.6]",
    ]
    result = quick("evaluate", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("truncation"))
    assert [line.split()[0] for line in lines[first + 1 : first + 5]] == ["1", "0.8", "0.6", "baseline"]
    assert len({line.split()[1] for line in lines[first + 1 : first + 4]}) > 1
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    assert sorted({score["protocol"]["truncation"] for score in scores}) == [0.6, 0.8, 1]
    baseline = {score["baseline"] for score in scores if score["name"] == "spread-pixels"}
    assert len(baseline) == 1 and None not in baseline
    sampled = quick("sample", "checkpoint=run", "truncation=0.7", "count=4", folder=tmp_path)
    assert sampled.returncode == 0, sampled.stderr
    run = oakleaf.load(tmp_path / "run/checkpoints/last.ckpt")
    assert torch.equal(run.sample(4, truncation=1), run.sample(4))
    assert not torch.equal(run.sample(4, truncation=0.5), run.sample(4))
    with pytest.raises(UserError, match="above 0 and at most 1"):
        run.sample(4, truncation=2)
    refused = quick("sample", "checkpoint=run", "truncation=0", folder=tmp_path)
    assert "truncation=0.0: should be greater than 0" in refused.stderr or "truncation=0:" in refused.stderr
