"""TP-GAN: the turned face, the parts and where they are put, the terms against their formulas, and a short training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.commands import quick
from helpers.training import Fit
from oakleaf.data.inputs import Turned
from oakleaf.errors import UserError
from oakleaf.losses.frontal import FeatureClassification, PartsL1, ScaledL1, Symmetry, TotalVariation
from oakleaf.networks.tp_gan import PARTS, Discriminator, Generator, Part, cropped, frontal, paste
from oakleaf.round import CriticOutput, Round

OPTIONS = ["model=tp_gan", "data/input=turned", "data.size=32", "data.batch_size=4", "max_images=8"]
OPTIONS += ["model.game.generator.width=4", "model.game.generator.features=8", "model.game.discriminator.width=4"]


def angles(*degrees: float) -> Tensor:
    return torch.tensor(degrees).deg2rad().view(-1, 1, 1)


def rounds(image: Tensor, real: Tensor, **extras: Any) -> Round:
    return Round(real, image, lambda x: CriticOutput(x.mean((1, 2, 3))), extras=extras)


def test_a_face_that_is_not_turned_is_the_same_up_to_the_limit() -> None:
    image = torch.rand(2, 3, 40, 40) * 2 - 1
    turned = Turned().turned(image, angles(0, 0))
    inside = ((torch.arange(40) + 0.5) / 40 - 0.5).abs() < 0.3 * math.sin(math.radians(80))
    assert torch.allclose(turned[..., inside], image[..., inside], atol=1e-4)


@pytest.mark.parametrize("yaw", [30.0, 60.0, 90.0])
def test_the_turned_face_equals_the_cylinder_pixel_by_pixel(yaw: float) -> None:
    """The picture's values are its columns, so each pixel tells which column it shows."""
    size, radius = 64, 0.3
    columns = (torch.arange(size) + 0.5) / size
    turned = Turned(depth=0.0).turned(columns.expand(1, 1, size, size).contiguous(), angles(yaw))[0, 0]
    for column in range(size):
        x = (float(columns[column]) - 0.5) / radius
        expected = float(columns[column])
        if abs(x) <= 1:
            angle = max(-80.0, min(80.0, math.degrees(math.asin(x)) - yaw))
            expected = 0.5 + radius * math.sin(math.radians(angle))
        assert torch.allclose(turned[:, column], torch.tensor(expected), atol=1e-4)
    face = turned[0, (columns - 0.5).abs() < radius]
    hidden = columns[(columns < 0.5 + radius) & (columns > face.max() + 0.02)]
    assert len(hidden) > 0 and (hidden.min() < 0.53) == (yaw == 90)  # at 90 degrees all of the right half is hidden
    assert face.min() < 0.21  # and of the left one nothing, whose mirror image `Symmetry` takes for the other


def test_the_angle_is_drawn_for_each_image_and_is_differentiable() -> None:
    image = torch.rand(3, 1, 16, 16).requires_grad_()
    one, again = (Turned((20, 80))(image, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one, again) and one.shape == image.shape
    same = Turned((20, 80))(image[:1].expand(3, -1, -1, -1), torch.Generator().manual_seed(0))
    assert not torch.allclose(same[0], same[1])
    one.sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    for yaw in ((30, 20), (0, 120)):
        with pytest.raises(UserError, match="from 0 to 90"):
            Turned(yaw)


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (32, 48)])
def test_a_part_that_is_cut_out_and_put_back_is_where_it_was(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    for part in PARTS.values():
        cut = cropped(image, frontal(part, image), part)
        back = paste(cut, part, image)
        kept = paste(torch.ones_like(cut), part, image) > 0
        assert torch.allclose(back[kept], image[kept], atol=1e-4) and not back[~kept].any()
        assert abs(kept[0, 0].float().mean() - part.width * part.height) < 0.02
    assert PARTS["left_eye"].x < 0.5 < PARTS["right_eye"].x


def test_parts_are_found_by_landmarks() -> None:
    class Points(nn.Module):
        def forward(self, x: Tensor) -> Any:
            points = torch.full((len(x), 68, 2), 0.5)
            points[:, 36:42] = torch.tensor([0.25, 0.3])
            return type("Output", (), {"embedding": points.flatten(1)})

    network = Generator(3, 3, 32, width=2, features=4, landmarks="points")
    x = torch.rand(2, 3, 32, 32)
    with pytest.raises(UserError, match=r"model\.frozen\.points is missing"):
        network.use_frozen({})
    network.use_frozen({"points": Points()})
    assert torch.allclose(network.centres(x)["left_eye"], torch.tensor([[0.25, 0.3]] * 2))
    assert network.centres(x)["nose"].tolist() == [[0.5, 0.5]] * 2
    assert not any("points" in name for name, _ in network.named_modules())
    cut = cropped(x, torch.tensor([[0.25, 0.25]] * 2), Part(0, 0, 0.25, 0.25, (0, 1)))
    assert torch.allclose(cut, x[:, :, 4:12, 4:12], atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "channels", "size", "local"), [(3, 3, 32, True), (1, 1, [32, 48], True), (3, 3, 32, False)]
)
def test_the_generator_makes_three_sizes_and_four_parts(inputs: int, channels: int, size: Any, local: bool) -> None:
    network = Generator(channels, inputs, size, width=4, features=8, local=local)
    height, width = (size, size) if isinstance(size, int) else size
    output = network(torch.rand(2, inputs, height, width) * 2 - 1)
    assert output.image.shape == (2, channels, height, width)
    assert output.extras["half"].shape[2:] == (height // 2, width // 2)
    assert output.extras["quarter"].shape[2:] == (height // 4, width // 4)
    assert list(output.extras["parts"]) == (list(PARTS) if local else []) and output.extras["features"].shape == (2, 8)
    output.image.sum().backward()
    unused = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert all(name.split(".")[0] in ("image_half", "image_quarter", "parts") for name in unused), unused
    with pytest.raises(UserError, match="multiples of 16"):
        Generator(3, 3, 40)


def test_there_is_noise_in_training_alone() -> None:
    network = Generator(1, 1, 32, width=2, features=4, sd=1.0, local=False)
    x = torch.rand(2, 1, 32, 32)
    assert not torch.equal(network(x).image, network(x).image)
    network.eval()
    assert torch.equal(network(x).image, network(x).image)


def test_scores_are_a_map_of_4_x_4_at_128_px() -> None:
    assert Discriminator(3, width=2)(torch.rand(2, 3, 128, 128)).score.shape == (2, 1, 4, 4)


def test_symmetry_moves_the_hidden_half_alone() -> None:
    image = (torch.rand(2, 1, 8, 8) * 2 - 1).requires_grad_()
    for of in ("half", "image"):
        value = Symmetry(of)(rounds(image, image, half=image))
        (gradient,) = torch.autograd.grad(value, image)
        assert not gradient[..., :4].any() and gradient[..., 4:].abs().min() > 0
    by_hand = sum((image[..., j] - image[..., 7 - j]).abs().mean() for j in range(4)) / 4
    assert torch.allclose(Symmetry("half")(rounds(image, image, half=image)), by_hand)
    even = torch.cat([image[..., :4], image[..., :4].flip(3)], 3)
    assert Symmetry()(rounds(even, image)) == 0


def test_terms_equal_their_formulas_at_any_size() -> None:
    image, real = (torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(2))
    half = torch.rand(2, 3, 16, 16)
    small = (real[:, :, ::2, ::2] + real[:, :, 1::2, ::2] + real[:, :, ::2, 1::2] + real[:, :, 1::2, 1::2]) / 4
    assert torch.allclose(ScaledL1("half")(rounds(image, real, half=half)), (half - small).abs().mean(), atol=1e-6)
    down, right = (image[:, :, 1:] - image[:, :, :-1]).abs().mean(), (image[..., 1:] - image[..., :-1]).abs().mean()
    assert torch.allclose(TotalVariation()(rounds(image, real)), down + right)
    larger = nn.functional.interpolate(image, scale_factor=2)  # a mean does not depend on the size
    ratio = TotalVariation()(rounds(larger, real)) / (down + right)
    assert 0.45 < ratio < 0.55  # half of the differences are between copies
    parts = {name: cropped(real, frontal(part, real), part) for name, part in PARTS.items()}
    assert PartsL1()(rounds(image, real, parts=parts)) < 1e-6
    parts["nose"] = parts["nose"] + 0.5
    assert torch.allclose(PartsL1()(rounds(image, real, parts=parts)), torch.tensor(0.125), atol=1e-5)
    for term in (ScaledL1("half"), PartsL1(), Symmetry("quarter")):
        with pytest.raises(UserError, match="the generator returns no"):
            term(rounds(image, real))
    with pytest.raises(UserError, match="the sizes are"):
        ScaledL1("third")


def test_persons_are_read_from_the_generators_own_features() -> None:
    term = FeatureClassification(4, 3, dropout=0.0)
    features = torch.randn(3, 4).requires_grad_()
    image = torch.rand(3, 1, 4, 4)
    round = rounds(image, image, features=features)
    with pytest.raises(UserError, match="no persons"):
        term(round)
    round.batch = {"identity": torch.tensor([2, -1, 0])}
    log_p = term.layers(features).log_softmax(1)
    value = term(round)
    assert torch.allclose(value, -(log_p[0, 2] + log_p[2, 0]) / 2)
    value.backward()
    assert features.grad is not None and not features.grad[1].any() and features.grad[0].any()
    assert all(weight.grad is not None for weight in term.parameters())  # its layer is trained as well


@pytest.mark.slow
def test_it_trains_and_turns_pictures_of_a_folder(fit: Fit, tmp_path: Path) -> None:
    module, _ = fit(*OPTIONS, "optim.generator.lr=1e-3")
    assert all(torch.isfinite(weight).all() for weight in module.parameters())
    (tmp_path / "faces").mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / "faces/one.png")
    given = [f"checkpoint={tmp_path}", f"input={tmp_path / 'faces'}", f"out={tmp_path / 'turned'}", "device=cpu"]
    result = quick("translate", *given, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "turned/one.png").size == (32, 32)
