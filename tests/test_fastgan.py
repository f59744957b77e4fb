"""FastGAN's excitation, decoders and losses."""

import pytest
import torch
from torch import Tensor, nn

from oakleaf.errors import UserError
from oakleaf.losses.objectives import RandomHinge
from oakleaf.losses.self_supervision import SelfSupervision
from oakleaf.networks import fastgan
from oakleaf.round import Round


def critic(size: int = 32) -> fastgan.Discriminator:
    torch.manual_seed(0)
    return fastgan.Discriminator(1, size, width=4)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [16, 28, (16, 32)])
def test_any_size_with_and_without_labels(classes: int, size: int) -> None:
    generator = fastgan.Generator(8, 2, size, width=4, classes=classes)
    discriminator = fastgan.Discriminator(2, size, width=4, classes=classes)
    y = (torch.eye(3)[[0, 2]],) if classes else ()
    images = generator(torch.randn(2, 8), *y)
    assert images.shape[2:] == torch.Size([size, size] if isinstance(size, int) else size)
    assert discriminator(images, *y).score.shape[:3] == (2, 1, 2)
    for found, target in discriminator.reconstructions(images):
        assert found.shape == target.shape


@pytest.mark.slow
def test_excitations_are_from_4_to_64_px_8_to_128_and_16_to_256() -> None:
    with torch.device("meta"):
        generator = fastgan.Generator(256, 3, 256, width=64)
    assert generator.span == 4
    shapes = [(layer.first.in_channels, layer.first.out_channels) for layer in generator.excitations]
    assert shapes == [(1024, 128), (512, 64), (256, 32)]


def test_an_excitation_scales_channels_by_a_function_of_the_small_map() -> None:
    layer, small, large = fastgan.Excitation(3, 5), torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16, 16)
    pooled = small.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    hidden = torch.einsum("bchw,ochw->bo", pooled, layer.first.weight)
    gates = ((hidden * hidden.sigmoid()) @ layer.second.weight[:, :, 0, 0].T).sigmoid()
    torch.testing.assert_close(layer(small, large), large * gates[:, :, None, None], rtol=1e-4, atol=1e-6)


def test_noise_is_constant_outside_of_training() -> None:
    generator, z = fastgan.Generator(8, 1, 16, width=4), torch.randn(4, 8)
    for module in generator.modules():
        if isinstance(module, fastgan.Noise):
            nn.init.ones_(module.strength)
    assert not torch.equal(generator(z), generator(z))
    generator.eval()
    assert torch.equal(generator(z), generator(z))


def test_a_quarter_of_the_image_belongs_to_that_of_the_map() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8)
    for row in (0, 1):
        for column in (0, 1):
            expected = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(fastgan._quarter(x, torch.tensor(row), torch.tensor(column)), expected)


def test_random_margins_are_between_1_and_1_minus_the_spread() -> None:
    def scored(real: float, fake: float) -> Round:
        return Round(torch.full((4000,), real), torch.full((4000,), fake), lambda x: x)

    loss = RandomHinge(0.2)
    assert loss.discriminator(scored(0.0, 0.0)).item() == pytest.approx(1.8, abs=0.01)
    assert loss.discriminator(scored(1.0, -1.0)).item() == 0
    # E relu(m - 0.9) for m of U(0.8, 1) is 0.025
    assert loss.discriminator(scored(0.9, -0.9)).item() == pytest.approx(0.05, abs=0.005)
    assert loss.generator(scored(0.0, 3.0)).item() == pytest.approx(-3)


def test_self_supervision_is_the_sum_of_the_distances_to_the_targets() -> None:
    discriminator, images = critic().eval(), torch.rand(4, 1, 32, 32) * 2 - 1
    round = Round(images, images, discriminator)
    torch.manual_seed(1)
    found = SelfSupervision(weight=2.0)(round)
    torch.manual_seed(1)
    pairs = discriminator.reconstructions(images)
    assert len(pairs) == 3
    torch.testing.assert_close(found, 2 * sum((one - other).abs().mean() for one, other in pairs))
    target = images.unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    torch.testing.assert_close(pairs[0][1], target)
    found.backward()
    assert all(
        layer.layers[-2].parametrizations.weight.original.grad.abs().max() > 0 for layer in discriminator.decoders
    )


def test_a_critic_without_decoders_is_refused() -> None:
    def plain(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)

    with pytest.raises(UserError, match="reconstructs no images"):
        SelfSupervision().measure(Round(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), plain))
