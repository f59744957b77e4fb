"""Two processes train like one process with the global batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from helpers.composing import FP32, ROOT
from helpers.training import built
from oakleaf.builder.load import load
from oakleaf.data.sampling import EpochSampler
from oakleaf.errors import UserError
from oakleaf.losses.penalties import input_gradient
from oakleaf.runtime import distributed
from oakleaf.runtime.seeds import derive_seed
from oakleaf.runtime.sync_batchnorm import AllReduceSum

ITERATIONS, SIZE = 6, 12
WITHOUT_NORM = ["model.game.generator.norm=none", "model.game.discriminator.norm=none"]
# not Adam: where a gradient is nearly 0 it turns the rounding of a sum in another order into a whole step
SGD = ["optim=sgd", "optim.discriminator.lr=0.01", "optim.generator.lr=0.01"]
NARROW = ["model.game.generator.width=8", "model.game.discriminator.width=8", f"max_images={ITERATIONS * 2 * SIZE}"]
NARROW += [f"data.batch_size={SIZE}"]


def train_in_two_processes(folder: Path, *overrides: str) -> Path:
    command = [sys.executable, str(ROOT / "train.py"), "trainer=ddp", "trainer.devices=2", *FP32, "logger=csv"]
    result = subprocess.run([*command, *overrides], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    runs = list((folder / "outputs").glob("*/*"))
    assert len(runs) == 1, runs  # both ranks write into one folder
    assert "2 processes, batches of 2 x " in result.stdout
    return runs[0]


def joint_batches(images: Tensor) -> list[tuple[int, Tensor]]:
    batches = zip(range(ITERATIONS), EpochSampler(len(images), 2 * SIZE, seed=0).batches(0))
    return [(iteration, images[rows].float() / 127.5 - 1) for iteration, (rows, _) in batches]


def drawn(iteration: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    """The random numbers of both ranks in an iteration, in order, concatenated."""
    ranks = []
    for rank in range(2):
        torch.manual_seed(derive_seed(0, iteration, rank))
        ranks.append([torch.rand(SIZE, *shape) for shape in shapes])
    joint = [torch.cat(pair) for pair in zip(*ranks)]
    assert not torch.equal(ranks[0][0], ranks[1][0])  # ranks never draw the same latents
    return joint


def relativistic(generator, critic, images: Tensor) -> None:
    for_d, for_g = (torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.5) for m in (critic, generator))
    for iteration, real in joint_batches(images):
        one, two = drawn(iteration, (100,), (100,))
        fake = generator(2 * one - 1).detach()
        penalty = sum((input_gradient(critic, x) ** 2).sum(dim=(1, 2, 3)).mean() for x in (real, fake))
        for_d.zero_grad()
        (softplus(critic(fake).score - critic(real).score).mean() + 0.5 * penalty).backward()
        for_d.step()
        for_g.zero_grad()
        softplus(critic(real).score - critic(generator(2 * two - 1)).score).mean().backward()
        for_g.step()


def wasserstein_gp(generator, critic, images: Tensor) -> None:
    for_d, for_g = (torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.5) for m in (critic, generator))
    for iteration, real in joint_batches(images):
        one, epsilon, two = drawn(iteration, (100,), (1, 1, 1), (100,))
        fake = generator(2 * one - 1).detach()
        norms = input_gradient(critic, real + epsilon * (fake - real)).flatten(1).norm(dim=1)
        for_d.zero_grad()
        (critic(fake).score.mean() - critic(real).score.mean() + 10 * ((norms - 1) ** 2).mean()).backward()
        for_d.step()
        if iteration % 3 == 2:
            for_g.zero_grad()
            (-critic(generator(2 * two - 1)).score.mean()).backward()
            for_g.step()


def non_saturating(generator, critic, images: Tensor) -> None:
    for_d, for_g = (torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.5) for m in (critic, generator))
    for iteration, real in joint_batches(images):
        one, two = drawn(iteration, (100,), (100,))
        fake = generator(2 * one - 1).detach()
        for_d.zero_grad()
        (softplus(-critic(real).score).mean() + softplus(critic(fake).score).mean()).backward()
        for_d.step()
        for_g.zero_grad()
        softplus(-critic(generator(2 * two - 1)).score).mean().backward()
        for_g.step()


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        (["loss=relativistic", *WITHOUT_NORM], relativistic),
        (["trainer.sync_batchnorm=true"], non_saturating),
        pytest.param(
            ["loss=wasserstein_gp", "optim.generator.every=3", *WITHOUT_NORM], wasserstein_gp, marks=pytest.mark.long
        ),
    ],
)
@pytest.mark.slow
def test_two_processes_equal_one_with_the_joint_batch(tmp_path: Path, options, by_hand) -> None:
    run = train_in_two_processes(tmp_path, *NARROW, *SGD, *options)
    trained = load(run)
    assert trained.iteration == ITERATIONS
    assert trained.images_seen == ITERATIONS * 2 * SIZE

    module, data, *_ = built(*FP32, *NARROW, *SGD, *options, folder=tmp_path)
    data.prepare_data()
    data.setup()
    start = [w.clone() for w in module.game.parameters()]
    by_hand(module.game.generator, module.game.discriminator, data.rows["image"])
    ours, theirs = trained.game.state_dict(), module.game.state_dict()  # BatchNorm's statistics too
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 1e-6
    assert max((a - b).abs().max() for a, b in zip(start, module.game.parameters())) > 1e-4


@pytest.mark.parametrize("error", [UserError("no room"), ValueError("no room")], ids=repr)
def test_an_error_in_the_first_process_is_raised_in_all(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the others would wait for it forever."""
    sent: list[list[str | None]] = []

    def broadcast(message: list[str | None]) -> None:
        if distributed.rank_and_world_size()[0] == 0:
            sent.append(message[:])
        message[:] = sent[-1]

    def fails() -> None:
        raise error

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda rank=rank: (rank, 2))
        with pytest.raises(type(error) if rank == 0 else UserError, match="no room"):
            distributed.run_on_rank_zero(fails)
    done: list[int] = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda rank=rank: (rank, 2))
        distributed.run_on_rank_zero(lambda rank=rank: done.append(rank))
    assert done == [0] and sent == [["no room" if isinstance(error, UserError) else "ValueError('no room')"], [None]]


def test_sums_over_processes_can_be_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a gradient penalty through synchronised BatchNorm; simulated for three equal processes."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(3))
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def curved(x: Tensor) -> Tensor:
        return AllReduceSum.apply(x**2).sin()

    assert torch.equal(AllReduceSum.apply(x), 3 * x)
    assert torch.autograd.gradcheck(curved, x) and torch.autograd.gradgradcheck(curved, x)
