"""EBGAN and BEGAN: the margin, the equilibrium and its k, the pulling-away term, and critics that are auto-encoders."""

import copy
import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed

from helpers.composing import FP32, composed
from helpers.training import Fit, built
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.losses.energy import Equilibrium, Margin
from oakleaf.losses.objectives import discriminator_probability
from oakleaf.losses.stateful import Stateful
from oakleaf.losses.terms import PullAway
from oakleaf.networks import mlp
from oakleaf.networks.autoencoder_critic import ConvAutoEncoder, Decoder, MLPAutoEncoder, began_stages
from oakleaf.round import CriticOutput, Round
from oakleaf.sampling import Reconstruct

BEGAN = ["model=began", "model.game.generator.width=2", "model.game.discriminator.width=2"]
FAST_K = ["loss.objective.rate=0.5", "loss.objective.gamma=0.9"]  # so that k leaves 0 at once


def round_of(real: list[float], fake: list[float]) -> Round:
    """A round whose energies are the images themselves."""
    return Round(torch.tensor(real), torch.tensor(fake), lambda x: CriticOutput(-x))


def test_margin_equals_the_papers_formula() -> None:
    loss, round = Margin(2.0), round_of([0.5, 1.0], [0.3, 5.0])
    assert loss.discriminator(round).item() == pytest.approx((0.5 + 1.0) / 2 + (1.7 + 0) / 2)  # eq. (1)
    assert loss.generator(round).item() == pytest.approx((0.3 + 5.0) / 2)  # eq. (2)
    assert discriminator_probability(loss, round.on_real.score) is None  # an energy is no probability


def test_beyond_the_margin_and_below_zero_the_critic_has_no_gradient() -> None:
    real, fake = torch.tensor([0.5, -0.1], requires_grad=True), torch.tensor([1.0, 3.0], requires_grad=True)
    Margin(2.0).discriminator(Round(real, fake, lambda x: CriticOutput(-x))).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0.5, 0.0]
    assert fake.grad.tolist() == [-0.5, 0.0]


def test_at_the_nash_equilibrium_the_losses_are_the_margin_and_half_of_it() -> None:
    nash = round_of([1.0] * 4, [1.0] * 4)  # theorem 1 and 2: p_G = p_data, D constant, here m / 2
    assert Margin(2.0).discriminator(nash).item() == pytest.approx(2.0)
    assert Margin(2.0).generator(nash).item() == pytest.approx(1.0)


def test_k_follows_a_loop_by_hand() -> None:
    loss = Equilibrium(gamma=0.5, rate=0.1)
    k, real = 0.0, 0.0
    path = []
    for iteration in range(40):
        rounds = [
            round_of([3.0 + iteration % 3, 2.0], [0.1 + i + 0.2 * iteration, 0.4]) for i in (0, 1)
        ]  # two per iteration
        energies = [(float(r.real.mean()), float(r.fake.mean())) for r in rounds]
        for round, (on_real, on_fake) in zip(rounds, energies):
            assert loss.discriminator(round).item() == pytest.approx(on_real - k * on_fake, abs=1e-5)
        real = sum(on_real for on_real, _ in energies) / 2
        loss.update_state()
        assert loss.k.item() == pytest.approx(k)  # D's update alone changes nothing
        if iteration % 2:  # G is updated on every second iteration
            fake = sum(loss.generator(round).item() for round in rounds) / 2
            loss.update_state()
            k = min(max(k + 0.1 * (0.5 * real - fake), 0.0), 1.0)
        assert loss.k.item() == pytest.approx(k, abs=1e-5)
        path.append(k)
    assert max(path) > 0.2
    assert path[-1] == 0.0  # it went up, and down again


def test_k_stays_within_0_and_1_and_generator_first_leaves_it_at_0() -> None:
    loss = Equilibrium(gamma=0.5, rate=1.0)
    loss.generator(round_of([1.0], [2.0]))
    loss.update_state()
    assert loss.k == 0
    for _ in range(3):
        loss.discriminator(round_of([9.0], [0.0]))
        loss.update_state()
        loss.generator(round_of([9.0], [0.0]))
        loss.update_state()
    assert loss.k == 1


def test_unrolled_steps_do_not_update_k() -> None:
    plain, unrolled = Equilibrium(0.5, 0.1), Equilibrium(0.5, 0.1)
    for loss in (plain, unrolled):
        loss.discriminator(round_of([4.0], [0.1]))
        loss.update_state()
    for _ in range(3):
        unrolled.discriminator(round_of([40.0], [0.0]))
    for loss in (plain, unrolled):
        loss.generator(round_of([4.0], [1.0]))
        loss.update_state()
    assert plain.k.item() == unrolled.k.item() == pytest.approx(0.1)


def test_k_and_the_convergence_measure_are_logged(fit: Fit) -> None:
    module, _ = fit(*BEGAN, *FAST_K, "data.batch_size=8", "max_images=40", "log_every=1")
    assert module.last_scalars["objective/k"] > 0
    real, fake = -module.last_scalars["score/real"], -module.last_scalars["score/fake"]
    expected = real + abs(0.9 * real - fake)  # section 3.4.1
    assert module.last_scalars["objective/convergence"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_k_bit_for_bit(fit: Fit, tmp_path: Path) -> None:
    run = [*BEGAN, *FAST_K, "data.batch_size=20", "optim.generator.every=2"]
    uninterrupted, _ = fit(*run, "max_images=160", "callbacks.checkpoint.keep_every=20", folder=tmp_path / "a")
    ks = []
    for cut in (3, 4):  # between D's update and G's, and after both
        checkpoint = tmp_path / "a" / "checkpoints" / f"{cut * 20:012d}.ckpt"
        ks.append(load(checkpoint).game.loss.objective.k.item())
        again, _ = fit(*run, "max_images=160", checkpoint=checkpoint, folder=tmp_path / f"b{cut}")
        assert all(torch.equal(a, b) for a, b in zip(uninterrupted.state_dict().values(), again.state_dict().values()))
    assert len({0.0, *ks, uninterrupted.game.loss.objective.k.item()}) == 4


def test_k_is_never_less_than_fp32() -> None:
    loss = Equilibrium().to(torch.bfloat16)
    assert loss.k.dtype == torch.float32


def test_two_processes_have_the_k_of_their_joint_batch(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    ranks = [context.Process(target=play_equilibrium, args=(rank, tmp_path / "meeting", found)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    ks = [found.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    joint, expected = Equilibrium(0.5, 0.1), []
    for iteration in range(4):
        joint.discriminator(round_of([2.0, 4.0 + iteration], [0.0]))
        joint.update_state()
        joint.generator(round_of([0.0], [0.5, 0.1 + iteration]))
        joint.update_state()
        expected.append(joint.k.item())
    assert ks[0] == ks[1]  # to the last bit
    assert ks[0] == pytest.approx(expected)
    assert len({0.0, *expected}) > 3


def play_equilibrium(rank: int, meeting: Path, found: "multiprocessing.Queue[list[float]]") -> None:
    """One of two processes, each with half of the images."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    loss, ks = Equilibrium(0.5, 0.1), []
    for iteration in range(4):
        loss.discriminator(round_of([[2.0, 4.0 + iteration][rank]], [0.0]))
        loss.update_state()
        loss.generator(round_of([0.0], [[0.5, 0.1 + iteration][rank]]))
        loss.update_state()
        ks.append(loss.k.item())
    found.put(ks)
    distributed.destroy_process_group()


@pytest.mark.parametrize("options", [["model=ebgan"], BEGAN], ids=["ebgan", "began"])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.slow
def test_a_player_loss_compiles_as_one_graph_and_updates_the_same_state(
    tmp_path: Path, options: list[str], player
) -> None:
    module, *_ = built(*FP32, *options, folder=tmp_path)
    batch = {"image": torch.rand(8, 1, 16, 16) * 2 - 1}
    stateful = module.game.loss.objective if isinstance(module.game.loss.objective, Stateful) else None
    if stateful:
        stateful.k.fill_(0.3)
    start = copy.deepcopy(module.game.state_dict())
    found = []
    for losses in (
        module.game.player_losses,
        torch.compile(module.game.player_losses, fullgraph=True, backend="aot_eager"),
    ):
        module.game.load_state_dict(start)
        torch.manual_seed(3)
        for name in ("discriminator", "generator"):
            module.network(name).requires_grad_(name == player)
        terms, _ = losses(player, batch, 1)
        gradients = torch.autograd.grad(sum(terms.values()), list(module.network(player).parameters()))
        if stateful:
            module.game.update_state()
        found.append([*gradients, *(stateful.buffers() if stateful else [])])
        found[-1] = [tensor.clone() for tensor in found[-1]]
    for eager, compiled in zip(*found):
        torch.testing.assert_close(eager, compiled, rtol=1e-4, atol=1e-6)


def test_pull_away_is_the_double_sum_of_the_paper() -> None:
    torch.manual_seed(0)
    critic = MLPAutoEncoder(1, 4, hidden=(6,))
    fake = torch.randn(5, 1, 4, 4)
    s = critic(fake).features
    assert s is not None
    total = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                total += float((s[i] @ s[j] / (s[i].norm() * s[j].norm())) ** 2)
    term = PullAway(weight=0.1)(Round(fake, fake, critic))
    assert term.item() == pytest.approx(0.1 * total / (5 * 4), rel=1e-5)


def test_pull_away_is_ebgans_and_can_be_taken_out() -> None:
    with_it, without = composed("model=ebgan"), composed("model=ebgan", "~model.game.terms.generator.pull_away")
    assert with_it.model.game.terms.generator.pull_away.weight == 0.1
    assert not without.model.game.terms.generator


@pytest.mark.parametrize(
    ("error", "by_hand"),
    [
        ("norm", lambda d: d.square().sum((1, 2, 3)).sqrt()),
        ("squared", lambda d: d.square().mean((1, 2, 3))),
        ("absolute", lambda d: d.abs().mean((1, 2, 3))),
    ],
)
def test_the_score_is_minus_the_reconstruction_error_and_features_are_the_code(error: str, by_hand) -> None:
    x = torch.rand(3, 2, 16, 24) * 2 - 1
    for critic in (
        MLPAutoEncoder(2, (16, 24), (9, 7), error=error),
        ConvAutoEncoder(2, (16, 24), 4, code=7, error=error),
    ):
        output = critic(x)
        reconstruction = critic.reconstruct(x)
        assert reconstruction.shape == x.shape
        assert output.features is not None
        assert output.features.shape == (3, 7)
        torch.testing.assert_close(output.score, -by_hand(reconstruction - x))


@pytest.mark.parametrize(
    ("size", "stages", "base"), [(64, 3, (8, 8)), (28, 2, (7, 7)), (9, 0, (9, 9)), (256, 5, (8, 8))]
)
def test_images_are_halved_to_8_pixels(size: int, stages: int, base: tuple[int, int]) -> None:
    assert began_stages(size) == (stages, base)
    assert began_stages((size, 2 * size)) == (stages, (base[0], 2 * base[1]))


def test_a_size_that_halves_to_no_small_base_is_refused() -> None:
    for size in (17, 100):
        with pytest.raises(UserError, match="halved only down to"):
            ConvAutoEncoder(1, size)


@pytest.mark.parametrize("size", [16, 28, (16, 32)])
@pytest.mark.parametrize("skips", [True, False])
def test_began_networks_make_any_size_and_the_generator_is_the_critics_decoder(size, skips: bool) -> None:
    shape = (size, size) if isinstance(size, int) else size
    generator, critic = Decoder(5, 3, size, 4, skips), ConvAutoEncoder(3, size, 4, code=5, skips=skips)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, *shape)
    assert images.abs().max() <= 1
    mine, theirs = generator.state_dict(), critic.decoder.state_dict()
    assert {name: w.shape for name, w in mine.items()} == {name: w.shape for name, w in theirs.items()}


def test_channels_grow_linearly_as_in_figure_1() -> None:
    widths = [m.out_channels for m in ConvAutoEncoder(3, 64, 16).encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [16, 16, 16, 32, 32, 32, 48, 48, 48, 64, 64, 64]


def test_the_experiment_has_the_layers_of_the_grid(tmp_path: Path) -> None:
    config = composed("experiment=ebgan_mnist")
    assert list(config.model.game.generator.hidden) == [800] * 4  # and the image: five layers
    generator = mlp.SigmoidGenerator(100, 1, 28, (800,) * 4, norm="batch")
    assert sum(isinstance(m, torch.nn.Linear) for m in generator.modules()) == 5
    assert sum(isinstance(m, torch.nn.BatchNorm1d) for m in generator.modules()) == 4
    assert config.optim.generator.lr == 1e-3
    assert config.loss.objective.margin == 10


@pytest.mark.parametrize("model", ["ebgan", "began"])
def test_the_command_line_overrides_a_models_own_loss_and_optim(model: str) -> None:
    own = composed(f"model={model}")
    assert own.loss.name == {"ebgan": "energy", "began": "equilibrium"}[model]
    other = composed(f"model={model}", "loss=hinge", "optim=ttur", "optim.generator.lr=1e-5")
    assert other.loss.name == "hinge"
    assert other.optim.generator.lr == 1e-5
    assert other.optim.discriminator.lr == 4e-4
    assert composed("model=began").optim.generator.lr == 1e-4


@pytest.mark.parametrize("model", ["ebgan", "autoencoder"])
def test_mode_reconstruct_shows_reconstructions_of_an_auto_encoder(fit: Fit, model: str) -> None:
    module, trainer = fit(f"model={model}", "data.batch_size=8", "max_images=16")
    mode = Reconstruct(count=5)
    mode.set_data(lambda: trainer.datamodule)
    module.eval()
    request, columns = mode(module.game, seed=0)
    shown = mode.arrange(module.sample(request), None)
    giver = module.game.discriminator if model == "ebgan" else module.game
    with torch.no_grad():
        torch.testing.assert_close(shown[1::2], giver.reconstruct(mode.originals))
    assert torch.equal(shown[::2], mode.originals)
    assert columns % 2 == 0
