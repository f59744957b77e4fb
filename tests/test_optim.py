"""How players learn: how often, how fast, how far; and what is averaged."""

import copy
import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.composing import FP32, SMALL
from helpers.marks import slow_except
from helpers.training import Fit, built
from oakleaf.optim.ema import EMA, AveragedNetwork
from oakleaf.optim.optimizers import adam
from oakleaf.optim.player import Player
from oakleaf.optim.schedules import Cosine, Exponential, Linear


@pytest.mark.parametrize(("d", "g"), slow_except([(1, 5)], [(1, 1), (1, 5), (2, 1), (3, 2)]))
def test_every_gives_k_discriminator_steps(fit: Fit, d: int, g: int) -> None:
    iterations = 12
    module, trainer = fit(
        *SMALL, f"optim.discriminator.every={d}", f"optim.generator.every={g}", f"max_images={iterations * 16}"
    )
    steps = [int(next(iter(o.state.values()))["step"]) for o in trainer.optimizers]
    assert steps == [iterations // d, iterations // g]
    assert module.iteration == iterations
    assert module.images_seen == iterations * 16


def test_a_lazy_penalty_is_computed_on_every_nth_step_of_its_player(fit: Fit, tmp_path: Path) -> None:
    options = ["loss=relativistic", "optim.discriminator.every=2", "loss.penalties.r1.every=2", "log_every=2"]
    fit(*SMALL, *options, "max_images=128")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        paid = [bool(row["loss/discriminator/r1"]) for row in csv.DictReader(file)]
    assert paid == [False, True, False, True]


def test_two_time_scales_and_integer_betas(tmp_path: Path) -> None:
    overrides = ["optim=ttur", "optim.generator.optimizer.betas=[0,0.99]"]
    module, *_ = built(*FP32, *SMALL, *overrides, folder=tmp_path)
    discriminator, generator = module.configure_optimizers()
    assert (discriminator.defaults["lr"], generator.defaults["lr"]) == (4e-4, 1e-4)
    assert generator.defaults["betas"] == (0.0, 0.99)
    assert all(isinstance(beta, float) for beta in generator.defaults["betas"])


def test_schedules_are_functions_of_images_seen() -> None:
    assert [Linear(to=0, over=100, after=50)(2.0, i) for i in (0, 50, 100, 150, 999)] == [2, 2, 1, 0, 0]
    assert Cosine(to=1.0, over=100)(3.0, 50) == pytest.approx(2.0)
    assert Exponential(divisor=1.1, each=10, floor=0.5)(1.0, 25) == pytest.approx(1 / 1.1**2)
    assert Exponential(divisor=1.1, each=10, floor=0.5)(1.0, 10**6) == 0.5


def test_a_schedule_sets_any_number_of_the_optimizer() -> None:
    network = nn.Linear(2, 2)
    schedules = {"lr": Linear(to=0, over=100), "momentum": Linear(to=0.7, over=100)}
    player = Player(
        lambda weights, lr: torch.optim.SGD(weights, lr, momentum=0.5), lr=0.1, role="critic", schedules=schedules
    )
    optimizer = player.build([*network.named_parameters()])
    for images, lr, momentum in ((0, 0.1, 0.5), (50, 0.05, 0.6), (100, 0.0, 0.7), (50, 0.05, 0.6)):
        player.apply_schedule(optimizer, images)  # the last one after a resume: no state, so no drift
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr)
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(momentum)


def test_each_player_has_its_own_gradient_clipping() -> None:
    gradients = [torch.full((3, 3), 4.0), torch.full((7,), -2.0)]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    Player(adam, lr=1.0, role="critic", clip=0.5).clip_(gradients, norm)
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(0.5, rel=1e-5)
    small = [torch.full((2,), 0.1)]
    Player(adam, lr=1.0, role="critic", clip=0.5).clip_(small, torch.tensor(0.1 * 2**0.5))
    assert small[0].tolist() == pytest.approx([0.1, 0.1])


def test_ema_follows_its_formula_with_buffers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = AveragedNetwork(network, EMA(half_life=100, ramp=0))
    expected = copy.deepcopy(network)
    for update in range(1, 4):
        network(torch.randn(8, 2))
        for weight in network.parameters():
            weight.data += 1.0
        average.update(network, images=update * 50, step=50)
        decay = 0.5 ** (50 / 100)
        for mine, theirs in zip(expected.state_dict().values(), network.state_dict().values()):
            mine.copy_(mine * decay + theirs * (1 - decay) if mine.is_floating_point() else theirs)
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-6, atol=1e-6)
    assert average.network[1].num_batches_tracked == 3


@pytest.mark.slow
def test_ema_forgets_the_initialisation_and_stays_in_eval_mode(fit: Fit) -> None:
    module, _ = fit(*SMALL, "max_images=480")
    module.train()
    assert module.generator_ema is not None
    assert not any(part.training for part in module.generator_ema.modules())
    live, mean = module.game.generator, module.generator_ema.network
    first = dict(live.named_parameters())
    distance = max((w - first[name]).abs().max().item() for name, w in mean.named_parameters())
    assert 0 < distance < 0.02  # near the live weights, which have moved by ~ 30 steps of 2e-4
    assert EMA(half_life=10_000, ramp=0.05).decay(images=64, step=64) < 1e-5  # the first update is a copy


@pytest.mark.slow
def test_ema_counts_all_images_since_the_last_step_of_its_player(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(AveragedNetwork, "update", lambda _, network, images, step: taken.append((images, step)))
    fit(*SMALL, "optim.generator.every=3", "max_images=144")
    assert taken == [(48, 48), (96, 48), (144, 48)]


def test_ema_can_be_switched_off(fit: Fit) -> None:
    module, _ = fit(*SMALL, "optim.ema=null", "max_images=32")
    assert module.generator_ema is None
    assert module.sample(module.game.sample_inputs(2)).shape == (2, 1, 16, 16)
