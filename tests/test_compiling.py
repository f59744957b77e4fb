"""The compiled loss of a player is one graph and equals the eager loss."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch._inductor.compile_fx
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from helpers.composing import FP32, SMALL
from helpers.marks import long_except, slow_except
from helpers.training import Fit, built
from oakleaf.callbacks.compiling import Compiling, _seconds_left
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.runtime.seeds import seed_generators

BOTH_PENALTIES = 16  # an iteration on which every lazy term is computed
SYSTEMS = [
    ["model=dcgan"],
    ["model=dcgan", "loss=wasserstein_gp"],
    ["model=dcgan", "loss=relativistic", "augment=noise"],  # drawn once for score and input gradient
    ["model=sngan", "loss=relativistic"],  # one step of the power iteration
    ["model=infogan"],
    ["model=cdcgan", "loss=hinge"],
    ["model=dcgan", "augment=ada"],
    ["model=stylegan2", "model.game.generator.capacity=64", "model/condition=label"],  # R1 and path length
    ["model=r3gan", "model.game.generator.capacity=64", "loss=relativistic_fd"],
    ["model=sngan", "+loss/penalty=[lecam,consistency,latent_consistency]", "loss.penalties.lecam.start=0"],
]
EVERY_OPERATION = ["augment=ada_fixed", "augment.ops=[blit,geometry,colour,filter,noise,cutout]"]
LONG_SYSTEMS = [
    ["model=dcgan", "loss=relativistic", *EVERY_OPERATION],
    ["model=dragan"],
    ["model=sngan", "augment=diffaugment"],
    ["model=dcgan", "augment=apa", "augment.p=0.5"],
    ["model=dcgan", "loss=top_k", "loss.objective.images=null"],
    ["model=sagan", "loss=non_saturating"],
]


def iteration(module: GAN, player: str, batch: dict[str, Tensor]) -> tuple[float, list[Tensor]]:
    """Return the player's loss and its gradients."""
    for other, weights in module.weights.items():
        for weight in weights:
            weight.requires_grad_(other == player)
    torch.manual_seed(3)
    losses, _ = module.game.player_losses(player, batch, BOTH_PENALTIES)
    total = torch.stack([*losses.values()]).sum()
    gradients = torch.autograd.grad(total, module.weights[player], allow_unused=True)
    return total.item(), [g for g in gradients if g is not None]


@pytest.mark.parametrize(
    "overrides", [*slow_except(SYSTEMS[:1], SYSTEMS), *long_except([], LONG_SYSTEMS)], ids=" ".join
)
def test_a_player_loss_is_one_graph_and_equals_the_eager_one(overrides: list[str], tmp_path: Path) -> None:
    module, data, _, _ = built(*FP32, *SMALL, *overrides, folder=tmp_path)
    data.prepare_data()
    data.setup("fit")
    batch, state = data.batch(torch.arange(16)), copy.deepcopy(module.game.state_dict())
    for player in module.players:
        loss, gradients = iteration(module, player, batch)
        assert max(g.abs().max() for g in gradients) > 1e-4
        module.game.load_state_dict(state)
        torch._dynamo.reset()
        # fullgraph raises at a graph break
        module.game.compiled = {player: torch.compile(module.game.losses, fullgraph=True, backend="aot_eager")}
        compiled, theirs = iteration(module, player, batch)
        module.game.compiled = {}
        module.game.load_state_dict(state)
        assert compiled == pytest.approx(loss, rel=1e-6)
        for mine, other in zip(gradients, theirs, strict=True):
            torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-6 * float(mine.abs().max()) + 1e-7)


@pytest.mark.slow
def test_a_compiled_run_ends_at_the_weights_of_the_eager_run(fit: Fit, tmp_path: Path) -> None:
    slow = ["optim.discriminator.lr=1e-2", "optim.generator.lr=1e-2"]
    run = [*SMALL, "optim=sgd", *slow, "max_images=64"]  # Adam's first steps are all of one length, rounding or not
    eager, _ = fit(*run, "compile=false", folder=tmp_path / "a")
    assert not eager.game.compiled
    torch._dynamo.utils.counters.clear()
    compiled, _ = fit(*run, "compile=true", folder=tmp_path / "b")
    assert set(compiled.game.compiled) == {"discriminator", "generator"}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def test_an_input_gradient_through_batchnorm_is_not_compiled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module, *_ = built(*FP32, *SMALL, "loss=relativistic", "loss.norm=batch", folder=tmp_path)
    with caplog.at_level("INFO"):
        Compiling(True).compile(module)
    assert set(module.game.compiled) == {"generator"}
    assert "not compiled: discriminator, whose gradient penalty goes through BatchNorm" in caplog.text


@pytest.mark.slow
def test_without_a_compiler_the_error_names_compile_false(fit: Fit) -> None:
    torch._dynamo.reset()
    broken = {"cpp.cxx": (None, "/bin/false"), "force_disable_caches": True}
    with (
        torch._inductor.config.patch(broken),
        pytest.raises(UserError, match="compile=false trains without compilation"),
    ):
        fit("model=toy", "data=toy", "data.points=500", "data.batch_size=30", "max_images=90", "compile=true")


def test_auto_does_not_compile_on_a_cpu_and_estimates_the_remaining_time(fit: Fit) -> None:
    module, trainer = fit(*SMALL, "max_images=64")
    assert any(isinstance(callback, Compiling) for callback in trainer.callbacks) and not module.game.compiled
    module.max_images = 64 + 1600
    assert _seconds_left(trainer, module, iteration=module.iteration - 2, then=10.0, now=14.0) == pytest.approx(
        100 * 2.0
    )
    trainer.callbacks.append(Timer(timedelta(seconds=150)))
    assert _seconds_left(trainer, module, module.iteration - 2, 10.0, 14.0) == pytest.approx(150, abs=1)
    module.max_images = None
    trainer.fit_loop.max_epochs = -1
    assert _seconds_left(trainer, module, 0, 0.0, 1.0) == pytest.approx(150, abs=1)
    del trainer.callbacks[-1]
    assert _seconds_left(trainer, module, 0, 0.0, 1.0) == float("inf")


@pytest.mark.parametrize("error", [ValueError("no way back"), AssertionError()], ids=repr)
@pytest.mark.slow
def test_a_backward_pass_that_cannot_be_compiled_falls_back_to_eager(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx_backward", broken)
    module, data, trainer, _ = built(
        *FP32, "model=toy", "data=toy", "data.points=500", "data.batch_size=30", "max_images=90", folder=tmp_path
    )
    (compiling,) = (callback for callback in trainer.callbacks if isinstance(callback, Compiling))
    monkeypatch.setattr(compiling, "on_train_start", lambda trainer, module: compiling.compile(module))
    with caplog.at_level("WARNING"), torch._inductor.config.patch(force_disable_caches=True):
        trainer.fit(module, datamodule=data)
    assert module.images_seen == 90
    assert f"not compiled: {type(error).__name__}{str(error) and ': '}{error}\n" in caplog.text


@pytest.mark.parametrize(("minutes", "made"), [(9, 0), (11, 1)])
def test_auto_compiles_on_a_gpu_if_ten_minutes_are_left(
    minutes: int, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Mock(device=torch.device("cuda"), iteration=0, images_seen=0, global_batch_size=1)
    auto, graphs = Compiling("auto"), Mock()
    monkeypatch.setattr(auto, "compile", graphs)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr("time.perf_counter", lambda: 2.0 * module.iteration)
    auto.on_train_start(Mock(callbacks=[]), module)
    for module.iteration in range(1, 100):
        module.images_seen, module.total_images = (
            module.iteration,
            module.iteration + 30 * minutes,
        )  # iterations of two seconds
        auto.on_train_batch_end(Mock(callbacks=[]), module)
    assert graphs.call_count == made


def test_seed_generators_is_manual_seed_on_the_device_of_the_run() -> None:
    seed_generators(17, torch.device("cpu"))
    mine = torch.rand(5)
    torch.manual_seed(17)
    assert torch.equal(mine, torch.rand(5))
