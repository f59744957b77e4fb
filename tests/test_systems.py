"""Every system with every loss composes and trains; networks have the shapes they promise."""

import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from helpers.composing import FP32, LONG, choices, composed, input_options
from helpers.data import condition_options
from helpers.marks import slow_except
from helpers.training import Fit, built
from oakleaf.builder.build import build
from oakleaf.builder.trainer import build_trainer
from oakleaf.config.validate import validate
from oakleaf.errors import UserError
from oakleaf.networks import dcgan, mlp
from oakleaf.networks.autoencoder_critic import began_stages
from oakleaf.networks.layers import dcgan_stages, height_width
from oakleaf.networks.pyramid import level_sizes
from oakleaf.networks.resnet import ResNet
from oakleaf.networks.unet import UNet

MODELS, LOSSES = choices("model"), choices("loss")
SMOKE_PAIRS = [("dcgan", "relativistic"), ("dcgan", "wasserstein_gp")]
SMOKE = ("acgan", "bigan", "cyclegan", "dcgan", "gan_cls", "gmm", "lapgan", "pix2pix", "stackgan_2", "toy", "vae")


def pairs() -> list[Any]:
    """Return pairs of model and loss: all of dcgan and one sixteenth of the others; with OAKLEAF_LONG=1 all.

    The smoke subset has the first pair of a model of each kind of game, and two losses with penalties.
    """
    found = []
    for i, model in enumerate(MODELS):
        losses = [loss for j, loss in enumerate(LOSSES) if model == "dcgan" or (i + j) % 16 == 0 or LONG]
        for loss in losses:
            smoke = (model in SMOKE and loss == losses[0]) or (model, loss) in SMOKE_PAIRS
            found.append(pytest.param(model, loss, id=f"{model}-{loss}", marks=[] if smoke else pytest.mark.slow))
    return found


@pytest.mark.parametrize(
    "size, stages, base", [(28, 4, (2, 2)), (17, 3, (3, 3)), ([20, 30], 2, (5, 8)), (12, 1, (6, 6))]
)
def test_stages_round_odd_sides_up(size: Any, stages: int, base: tuple[int, int]) -> None:
    """28, 14, 7, 4, 2: the networks of VEEGAN's and PacGAN's Stacked-MNIST."""
    generator = dcgan.Generator(10, 3, size, width=2, kernel=5, stages=stages)
    discriminator = dcgan.Discriminator(3, size, width=2, kernel=5, stages=stages)
    images = generator(torch.randn(2, 10))
    assert images.shape[2:] == height_width(size)
    assert generator.base_shape == (2 << stages - 1, *base)
    assert discriminator(images).features.shape == (2, (2 << stages - 1) * base[0] * base[1])


def test_too_many_stages_and_even_kernels_for_odd_sides_are_refused() -> None:
    with pytest.raises(UserError, match="at most 3"):
        dcgan.Generator(10, 1, 5, stages=6)
    with pytest.raises(UserError, match="need an odd kernel"):
        dcgan.Discriminator(1, 28, kernel=4, stages=4)


def narrow(node: Any) -> None:
    """All its networks, for speed."""
    for key, value in node.items_ex(resolve=False) if isinstance(node, DictConfig) else ():
        if key == "width" and isinstance(value, int):
            node[key] = min(value, 8)
        narrow(value)


@pytest.mark.parametrize(("model", "loss"), pairs())
def test_dcgan_with_every_loss_and_one_sixteenth_of_the_other_model_and_loss_pairs_train(
    tmp_path: Path, captions: Path, model: str, loss: str
) -> None:
    options = [*FP32, f"model={model}", f"loss={loss}", *input_options(model), *condition_options(model, captions)]
    config = composed(*options, "data.batch_size=8", "max_images=16", folder=tmp_path)
    for player in filter(None, config.optim.values()):
        if "every" in player:
            player.every = 1  # all play, also after five steps of D
    narrow(config.model.game)
    module, data, recipe = build(config)
    build_trainer(recipe).fit(module, datamodule=data)
    assert module.iteration == 2
    assert all(torch.isfinite(w).all() for w in module.parameters())
    images = module.sample(module.game.sample_inputs(3))
    assert images.shape == (3, data.channels, *data.size)
    assert images.abs().max() <= 1 or model in ("toy", "tagging")  # points and vectors know no bounds


@pytest.mark.parametrize("loss", slow_except(["wasserstein_gp"], choices("loss")))
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_dcgan_trains_with_every_loss_in_other_precisions(fit: Fit, loss: str, precision: str) -> None:
    options = [f"loss={loss}", f"trainer.precision={precision}", "augment=noise"]
    module, _ = fit(*options, "data.batch_size=8", "max_images=16", "log_every=1")
    assert all(torch.isfinite(w).all() for w in module.parameters())


@pytest.mark.parametrize("optim", choices("optim"))
@pytest.mark.slow
def test_dcgan_trains_with_every_optim(fit: Fit, optim: str) -> None:
    module, _ = fit(f"optim={optim}", "data.batch_size=8", "max_images=40")
    assert module.iteration == 5


def with_first_stage(config: Any) -> None:
    """Give what a second stage takes from a run of the first one, and an inverter from that of a generator."""
    if "generator" in (config.model.get("frozen") or {}):
        config.model.frozen.generator.checkpoint = "x"
    if "stage1" in (config.model.get("frozen") or {}):
        config.model.frozen.stage1.checkpoint = "x"
        config.data.size = config.data.size or 64
        config.model.game.generator.small = 8


@pytest.mark.parametrize("experiment", choices("experiment"))
@pytest.mark.slow
def test_every_experiment_composes(experiment: str) -> None:
    """All interpolations resolve, every key is one that its class has, and the run has an end."""
    config = composed(f"experiment={experiment}", folder="x")
    config.data.channels, config.data.size = config.data.channels or 3, config.data.size or 64
    config.data.classes, config.data.input_channels = 10, config.data.input_channels or 1
    with_first_stage(config)
    resolved = OmegaConf.to_container(config, resolve=True)
    validate(resolved)
    assert "${" not in str(resolved)
    assert resolved["max_images"] or resolved["trainer"]["max_epochs"] > 0


def both(key: str, value: Any, d: Any = None) -> dict[str, Any]:
    """The same for G and for D, unless D has another."""
    return {f"optim.generator.{key}": value, f"optim.discriminator.{key}": value if d is None else d}


def adam(lr: float, beta1: float, beta2: float = 0.999, d: float | None = None) -> dict[str, Any]:
    return both("lr", lr, d) | both("optimizer.betas", [beta1, beta2])


G, D = "model.game.generator", "model.game.discriminator"
POINTS = (
    adam(1e-4, 0.8)
    | {"data.batch_size": 100, "data.points": 100_000, "trainer.max_epochs": 400, "model.game.prior.dim": 2}
    | {f"{G}.hidden": [400] * 4, f"{G}.norm": "batch", f"{G}.sd": 0.02}
    | {f"{D}.hidden": [200] * 3, f"{D}.pieces": 5, f"{D}.waves": 0, f"{D}.sd": 0.02, "optim.ema": None}
)
PAPERS = {
    "cgan_mnist_2014": both("lr", 0.1, d=0.05)
    | both("schedules.lr.divisor", 1.00004)
    | both("schedules.lr.each", 100)
    | both("schedules.lr.floor", 1e-6, d=5e-7)
    | both("optimizer.momentum", 0.5)
    | both("schedules.momentum.to", 0.7)
    | {"data.batch_size": 100, "data.source.first": 50_000},
    "cdcgan_mnist": adam(2e-4, 0.5)
    | both("optimizer.weight_decay", 2.5e-5)
    | both("schedules.lr.after", 5_000_000)
    | {"data.batch_size": 128, "trainer.max_epochs": 200, f"{G}.hidden": 1024, f"{D}.hidden": 1024},
    "infogan_mnist": adam(1e-3, 0.5, d=2e-4)
    | {"data.batch_size": 128, "max_images": 5000 * 128, "model.game.prior.dim": 74, f"{D}.slope": 0.1}
    | {"model.game.prior.categories": [10], "model.game.prior.continuous": 2}
    | {f"model.game.terms.{player}.mutual_information.weight": 1 for player in ("generator", "discriminator")},
    "improved_mnist_100": adam(3e-3, 0.5)
    | {"data.batch_size": 100, "data.labelled": 100, "trainer.max_epochs": 300, "optim.ema.half_life": 693_000},
    "ebgan_mnist": adam(1e-3, 0.5) | {"loss.objective.margin": 10, "model.game.terms.generator.pull_away.weight": 0.1},
    "began_faces": adam(1e-4, 0.5)
    | {"loss.objective.gamma": 0.5, "loss.objective.rate": 1e-3, "data.batch_size": 16, "data.size": 64},
    "ali_cifar10": adam(1e-4, 0.5)
    | {"data.batch_size": 100, "trainer.max_epochs": 6475, "model.game.prior.dim": 64, f"{D}.joint": 1024}
    | {"optim.encoder.lr": 1e-4, f"{D}.dropout_input": 0.2, f"{D}.dropout_hidden": 0.5},
    "wgan_mnist": both("lr", 5e-5)
    | {"optim.generator.every": 5, "loss.constraints.clipping.limit": 0.01, "data.batch_size": 64},
    "gan_mnist_2014": both("lr", 0.1, d=0.05)
    | both("schedules.lr.divisor", 1.000004)
    | both("optimizer.momentum", 0.5)
    | {"data.batch_size": 100, "data.source.first": 50_000},
    "stacked_mnist_dcgan": adam(2e-4, 0.5)
    | {"data.source.count": 128_000, "data.batch_size": 64, "trainer.max_epochs": 50, "optim.discriminator.every": 2}
    | {f"{G}.stages": 4, f"{D}.stages": 4, "model.game.prior.dim": 100},
    "ring_unrolled": adam(1e-3, 0.5, d=1e-4)
    | {"optim.generator.unrolled": 5, "max_images": 25_000 * 512, "data.batch_size": 512, "model.game.prior.dim": 256},
    "pacgan_ring": POINTS | {"data.mixture.components": 8, "data.mixture.sd": 0.01},
    "pacgan_grid": POINTS | {"data.mixture.side": 5, "data.mixture.sd": 0.05, "data.mixture.spacing": 2},
    "gan_cls_emoji": adam(2e-4, 0.5)
    | {"model.game.mismatched": True, "model.game.interpolated": True, f"{G}.text": 128, f"{D}.text": 128},
}


@pytest.mark.parametrize("experiment", PAPERS)
def test_experiments_have_the_numbers_of_their_papers(experiment: str) -> None:
    """As in the sections and the code that the YAMLs name."""
    config = composed(f"experiment={experiment}", folder="x")
    papers = PAPERS[experiment]
    assert {key: OmegaConf.select(config, key) for key in papers} == papers


@pytest.mark.parametrize(
    ("model", "papers"),
    [
        ("wgan_gp", adam(1e-4, 0.0, 0.9) | {"optim.generator.every": 5, "loss.penalties.gradient_penalty.weight": 10}),
        ("sngan", adam(2e-4, 0.0, 0.9) | {"optim.generator.every": 5, "loss.name": "hinge", f"{D}.slope": 0.1}),
        ("dcgan", adam(2e-4, 0.5) | {"data.batch_size": 128, f"{D}.slope": 0.2}),
    ],
)
def test_models_have_the_numbers_of_their_papers(model: str, papers: dict[str, Any]) -> None:
    config = composed(f"model={model}", "data=cifar10", folder="x")
    assert {key: OmegaConf.select(config, key) for key in papers} == papers


@pytest.mark.parametrize("data", [name for name in choices("data") if name != "dataset"])  # which has no class
@pytest.mark.slow
def test_every_data_set_composes_with_one_eighth_of_the_models(data: str) -> None:
    """All interpolations resolve, and every key is one that its class has. With OAKLEAF_LONG=1 for all models."""
    some = slice(None) if LONG else slice(choices("data").index(data) % 8, None, 8)
    for model in MODELS[some]:
        config = composed(f"data={data}", f"model={model}", folder="x")
        config.data.channels, config.data.classes, config.data.input_channels = config.data.channels or 3, 10, 1
        with_first_stage(config)
        resolved = OmegaConf.to_container(config, resolve=True)
        validate(resolved)
        assert "${" not in str(resolved)
        assert resolved["model"]["game"] and resolved["data"]["_target_"]


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 28, (32, 64)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_dcgan_supports_the_listed_sizes_and_channels(size, channels: int) -> None:
    shape = (size, size) if isinstance(size, int) else size
    for kernel in (4, 5):
        images = dcgan.Generator(10, channels, size, width=2, kernel=kernel)(torch.randn(2, 10))
        assert images.shape == (2, channels, *shape)
        assert dcgan.Discriminator(channels, size, width=2, kernel=kernel)(images).score.shape == (2,)


SIZES = [4, 8, 15, 33, 36, 60, 100, 1000, (33, 47), (100, 37), (20, 21), (9, 90)]
SIZED = {
    "dcgan": dcgan_stages,
    "began": began_stages,
    "lapgan": lambda size: level_sizes(size, 3),
    "pix2pix": lambda size: UNet(1, 1, size, width=1, depth=4),
    "cyclegan": lambda size: ResNet(1, 1, size, width=1, blocks=1),
}


FITTING = {
    "dcgan": [],
    "began": [4, 8, 15, 36, 60, (9, 90)],
    "lapgan": [8, 1000],
    "pix2pix": [],
    "cyclegan": [36, 60, 100, 1000],
}


@pytest.mark.parametrize(("model", "size"), [(model, size) for model in SIZED for size in FITTING[model]], ids=str)
def test_a_size_that_fits_is_accepted(model: str, size: Any) -> None:
    """No error is raised."""
    SIZED[model](size)


REFUSED = [(model, size) for model in SIZED for size in SIZES if size not in FITTING[model]]


@pytest.mark.parametrize(("model", "size"), REFUSED, ids=str)
def test_a_size_that_does_not_fit_is_refused_with_the_nearest_that_does(model: str, size: Any) -> None:
    with pytest.raises(UserError, match="nearest: ") as error:
        SIZED[model](size)
    nearest = literal_eval(str(error.value).split("nearest: ")[1].split(";")[0])
    SIZED[model](nearest)
    ratio = np.array(height_width(nearest)) / np.maximum(height_width(size), 16)
    assert ratio.min() >= 0.5 and ratio.max() < 2


@pytest.mark.parametrize("size", [(112, 92), (92, 112), (27, 33), (100, 250), (15, 90), 61])
def test_a_suggested_size_is_accepted_and_not_larger(size: Any) -> None:
    """Pictures are not enlarged, so a suggestion above their size would be refused, too."""
    with pytest.raises(UserError, match="nearest: ") as error:
        dcgan_stages(size)
    nearest = height_width(literal_eval(str(error.value).split("nearest: ")[1]))
    dcgan_stages(nearest)
    assert all(side <= max(limit, 16) for side, limit in zip(nearest, height_width(size)))


def test_dcgan_refuses_other_sizes() -> None:
    for size in (4, 8, 15, 36, 100):
        with pytest.raises(UserError, match="nearest"):
            dcgan_stages(size)


def test_dcgan_keeps_the_four_guidelines() -> None:
    generator, discriminator = dcgan.Generator(100, 3, 64), dcgan.Discriminator(3, 64)
    kinds = [type(m).__name__ for m in [*generator.modules(), *discriminator.modules()]]
    assert not [kind for kind in kinds if "Pool" in kind or "Upsample" in kind]
    assert kinds.count("Linear") == 2  # the projection and the score; none is hidden
    assert kinds.count("ConvTranspose2d") == 4
    assert kinds.count("Conv2d") == 4
    assert kinds.count("BatchNorm2d") == 4 + 3  # all but G's output and D's input
    assert kinds.count("ReLU") == 4
    assert kinds.count("LeakyReLU") == 4
    assert "Tanh" in kinds
    torch.manual_seed(0)
    weights = dcgan.Generator(100, 3, 64).stages[1].linear.weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


def test_the_first_gan_has_the_layers_of_its_code() -> None:
    generator, discriminator = mlp.SigmoidGenerator(100, 1, 28), mlp.MaxoutDiscriminator(1, 28)
    assert [tuple(w.shape) for w in generator.parameters() if w.dim() == 2] == [(1200, 100), (1200, 1200), (784, 1200)]
    assert [tuple(w.shape) for w in discriminator.parameters() if w.dim() == 2] == [(1200, 784), (1200, 240), (1, 240)]
    assert discriminator.layers[0].p == 0.2
    assert discriminator.layers[2].p == 0.5
    x = torch.rand(2, 1, 28, 28) * 2 - 1
    units = discriminator.layers[1]
    by_hand = units.linear((x.flatten(1) + 1) / 2).view(2, 240, 5).max(2).values
    torch.testing.assert_close(units((x.flatten(1) + 1) / 2), by_hand)


def test_signals_without_normalisation_keep_their_scale() -> None:
    torch.manual_seed(0)
    images = dcgan.Generator(100, 3, 64, norm="none")(torch.randn(64, 100))
    assert 0.3 < images.std() < 0.9
    score = dcgan.Discriminator(3, 64, norm="none")(torch.rand(64, 3, 64, 64) * 2 - 1).score
    assert 0.1 < score.abs().mean() < 3


def test_critics_with_penalties_have_no_batchnorm(tmp_path: Path) -> None:
    for loss in ("wasserstein_gp", "relativistic"):
        module, *_ = built(*FP32, f"loss={loss}", folder=tmp_path)
        assert not [m for m in module.game.discriminator.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_seed_fixes_the_weights(tmp_path: Path) -> None:
    one, two, other = (build(composed(f"seed={seed}", folder=tmp_path))[0] for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters())]
    assert all(same)
    assert not torch.equal(*(module.game.generator.stages[0].linear[0].weight for module in (one, other)))


def test_no_branch_on_the_name_of_a_system_or_loss() -> None:
    names = {*choices("model"), *choices("loss")}
    source = Path(__file__).parent.parent / "src"
    name = f"[\"'](?:{'|'.join(names)})[\"']"
    branch = re.compile(rf"\b(?:if|elif|while|case|match)\b.*{name}")
    assert all(branch.search(line) for line in ('if a == "gan":', "case 'wgan':", 'if a in {"x", "hinge"}:'))
    guilty = [
        f"{path.name}: {line.strip()}"
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if branch.search(line)
    ]
    assert not guilty
