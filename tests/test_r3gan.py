"""R3GAN's networks, its presets, and penalties by differences of scores."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from helpers.composing import composed
from oakleaf.augment import DiffAugment
from oakleaf.errors import UserError
from oakleaf.losses.penalties import FiniteDifferencePenalty, GradientPenalty
from oakleaf.networks import r3gan
from oakleaf.round import BoundCritic, Round


@pytest.mark.parametrize(("size", "g", "d"), [(32, 20.73, 20.68), (256, 23.06, 23.01)])
def test_parameter_counts_are_those_of_the_paper(size: int, g: float, d: float) -> None:
    """In millions: table 9 of the paper (Stacked-MNIST) and table 2 (FFHQ, configuration E)."""
    with torch.device("meta"):
        networks = r3gan.Generator(64, 3, size), r3gan.Discriminator(3, size)
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks]
    assert counts == [pytest.approx(g, abs=0.005), pytest.approx(d, abs=0.005)]


def test_a_block_begins_as_the_identity_and_equals_the_paper() -> None:
    torch.manual_seed(0)
    block, x = r3gan.ResidualBlock(32, 16, depth=8).double(), torch.randn(2, 32, 5, 5).double()
    assert torch.equal(block(x), x)
    first, _, grouped, _, last = block.layers
    assert grouped.groups == 4  # 16 of 64 channels each
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / 1.04 / 32) * 8**-0.25, rel=0.05)
    nn.init.normal_(last.weight)
    for layer in (block.layers[1], block.layers[3]):
        nn.init.normal_(layer.bias)
    h = nn.functional.leaky_relu(first(x) + block.layers[1].bias.view(1, -1, 1, 1), 0.2)
    h = nn.functional.leaky_relu(grouped(h) + block.layers[3].bias.view(1, -1, 1, 1), 0.2)
    torch.testing.assert_close(block(x), x + last(h), rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 28, (8, 16)])
def test_any_size_with_and_without_labels(classes: int, size: int) -> None:
    generator = r3gan.Generator(4, 2, size, width=8, capacity=64, blocks=1, classes=classes)
    critic = r3gan.Discriminator(2, size, width=8, capacity=64, blocks=1, classes=classes, aux_classes=5)
    y = (torch.eye(3)[[0, 2]],) if classes else ()
    images = generator(torch.randn(2, 4), *y)
    assert images.shape[2:] == torch.Size([size, size] if isinstance(size, int) else size)
    output = critic(images, *y)
    assert output.score.shape == (2,) and output.classes.shape == (2, 5)


def sample_mean(penalty: FiniteDifferencePenalty, round: Round, count: int) -> float:
    return sum(penalty(round).item() for _ in range(count)) / count


@pytest.mark.parametrize("at", ["real", "fake"])
def test_differences_of_a_linear_critic_have_the_mean_of_the_squared_gradient(at: str) -> None:
    torch.manual_seed(0)
    slope = torch.randn(12, dtype=torch.float64)
    images = torch.randn(512, 3, 2, 2, dtype=torch.float64)
    round = Round(images, images.flip(0), lambda x: x.flatten(1) @ slope)
    exact = GradientPenalty(at=at, weight=0.5)(round).item()
    assert exact == pytest.approx(0.5 * slope.square().sum().item())
    found = sample_mean(FiniteDifferencePenalty(at=at, weight=0.5, share=1.0), round, 40)
    # the standard deviation of one image is sqrt(2) of the mean
    assert found == pytest.approx(exact, rel=5 * math.sqrt(2 / (512 * 40)))


def test_gradients_of_differences_are_those_of_the_exact_penalty_in_the_mean() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    round = Round(torch.randn(2048, 1, 2, 2).double(), torch.zeros(2048, 1, 2, 2).double(), critic)
    weights = list(critic.parameters())[:-1]
    exact = torch.autograd.grad(GradientPenalty(at="real", weight=1.0)(round), weights)
    estimates = [
        torch.autograd.grad(FiniteDifferencePenalty(at="real", weight=1.0, share=1.0)(round), weights)
        for _ in range(20)
    ]
    for one, several in zip(exact, zip(*estimates)):
        mean = torch.stack(several).mean(0)
        assert (mean - one).norm() < 0.1 * one.norm()


def test_both_scores_are_of_the_same_augmented_images_of_the_share() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, y: Tensor) -> Tensor:
        seen.append(x)
        assert len(x) == len(y) == 2
        return x.flatten(1).sum(1)

    critic = BoundCritic(network, torch.arange(8)[:, None].float(), augment=DiffAugment(["translation", "cutout"]))
    penalty = FiniteDifferencePenalty(at="real", weight=1.0, sd=1e-3, share=0.25)
    penalty(Round(torch.rand(8, 1, 8, 8) + 1, torch.zeros(8, 1, 8, 8), critic))
    moved, plain = seen
    assert (plain == 0).any() and 0 < (moved - plain).abs().max() < 1e-2


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(UserError, match="share=2"):
        FiniteDifferencePenalty(at="real", weight=1.0, share=2.0)


G, P = "model.game.generator", "loss.penalties"
PRESETS = {  # width, capacity; gamma at the beginning and the end; final p; EMA; burn-in; batch
    "cifar10": (768, 24576, 0.05, 0.005, 0.55, 5e6, 20e6, 512),
    "faces64": (768, 24576, 2.0, 0.2, 0.3, 5e5, 20e6, 256),
    "faces256": (768, 24576, 150.0, 15.0, 0.3, 5e5, 20e6, 256),
    "imagenet32": (1536, 49152, 0.5, 0.05, 0.5, 50e6, 200e6, 4096),
    "imagenet64": (1536, 98304, 1.0, 0.1, 0.4, 50e6, 200e6, 4096),
    "stacked_mnist": (768, 24576, 1.0, 0.1, None, 5e5, 2e6, 512),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_numbers_of_the_paper(preset: str) -> None:
    config = composed(f"experiment=r3gan_{preset}", folder="x")
    config.data.channels, config.data.classes = 3, 10
    options = OmegaConf.to_container(config, resolve=True)
    generator, schedules = options["model"]["game"]["generator"], options["schedules"]
    penalties = options["loss"]["penalties"]
    p = schedules["augment"]["parts"]["geometry"]["p"]["to"] if "augment" in schedules else None
    assert {name: penalties[name]["weight"] for name in ("r1", "r2")} == dict.fromkeys(
        ("r1", "r2"), pytest.approx(PRESETS[preset][2] / 2)
    )
    assert (generator["width"], generator["capacity"]) == PRESETS[preset][:2]
    for name in ("r1", "r2"):
        assert 2 * schedules["loss"]["penalties"][name]["weight"]["to"] == pytest.approx(PRESETS[preset][3])
    assert p == PRESETS[preset][4]
    if p is not None:
        assert schedules["augment"]["parts"]["colour"]["p"]["to"] == pytest.approx(p / 2)
    assert schedules["optim"]["ema"]["half_life"]["to"] == PRESETS[preset][5]
    overs = [schedules["optim"]["ema"]["half_life"], schedules["loss"]["penalties"]["r1"]["weight"]]
    overs += [
        options["optim"]["generator"]["schedules"]["beta2"],
        options["optim"]["discriminator"]["schedules"]["beta2"],
    ]
    assert {node["over"] for node in overs} == {PRESETS[preset][6]}
    assert options["data"]["batch_size"] == PRESETS[preset][7]
