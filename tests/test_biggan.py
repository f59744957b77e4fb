"""BigGAN's networks and its orthogonal regularisation."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from oakleaf.errors import UserError
from oakleaf.losses.orthogonal import Orthogonal
from oakleaf.networks import biggan
from oakleaf.round import Round


@pytest.mark.parametrize(
    ("deep", "latent", "width", "g", "d"),
    [(False, 120, 96, 70_433_988, 87_982_370), (True, 128, 128, 50.4e6, 34.6e6)],
)
def test_parameter_counts_at_128_px(
    monkeypatch: pytest.MonkeyPatch, deep: bool, latent: int, width: int, g: float, d: float
) -> None:
    """The first as the authors' PyTorch code prints them; BigGAN-deep: 50.4 and 34.6 million, table 7 and its text."""
    monkeypatch.setattr(biggan, "init_orthogonal_", lambda network: None)
    monkeypatch.setattr(biggan, "apply_spectral_norm", lambda network, eps: None)
    with torch.device("meta"):
        generator = biggan.Generator(latent, 3, 128, width, classes=1000, attention=64, deep=deep)
        critic = biggan.Discriminator(3, 128, width, classes=1000, attention=64, deep=deep)
    counts = [sum(p.numel() for p in network.parameters()) for network in (generator, critic)]
    assert counts == ([pytest.approx(g, rel=0.005), pytest.approx(d, rel=0.005)] if deep else [g, d])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 32, 28, (8, 16)])
def test_any_size_with_and_without_labels(size: int, classes: int, deep: bool) -> None:
    generator = biggan.Generator(11, 1, size, 1, shared=4, classes=classes, deep=deep)
    critic = biggan.Discriminator(1, size, 1, classes=classes, deep=deep)
    y = (torch.eye(3)[[0, 2]],) if classes else ()
    images = generator(torch.randn(2, 11), *y)
    assert images.shape[2:] == torch.Size([size, size] if isinstance(size, int) else size)
    assert critic(images, *y).score.shape == (2,)


def test_each_resolution_has_its_own_part_of_z_in_order() -> None:
    generator = biggan.Generator(14, 1, 32, 2, shared=4, classes=3).eval()
    assert generator.parts == [5, 3, 3, 3]
    seen: list[torch.Tensor] = []
    for blocks in generator.blocks:
        blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    z, y = torch.randn(2, 14), torch.eye(3)[[0, 2]]
    generator(z, y)
    embedded = generator.embedding.weight.T[[0, 2]]
    for (start, end), condition in zip(pairwise([5, 8, 11, 14]), seen, strict=True):
        torch.testing.assert_close(condition, torch.cat([embedded, z[:, start:end]], 1))
    assert not nn.utils.parametrize.is_parametrized(generator.embedding)
    assert nn.utils.parametrize.is_parametrized(generator.blocks[0][0].norms[0].gain)


def test_the_deep_shortcuts_drop_and_append_channels() -> None:
    up, x = biggan.DeepUpBlock(8, 4, doubles=True, condition=2), torch.randn(2, 8, 3, 3)
    nn.init.zeros_(up.convolutions[-1].weight)
    nn.init.zeros_(up.convolutions[-1].bias)
    expected = x[:, :4].repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(x, torch.randn(2, 2)), expected)
    down = biggan.DeepDownBlock(4, 6, halves=False)
    nn.init.zeros_(down.convolutions[-1].weight)
    nn.init.zeros_(down.convolutions[-1].bias)
    x = x[:, :4]
    torch.testing.assert_close(down(x), torch.cat([x, down.shortcut(x)], 1))


def test_the_gradient_of_the_orthogonal_term_is_that_of_the_authors_code() -> None:
    """2 (W W^T * (1 - I)) W times the strength; half of the term's weight."""
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(4, 6)).double()
    network.add_module("embedding", nn.Linear(3, 3).double())
    round = Round(torch.zeros(1), torch.zeros(1), lambda x: x)
    round.networks = {"generator": network}
    Orthogonal(weight=0.5e-4)(round).backward()
    for layer in (network[0], network[1]):
        w = layer.weight.detach().flatten(1)
        expected = 1e-4 * 2 * ((w @ w.T) * (1 - torch.eye(len(w)))) @ w
        torch.testing.assert_close(layer.weight.grad.flatten(1), expected, rtol=0, atol=1e-9)
    assert network.embedding.weight.grad is None
    with pytest.raises(UserError, match="the game has generator"):
        Orthogonal("other")(round)


def test_too_large_images_and_too_short_latents_are_refused() -> None:
    with pytest.raises(UserError, match="end at 512 pixels"):
        biggan.Discriminator(1, 1024, 1)
    with pytest.raises(UserError, match="divided into 4 parts"):
        biggan.Generator(3, 1, 32, 1)
