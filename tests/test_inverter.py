"""model=inverter: an encoder that is fitted to the frozen generator of another run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import FP32, SMALL, composed
from helpers.data import small_generator
from helpers.training import Fit
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.losses.inversion import LatentRegression
from oakleaf.round import Round

THIN = ["model=inverter", "model.game.encoder.width=4", "data.batch_size=8"]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_generator(tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
def test_an_encoder_is_trained_and_its_run_projects_pictures(generator: Path, fit: Fit, tmp_path: Path) -> None:
    """The frozen generator stays as it is; the run of the encoder needs no other run to be loaded."""
    options = [*THIN, f"model.frozen.generator.checkpoint={generator}", "max_images=64", "optim.encoder.lr=2e-3"]
    module, _ = fit(*options, folder=tmp_path / "inverter")
    original = load(generator)
    z = torch.randn(5, 100)
    assert torch.equal(module.game.generate({"latent": z}), original.sample({"latent": z}))
    assert module.game.prior == original.game.prior and module.game.encode(torch.zeros(2, 1, 16, 16)).shape == (2, 100)
    assert not any(weight.requires_grad for weight in module.game.frozen.parameters())
    Image.new("L", (20, 20), 99).save(tmp_path / "a.png")
    line = ["sample", "checkpoint=inverter", "device=cpu", "mode=project", "picture=a.png", "mode.method.steps=3"]
    for options in ([], ["mode.optimise=false"], ["mode.distances.encoder=2"]):
        result = quick(*line, *options, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    encoded = np.load(tmp_path / "samples/latents.npy")
    assert encoded.shape == (1, 100)
    reconstructed = quick(*line[:3], "mode=reconstruct", "count=2", "out=again", folder=tmp_path)
    assert reconstructed.returncode == 0, reconstructed.stderr


def test_the_latent_term_is_the_error_of_the_encoder_on_samples() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(3, 3)
    encoder = torch.nn.Linear(3, 3, bias=False)
    z = torch.randn(6, 3)
    round = Round(torch.zeros(6, 3), torch.zeros(6, 3), lambda x: x, fake_inputs={"latent": z})
    round.networks, round.generate = {"encoder": encoder}, lambda inputs: inputs["latent"] @ matrix
    loss = LatentRegression()(round)
    assert torch.allclose(loss, ((z @ matrix) @ encoder.weight.T - z).square().mean(), atol=1e-6)
    loss.backward()
    assert encoder.weight.grad is not None and encoder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "model.frozen.generator.checkpoint= is missing"),
        (["model.frozen.generator.checkpoint={run}", "model.frozen.generator.network=discriminator"], "of a run whose"),
        (["model.frozen.generator.checkpoint={run}", "model.game.terms.encoder=null"], "needs a term"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(generator: Path, options: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(composed(*FP32, *THIN, *(option.format(run=generator) for option in options), folder="x"))


def test_images_of_another_size_are_refused(generator: Path, fit: Fit) -> None:
    options = [*THIN, f"model.frozen.generator.checkpoint={generator}", "data.size=32", "max_images=8"]
    with pytest.raises(UserError, match="makes images of 1 x 16 x 16, and data=digits has 1 x 32 x 32"):
        fit(*options)


@pytest.mark.slow
def test_a_generator_with_classes_gets_the_class(tmp_path: Path, fit: Fit) -> None:
    fit("model=cdcgan", *SMALL, "model.game.generator.hidden=8", "model.game.discriminator.hidden=8", "max_images=16",
        folder=tmp_path / "classes")  # fmt: skip
    module, _ = fit(*THIN, "+model/condition=label", f"model.frozen.generator.checkpoint={tmp_path / 'classes'}",
                    "max_images=16", folder=tmp_path / "inverter")  # fmt: skip
    z, label = torch.randn(3, 100), torch.tensor([0, 1, 2])
    images = module.sample({"latent": z, "label": label})
    assert torch.equal(images, load(tmp_path / "classes").sample({"latent": z, "label": label}))
