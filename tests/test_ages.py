"""Age-cGAN: classes of ages, where the condition joins D, the encoder, the identity-preserving search."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.commands import quick
from helpers.composing import FP32
from helpers.frozen import Fixed, ready
from helpers.training import built
from oakleaf.builder.load import load
from oakleaf.data.utkface import UTKFace
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.networks.autoencoder import Encoder
from oakleaf.networks.dcgan import Discriminator
from oakleaf.runtime.run_dir import LAST
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling import Ages
from oakleaf.sampling.ages import class_of
from oakleaf.sampling.inversion import DRAWS, LBFGS, Distances
from oakleaf.sampling.latents import latent_inputs

AGES = (3, 18, 19, 25, 40, 61, 80, 20, 5, 33)
NARROW = ["model.game.generator.width=4", "model.game.discriminator.width=4", "model.game.prior.dim=6"]


def faces(folder: Path) -> Path:
    """Write ten small pictures that are named as UTKFace's."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, age in enumerate(AGES):
        pixels = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{age}_{number % 2}_0_2017{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on ten faces; the weights before the image are larger, because so short a training gives grey."""
    folder = tmp_path_factory.mktemp("ages")
    root = faces(folder / "faces")
    options = ["model=age_cgan", "data=utkface", f"data.root={root}", "data.source.bins=[18,39,60]", "data.size=16"]
    more = ["data.batch_size=5", "max_images=20", "data.balanced=true", *NARROW]
    module, data, trainer, _ = built(*FP32, *options, *more, folder=folder / "run")
    trainer.fit(module, datamodule=data)
    content = torch.load(folder / "run" / LAST, weights_only=True)
    for name in ("game.generator.image.0.weight", "ema.generator.network.image.0.weight"):
        content["state_dict"][name] *= 100
    torch.save(content, folder / "run" / LAST)
    return folder / "run"


def aged(module: GAN, picture: Path, **options: Any) -> tuple[Ages, dict[str, Tensor]]:
    mode = Ages(picture=str(picture), method=LBFGS(steps=4), **options)
    mode.data_node = module.recipe["data"]
    mode.request(module, None)
    with module.ema_scope() as game:
        return mode, mode(game, 0)[0]


def test_ages_are_classes_with_the_limits_of_the_paper(tmp_path: Path) -> None:
    source = UTKFace(faces(tmp_path / "faces"), bins=[18, 29, 39, 49, 59])
    assert source.classes == ["0-18", "19-29", "30-39", "40-49", "50-59", "60+"]
    years, label = source.labels["age"].tolist(), source.labels["label"].tolist()
    assert dict(zip(years, label)) == {3: 0, 18: 0, 19: 1, 25: 1, 40: 3, 61: 5, 80: 5, 20: 1, 5: 0, 33: 2}
    assert [class_of(year, source.classes) for year in years] == label
    Image.new("RGB", (16, 16)).save(tmp_path / "faces/me.png")
    assert UTKFace(tmp_path / "faces", bins=[18]).labels["label"].min() == -1  # no age is known
    with pytest.raises(UserError, match="rising order"):
        UTKFace(tmp_path / "faces", bins=[29, 18])
    with pytest.raises(UserError, match="has this age"):
        class_of(30, ["zero", "one"])


def test_the_condition_joins_d_after_its_first_convolution() -> None:
    torch.manual_seed(0)
    network = Discriminator(3, 16, width=4, norm="none", classes=5, conditioning="concat_first")
    first, second = (stage.linear for stage in network.stages)
    assert first.in_channels == 3 and second.in_channels == 4 + 5
    x, y = torch.randn(2, 3, 16, 16), torch.eye(5)[[1, 4]]
    hidden = network.stages[0](x)
    planes = y[:, :, None, None].expand(-1, -1, 8, 8)
    by_hand = network.score(network.stages[1](torch.cat([hidden, planes], 1)).flatten(1)).squeeze(1)
    assert torch.equal(network(x, y).score, by_hand)
    assert not torch.equal(network(x, y.flip(0)).score, by_hand)
    with pytest.raises(UserError, match="stages=2"):
        Discriminator(3, 16, kernel=5, stages=1, classes=5, conditioning="concat_first")


def test_the_encoder_has_a_hidden_layer_and_keeps_its_weights_without_one() -> None:
    torch.manual_seed(0)
    layers = Encoder(7, 3, 16, width=4, kernel=5, hidden=12).layers
    assert [layer.out_features for layer in layers if isinstance(layer, torch.nn.Linear)] == [12, 7]
    assert len(Encoder(7, 3, 16, width=4).layers) == 4


@pytest.mark.slow
def test_the_identity_is_searched_as_in_a_hand_written_loop(run: Path) -> None:
    """|FR(x) - FR(G(z, y0))|^2 by L-BFGS with y0 the face's own class."""
    module, network = load(run), ready(Fixed(size=16))
    picture = run.parent / "faces/40_0_0_20174.png"
    options = {"identity": "face", "frozen": {"face": network}, "distances": Distances(pixels=0.0)}
    mode, inputs = aged(module, picture, **options)
    assert mode.own.tolist() == [2] and inputs["label"].tolist() == [0, 1, 2, 3]
    assert mode.pictures is not None and mode.result is not None
    with module.ema_scope() as game:
        y = torch.tensor([2])
        target = network(mode.pictures.images).embedding
        draws = latent_inputs(game, DRAWS, derive_seed(0, "domain"))["latent"]
        mean, sd = draws.mean(0), draws.std(0)
        u = torch.nn.Parameter(torch.zeros(1, 6))
        tolerances = {"tolerance_grad": 1e-12, "tolerance_change": 1e-12}
        optimizer = torch.optim.LBFGS([u], max_iter=1, history_size=20, line_search_fn="strong_wolfe", **tolerances)

        def distance() -> Tensor:
            face = game.generate({"latent": mean + u * sd, "label": y})
            return (network(face).embedding - target).square().sum()

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = distance()
            (u.grad,) = torch.autograd.grad(value, u)
            return value

        first = float(distance())
        with torch.enable_grad():
            for _ in range(4):
                optimizer.step(closure)
        by_hand = float(distance())
    assert by_hand < first - 5  # the search has moved
    assert abs(float(mode.result.losses[0]) - by_hand) < 0.01 * (first - by_hand)


def test_a_face_does_not_depend_on_the_others(run: Path, tmp_path: Path) -> None:
    """The search has batch normalisation in eval mode, and a line search for each face."""
    module, root = load(run), run.parent / "faces"
    (tmp_path / "two").mkdir()
    for name in ("25_1_0_20173.png", "80_0_0_20176.png"):
        Image.open(root / name).save(tmp_path / "two" / name)
    alone, together = aged(module, root / "25_1_0_20173.png")[1], aged(module, tmp_path / "two")[1]
    assert torch.equal(alone["latent"], together["latent"][:4])
    assert together["label"].tolist() == [0, 1, 2, 3] * 2


def test_ageing_to_the_own_age_changes_nothing(run: Path) -> None:
    module = load(run)
    mode, inputs = aged(module, run.parent / "faces/61_1_0_20175.png")
    images = module.sample(inputs)
    assert mode.result is not None and mode.own.tolist() == [3]
    reconstruction = module.sample({"latent": mode.result.latents, "label": mode.own})
    assert torch.allclose(images[3:4], reconstruction, atol=1e-5) and not torch.allclose(
        images[0], images[3], atol=1e-3
    )
    other, _ = aged(module, run.parent / "faces/61_1_0_20175.png", age=10)
    assert other.own.tolist() == [0] and other.result is not None
    assert not torch.equal(other.result.latents, mode.result.latents)  # the latent depends on the age that is given


def sampled(run: Path, out: Path, *options: str) -> Any:
    given = [f"checkpoint={run}", "mode=ages", "mode.method.steps=2", "device=cpu", f"out={out}"]
    return quick("sample", *given, *options, folder=out.parent)


@pytest.mark.slow
def test_the_command_draws_a_row_of_ages_and_lists_the_faces(run: Path, tmp_path: Path) -> None:
    root = run.parent / "faces"
    result = sampled(run, tmp_path / "one", f"picture={root / '33_1_0_20179.png'}")
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "one/samples.npy").shape == (5, 16, 16, 3)
    (row,) = csv.DictReader((tmp_path / "one/projections.csv").open())
    assert row["age"] == "19-39" and 0 < float(row["length"]) < 5
    Image.open(root / "33_1_0_20179.png").save(tmp_path / "me.png")
    for option in ("mode.age=50", "condition=40-60"):
        result = sampled(run, tmp_path / "me", f"picture={tmp_path / 'me.png'}", option, "format=png")
        assert result.returncode == 0, result.stderr
        (row,) = csv.DictReader((tmp_path / "me/projections.csv").open())
        assert row["age"] == "40-60"
    assert len(list((tmp_path / "me").glob("**/*61+*"))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["picture=me.png"], "mode.age= is missing"),
        ([], "picture= is missing"),
        (["picture=grey.png", "mode.age=30"], "all of its pixels are equal"),
        (["picture=me.png", "condition=old"], "there is no class of this name"),
        (["picture=me.png", "mode.age=30", "mode.identity=face"], "there is no such frozen network"),
        (["picture=nowhere.png", "mode.age=30"], "no such file"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(run: Path, tmp_path: Path, options: list[str], message: str) -> None:
    Image.open(run.parent / "faces/3_0_0_20170.png").save(tmp_path / "me.png")
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "grey.png")
    result = sampled(run, tmp_path / "out", *options)
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out/samples.npy").exists()


@pytest.mark.slow
def test_the_encoder_is_fitted_to_the_generator_and_starts_the_search(run: Path, tmp_path: Path) -> None:
    root = run.parent / "faces"
    options = ["model=age_cgan_encoder", "data=utkface", f"data.root={root}", "data.source.bins=[18,39,60]"]
    more = [f"model.frozen.generator.checkpoint={run}", "data.size=16", "data.batch_size=5", "max_images=20"]
    narrow = ["model.game.encoder.width=4", "model.game.encoder.hidden=8"]
    module, data, trainer, _ = built(*FP32, *options, *more, *narrow, folder=tmp_path / "encoder")
    trainer.fit(module, datamodule=data)
    batch = {"image": torch.rand(4, 3, 16, 16) * 2 - 1, "label": torch.tensor([0, 1, 2, 3])}
    losses, _ = module.game.player_losses("encoder", batch, 1)
    assert list(losses) == ["latent"]
    result = sampled(
        tmp_path / "encoder", tmp_path / "out", f"picture={root / '5_0_0_20178.png'}", "mode.optimise=false"
    )
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "out/samples.npy").shape == (5, 16, 16, 3)
