"""The real-data baseline: which images it uses, that samples and baseline are compared alike, and its intervals."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from helpers.composing import SMALL, composed
from oakleaf.builder.build import build
from oakleaf.errors import UserError
from oakleaf.frozen import classifier as classifiers
from oakleaf.frozen.classifier import Training
from oakleaf.metrics.diversity import Diversity
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Classifier, Extractor, Pixels
from oakleaf.metrics.feature_cache import CHUNK, FeatureCache
from oakleaf.metrics.fid import FrechetDistance, frechet_distance
from oakleaf.metrics.held_out import evaluation_order, fitting_rows, held_out_rows
from oakleaf.metrics.image_set import Features, ImageSet, moments
from oakleaf.metrics.inception_score import InceptionScore
from oakleaf.metrics.kid import KernelDistance
from oakleaf.metrics.memorization import Memorisation
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.parzen import Parzen
from oakleaf.metrics.precision_recall import Prdc
from oakleaf.metrics.scores import Score, evaluate_metrics, table, truncated_results
from oakleaf.metrics.standard_errors import difference_interval, standard_errors
from oakleaf.metrics.two_sample import TwoSample

QUICK = Training(images=12_800, batch=64, width=8, features=16)
DIGITS = 1797


def evaluation_of(
    folder: Path, real: int = 1200, fake: int = 400, extractor: Extractor | None = None, **more: Any
) -> EvaluationData:
    """Perfect samples: the model's data are random digits, and its samples are other digits."""
    module, data, _ = build(composed(*SMALL, f"data.cache={folder}", folder="x"))
    data.setup()
    order = torch.randperm(DIGITS, generator=torch.Generator().manual_seed(7))
    rows = {name: values.clone() for name, values in data.rows.items()}
    data.rows = {name: values[order[:real]] for name, values in rows.items()}
    module.trained_on = ""
    evaluation = EvaluationData(module.eval(), data, extractor or Pixels(4), fake, 50_000, **more)
    evaluation.prepare()
    fresh = order[real : real + fake]
    pixels = rows["image"][fresh]
    extracted = Features(torch.empty(len(pixels), 0), None)
    if not evaluation.missing_features_reason:
        extracted = evaluation.extractor(pixels)
    evaluation.__dict__["fake"] = ImageSet(extracted, pixels, rows["label"][fresh])
    return evaluation


def scores_of(metrics: dict[str, Metric], evaluation: EvaluationData) -> dict[str, Score]:
    results = evaluate_metrics(metrics, evaluation)
    assert not results.failures, results.failures
    return {score.name: score for score in results.scores}


def test_a_third_is_held_out_and_the_order_is_fixed() -> None:
    for count in (1, 2, 3, 10, 1000):
        held_out, fitting = held_out_rows(count), fitting_rows(count)
        assert len(held_out) == count // 3
        assert sorted([*held_out.tolist(), *fitting.tolist()]) == list(range(count))
        assert torch.equal(evaluation_order(count), torch.cat([fitting, held_out]))
    assert torch.equal(held_out_rows(1000), held_out_rows(1000))


@pytest.mark.slow
def test_the_extractor_has_not_seen_the_images_of_the_baseline(tmp_path: Path) -> None:
    with mock.patch.object(classifiers, "train_classifier", wraps=classifiers.train_classifier) as train:
        evaluation = evaluation_of(tmp_path, extractor=Classifier(QUICK))
    trained = set(train.call_args.args[4].tolist())
    held_out, real = evaluation.held_out, evaluation.real
    assert held_out.rows is not None and real.rows is not None and len(held_out) == 400
    assert not trained & set(held_out.rows.tolist())
    assert not set(real.rows.tolist()) & set(held_out.rows.tolist())
    assert trained == set(real.rows.tolist())
    protocol = evaluation.extractor.protocol()
    assert protocol["trained_on"] == "800 real images"
    correct = held_out.extracted.logits.argmax(1) == held_out.label  # type: ignore[union-attr]
    assert protocol["held_out_accuracy"] == pytest.approx(float(correct.float().mean()), abs=1e-4)
    (score,) = evaluate_metrics({"fid": FrechetDistance()}, evaluation).scores
    assert "400 real images, held out of the extractor's training" in score.protocol["baseline"]


@pytest.mark.slow
def test_perfect_samples_equal_the_baseline_within_the_interval(tmp_path: Path) -> None:
    metrics: dict[str, Metric] = {
        "fid": FrechetDistance(),
        "inception_score": InceptionScore(),
        "kid": KernelDistance(20, 200),
        "prdc": Prdc(),
        "two_sample": TwoSample(),
        "diversity": Diversity(),
        "parzen": Parzen(),
        "memorisation": Memorisation(),
    }
    scores = scores_of(metrics, evaluation_of(tmp_path, fake=500, extractor=Classifier(QUICK)))
    outside = []
    for name, score in scores.items():
        assert score.protocol["fake"] == 400, name
        if score.interval and not score.interval[0] <= 0 <= score.interval[1]:
            outside.append((name, score.value, score.baseline, score.interval))
    assert sum(score.interval is not None for score in scores.values()) >= 14
    assert len(outside) <= 1, outside  # of 95 % intervals one in twenty misses


@pytest.mark.parametrize("fake", [100, 500])
def test_samples_and_baseline_are_equally_many_and_have_one_reference(tmp_path: Path, fake: int) -> None:
    seen: list[tuple[int, int, Tensor]] = []

    class Spy(Metric):
        better = {"spy": "lower"}
        has_errors = False

        def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
            assert real.rows is not None
            seen.append((len(real), len(fake), real.rows))
            return {"spy": 0.0}

    scores_of({"spy": Spy()}, evaluation_of(tmp_path, fake=fake))
    one, two = seen
    assert one[:2] == two[:2] == (800, min(fake, 400))
    assert torch.equal(one[2], two[2])
    seen.clear()
    evaluation = evaluation_of(tmp_path, fake=fake, with_baseline=False)
    score = scores_of({"spy": Spy()}, evaluation)["spy-pixels"]
    assert [one[:2] for one in seen] == [(1200, fake)]  # all of both
    assert (score.baseline, score.interval, "baseline" in score.protocol) == (None, None, False)


def test_parzen_of_perfect_samples_does_not_gain_by_more_windows(tmp_path: Path) -> None:
    score = scores_of({"parzen": Parzen()}, evaluation_of(tmp_path, real=600, fake=1000))["parzen"]
    assert score.interval is not None and score.baseline is not None
    assert score.protocol["windows"] == 200
    low, high = score.interval
    assert low <= 0 <= high
    alone = scores_of({"parzen": Parzen()}, evaluation_of(tmp_path, 600, 1000, with_baseline=False, resamples=0))
    assert alone["parzen"].value > score.baseline + high  # what more windows alone are worth


@pytest.mark.slow
def test_without_enough_held_out_images_all_samples_are_compared(tmp_path: Path) -> None:
    evaluation = evaluation_of(tmp_path, real=45, fake=300, extractor=Pixels(5))
    results = evaluate_metrics({"fid": FrechetDistance()}, evaluation)
    (score,) = results.scores
    assert (score.protocol["fake"], score.protocol["real"], score.baseline) == (300, 30, None)
    assert "15 images are too few" in results.notes["fid"]
    assert "no baseline" in table(results)


@pytest.mark.slow
def test_images_that_a_metric_reserves_leave_others_for_the_baseline(tmp_path: Path) -> None:
    for fake in (10, 300, 500):
        evaluation = evaluation_of(tmp_path, fake=fake)
        evaluation.validation_and_test()
        assert len(evaluation.held_out) == min(fake, 400)
        assert evaluation.held_out.rows is not None
        assert not evaluation.reserved & set(evaluation.held_out.rows.tolist())
        assert len(evaluation.reserved) == 2 * (1200 // 6)


# --- standard errors


def test_the_standard_error_of_a_mean_is_the_closed_form() -> None:
    for count in (100, 301):
        values = torch.randn(count, generator=torch.Generator().manual_seed(0)).double()
        found = standard_errors(lambda rows: {"mean": float(values[rows].mean())}, count, 400)  # noqa: B023
        assert found["mean"] == pytest.approx(float(values.std()) / count**0.5, rel=0.12)


@pytest.mark.slow
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says() -> None:
    """Frechet distance of samples whose true distance is that of the baseline, over 100 draws."""
    generator = torch.Generator().manual_seed(0)
    reference = moments(torch.randn(2000, 4, generator=generator))
    hits = 0
    for _ in range(100):
        sets = [torch.randn(200, 4, generator=generator) for _ in range(2)]
        values = [frechet_distance(reference, moments(x)) for x in sets]
        errors = [
            standard_errors(lambda rows, x=x: {"d": frechet_distance(reference, moments(x[rows]))}, 200, 20)["d"]
            for x in sets
        ]
        low, high = difference_interval(values[0] - values[1], *errors, 20)
        hits += low <= 0 <= high
    assert 88 <= hits <= 100


def test_nearest_neighbours_have_no_duplicates_in_a_resample() -> None:
    """With replacement, a repeated sample is its own neighbour, and the error of 1-NN falls to that of copies."""
    real, fake = (torch.randn(300, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    sets = [ImageSet(Features(x, None), x[:, :, None, None]) for x in (real, fake)]
    halves = TwoSample().resampler(*sets)
    assert halves(torch.randperm(300)[:150])["two_sample"] == pytest.approx(0.5, abs=0.1)
    assert halves(torch.randint(300, (300,)))["two_sample_fake"] > 0.7


def test_one_resample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="resamples=1: 0, or at least 2"):
        evaluation_of(tmp_path, resamples=1)


# --- the cache of features


def test_evaluations_of_other_sizes_share_the_cached_features(tmp_path: Path) -> None:
    order, computed = torch.randperm(3000), []

    def extract(rows: Tensor) -> Features:
        computed.extend(rows.tolist())
        return Features(rows[:, None].float(), None)

    cache = FeatureCache(tmp_path, ("images", "extractor"), order, torch.device("cpu"))
    assert torch.equal(cache(0, 100, extract).features[:, 0].long(), order[:100])
    assert len(computed) == CHUNK
    assert torch.equal(cache(50, 2500, extract).features[:, 0].long(), order[50:2500])
    assert len(computed) == 3000  # each image once
    assert torch.equal(cache(0, 3000, extract).features[:, 0].long(), order)
    assert len(cache(5, 5, extract).features) == 0
    assert len(computed) == 3000
    for file in (tmp_path / "features").iterdir():
        file.write_bytes(b"damaged")
    assert torch.equal(cache(2990, 3000, extract).features[:, 0].long(), order[2990:])
    other = FeatureCache(tmp_path, ("images", "another extractor"), order, torch.device("cpu"))
    before = len(computed)
    other(0, 1, extract)
    assert len(computed) == before + CHUNK


# --- truncation


@pytest.mark.slow
def test_precision_and_recall_over_truncation(tmp_path: Path) -> None:
    """Of a generator that shows its latents, truncated samples are near the mode and do not cover the others."""
    module, data, _ = build(composed("model=sngan", *SMALL, "data.size=32", f"data.cache={tmp_path}", folder="x"))
    module.eval()
    latents = torch.randn(1200, 3, generator=torch.Generator().manual_seed(0))
    data.rows = {"image": latents[:, :, None, None]}

    def sample(inputs: dict[str, Tensor], ema: bool) -> Tensor:
        return inputs["latent"][:, :3, None, None]

    with mock.patch.object(module, "sample", sample), mock.patch.object(data, "stored", lambda images: images):
        evaluation = EvaluationData(module, data, Pixels(1), 300, 50_000)
        results = truncated_results({"prdc": Prdc()}, evaluation, [None, 1, 0.2])
    assert not results.failures, results.failures
    found = {(score.name, score.protocol["truncation"]): score for score in results.scores}
    recall = [found["recall-pixels", truncation].value for truncation in (0.2, 1, None)]
    precision = [found["precision-pixels", truncation].value for truncation in (0.2, 1, None)]
    assert recall[0] < 0.1 < 0.7 < recall[2]
    assert precision[0] > precision[2]
    assert {(score.protocol["fake"], score.protocol["real"]) for score in results.scores} == {(300, 800)}
    assert len({score.baseline for score in results.scores if score.name == "recall-pixels"}) == 1
    assert results.pictures["truncation"].size[0] > 400
