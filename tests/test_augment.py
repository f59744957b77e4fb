"""Augmentations against definitions written by hand: bit for bit where nothing is drawn, and each operation alone."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import pad

from oakleaf.augment import ADA, APA, Augmentation, Chain, DiffAugment, Noise, bands, pixels, transforms
from oakleaf.errors import UserError
from oakleaf.round import Round
from oakleaf.runtime import distributed

EVERY = ("blit", "geometry", "colour", "filter", "noise", "cutout")
SHAPES = [(4, 1, 16, 16), (3, 3, 17, 23), (2, 4, 8, 8), (2, 3, 1, 1), (2, 2, 3, 2), (2, 3, 9, 40)]
TAPS = torch.tensor(pixels.SYM6)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth(size: int = 32, channels: int = 1) -> Tensor:
    """A band-limited image without a symmetry, as a function of places, [1, C, size, size]."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return wave(x - (size - 1) / 2, y - (size - 1) / 2)[None, None].expand(1, channels, -1, -1)


def wave(x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * torch.cos(0.5 * x + 0.3 * y + 0.4) + 0.4 * torch.sin(0.7 * y - 0.2 * x)


def of(values: Any, count: int = 1) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).expand(count)


def inner(x: Tensor, border: int) -> Tensor:
    return x[..., border:-border, border:-border]


# ---- Where nothing is drawn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_ada_at_p_0_is_the_identity_bit_for_bit(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    x.view(-1)[0] = -0.0
    y, _ = ADA(p=0.0, ops=EVERY)(x)
    assert torch.equal(x.view(torch.int32), y.view(torch.int32))


@pytest.mark.parametrize("shape", SHAPES)
def test_ada_changes_only_the_images_it_draws_and_keeps_shapes(shape: tuple[int, ...]) -> None:
    x = images(64, *shape[1:])
    y, _ = ADA(p=0.1, ops=EVERY)(x)
    same = (x == y).flatten(1).all(1)
    assert y.shape == x.shape and y.isfinite().all()
    assert 0 < same.sum() < 64


def test_each_operation_is_drawn_with_probability_p() -> None:
    torch.manual_seed(0)
    x = smooth(8, 3).expand(4000, -1, -1, -1)
    for op, share in (
        ("scale", 1.0),
        ("rotate", 1.0),
        ("hue", 0.0),
        ("brightness", 1.0),
        ("flip", 0.5),
        ("turn", 0.75),
    ):
        changed = (
            (ADA(p=0.3, ops=[op])(x)[0] != x).flatten(1).any(1).float().mean()
        )  # hue leaves grey images as they are
        assert abs(float(changed) - 0.3 * share) < 0.03 or (op == "hue" and changed < 0.35), op


def test_gradient_at_p_0_is_that_of_the_identity() -> None:
    x = images(2, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(ADA(p=0.0, ops=EVERY)(x)[0].pow(3).sum(), x)
    assert torch.allclose(gradient, 3 * x.detach().pow(2), rtol=1e-6)


# ---- Pixel blitting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 8])
def test_quarter_turns_are_those_of_torch(size: int) -> None:
    x = images(1, 2, size, size)
    for turns in range(4):
        inverse = transforms.blit_inverse(of([0.0]), of([float(turns)]), torch.zeros(1, 2))
        assert torch.equal(pixels.moved(x, inverse), torch.rot90(x, turns, (2, 3)))


@pytest.mark.parametrize("height, width", [(7, 12), (8, 5), (1, 3)])
def test_flips_half_turns_and_shifts_reflect_at_the_borders(height: int, width: int) -> None:
    x = images(1, 2, height, width)
    for right in range(1 - width, width):
        for down in {0, height - 1, 1 - height, height // 2}:
            shift = torch.tensor([[float(right), float(down)]])
            padded = pad(x, (width - 1, width - 1, height - 1, height - 1), mode="reflect") if height > 1 else None
            moved = pixels.moved(x, transforms.blit_inverse(of([0.0]), of([0.0]), shift))
            if padded is not None:
                top, left = height - 1 - down, width - 1 - right
                assert torch.equal(moved, padded[:, :, top : top + height, left : left + width])
            flipped = pixels.moved(x, transforms.blit_inverse(of([1.0]), of([0.0]), shift))
            assert torch.equal(flipped, pixels.moved(x.flip(3), transforms.blit_inverse(of([0.0]), of([0.0]), shift)))
    half = transforms.blit_inverse(of([0.0]), of([2.0]), torch.zeros(1, 2))
    assert torch.equal(pixels.moved(x, half), x.flip(2, 3))


def test_flip_comes_first_then_the_turn_then_the_shift() -> None:
    x = images(1, 1, 6, 6)
    found = pixels.moved(x, transforms.blit_inverse(of([1.0]), of([1.0]), torch.tensor([[2.0, 0.0]])))
    turned = torch.rot90(x.flip(3), 1, (2, 3))
    assert torch.equal(found[..., 2:], turned[..., :-2])
    assert torch.equal(found[..., 0], turned[..., 2]) and torch.equal(found[..., 1], turned[..., 1])


def test_images_that_are_not_square_are_turned_by_half_turns_only() -> None:
    torch.manual_seed(0)
    x = images(1, 1, 4, 6).expand(200, -1, -1, -1)
    turned, _ = ADA(p=1.0, ops=["turn"])(x)
    same, half = ((turned == y).flatten(1).all(1) for y in (x, x.flip(2, 3)))
    assert (same | half).all() and 60 < same.sum() < 140


def test_shifts_are_whole_pixels_up_to_an_eighth() -> None:
    torch.manual_seed(0)
    x = torch.arange(32.0).expand(500, 1, 32, 32)
    shifts = (x - ADA(p=1.0, ops=["shift"])(x)[0])[:, 0, 16, 16]
    assert set(shifts.tolist()) == set(range(-4, 5))


# ---- General geometry ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(16, 16), (5, 31), (1, 4)])
def test_the_wavelet_filter_reproduces_an_image_at_the_identity(height: int, width: int) -> None:
    x = images(2, 3, height, width)
    assert torch.allclose(pixels.resampled(x, torch.eye(3).expand(2, 3, 3), TAPS), x, atol=3e-5)


def test_sym6_is_orthogonal() -> None:
    taps = torch.tensor(pixels.SYM6, dtype=torch.float64)
    for k in range(6):
        assert float((taps[: 12 - 2 * k] * taps[2 * k :]).sum()) == pytest.approx(float(k == 0), abs=1e-9)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2))


def test_doubling_shows_slow_waves_at_the_stated_places() -> None:
    x = torch.arange(40.0)
    doubled = pixels.doubling(40, TAPS) @ torch.cos(0.3 * x)
    places = (torch.arange(len(doubled)) - pixels.MARGIN - pixels.DELAY) / 2
    assert (doubled - torch.cos(0.3 * places))[30:-30].abs().max() < 0.01


def test_doubling_is_reflection_then_the_filter_written_by_hand() -> None:
    x, taps = np.random.default_rng(0).normal(size=9), np.array(pixels.SYM6)
    found = pixels.doubling(9, TAPS).numpy() @ x
    for row in range(len(found)):
        sample, total = row - pixels.MARGIN, 0.0
        for j in range(-40, 60):
            tap = sample - 2 * j + 5
            if 0 <= tap < 12:
                at = j
                while not 0 <= at <= 8:
                    at = -at if at < 0 else 16 - at
                total += math.sqrt(2) * taps[tap] * x[at]
        assert found[row] == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize(
    "scale, before, stretch, after, shift",
    [
        (1.3, 0.0, 1.0, 0.0, (0.0, 0.0)),
        (1.0, 0.7, 1.0, 0.0, (0.0, 0.0)),
        (1.0, 0.0, 1.25, 0.0, (0.0, 0.0)),
        (1.0, 0.0, 1.0, -1.1, (0.0, 0.0)),
        (1.0, 0.0, 1.0, 0.0, (1.37, -2.21)),
        (1.2, 0.4, 1.1, -0.9, (0.6, 1.7)),
    ],
)
def test_geometry_moves_a_wave_to_where_the_numpy_product_says(
    scale: float, before: float, stretch: float, after: float, shift: tuple[float, float]
) -> None:
    """G maps the image forwards; the result at o is the image at G^-1 o."""
    rotate = lambda a: np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])  # noqa: E731
    forward = np.diag([scale, scale, 1.0])
    forward = rotate(after) @ np.diag([stretch, 1 / stretch, 1.0]) @ rotate(before) @ forward
    forward = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ forward
    inverse = transforms.geometry_inverse(of([scale]), of([before]), of([stretch]), of([after]), torch.tensor([shift]))
    assert np.allclose(inverse[0].numpy(), np.linalg.inv(forward), atol=1e-5)
    size = 48
    found = pixels.resampled(smooth(size), inverse, TAPS)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    places = inverse[0] @ torch.stack([x - 23.5, y - 23.5, torch.ones_like(x)]).flatten(1)
    expected = wave(places[0], places[1]).view(1, 1, size, size)
    inside = (places[:2].abs() < 21).all(0).view(1, 1, size, size)
    assert inside.float().mean() > 0.5
    assert (found - expected)[inside].abs().max() < 0.03


def test_far_outside_an_image_its_reflections_are_seen() -> None:
    x = smooth(12)
    far = pixels.resampled(x, torch.tensor([[[1.0, 0.0, 44.0], [0.0, 1.0, -22.0], [0.0, 0.0, 1.0]]]), TAPS)
    assert (inner(far - x, 1)).abs().max() < 0.1  # a whole period of 2 (12 - 1) pixels


def test_both_ways_to_read_between_pixels_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(3, 2, 9, 11)
    rows, columns = torch.rand(3, 5, 6) * 8, torch.rand(3, 5, 6) * 10
    expected = pixels.bilinear_gathered(x, rows, columns)
    assert torch.allclose(pixels.bilinear(x, rows, columns), expected, atol=1e-5)
    monkeypatch.setattr(pixels, "SECOND_DERIVATIVES", False)
    assert torch.equal(pixels.bilinear(x, rows, columns), expected)
    for i, (row, column) in enumerate(zip(rows[0, 0], columns[0, 0])):
        top, left, d, r = int(row), int(column), float(row) % 1, float(column) % 1
        by_hand = (1 - d) * ((1 - r) * x[0, :, top, left] + r * x[0, :, top, left + 1])
        by_hand = by_hand + d * ((1 - r) * x[0, :, top + 1, left] + r * x[0, :, top + 1, left + 1])
        assert torch.allclose(expected[0, :, 0, i], by_hand, atol=1e-5)


def test_an_image_with_only_blits_is_not_filtered() -> None:
    torch.manual_seed(0)
    x = images(300, 1, 8, 8)
    y, _ = ADA(p=0.15, ops=["blit", "geometry"])(x)
    values = x.flatten(1).sort(1).values
    exact = torch.isin(y.flatten(1), x.flatten(1)).all(1) & ~(x == y).flatten(1).all(1)
    assert exact.sum() > 20 and len(values) == 300


# ---- Colour ----------------------------------------------------------------------------------------------------------


def rodrigues(axis: Any, angle: float) -> Any:
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def test_the_colour_matrix_is_the_numpy_product_of_the_five_operations() -> None:
    brightness, contrast, invert, hue, saturation = 0.3, 1.4, 1.0, 0.8, 0.5
    v = np.ones(3) / math.sqrt(3)
    steps = [np.eye(4) for _ in range(5)]
    steps[0][:3, 3] = brightness
    steps[1][:3, :3] *= contrast
    steps[2][:3, :3] -= 2 * np.outer(v, v) * invert
    steps[3][:3, :3] = rodrigues(v, hue)
    steps[4][:3, :3] = np.outer(v, v) + (np.eye(3) - np.outer(v, v)) * saturation
    expected = steps[4] @ steps[3] @ steps[2] @ steps[1] @ steps[0]
    found = transforms.colour_matrix(*(of([x]) for x in (brightness, contrast, invert, hue, saturation)))
    assert np.allclose(found[0].numpy(), expected[:3], atol=1e-6)


@pytest.mark.parametrize(
    "values, pixel, expected",
    [
        ((0.25, 1.0, 0.0, 0.0, 1.0), (0.5, 0.0, -0.5), (0.75, 0.25, -0.25)),
        ((0.0, 2.0, 0.0, 0.0, 1.0), (0.5, 0.0, -0.5), (1.0, 0.0, -1.0)),
        ((0.25, 2.0, 0.0, 0.0, 1.0), (0.5, 0.0, -0.5), (1.5, 0.5, -0.5)),
        ((0.0, 1.0, 1.0, 0.0, 1.0), (0.6, 0.0, 0.3), (0.0, -0.6, -0.3)),
        ((0.0, 1.0, 0.0, 2 * math.pi / 3, 1.0), (0.6, 0.0, 0.3), (0.3, 0.6, 0.0)),
        ((0.0, 1.0, 0.0, 0.0, 0.0), (0.6, 0.0, 0.3), (0.3, 0.3, 0.3)),
    ],
)
def test_one_pixel_by_hand(values: tuple[float, ...], pixel: Any, expected: Any) -> None:
    matrix = transforms.colour_matrix(*(of([x]) for x in values))[0]
    assert torch.allclose(matrix[:, :3] @ torch.tensor(pixel) + matrix[:, 3], torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colours_of_any_number_of_channels(channels: int) -> None:
    """Images of other than three channels are changed by one gain and one offset; only grey ones are inverted."""
    torch.manual_seed(0)
    x = images(400, channels, 4, 4)
    y, _ = ADA(p=1.0, ops=["colour"])(x)
    if channels != 3:
        gain = (y - y.mean((1, 2, 3), keepdim=True)).flatten(1).div((x - x.mean((1, 2, 3), keepdim=True)).flatten(1))
        assert (gain - gain.median(1, keepdim=True).values).abs().quantile(0.9) < 1e-2
        assert (gain.median(1).values < 0).any() == (channels == 1)
    single = ADA(p=1.0, ops=["invert", "hue"])(x[:, :1])[0] if channels == 1 else None
    if single is not None:
        assert ((single == x).flatten(1).all(1) | (single == -x).flatten(1).all(1)).all()


# ---- Filter, noise, cutout -------------------------------------------------------------------------------------------


def test_the_bands_sum_to_the_identity_and_cover_an_octave_each() -> None:
    filters = bands.band_filters().double()
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    assert torch.allclose(filters.sum(0), delta, atol=1e-6)
    for band, wanted in enumerate((math.pi / 16, 3 * math.pi / 16, 3 * math.pi / 8, 3 * math.pi / 4)):
        response = (filters * torch.cos(wanted * (torch.arange(43.0) - 21))).sum(1)
        assert int(response.argmax()) == band, response


def test_band_gains_keep_the_expected_power() -> None:
    drawn = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0], [1.0, 1.0, 3.0, 1.0]])
    gains = bands.band_gains(drawn)
    assert torch.equal(gains[0], torch.ones(4))
    for row, band, value in ((1, 0, 2.0), (2, 2, 3.0)):
        power = np.array([10, 1, 1, 1]) / 13
        amplified = np.ones(4)
        amplified[band] = value
        assert np.allclose(gains[row].numpy(), amplified / math.sqrt((power * amplified**2).sum()), atol=1e-6)


def test_filtering_is_the_separable_convolution_of_the_reflected_image() -> None:
    x, taps = images(1, 1, 30, 26), torch.randn(7)
    rows, columns = (pixels.convolution(size, taps) for size in (30, 26))
    kernel = taps.flip(0)  # conv2d correlates
    padded = pad(x, (3, 3, 3, 3), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    assert torch.allclose(rows @ x @ columns.T, expected, atol=1e-5)


def test_filter_noise_and_cutout_have_the_stated_strength() -> None:
    torch.manual_seed(0)
    x = torch.zeros(2000, 1, 16, 16)
    noise = ADA(p=1.0, ops=["noise"])(x)[0].flatten(1).std(1)
    assert float(noise.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)  # E sd^2 = 0.1^2
    cut = ADA(p=1.0, ops=["cutout"])(x + 1)[0] == 0
    rows, columns = cut.any(3).sum(2), cut.any(2).sum(2)
    assert rows.max() == columns.max() == 8 and rows.min() >= 4
    assert torch.equal(cut.sum((1, 2, 3)), (rows * columns)[:, 0])
    sd = ADA(p=1.0, ops=["filter"])(images(500, 1, 16, 16))[0].std((1, 2, 3))
    assert sd.max() > 1.2 and sd.min() < 0.5


# ---- All augmentations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: ADA(p=0.7, ops=EVERY), DiffAugment, lambda: Noise(0.1)])
def test_double_backward(make: Callable[[], Augmentation]) -> None:
    augment = make()

    def f(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(x)[0].square()

    x = images(3, 3, 5, 6).double().requires_grad_()
    assert gradcheck(f, (x,), fast_mode=True) and gradgradcheck(f, (x,), fast_mode=True)


def test_double_backward_where_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "SECOND_DERIVATIVES", False)
    test_double_backward(lambda: ADA(p=0.7, ops=["geometry"]))


@pytest.mark.parametrize("make", [lambda: ADA(p=0.8, ops=EVERY), DiffAugment])
def test_a_picture_condition_moves_with_its_image_and_keeps_its_colours(make: Callable[[], Augmentation]) -> None:
    augment, x = make(), images(16, 3, 16, 16)
    torch.manual_seed(1)
    _, moved = augment(torch.zeros_like(x), x)
    shuffled = x[:, [2, 0, 1]]
    torch.manual_seed(1)
    _, same = augment(images(16, 3, 16, 16, seed=9), shuffled)
    assert torch.equal(same, moved[:, [2, 0, 1]]) and not torch.equal(moved, x)
    if isinstance(augment, ADA):
        geometry = ADA(p=0.8, ops=["blit", "geometry"])
        torch.manual_seed(1)
        assert torch.equal(geometry(x)[0], moved)


def test_conditions_that_are_no_pictures_stay_and_pictures_of_another_size_are_refused() -> None:
    x, y = images(4, 3, 16, 16), torch.randn(4, 10)
    for augment in (ADA(p=0.9), DiffAugment(), Noise(0.1), APA(p=0.5)):
        assert augment(x, y)[1] is y
    with pytest.raises(UserError, match="8 x 8 and 16 x 16"):
        ADA()(x, images(4, 3, 8, 8))


def test_points_are_refused_by_all_but_noise() -> None:
    points = torch.randn(8, 2)
    for augment in (ADA(), DiffAugment(), Chain({"noise": Noise(0.1), "ada": ADA()})):
        with pytest.raises(UserError, match="points"):
            augment(points)
    assert Noise(0.1)(points)[0].shape == points.shape


def test_images_keep_their_type() -> None:
    for augment in (ADA(p=0.8, ops=EVERY), DiffAugment(), Noise(0.1)):
        assert augment(images(4, 3, 16, 16).bfloat16())[0].dtype == torch.bfloat16


def test_rows_are_changed_independently_of_how_many_batches_follow_one_another() -> None:
    x = images(1, 1, 16, 16).expand(64, -1, -1, -1)
    y, _ = ADA(p=0.9)(torch.cat([x, x]))
    assert len(torch.unique(y.flatten(1), dim=0)) > 100


# ---- Noise -----------------------------------------------------------------------------------------------------------


def test_noise_is_drawn_as_before_and_falls_to_zero() -> None:
    noise, x = Noise(sd=0.4, images=1000, power=2.0), images(8, 1, 4, 4)
    noise.prepare(500)
    torch.manual_seed(0)
    y, _ = noise(x)
    torch.manual_seed(0)
    assert torch.equal(y, x + torch.tensor(0.1) * torch.randn_like(x))
    noise.prepare(1000)
    state = torch.get_rng_state()
    assert noise(x)[0] is x and torch.equal(state, torch.get_rng_state())
    assert Noise(0.2).sd_at(10**9) == 0.2


def test_noise_is_drawn_anew_for_each_pass_and_not_stored() -> None:
    noise, x = Noise(0.5), torch.zeros(20_000)
    first, second = noise(x)[0], noise(x)[0]
    assert (
        abs(float(first.std()) - 0.5) < 0.02 and abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
    )
    assert not noise.state_dict()


# ---- DiffAugment -----------------------------------------------------------------------------------------------------


def test_diffaugment_is_the_loop_written_by_hand() -> None:
    x = images(6, 3, 16, 20)
    torch.manual_seed(5)
    y, _ = DiffAugment()(x)
    torch.manual_seed(5)
    brightness, saturation, contrast = torch.rand(3, 6, 1, 1, 1)
    down, right = (torch.randint(-s, s + 1, (6, 1)) for s in (2, 3))  # int(20 / 8 + .5) = 3
    middle = torch.randint(17, (6, 1)), torch.randint(21, (6, 1))
    for i in range(6):
        image = x[i] + float(brightness[i]) - 0.5
        mean = (image[0] + image[1] + image[2]) / 3
        image = (image - mean) * (2 * saturation[i, 0, 0, 0]) + mean
        image = (image - image.mean()) * (contrast[i, 0, 0, 0] + 0.5) + image.mean()
        expected = torch.zeros_like(image)
        for row in range(16):
            for column in range(20):
                source = row + int(down[i]), column + int(right[i])
                inside = 0 <= source[0] < 16 and 0 <= source[1] < 20
                top, left = int(middle[0][i]) - 4, int(middle[1][i]) - 5
                hidden = top <= row < top + 8 and left <= column < left + 10
                if inside and not hidden:
                    expected[:, row, column] = image[:, source[0], source[1]]
        assert torch.allclose(y[i], expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_diffaugment_of_any_shape(shape: tuple[int, ...]) -> None:
    y, _ = DiffAugment()(images(*shape))
    assert y.shape == shape and y.isfinite().all()


# ---- The controller of ADA and APA -----------------------------------------------------------------------------------


def round_of(real: Tensor, fake: Tensor | None = None, **rows: Any) -> Round:
    """A round whose critic returns the images as scores."""
    from oakleaf.round import CriticOutput

    return Round(real, real if fake is None else fake, lambda x: CriticOutput(x), **rows)


def step(augment: Any, scores: Tensor) -> None:
    augment.observe(round_of(scores))
    augment.update_state()


@pytest.mark.parametrize("make", [ADA, APA])
def test_p_follows_r_t_as_written_by_hand(make: Any) -> None:
    augment = make(p=0.1, images=1000, interval=4)
    generator, p = torch.Generator().manual_seed(0), 0.1
    for interval in range(6):
        scores = [torch.randn(10, generator=generator) + interval for _ in range(4)]
        for each in scores:
            step(augment, each)
            augment.update_state()  # the generator's step
        r_t = float(torch.stack(scores).sign().mean())
        p = min(max(p + (1 if r_t > 0.6 else -1) * 40 / 1000, 0), 1)
        assert float(augment.p) == pytest.approx(p, abs=1e-6)
        assert float(augment.r_t) == pytest.approx(r_t, abs=1e-6)
        assert {k: float(v) for k, v in augment.diagnostics(round_of(scores[0])).items()} == {
            "augment/p": float(augment.p), "augment/r_t": float(augment.r_t),
        }  # fmt: skip


def test_p_stays_between_0_and_1_and_ignores_steps_with_nan() -> None:
    low, high = ADA(p=0.01, images=10, interval=1), ADA(p=0.99, images=10, interval=1)
    step(low, torch.full((10,), -1.0))
    step(high, torch.full((10,), 1.0))
    assert float(low.p) == 0 and float(high.p) == 1
    step(high, torch.full((10,), math.nan))
    assert float(high.p) == 1 and float(high.r_t) == 1


def test_scores_are_compared_with_the_threshold_and_patches_are_averaged() -> None:
    augment = ADA(interval=1)
    augment.observe(round_of(torch.tensor([0.2, 0.4, 0.6, 0.8])[:, None, None, None].expand(4, 1, 3, 3)), 0.5)
    augment.update_state()
    assert float(augment.r_t) == 0
    assert float(augment.p) == 0


def test_several_rounds_of_a_step_count_their_images_once() -> None:
    augment = ADA(p=0.5, images=100, interval=1)
    for scores in (torch.ones(10), torch.ones(10)):
        augment.observe(round_of(scores))
    augment.update_state()
    assert float(augment.p) == pytest.approx(0.6)


def test_a_fixed_p_stays() -> None:
    augment = ADA(p=0.2, adaptive=False, images=10, interval=1)
    step(augment, torch.ones(10))
    assert augment.p == 0.2 and float(augment.diagnostics(round_of(torch.ones(2)))["augment/p"]) == pytest.approx(0.2)


def test_the_controller_resumes_in_the_middle_of_an_interval() -> None:
    scores = [torch.randn(8, generator=torch.Generator().manual_seed(i)) + 1 for i in range(20)]
    whole, first, second = (ADA(p=0.3, images=100) for _ in range(3))
    for each in scores:
        step(whole, each)
    for each in scores[:7]:
        step(first, each)
    second.load_state_dict(first.state_dict())
    for each in scores[7:]:
        step(second, each)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_two_processes_move_p_as_one_with_both_halves_would(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = [[torch.randn(8) + 0.5, torch.randn(8) + 0.9] for _ in range(8)]
    whole, ranks = ADA(p=0.3, images=200), [ADA(p=0.3, images=200) for _ in range(2)]
    for half in halves:
        step(whole, torch.cat(half))
    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (0, 2))
    for half in halves:
        for rank, scores in zip(ranks, half):
            rank.observe(round_of(scores))
        mean = (ranks[0].recorded + ranks[1].recorded) / 2
        for rank in ranks:
            with mock.patch.object(distributed, "all_reduce_mean", lambda tensors, mean=mean: tensors[0].copy_(mean)):
                rank.update_state()
    for rank in ranks:
        assert float(rank.p) == pytest.approx(float(whole.p)) and float(rank.r_t) == pytest.approx(float(whole.r_t))


def test_the_state_keeps_its_precision() -> None:
    augment = ADA(p=0.3).to(torch.bfloat16)
    assert augment.p.dtype == torch.float32 and augment.taps.dtype == torch.float32


# ---- APA and chains --------------------------------------------------------------------------------------------------


def test_apa_exchanges_a_share_p_of_the_real_images_for_fakes() -> None:
    torch.manual_seed(0)
    real, fake = torch.zeros(1000, 1, 2, 2), torch.arange(1000.0)[:, None, None, None].expand(-1, 1, 2, 2) + 1
    changed = APA(p=0.3).replace(round_of(real, fake))
    exchanged = changed.real[:, 0, 0, 0] != 0
    assert 250 < exchanged.sum() < 350 and changed.fake is fake
    numbers = torch.arange(1000.0)
    assert torch.equal(changed.real[exchanged, 0, 0, 0], ((numbers - 1) % 1000 + 1)[exchanged])  # not its own number
    labels = {"label": torch.arange(1000)}
    told = APA(p=0.3).replace(round_of(real, fake, batch=labels, fake_inputs=labels)).real[:, 0, 0, 0]
    assert torch.equal(told[told != 0], (numbers + 1)[told != 0])
    assert APA(p=0.0).replace(round_of(real, fake)).real.equal(real)


def test_apa_gives_the_generator_no_gradient_through_the_exchanged_images() -> None:
    fake = torch.ones(50, 1, 1, 1, requires_grad=True)
    assert not APA(p=0.9).replace(round_of(torch.zeros(50, 1, 1, 1), fake)).real.requires_grad


def test_a_chain_is_its_parts_in_order() -> None:
    x, ada = images(8, 3, 16, 16), ADA(p=0.5, interval=1, images=100)
    chain = Chain({"diffaugment": DiffAugment(), "ada": ada, "noise": Noise(0.3, images=100)})
    torch.manual_seed(2)
    y, _ = chain(x)
    torch.manual_seed(2)
    assert torch.equal(y, Noise(0.3)(ada(DiffAugment()(x)[0])[0])[0])
    chain.observe(round_of(torch.ones(10)))
    ada.update_state()
    assert float(ada.p) == pytest.approx(0.6)
    chain.prepare(100)
    torch.manual_seed(2)
    y, _ = chain(x)
    torch.manual_seed(2)
    assert torch.equal(y, ada(DiffAugment()(x)[0])[0])  # the noise is over


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: ADA(p=0.6, ops=EVERY), DiffAugment, lambda: Noise(0.1), lambda: APA(p=0.5)])
def test_a_whole_step_of_the_critic_is_one_graph(make: Callable[[], Augmentation]) -> None:
    """Forward, input gradient and the record of the scores, without a graph break; buffers are written."""
    augment = make()
    weight = torch.randn(3 * 12 * 12)

    def losses(x: Tensor) -> tuple[Tensor, Tensor]:
        def score(x: Tensor) -> Tensor:
            return torch.tanh(augment(x)[0].flatten(1) @ weight).sum()

        gradient, value = torch.func.grad_and_value(score)(x)
        augment.observe(SimpleNamespace(on_real=SimpleNamespace(score=value[None])))  # type: ignore[arg-type]
        return value, gradient

    x = images(4, 3, 12, 12)
    eager = losses(x)
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")(x)
    assert compiled[1].shape == eager[1].shape and compiled[1].isfinite().all()
    augment.update_state()
    if isinstance(augment, ADA):
        assert float(augment.totals[1]) == 2  # both calls recorded a round
