"""LAPGAN: a pyramid of games, one a level."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, softplus

from helpers.composing import composed
from helpers.training import Fit, built
from oakleaf.config.validate import validate
from oakleaf.errors import UserError
from oakleaf.games import Pyramid
from oakleaf.games.pyramid import pyramid, residuals, up
from oakleaf.networks import lapgan
from oakleaf.networks.pyramid import level_sizes
from oakleaf.sampling import Grid, Levels

BASES = ["model.game.generator.base.units=32", "model.game.discriminator.base.units=32"]
DETAILS = ["model.game.generator.detail.width=8", "model.game.discriminator.detail.width=8"]
TINY = ["model=lapgan", *BASES, *DETAILS, "data.batch_size=8", "max_images=16"]
NO_DROPOUT = [f"model.game.discriminator.{level}.dropout=0" for level in ("base", "detail")]
CONDITIONAL = "model/condition=label"


def game_of(tmp_path, *options: str) -> Pyramid:
    game = built(*TINY, *NO_DROPOUT, *options, folder=tmp_path)[0].game
    assert isinstance(game, Pyramid)
    return game


@pytest.mark.parametrize(("shape", "depth"), [((2, 3, 32, 32), 2), ((2, 1, 16, 24), 3), ((2, 5, 12, 12), 1)])
def test_the_laplacian_pyramid_reconstructs_its_image(shape: tuple[int, ...], depth: int) -> None:
    image = torch.rand(shape, dtype=torch.float64) * 2 - 1
    *details, coarsest = residuals(pyramid(image, depth))
    assert [tuple(level.shape[2:]) for level in (*details, coarsest)] == level_sizes(shape[2:], depth)
    assert all(detail.abs().max() > 0.1 for detail in details)
    grown = coarsest
    for detail in reversed(details):
        grown = up(grown) + detail
    torch.testing.assert_close(grown, image, rtol=0, atol=1e-14)


def test_a_flat_image_has_no_residuals() -> None:
    *details, coarsest = residuals(pyramid(torch.full((1, 3, 16, 16), 0.3), 2))
    torch.testing.assert_close(coarsest, torch.full((1, 3, 4, 4), 0.3))
    assert all(detail.abs().max() < 1e-6 for detail in details)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_discriminator_loss_is_the_papers_formula(tmp_path, conditional: bool) -> None:
    """Section 3.2, each level by hand: log D_k(h_k + l_k) + log(1 - D_k(G_k(z_k, l_k) + l_k)), summed."""
    game = game_of(tmp_path, *([CONDITIONAL] if conditional else []))
    batch = {"image": torch.rand(4, 1, 16, 16) * 2 - 1, "label": torch.tensor([0, 3, 3, 9])}
    y = [torch.eye(10)[batch["label"]]] if conditional else []
    torch.manual_seed(1)
    loss = game.player_losses("discriminator", batch, 1)[0]["adversarial"]
    torch.manual_seed(1)
    z = (torch.rand(4, 256 + 64 + 100) * 2 - 1).split([256, 64, 100], 1)
    real, expected = batch["image"], torch.zeros(())
    G, D = game.generator.levels, game.discriminator.levels
    for k in range(2):
        half = avg_pool2d(real, 2)
        low = interpolate(half, scale_factor=2, mode="bilinear")
        h = real - low
        on_real, on_fake = (D[k](residual + low, *y).score for residual in (h, G[k](z[k], low, *y)))
        expected = expected + softplus(-on_real).mean() + softplus(on_fake).mean()
        real = half
    on_real, on_fake = D[2](real, *y).score, D[2](G[2](z[2], *y), *y).score
    expected = expected + softplus(-on_real).mean() + softplus(on_fake).mean()
    torch.testing.assert_close(loss, expected)


def test_sampling_needs_only_latents(tmp_path) -> None:
    game = game_of(tmp_path).eval()
    inputs = game.sample_inputs(3)
    z = inputs["latent"].split([256, 64, 100], 1)
    levels = game.generator.levels
    image = levels[2](z[2]).clamp(-1, 1)
    for k in (1, 0):
        low = interpolate(image, scale_factor=2, mode="bilinear")
        image = (low + levels[k](z[k], low)).clamp(-1, 1)
    torch.testing.assert_close(game.generate(inputs), image)
    assert torch.equal(game.generate(inputs), game.generate(inputs))
    for other in range(3):  # every level's noise shows
        changed = [part if k != other else -part for k, part in enumerate(z)]
        assert not torch.allclose(game.generate({"latent": torch.cat(changed, 1)}), image)


@pytest.mark.parametrize("optim", ["adam", "sgd"])
@pytest.mark.slow
def test_levels_trained_together_equal_levels_trained_separately(fit: Fit, tmp_path, optim: str) -> None:
    """Without dropout, whose masks all levels draw from one stream."""
    options = [*TINY, *NO_DROPOUT, f"optim={optim}", "optim.generator.lr=0.01"]
    together = fit(*options, folder=tmp_path / "all")[0].state_dict()
    start = built(*options, folder=tmp_path)[0].state_dict()
    for k in range(3):
        alone = fit(*options, f"model.game.levels=[{k}]", folder=tmp_path / str(k))[0].state_dict()
        for name, weight in alone.items():
            if name.startswith("game.") and "levels" in name:
                mine = f".levels.{k}." in name
                torch.testing.assert_close(weight, (together if mine else start)[name], rtol=1e-5, atol=1e-6)
                assert not mine or not torch.equal(weight, start[name]), name


@pytest.mark.slow
def test_levels_can_be_trained_one_after_the_other(fit: Fit, tmp_path) -> None:
    first, trainer = fit(*TINY, "model.game.levels=[2]")
    before = {name: weight.clone() for name, weight in first.state_dict().items() if ".levels." in name}
    trainer.save_checkpoint(tmp_path / "base.ckpt")
    options = [*TINY, "model.game.levels=[0,1]", "max_images=32"]
    second = fit(*options, checkpoint=tmp_path / "base.ckpt", folder=tmp_path / "next")[0]
    assert second.images_seen == 32
    for name, weight in second.state_dict().items():
        if name.startswith("game.") and name in before:
            assert torch.equal(weight, before[name]) == (".levels.2." in name), name


@pytest.mark.parametrize("optim", ["sgd", "adam"])
def test_only_the_requested_levels_are_trained(tmp_path, optim: str) -> None:
    game = game_of(tmp_path, "model.game.levels=[1]", f"optim={optim}")
    (round,) = game.play({"image": torch.rand(4, 1, 16, 16)})
    assert round.real.shape == round.fake.shape == (4, 1, 8, 8)


@pytest.mark.slow
def test_it_trains_in_colour_in_bfloat16_and_packed(fit: Fit) -> None:
    packed = ["model.game.packing=2", "loss=wasserstein_gp", "augment=noise"]
    options = ["data.channels=3", "data.size=[16,24]", "log_every=1"]
    module, _ = fit(*TINY, *options, *packed, "trainer.precision=bf16-mixed")
    images = module.sample(module.game.sample_inputs(2))
    assert images.shape == (2, 3, 16, 24)
    assert images.isfinite().all()
    assert {"accuracy/real", "accuracy/real/24px", "accuracy/real/6px"} <= module.last_scalars.keys()


@pytest.mark.slow
def test_samples_depend_on_the_class(fit: Fit) -> None:
    module, _ = fit(*TINY, CONDITIONAL, "max_images=64", "optim.generator.lr=0.01", "optim.ema=null")
    inputs = module.game.sample_inputs(4)
    other = {**inputs, "label": (inputs["label"] + 1) % 10}
    assert not torch.allclose(module.sample(inputs), module.sample(other))


def test_mode_pyramid_shows_every_level_of_an_image(tmp_path) -> None:
    module = built(*TINY, folder=tmp_path)[0]
    game = module.game.eval()
    mode = Levels(count=2)
    inputs, columns = mode(game, seed=0)
    assert columns == 5
    coarsest, detail, middle, fine, image = module.sample(inputs, generate=mode.generate).unflatten(0, (2, 5)).unbind(1)
    assert torch.equal(image, game.generate(Grid(2)(game, seed=0)[0]))
    small = interpolate(middle, scale_factor=0.5)  # as it was before it was enlarged
    torch.testing.assert_close(up(small) + fine, image)
    torch.testing.assert_close(up(coarsest[:, :, ::4, ::4]) + detail[:, :, ::2, ::2], small)
    with pytest.raises(UserError, match="model=lapgan"):
        mode(built(folder=tmp_path)[0].game, seed=0)


def test_networks_have_the_layers_of_the_papers_code() -> None:
    G, D = lapgan.DetailGenerator(3, 32, classes=10), lapgan.DetailDiscriminator(3, 32, classes=10)
    maps = [[tuple(w.shape) for w in network.parameters() if w.dim() == 4] for network in (G, D)]
    assert maps[0] == [(128, 5, 7, 7), (128, 128, 7, 7), (3, 128, 5, 5)]  # noise, class and low-pass: five planes
    assert maps[1] == [(128, 4, 5, 5), (128, 128, 5, 5)]
    base = lapgan.BaseGenerator(3, 8), lapgan.BaseDiscriminator(3, 8)
    assert [tuple(w.shape) for w in base[0].parameters() if w.dim() == 2] == [(1200, 100), (1200, 1200), (192, 1200)]
    assert [tuple(w.shape) for w in base[1].parameters() if w.dim() == 2] == [(600, 192), (600, 600), (1, 600)]


@pytest.mark.slow
def test_any_network_can_make_the_coarsest_image(fit: Fit) -> None:
    networks = {"generator": "dcgan.Generator,latent:20", "discriminator": "dcgan.Discriminator"}
    swapped = [
        option
        for player, network in networks.items()
        for option in (
            f"~model.game.{player}.base",
            f"+model.game.{player}.base={{_partial_:true,width:8,_target_:oakleaf.networks.{network}}}",
        )
    ]
    module, _ = fit(TINY[0], *DETAILS, *swapped, "data.size=32", "model.game.generator.depth=1", *TINY[-2:])
    assert module.game.sample_inputs(2)["latent"].shape == (2, 32 * 32 + 20)


def test_impossible_sizes_and_levels_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        level_sizes(30, 2)
    with pytest.raises(UserError, match="depth=1"):
        level_sizes(30, 2)
    with pytest.raises(UserError, match="the levels are 0 \\(the finest\\) to 2"):
        game_of(tmp_path, "model.game.levels=[3]")


def test_the_experiment_has_the_papers_rates_and_the_command_line_overrides_it() -> None:
    config = composed("experiment=lapgan_cifar10", "optim.generator.lr=1e-5", "loss=hinge", folder="x")
    assert (config.optim.generator.lr, config.loss.name) == (1e-5, "hinge")
    assert config.model.game.condition.width is None
    config.data.classes = 10
    assert config.model.game.generator.classes == config.model.game.discriminator.classes == 10
    validate(dict(config.optim.generator.schedules.momentum))
    assert composed("model=lapgan", folder="x").model.game.generator.classes == 0
