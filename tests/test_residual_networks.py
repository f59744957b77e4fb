"""The residual networks of SNGAN and SAGAN, against references by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from helpers.composing import FP32
from helpers.training import built
from oakleaf.errors import UserError
from oakleaf.networks import residual
from oakleaf.networks.layers import ConditionalNorm
from oakleaf.networks.residual import DownBlock, SelfAttention, UpBlock


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_of_sngan_for_32_px() -> None:
    """Table 4: 4 x 4 x 256, three blocks of 256; four blocks of 128."""
    c3, c1, norm = 256 * 256 * 9 + 256, 256 * 256 + 256, 2 * 256
    expected = 129 * 4 * 4 * 256 + 3 * (2 * c3 + c1 + 2 * norm) + norm + 3 * 256 * 9 + 3
    assert parameters(residual.Generator(128, 3, 32)) == expected == 4_276_739
    c3, first = 128 * 128 * 9 + 128, 3 * 128 * 9 + 128 + 3 * 128 + 128
    expected = first + c3 + 2 * c3 + 128 * 128 + 128 + 2 * 2 * c3 + 129
    assert parameters(residual.Discriminator(3, 32)) == expected == 1_053_825


def test_self_attention_equals_its_equations_and_begins_as_the_identity() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(16).double(), torch.randn(2, 16, 4, 6, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    nn.init.constant_(layer.gamma, 0.7)
    theta, phi, g = layer.theta(x), max_pool2d(layer.phi(x), 2), max_pool2d(layer.g(x), 2)
    expected = x.clone()
    for b in range(2):
        for place in range(24):
            row, column = divmod(place, 6)
            logits = torch.stack([theta[b, :, row, column] @ phi[b].flatten(1)[:, j] for j in range(6)])
            mixed = sum(weight * g[b].flatten(1)[:, j] for j, weight in enumerate(logits.softmax(0)))
            expected[b, :, row, column] += 0.7 * (layer.o.weight[:, :, 0, 0] @ mixed)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)


def test_up_blocks_equal_the_paper_with_its_conditional_normalisation() -> None:
    torch.manual_seed(0)
    block, x, y = (
        UpBlock(4, 6, classes=3).double(),
        torch.randn(5, 4, 3, 3).double(),
        torch.eye(3).double()[[0, 1, 2, 0, 1]],
    )
    assert all((p == 0).all() for norm in block.norms for p in norm.parameters())  # a gain of 1 at first
    for norm in block.norms:
        for parameter in norm.parameters():
            nn.init.normal_(parameter)

    def normalised(norm: ConditionalNorm, x: torch.Tensor) -> torch.Tensor:
        gain, bias = (layer.weight[:, y.argmax(1)].T + layer.bias for layer in (norm.gain, norm.bias))
        standard = (x - x.mean((0, 2, 3), keepdim=True)) / (
            x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        return standard * (1 + gain)[:, :, None, None] + bias[:, :, None, None]

    h = block.convolutions[0](interpolate(relu(normalised(block.norms[0], x)), scale_factor=2))
    h = block.convolutions[1](relu(normalised(block.norms[1], h)))
    torch.testing.assert_close(block(x, y), h + block.shortcut(interpolate(x, scale_factor=2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_down_blocks_equal_the_paper(first: bool) -> None:
    """The first block has no ReLU at its beginning; a shortcut's convolution and its pooling commute."""
    torch.manual_seed(0)
    block, x = DownBlock(4, 6, halves=True, first=first).double(), torch.randn(2, 4, 6, 6).double()
    h = block.convolutions[1](relu(block.convolutions[0](x if first else relu(x))))
    expected = avg_pool2d(h, 2) + avg_pool2d(block.shortcut(x), 2)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-6)
    assert DownBlock(4, 6, halves=False, wide=False).convolutions[0].out_channels == 4


def test_the_score_is_of_the_sum_over_places_and_the_projection_of_the_condition() -> None:
    critic, x, y = (
        residual.Discriminator(1, 16, width=8, constant=1, norm="none", classes=3),
        torch.randn(4, 1, 16, 16),
        torch.eye(3)[[0, 1, 2, 0]],
    )
    h = x
    for block in critic.blocks:
        h = block(h)
    features = relu(h).sum((2, 3))
    expected = critic.score(features)[:, 0] + (critic.projection.weight.T[[0, 1, 2, 0]] * features).sum(1)
    torch.testing.assert_close(critic(x, y).score, expected)


def test_sagan_normalises_all_weights_of_both_networks_but_those_of_conditional_normalisation() -> None:
    generator = residual.Generator(8, 1, 16, width=4, growth=4, classes=3, attention=8, spectral=True)
    critic = residual.Discriminator(1, 16, width=4, growth=4, constant=1, classes=3, attention=4)
    conditional = {id(layer) for m in generator.modules() if isinstance(m, ConditionalNorm) for layer in m.modules()}
    for network in (generator, critic):
        for _ in range(40):  # power iterations
            network(
                torch.randn(4, 8) if network is generator else torch.randn(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
            )
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                assert nn.utils.parametrize.is_parametrized(layer) == (id(layer) not in conditional)
                if id(layer) not in conditional:
                    sigma = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
                    assert sigma.item() == pytest.approx(1, abs=0.05)


def test_attention_on_no_map_and_too_many_constant_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="attention=5: the maps have sides of 4, 8, 16"):
        residual.Generator(8, 1, 16, width=4, attention=5)
    with pytest.raises(UserError, match="use at most 2"):
        residual.Discriminator(1, 16, width=4, constant=3)


def test_a_batch_is_repeated_for_the_generator_alone(tmp_path: Path) -> None:
    small = [f"model.game.{player}.width=4" for player in ("generator", "discriminator")]
    module, data, trainer, _ = built(
        *FP32, "model=sngan_resnet", *small, "data.batch_size=6", "max_images=6", "optim.generator.every=1",
        "callbacks.samples=null", "callbacks.training_monitor=null", folder=tmp_path,
    )  # fmt: skip
    counts: list[int] = []
    module.game.generator.register_forward_hook(
        lambda _, inputs, __: counts.append(len(inputs[0])) if module.training else None
    )
    trainer.fit(module, datamodule=data)
    assert counts[:2] == [6, 12]
