"""Blending: transforms and solvers against dense algebra, their limits, pictures whose truth is known, the command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image
from torch import Tensor

from helpers.commands import quick
from helpers.composing import FP32
from helpers.data import small_generator
from helpers.training import built
from oakleaf.data.inputs import Pasted
from oakleaf.sampling.blending import (
    Gradients,
    adjoint,
    dct,
    feathered,
    filled,
    gaussian_blur,
    gaussian_poisson,
    gaussian_poisson_pyramid,
    gaussian_spectrum,
    gradients,
    idct,
    joined,
    laplacian_spectrum,
    larger,
    level_sizes,
    seamless,
)
from oakleaf.sampling.composite import Network
from oakleaf.sampling.latents import latent_inputs

SIZES = [(7, 7), (8, 5), (13, 20), (1, 6)]


def picture(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def disc(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3.2) ** 2).double()


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_the_cosine_transform_equals_scipys_and_has_an_inverse(count: int) -> None:
    x = picture(2, 3, count)
    assert np.allclose(dct(x, 2).numpy(), scipy.fft.dct(x.numpy(), axis=2), atol=1e-12)
    for dim in (1, 2):
        assert torch.allclose(idct(dct(x, dim), dim), x, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_spectra_are_those_of_the_operators(height: int, width: int) -> None:
    x = picture(3, height, width)

    def filtered(spectrum: Tensor) -> Tensor:
        return idct(idct(spectrum * dct(dct(x, 1), 2), 1), 2)

    assert torch.allclose(filtered(laplacian_spectrum(height, width, x)), adjoint(gradients(x)), atol=1e-12)
    assert torch.allclose(filtered(gaussian_spectrum(height, width, 0.5, x)), gaussian_blur(x, 0.5), atol=1e-12)
    v = Gradients(torch.rand_like(gradients(x).down), torch.rand_like(gradients(x).right))
    products = [(a * b).sum() for a, b in zip(gradients(x), v)]
    assert torch.allclose(sum(products), (x * adjoint(v)).sum())  # type: ignore[arg-type]


def test_the_gaussian_keeps_the_mean() -> None:
    """That of the authors' code sums to 0.99894."""
    x = picture(3, 9, 14)
    assert torch.allclose(gaussian_blur(x, 0.5).mean((1, 2)), x.mean((1, 2)))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_solution_minimises_the_energy(channels: int, height: int, width: int) -> None:
    source, colours = picture(channels, height, width), picture(channels, height, width, 1)
    field, beta = gradients(source), 0.3

    def energy(y: Tensor) -> Tensor:
        parts = [(a - b).square().sum() for a, b in zip(gradients(y), field)]
        return sum(parts) + beta * (gaussian_blur(y, 0.5) - colours).square().sum()  # type: ignore[return-value]

    y = gaussian_poisson(field, colours, beta, 0.5).requires_grad_()
    (residual,) = torch.autograd.grad(energy(y), y)
    assert residual.abs().max() < 1e-10
    single = gaussian_poisson(Gradients(*(p.float() for p in field)), colours.float(), beta, 0.5)
    assert (single - y).abs().max() < 1e-5


def test_its_identities_and_limits() -> None:
    x, other = picture(3, 12, 17), picture(3, 12, 17, 1)
    assert torch.allclose(gaussian_poisson(gradients(x), gaussian_blur(x, 0.5), 1.0, 0.5), x, atol=1e-10)
    poisson = gaussian_poisson(gradients(x), other, 0.0, 0.5)
    assert torch.allclose(gradients(poisson).right, gradients(x).right, atol=1e-10)
    assert torch.allclose(poisson.mean((1, 2)), other.mean((1, 2)))
    sharpened = gaussian_poisson(gradients(x), gaussian_blur(other, 0.5), 1e9, 0.5)
    assert torch.allclose(sharpened, other, atol=1e-5)
    small = gaussian_poisson(gradients(x), other, 1e-9, 0.5)
    assert torch.allclose(small, poisson, atol=1e-6)


def test_joined_gradients_are_the_mean_across_the_border() -> None:
    source, target = gradients(torch.zeros(1, 4, 4)), gradients(torch.arange(16.0).view(1, 4, 4))
    mask = torch.zeros(4, 4)
    mask[:, :2] = 1
    v = joined(source, target, mask)
    assert v.right[0, 0].tolist() == [0.0, 0.5, 1.0] and v.down[0, 0].tolist() == [0.0, 0.0, 4.0, 4.0]
    assert torch.equal(larger(source, target).down, target.down)


@pytest.mark.parametrize("channels", [1, 3])
def test_seamless_cloning_equals_dense_algebra_and_leaves_the_outside(channels: int) -> None:
    source, target, inside = picture(channels, 7, 9), picture(channels, 7, 9, 1), disc(7, 9) > 0
    field = gradients(source)
    found = seamless(field, target, inside)
    assert torch.equal(found[:, ~inside], target[:, ~inside])
    numbers = {tuple(place): n for n, place in enumerate(inside.nonzero().tolist())}
    for c in range(channels):
        a, b = (
            torch.zeros(len(numbers), len(numbers), dtype=torch.float64),
            torch.zeros(len(numbers), dtype=torch.float64),
        )
        for (i, j), n in numbers.items():  # Perez 2003, eq. (7), pixel by pixel
            for place in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if not (0 <= place[0] < 7 and 0 <= place[1] < 9):
                    continue
                a[n, n] += 1
                b[n] += source[c, i, j] - source[c, place[0], place[1]]
                if place in numbers:
                    a[n, numbers[place]] -= 1
                else:
                    b[n] += target[c, place[0], place[1]]
        assert torch.allclose(found[c][inside], torch.linalg.solve(a, b), atol=1e-6)


def test_a_source_that_differs_by_a_constant_is_cloned_without_a_seam() -> None:
    target, inside = picture(3, 16, 16), disc(16, 16) > 0
    assert torch.allclose(seamless(gradients(target + 0.3), target, inside), target, atol=1e-6)
    assert torch.allclose(filled(torch.full((1, 16, 16), 0.4), inside), torch.full((1, 16, 16), 0.4), atol=1e-6)


def test_a_pyramid_of_any_size_returns_the_target_where_source_and_target_are_equal() -> None:
    assert level_sizes(100, 61, 32) == [(25, 16), (50, 31), (100, 61)] and level_sizes(20, 30, 64) == [(20, 30)]
    target, mask = gaussian_blur(picture(3, 50, 37), 0.9), disc(50, 37)
    found = gaussian_poisson_pyramid(target, target, mask, lambda s, t, m: t, 1.0, 0.5, 16)
    assert (found - target).abs().mean() < 0.02 and found.min() >= 0 and found.max() <= 1


def test_the_object_gets_the_colours_that_are_given_and_keeps_its_texture() -> None:
    texture = 0.1 * (picture(1, 32, 32) - 0.5)
    source, target, mask = 0.3 + texture, torch.full((1, 32, 32), 0.55, dtype=torch.float64), disc(32, 32)
    found = gaussian_poisson_pyramid(source, target, mask, lambda s, t, m: t, 0.01, 0.5, 64)
    inside = mask > 0
    assert abs(found[0][inside].mean() - 0.55) < 0.02
    both = torch.stack([found[0][inside], source[0][inside]])
    assert torch.corrcoef(both)[0, 1] > 0.95


def test_feathering_is_gradual_and_keeps_the_mean() -> None:
    mask = disc(40, 40)
    soft = feathered(mask, 2.0)
    assert abs(soft.mean() - mask.mean()) < 1e-3 and ((soft > 0.2) & (soft < 0.8)).sum() > 20
    assert torch.equal(feathered(mask, 0.0), mask)


def test_pasted_inputs_differ_from_the_image_in_the_part_alone_and_in_colours_alone() -> None:
    image = torch.rand(4, 3, 16, 16) * 2 - 1
    pasted = Pasted()(image, torch.Generator().manual_seed(0))
    assert torch.equal(pasted[:, :, :4], image[:, :, :4]) and torch.equal(pasted[..., 12:], image[..., 12:])
    assert (pasted[:, :, 4:12, 4:12] - image[:, :, 4:12, 4:12]).abs().mean((1, 2, 3)).min() > 0.02
    assert pasted.abs().max() <= 1 and torch.equal(pasted, Pasted()(image, torch.Generator().manual_seed(0)))
    same = Pasted(saturation=(1.0, 1.0), gamma=(1.0, 1.0), gain=(1.0, 1.0), offset=0.0)
    assert torch.allclose(same(image, torch.Generator()), image, atol=1e-6)
    order = Pasted(saturation=(1.0, 1.0)).recoloured(image, torch.Generator().manual_seed(1))
    for b in range(4):
        for c in range(3):  # each value decides about its new value, and the order stays
            assert (order[b, c].flatten()[image[b, c].flatten().argsort()].diff() >= -1e-6).all()
    assert Pasted("block")(image[:, :1], torch.Generator().manual_seed(0)).shape == (4, 1, 16, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with a mask, a cut-out with opacity, a target of another size, and one of them grey."""
    folder, random = tmp_path_factory.mktemp("composites"), np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(random.integers(60, 200, (6, 7, 3), dtype=np.uint8)).resize((45, 38)))
    Image.fromarray(smooth).save(folder / "target.png")
    Image.fromarray(smooth).convert("L").save(folder / "grey.png")
    source = random.integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(source).save(folder / "source.png")
    mask = np.zeros((20, 24), dtype=np.uint8)
    mask[5:15, 6:18] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.dstack([source, mask])).save(folder / "stamp.png")
    Image.new("L", (20, 20), 255).save(folder / "other.png")
    Image.new("L", (24, 20), 0).save(folder / "black.png")
    return folder


def composited(files: Path, *options: str) -> Any:
    return quick("composite", "device=cpu", *options, folder=files)


@pytest.mark.parametrize("method", ["gaussian_poisson", "poisson", "mixed", "feather", "copy"])
@pytest.mark.parametrize("target", ["target", "grey"])
def test_the_command_composites_pictures_of_different_sizes(files: Path, method: str, target: str) -> None:
    given = ["source=source.png", "mask=mask.png", f"target={target}.png", "at=10,3", f"method={method}"]
    result = composited(files, *given, f"out={method}-{target}.png")
    assert result.returncode == 0, result.stderr
    found, back = (np.asarray(Image.open(files / f"{name}.png")).astype(int) for name in (f"{method}-{target}", target))
    assert found.shape == back.shape
    source = np.asarray(Image.open(files / "source.png").convert("RGB" if target == "target" else "L")).astype(int)
    if method == "copy":
        assert abs(found[8:18, 16:28] - source[5:15, 6:18]).max() <= 1
    if method in ("copy", "poisson", "mixed"):
        outside = np.ones(back.shape[:2], dtype=bool)
        outside[8:18, 16:28] = False
        assert abs(found - back)[outside].max() <= 1
    assert abs(found[8:18, 16:28] - back[8:18, 16:28]).max() > 5


def test_a_cut_out_gives_what_a_mask_gives_and_may_be_cropped(files: Path) -> None:
    for source, mask in (("stamp", "null"), ("source", "mask.png")):
        given = [f"source={source}.png", f"mask={mask}", "target=target.png", "at=-4,20", "method=copy"]
        assert composited(files, *given, f"out=from-{source}.png").returncode == 0
    one, other = (np.asarray(Image.open(files / f"from-{name}.png")) for name in ("stamp", "source"))
    assert np.array_equal(one, other)


def test_several_methods_are_drawn_with_their_names_and_a_folder_is_worked_off(files: Path) -> None:
    given = ["source=stamp.png", "target=target.png", "out=compared.png", "method=[copy,poisson,gaussian_poisson]"]
    assert composited(files, *given).returncode == 0
    assert Image.open(files / "compared.png").width > 4 * 45
    (files / "many").mkdir()
    for name in ("a", "b"):
        Image.open(files / "stamp.png").save(files / f"many/{name}.png")
    assert composited(files, "source=many", "target=target.png", "out=done", "method=feather").returncode == 0
    assert sorted(path.name for path in (files / "done").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mask=other.png"], "it has 20 x 20 px, and the source 24 x 20"),
        (["mask=black.png"], "there is no object"),
        ([], "mask= is missing"),
        (["mask=mask.png", "at=500,3"], "lies outside"),
        (["mask=mask.png", "at=[1]"], "give x and y"),
        (["mask=mask.png", "method=gp_gan"], "checkpoint= is missing"),
        (["mask=mask.png", "method=melt"], "the methods are"),
        (["mask=nowhere.png"], "can't be read"),
        (["mask=mask.png", "out=x.unknown"], "name a picture"),
        (["source=target.png", "mask=white.png"], "nothing to blend with"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(files: Path, options: list[str], message: str) -> None:
    Image.new("L", (45, 38), 255).save(files / "white.png")
    given = {"source": "source.png", "target": "target.png", "out": "wrong.png"}
    given |= dict(option.split("=", 1) for option in options)
    result = composited(files, *(f"{key}={value}" for key, value in given.items()))
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (files / "wrong.png").exists()


@pytest.mark.slow
def test_a_trained_blending_network_composites(files: Path, tmp_path: Path) -> None:
    options = ["model=gp_gan", "data/input=pasted", "data.batch_size=8", "max_images=40", "data.size=16"]
    narrow = ["model.game.generator.width=4", "model.game.generator.bottleneck=8", "model.game.discriminator.width=4"]
    module, data, trainer, _ = built(*FP32, *options, *narrow, folder=tmp_path)
    trainer.fit(module, datamodule=data)
    assert module.game.discriminator.stages[0].linear.weight.abs().max() <= 0.01  # clipped
    given = ["source=stamp.png", "target=target.png", "out=gp.png", "method=gp_gan", f"checkpoint={tmp_path}"]
    result = composited(files, *given)
    assert result.returncode == 0, result.stderr
    assert Image.open(files / "gp.png").size == (45, 38)


@pytest.mark.slow
def test_a_generator_of_latents_is_inverted(files: Path, tmp_path: Path) -> None:
    run = small_generator(tmp_path)
    network = Network(str(run))
    module = network.module
    with torch.no_grad():
        for generator in (module.game.generator, module.ema["generator"].network):
            generator.image[0].weight *= 100  # so short a training gives grey
        goal = module.sample({"latent": latent_inputs(module.game, 1, 5)["latent"]})
    start = module.sample({"latent": latent_inputs(module.game, 1, 6)["latent"]})
    found = network.nearest(goal)
    assert (found - goal).square().mean() < 0.5 * (start - goal).square().mean()
    given = ["source=stamp.png", "target=grey.png", "out=inverted.png", "method=gp_gan", f"checkpoint={run}"]
    result = composited(files, *given)
    assert result.returncode == 0, result.stderr
    assert Image.open(files / "inverted.png").size == (45, 38)
