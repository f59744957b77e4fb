"""Overrides: a class replaced together with its options, and usual names answered by the full keys."""

from pathlib import Path

import pytest

from helpers.commands import quick
from helpers.composing import SMALL, composed
from helpers.training import Fit
from oakleaf.config.common_names import COMMON_NAMES, meant_keys
from oakleaf.config.overrides import for_new_classes

MINE = "helpers.own_data.TruncatedGenerator"


@pytest.fixture(autouse=True)
def _trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAKLEAF_TRUST", "helpers")


@pytest.mark.parametrize(
    "override", [f"model.game.generator={{_target_: {MINE}}}", f"model.game.generator._target_={MINE}"]
)
def test_a_class_is_replaced_with_its_options(override: str) -> None:
    node = composed(override).model.game.generator
    assert set(node) == {"_target_", "latent", "channels", "size"}  # what both know stays, the rest is dropped
    assert (node._target_, node.latent, node.size) == (MINE, 100, 16)


def test_options_of_the_new_class_need_no_plus_and_mistakes_stay() -> None:
    plain = composed(f"model.game.generator._target_={MINE}", "model.game.generator.depth=2")
    assert plain.model.game.generator.depth == 2  # not a key of the class: the validation answers it
    same = composed("model.game.generator._target_=oakleaf.networks.dcgan.Generator", "model.game.generator.width=8")
    assert (same.model.game.generator.width, same.model.game.generator.kernel) == (8, 4)


def test_a_replaced_class_is_trained_and_a_misspelt_option_answered(fit: Fit, tmp_path: Path) -> None:
    module, _ = fit(SMALL[1], f"model.game.generator={{_target_: {MINE}}}", "max_images=64")
    assert type(module.game.generator).__name__ == "TruncatedGenerator"
    options = [f"model.game.generator={{_target_: {MINE}, latnet: 3}}", "trainer=cpu", "logger=csv", "max_images=8"]
    result = quick("train", *options, folder=tmp_path)
    assert result.returncode == 1
    assert (
        "model.game.generator.latnet: there is no such option. Did you mean model.game.generator.latent?"
        in result.stderr
    )


def test_overrides_of_a_named_class_are_added_or_changed() -> None:
    assert for_new_classes(["data._target_=mine.Photos", "data.root=x", "+data.size=3", "seed=1", "-m"]) == [
        "data._target_=mine.Photos", "++data.root=x", "++data.size=3", "seed=1", "-m", "++data.name=Photos",
    ]  # fmt: skip
    assert for_new_classes(["data._target_=mine.A", "data.name=b"])[-1] == "++data.name=b"
    assert for_new_classes(["data._target_=mine.A,mine.B"]) == ["data._target_=mine.A,mine.B"]
    assert for_new_classes(["loss=hinge", "~loss.penalties.r1"]) == ["loss=hinge", "~loss.penalties.r1"]


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("lr=1e-4", "lr: did you mean optim.generator.lr and optim.discriminator.lr?"),
        ("learning_rate=1e-4", "learning_rate: did you mean optim.generator.lr and optim.discriminator.lr?"),
        ("optim.lr=1e-4", "optim.lr: did you mean optim.generator.lr and optim.discriminator.lr?"),
        ("batch_size=32", "batch_size: did you mean data.batch_size?"),
        ("n_critic=5", "n_critic: did you mean optim.generator.every? (n_critic=5 is optim.generator.every=5)"),
        ("epochs=3", "epochs: did you mean trainer.max_epochs?"),
        ("image_size=64", "image_size: did you mean data.size?"),
        ("gpus=2", "gpus: did you mean trainer.devices? (trainer=ddp trainer.devices=2)"),
        ("generator.width=8", "generator.width: did you mean model.game.generator.width?"),
        ("width=8", "width: did you mean model.game.generator.width and model.game.discriminator.width?"),
        ("z_dim=8", "z_dim: did you mean model.game.prior.dim?"),
        ("trainer.gpus=2", "trainer.gpus: did you mean trainer.devices? (trainer=ddp trainer.devices=2)"),
        ("kimg=8", "kimg: did you mean max_images?"),
        ("nonsense=8", "nonsense: there is no such option."),
    ],
)
def test_a_usual_name_is_answered_by_the_full_keys(tmp_path: Path, override: str, answer: str) -> None:
    result = quick("train", override, folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(answer), result.stderr


def test_usual_names_of_other_commands(tmp_path: Path) -> None:
    for command, override, answer in (
        ("sample", "trunc=0.7", "trunc: did you mean truncation?"),
        ("sample", "n=5", "n: did you mean count?"),
        ("evaluate", "num_samples=5", "num_samples: did you mean fake?"),
    ):
        result = quick(command, override, folder=tmp_path)
        assert result.stderr.startswith(answer), result.stderr


def test_a_name_has_one_meaning_and_a_full_key_that_exists() -> None:
    names = [name for several in COMMON_NAMES for name in several]
    assert len(names) == len(set(names))
    assert meant_keys("lr", ["optim.encoder.lr", "optim.generator.lr", "optim.discriminator.lr"]) == [
        "optim.generator.lr", "optim.discriminator.lr", "optim.encoder.lr",
    ]  # fmt: skip
    assert meant_keys("nothing", ["a.b"]) == []
