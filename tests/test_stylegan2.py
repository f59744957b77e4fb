"""StyleGAN2's layers, style mixing, truncation and path length, against references by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from helpers.composing import FP32
from helpers.training import built
from oakleaf.errors import UserError
from oakleaf.losses.path_length import PathLength
from oakleaf.networks import stylegan2
from oakleaf.networks.minibatch import MinibatchStddev
from oakleaf.networks.resampling import Resampling
from oakleaf.round import Round

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
FILTER = TAPS[:, None] * TAPS[None] / 64
SMALL = [
    "model=stylegan2", "model.game.generator.width=8", "model.game.generator.capacity=64", "model.game.prior.dim=8",
    "model.game.generator.style=8", "model.game.generator.mapping_layers=2", "data.size=8",
]  # fmt: skip


def small(**options: object) -> stylegan2.Generator:
    torch.manual_seed(0)
    return stylegan2.Generator(8, 1, 8, **{"width": 8, "capacity": 64, "style": 8, "mapping_layers": 2, **options})


def filtered(x: Tensor, before: int, after: int) -> Tensor:
    """Correlate each channel with the filter, with zeros around it."""
    x = nn.functional.pad(x, (before, after, before, after))
    return torch.cat([conv2d(channel, FILTER[None, None]) for channel in x.split(1, 1)], 1)


def with_zeros(x: Tensor) -> Tensor:
    """Insert a zero behind each pixel."""
    result = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    result[:, :, ::2, ::2] = x
    return result


@pytest.mark.parametrize(
    ("generator", "discriminator", "g", "d"),
    [
        ((512, 3, 256), {"channels": 3, "size": 256}, 24_767_458, 24_001_089),
        ((512, 3, 1024, 512, 32768), {"channels": 3, "size": 1024, "capacity": 32768}, 30_370_060, 29_012_513),
    ],
)
def test_parameter_counts_are_those_of_the_paper(
    generator: tuple[int, ...], discriminator: dict, g: int, d: int
) -> None:
    """24.767 and 24.001 million in table 2 of R3GAN (arXiv:2501.05441); 30.37 million: Karras 2019, section 5."""
    with torch.device("meta"):
        networks = stylegan2.Generator(*generator), stylegan2.Discriminator(**discriminator)
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [g, d]


def test_resampling_equals_inserting_zeros_and_filtering() -> None:
    x, resampling = torch.randn(2, 3, 6, 8, dtype=torch.float64), Resampling().double()
    torch.testing.assert_close(resampling.doubled(x), 4 * filtered(with_zeros(x), 2, 1), rtol=0, atol=1e-7)
    torch.testing.assert_close(resampling.halved(x), filtered(x, 1, 1)[:, :, ::2, ::2], rtol=0, atol=1e-7)
    inner = resampling.doubled(torch.ones(1, 1, 6, 6).double())[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.ones_like(inner))


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("doubles", [True, False])
def test_modulated_convolutions_equal_one_with_weights_of_each_sample(demodulate: bool, doubles: bool) -> None:
    torch.manual_seed(0)
    layer = stylegan2.ModulatedConv(4, 5, 3, 7, demodulate, doubles).double()
    x, w = torch.randn(3, 4, 6, 6, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    images = []
    for one, style in zip(x, w @ layer.affine.weight.T / math.sqrt(7) + 1):
        weight = layer.weight * style[None, :, None, None] / (1 if demodulate else math.sqrt(36))
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if doubles:  # convolve, with flipped weights, what zeros were inserted in; then filter
            convolved = conv2d(
                nn.functional.pad(with_zeros(one[None]), (2, 1, 2, 1)), weight.flip(2, 3)
            )  # [1, 5, 13, 13]
            images.append(4 * filtered(convolved, 1, 1))
        else:
            images.append(conv2d(one[None], weight, padding=1))
    torch.testing.assert_close(layer(x, w), torch.cat(images), rtol=0, atol=1e-6)


def test_the_convolution_that_halves_filters_first() -> None:
    layer, x = stylegan2.EqualConv(4, 5, 3, halves=True, bias=False).double(), torch.randn(2, 4, 8, 8).double()
    expected = conv2d(filtered(x, 2, 2), layer.weight / 6, stride=2)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)


def test_the_minibatch_deviation_is_that_of_groups_averaged_over_all_else() -> None:
    x = torch.randn(6, 4, 2, 3, dtype=torch.float64)
    result = MinibatchStddev(4)(x)  # 3 divides 6, 4 does not: two groups, images 0, 2, 4 and 1, 3, 5
    assert torch.equal(result[:, :4], x)
    for image in range(6):
        group = x[image % 2 :: 2]
        deviation = ((group - group.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(result[image, 4], deviation.expand(2, 3), rtol=0, atol=1e-6)


def test_a_mapping_layer_learns_a_hundredth_as_fast() -> None:
    layer = stylegan2.EqualLinear(16, 4, 0.01, bias=0.5)
    x = torch.randn(3, 16)
    torch.testing.assert_close(layer(x), x @ layer.weight.T * 0.01 / 4 + 0.5)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.5)


def test_styles_are_mixed_from_one_layer_on_in_training_alone() -> None:
    generator, z = small(mixing=1.0), torch.randn(6, 8)
    starts = set()
    for _ in range(20):
        styles = generator.styles(z)
        changed = (styles != styles[:, :1]).any(2)
        assert (changed == changed[:1]).all()  # the same layers for the whole batch
        assert not changed[:, 0].any() and changed[:, -1].all()
        starts.add(int(changed[0].float().argmax()))
    assert starts == set(range(1, generator.layers))
    generator.eval()
    assert torch.equal(generator.styles(z), generator.mapping(z)[:, None].expand(-1, generator.layers, -1))


def test_the_average_of_w_follows_the_batches_but_not_the_mixed_latents() -> None:
    generator, z = small(mixing=1.0, decay=0.9), torch.randn(6, 8)
    generator(z)
    torch.testing.assert_close(generator.mapping.average, 0.1 * generator.mapping(z).mean(0))
    generator.eval()(z)
    torch.testing.assert_close(generator.mapping.average, 0.1 * generator.mapping(z).mean(0))


def test_truncation_moves_w_to_its_average_in_each_row_and_in_the_coarse_layers() -> None:
    generator, z = small(truncated_layers=2).eval(), torch.randn(3, 8)
    nn.init.normal_(generator.mapping.average)
    w, psi = generator.mapping(z), torch.tensor([0.0, 0.5, 1.0])
    styles = generator.styles(z, truncation=psi)
    expected = generator.mapping.average + psi[:, None] * (w - generator.mapping.average)
    torch.testing.assert_close(styles[:, :2], expected[:, None].expand(-1, 2, -1))
    assert torch.equal(styles[:, 2:], w[:, None].expand(-1, generator.layers - 2, -1))


def test_noise_is_constant_in_samples_and_images_are_clamped_there() -> None:
    generator, z = small(), torch.randn(4, 8)
    for block in generator.blocks:
        for convolution in block.convolutions:
            nn.init.ones_(convolution.strength)
        nn.init.constant_(block.image_bias, 3.0)
    styles = generator.styles(z)
    assert not torch.equal(generator.synthesis(styles), generator.synthesis(styles))
    assert generator.synthesis(styles).max() > 1
    generator.eval()
    assert torch.equal(generator.synthesis(styles), generator.synthesis(styles))
    assert generator(z).image.max() == 1


def test_path_lengths_equal_those_of_the_whole_jacobian() -> None:
    generator = small(mixing=0.0).double().eval()
    styles = generator.styles(torch.randn(4, 8, dtype=torch.float64)).detach().requires_grad_()
    round = Round(torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8).double(), lambda x: x, extras={"w": styles})
    round.networks = {"generator": generator}
    term = PathLength(weight=2.0, share=0.5, decay=0.9, every=1)
    torch.manual_seed(3)
    found = term(round)
    torch.manual_seed(3)
    noise = torch.randn(2, 1, 8, 8, dtype=torch.float64) / 8
    jacobian = torch.func.jacrev(lambda w: generator.synthesis(w[None])[0])
    projected = [(jacobian(w) * y[..., None, None]).sum((0, 1, 2)) for w, y in zip(styles[:2], noise)]
    lengths = torch.stack([g.square().sum(1).mean().sqrt() for g in projected])
    torch.testing.assert_close(
        found.double(), 2 * (lengths - 0.1 * lengths.mean()).square().mean(), rtol=1e-5, atol=1e-7
    )
    term.update_state()
    torch.testing.assert_close(term.mean.double(), 0.1 * lengths.mean(), rtol=1e-5, atol=0)
    term.update_state()  # a step without the term changes nothing
    torch.testing.assert_close(term.mean.double(), 0.1 * lengths.mean(), rtol=1e-5, atol=0)


def test_a_generator_without_styles_is_refused() -> None:
    with pytest.raises(UserError, match="returns no styles w"):
        PathLength().measure(Round(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), lambda x: x))


def test_lazy_terms_have_the_mean_gradient_of_those_in_every_step(tmp_path: Path) -> None:
    """They share the step of the other losses, so no number of the optimizer has to be corrected."""
    module, data, *_ = built(*FP32, *SMALL, "data.batch_size=4", folder=tmp_path)
    data.setup()
    game, batch = module.game, data.batch(torch.arange(4))
    weights = list(game.discriminator.parameters())
    totals = []
    for every in (1, 4):
        game.loss.penalties["r1"].every = every
        total = [torch.zeros_like(weight) for weight in weights]
        for step in range(1, 5):
            torch.manual_seed(0)
            losses, _ = game.player_losses("discriminator", batch, step)
            gradients = torch.autograd.grad(sum(losses.values()), weights)
            total = [one + other for one, other in zip(total, gradients)]
        totals.append(total)
    for often, seldom in zip(*totals):
        torch.testing.assert_close(often, seldom, rtol=1e-3, atol=1e-5)


def test_a_conditional_run_trains_and_is_sampled_with_truncation(tmp_path: Path) -> None:
    module, data, trainer, _ = built(
        *FP32, *SMALL, "model/condition=label", "data.channels=3", "augment=ada_fixed", "data.batch_size=8",
        "max_images=64",
        "loss.penalties.r1.every=2", "callbacks.samples=null", "callbacks.training_monitor=null", folder=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert all(torch.isfinite(w).all() for w in module.parameters())
    assert module.game.terms["generator"]["path_length"].mean > 0
    inputs = {"latent": torch.randn(2, 8).repeat(2, 1), "label": torch.tensor([1, 2, 1, 2])}
    images = module.sample({**inputs, "truncation": torch.tensor([1.0, 1.0, 0.2, 0.2])})
    torch.testing.assert_close(images[:2], module.sample(inputs)[:2], rtol=0, atol=1e-4)
    assert (images[2:] - images[:2]).abs().max() > 0.01
