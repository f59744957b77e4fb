"""Plug & play generation: the update against a hand-written one, the traps of the authors' code, and the command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.commands import quick
from helpers.composing import FP32
from helpers.frozen import Fixed, ready
from helpers.training import built
from oakleaf.conditioning.code import Code
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.losses.denoising import Denoising
from oakleaf.round import ConditionalRound
from oakleaf.sampling import PPGN
from oakleaf.sampling.ppgn import Chain, Request, log_probability, stepped

ENCODER = {"images": 1280, "width": 4, "features": 16}
NETWORKS = {"condition.width": 16, "generator.width": 4, "generator.hidden": 16, "discriminator.width": 4}
OPTIONS = [f"model.frozen.encoder.training.{key}={value}" for key, value in ENCODER.items()]
OPTIONS += [f"model.game.{key}={value}" for key, value in {**NETWORKS, "image_denoiser.width": 4}.items()]
OPTIONS += ["data.batch_size=16", "max_images=64"]


def trained(folder: Path, *options: str) -> GAN:
    module, data, trainer, _ = built(*FP32, *OPTIONS, *options, folder=folder)
    trainer.fit(module, datamodule=data)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPGN that has seen 64 digits."""
    folder = tmp_path_factory.mktemp("ppgn")
    trained(folder, "model=ppgn")
    return folder


@pytest.fixture(scope="module")
def module(run: Path) -> GAN:
    from oakleaf.builder.load import load

    return load(run)


def chosen(module: GAN, condition: int | str | None = 3, **options: Any) -> Tensor:
    """Return the states of a mode's chains."""
    mode = PPGN(count=4, **options)
    mode.request(module, condition)
    with module.ema_scope() as game:
        return mode(game, 0)[0]["code"]


def reference(module: GAN, iterations: int, lr: float, e: tuple[float, float, float], label: int) -> Tensor:
    """Write the update down by hand, eq. (11) with R(h) = E(G(h)), normalised as in sampler.py."""
    from oakleaf.image_grid import from_bytes
    from oakleaf.runtime.seeds import derive_seed

    with module.ema_scope() as game:
        encoder = game.frozen["encoder"]
        codes = encoder(from_bytes(game.condition.stored_rows)).embedding
        unit, low, high = codes.square().mean().sqrt(), codes.min(), codes.flatten().quantile(0.999)
        torch.manual_seed(derive_seed(0, "ppgn"))
        h = (unit * torch.randn(4, 16)).clamp(low, high)
        for _ in range(iterations):
            with torch.enable_grad():
                h = h.detach().requires_grad_()
                output = encoder(game.generator(h))
                log_p = torch.log(output.logits.softmax(1)[:, label])
                (gradient,) = torch.autograd.grad(log_p.sum(), h)
            d = e[0] * (output.embedding.detach() - h) + e[1] * gradient + e[2] * torch.randn(4, 16)
            h = (h + lr * unit * d / d.abs().mean(1, keepdim=True)).clamp(low, high)
    return h.detach()


@pytest.mark.slow
def test_the_chain_equals_a_hand_written_loop(module: GAN) -> None:
    found = chosen(module, 3, iterations=5, lr=0.1, e1=0.02, e2=1.0, e3=0.01)
    assert torch.allclose(found, reference(module, 5, 0.1, (0.02, 1.0, 0.01), 3), atol=1e-5)


def test_a_normalised_step_never_becomes_shorter_and_only_ratios_count() -> None:
    state, direction = torch.randn(3, 5), torch.randn(3, 5)
    for factor in (1e-12, 1.0, 1e6):
        moved = stepped(state, factor * direction, 0.25, True, -100, 100)
        assert torch.allclose((moved - state).abs().mean(1), torch.full((3,), 0.25))
        assert torch.allclose(moved, stepped(state, direction, 0.25, True, -100, 100), atol=1e-5)
    plain = stepped(state, direction, 0.25, False, -100, 100)
    assert torch.equal(plain, state + 0.25 * direction)
    assert torch.equal(stepped(state, torch.zeros(3, 5), 0.25, True, -100, 100), state)
    assert stepped(state, direction, 50.0, True, 0.0, 30.0).aminmax() == (0.0, 30.0)


def test_the_gradient_is_that_of_log_p_and_published_that_of_the_authors() -> None:
    logits, request = torch.randn(2, 4, dtype=torch.float64).requires_grad_(), Request(torch.tensor([[1], [3]]))
    p, one_hot = logits.softmax(1).detach(), torch.eye(4, dtype=torch.float64)[[1, 3]]
    value = log_probability(logits, request)
    assert torch.allclose(torch.autograd.grad(value.sum(), logits)[0], one_hot - p)
    published = log_probability(logits, request, published=True)
    assert torch.allclose(published, value)
    assert torch.allclose(torch.autograd.grad(published.sum(), logits)[0], one_hot * (1 - p))


def test_several_attributes_are_requested_with_their_signs() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]]).requires_grad_()
    request = Request(torch.tensor([[0, 2]]), torch.tensor([[1.0, -1.0]]))
    p = logits.detach().sigmoid()[0]
    value = log_probability(logits, request)
    assert torch.allclose(value, (p[0] * (1 - p[2])).log())
    assert torch.allclose(torch.autograd.grad(value.sum(), logits)[0], torch.stack([1 - p[0], p[1] * 0, -p[2]])[None])


def test_codes_are_clipped_to_the_range_of_the_data(module: GAN) -> None:
    codes = module.game.condition.encode(module.game.condition.sample(64))
    found = chosen(module, 3, iterations=30, lr=3.0)
    assert found.min() >= codes.min() and found.max() <= codes.flatten().quantile(0.999) + 1e-6
    assert found.max() > 0.9 * codes.flatten().quantile(0.999)  # the steps were long enough to reach the border
    pixels = chosen(module, 3, iterations=10, lr=1.0, variant="ppgn_x")
    assert pixels.shape == (4, 1, 16, 16) and pixels.abs().max() == 1


def test_around_a_hole_the_networks_see_the_picture_and_the_context_sees_g_alone() -> None:
    picture, hole = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hole[..., 1:3, 1:3] = True
    seen = []

    def condition(images: Tensor) -> Tensor:
        seen.append(images)
        return images.sum((1, 2, 3))

    def reconstruct(state: Tensor, images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros_like(state)

    state = torch.rand(2, 1, 4, 4)
    chain = Chain(lambda h: 2 * h, reconstruct, condition, 0.5, 3.0, 0.0, 7.0, (picture, hole))
    direction = chain.direction(state)
    composite = torch.where(hole, 2 * state, picture)
    assert all(torch.equal(images, composite) for images in seen) and len(seen) == 2
    inside = 3.0 * 2 * torch.ones_like(state) * hole  # the class moves the hole alone
    context = -7.0 * 2 * (2 * state - picture) * ~hole
    assert torch.allclose(direction, -0.5 * state + inside + context)


def test_networks_are_in_eval_mode_and_keep_their_weights(module: GAN) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    still = chosen(module, None, iterations=3)
    module.game.train()
    assert torch.equal(still, chosen(module, None, iterations=3)) and module.game.training
    module.game.eval()
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(weight.grad is None for weight in module.game.frozen.parameters())


def test_each_chain_is_its_own(module: GAN) -> None:
    """G's batch normalisation and that of the encoder do not mix chains; each step has its own length."""
    three, mixed = (chosen(module, condition, iterations=5, e3=0.0) for condition in (0, None))
    assert torch.allclose(three[0], mixed[0], atol=1e-5) and not torch.allclose(three[1], mixed[1], atol=1e-3)


@pytest.mark.parametrize("variant", ["dgn_am", "ppgn_h"])
def test_the_variants_have_their_own_priors(module: GAN, variant: Any) -> None:
    found = chosen(module, 3, iterations=1, e2=0.0, e3=0.0, variant=variant, start="data", lr=0.5, step="plain", e1=1.0)
    codes = module.game.condition.encode(module.game.condition.sample(4))
    with module.ema_scope() as game:
        prior = torch.zeros_like(codes) if variant == "dgn_am" else game.code_denoiser(codes)
    assert torch.allclose(found, torch.lerp(codes, prior, 0.5).clamp(codes.min(), found.max()), atol=1e-4)


def test_dgn_am_has_no_noise(module: GAN) -> None:
    still = chosen(module, 3, iterations=1, e1=0.0, e2=0.0, e3=1.0, variant="dgn_am", start="data")
    codes = module.game.condition.encode(module.game.condition.sample(4))
    assert torch.allclose(still, codes.clamp(max=still.max()))


def test_noise_is_added_in_training_alone_at_each_place() -> None:
    network = ready(Fixed(size=8))
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    clean = network(images).embedding
    for noise in ({"image": 0.5}, {"0.1": 0.5}, {"code": 0.5}, {}):
        condition = Code("eye", 3, 8, 6, noise=noise)
        condition.use_frozen({"eye": network})
        noisy = condition({"image": images})
        assert torch.equal(noisy, clean) == (not noise), noise
        assert torch.equal(condition.eval()({"image": images}), clean)
        assert torch.equal(network(images).embedding, clean)  # the hook is gone
    condition = Code("eye", 3, 8, 6, noise={"code": 0.1})
    condition.use_frozen({"eye": network})
    many = torch.stack([condition({"image": images}) - clean for _ in range(400)])
    assert torch.allclose(many.std(), 0.1 * clean.square().mean().sqrt(), rtol=0.1)


def test_the_score_of_a_gaussian_is_found_by_denoising() -> None:
    """For N(0, 1) and noise s the best R(v) is v / (1 + s^2), so (R(v) - v) / s^2 is near -v."""
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    term, optimizer = Denoising("denoiser", noise=0.3), torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        rows = torch.randn(512, 1)
        round = ConditionalRound(rows, rows, nn.Identity(), nn.Identity(), rows)
        round.networks = {"denoiser": network}
        optimizer.zero_grad()
        term(round).backward()
        optimizer.step()
    assert abs(network.weight.item() - 1 / 1.09) < 0.02 and abs(network.bias.item()) < 0.03


def test_denoisers_learn_beside_the_generator_and_change_nothing_else(module: GAN) -> None:
    batch = {"image": torch.rand(8, 1, 16, 16) * 2 - 1, "label": torch.zeros(8, dtype=torch.long)}
    for player in ("code_denoiser", "image_denoiser"):
        assert list(module.game.player_losses(player, batch, 1)[0]) == ["denoising"]
    assert set(module.game.player_losses("generator", batch, 1)[0]) == {"adversarial", "image", "features"}


@pytest.mark.slow
def test_the_joint_variant_trains_and_samples(tmp_path: Path) -> None:
    module = trained(tmp_path, "model=ppgn_joint")
    assert chosen(module, 1, iterations=2, variant="joint").shape == (4, 16)
    with pytest.raises(UserError, match="trained with noise"):
        chosen(module, 1, iterations=2)


def sampled(run: Path, folder: Path, *options: str) -> Any:
    given = [f"checkpoint={run}", "mode=ppgn", "mode.iterations=4", "count=6", "device=cpu", f"out={folder}"]
    return quick("sample", *given, *options, folder=folder.parent)


def test_the_command_draws_each_class_and_fills_a_hole(run: Path, tmp_path: Path) -> None:
    result = sampled(run, tmp_path / "classes", "mode.moments=2")
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "classes/samples.npy").shape == (12, 16, 16, 1)
    file = tmp_path / "own.png"
    own = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    Image.fromarray(own).save(file)
    result = sampled(run, tmp_path / "hole", f"picture={file}", "mode.region=half", "condition=3")
    assert result.returncode == 0, result.stderr
    filled = np.load(tmp_path / "hole/samples.npy")[..., 0]
    assert (abs(filled[:, :, :8].astype(int) - own[:, :8]) <= 1).all() and (filled[:, :, 8:] != own[:, 8:]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["condition=eleven"], "there is no class of this name"),
        (["condition=12"], "there is no class of this name"),
        (["mode.variant=joint"], "trained without noise"),
        (["mode.network=other"], "the frozen networks are encoder"),
        (["picture=nowhere.png"], "no such file"),
        (["picture=plain.png"], "all of its pixels are equal"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(run: Path, tmp_path: Path, options: list[str], message: str) -> None:
    Image.new("L", (16, 16), 7).save(tmp_path / "plain.png")
    result = sampled(run, tmp_path / "out", *options)
    assert result.returncode == 1 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out/samples.npy").exists()


def test_a_generator_that_has_no_codes_is_refused(fit: Any) -> None:
    module, _ = fit("data.batch_size=8", "max_images=8", "model.game.generator.width=4")
    with pytest.raises(UserError, match="not trained on codes"):
        chosen(module)
