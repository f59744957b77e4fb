"""A resumed run equals the uninterrupted one, bit for bit."""

import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from helpers.composing import LONG, SMALL
from helpers.training import Fit
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import AtomicCheckpointIO, checkpoint_path, read_checkpoint

RUN = [*SMALL, "data.batch_size=200", "data.flip=true", "model.game.generator.width=4"]  # 8 iterations per epoch
THIN = ["model.game.generator.hidden=[60]", "model.game.discriminator.hidden=[24,24]"]


def equal(one: GAN, two: GAN, optimizers) -> bool:
    states = [zip(a.state.values(), b.state.values()) for a, b in zip(*optimizers)]
    moments = [torch.equal(x[k], y[k]) for pairs in states for x, y in pairs for k in x]
    weights = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values())]
    return all(weights) and all(moments) and len(moments) > 0 and len(weights) > 10


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(
            ["loss=wasserstein_gp", "optim=wgan_gp", "augment=noise", "augment.images=6000"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["augment=ada", "augment.images=2000", "+loss/penalty=lecam", "loss.penalties.lecam.start=5"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [
                "model=gan",
                *THIN,
                "+optim.generator.schedules.lr={_target_: oakleaf.optim.schedules.Linear, to: 0, over: 5000}",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["dcgan", "wgan-gp with instance noise", "ada and lecam", "gan with dropout and a schedule"],
)
def test_resumed_equals_uninterrupted_in_the_middle_and_after_an_epoch(
    fit: Fit, tmp_path: Path, options: list[str]
) -> None:
    run = [o for o in RUN if "model=gan" not in options or "width" not in o] + options
    iterations = 20
    uninterrupted, trainer = fit(
        *run, f"max_images={iterations * 200}", "callbacks.checkpoint.keep_every=200", folder=tmp_path / "a"
    )
    for cut in (1, 7, 8, 9, 16, 19) if LONG else (8, 13):  # 8 and 16 are ends of epochs; all six with OAKLEAF_LONG=1
        checkpoint = tmp_path / "a" / "checkpoints" / f"{cut * 200:012d}.ckpt"
        again, other = fit(*run, f"max_images={iterations * 200}", checkpoint=checkpoint, folder=tmp_path / f"b{cut}")
        assert again.iteration == uninterrupted.iteration == iterations
        assert equal(uninterrupted, again, (trainer.optimizers, other.optimizers)), f"cut at {cut}"


@pytest.mark.slow
def test_resumed_equals_uninterrupted_in_epochs_and_with_other_workers(fit: Fit, tmp_path: Path) -> None:
    run = [*RUN, "trainer.max_epochs=3", "callbacks.checkpoint.keep_every=200"]
    uninterrupted, trainer = fit(*run, "data.keep=workers", "data.workers=2", folder=tmp_path / "a")
    assert uninterrupted.iteration == 24
    for cut, keep in ((5, "data.workers=0"), (8, "data.workers=1"), (13, "data.keep=device"), (23, "data.workers=0")):
        checkpoint = tmp_path / "a" / "checkpoints" / f"{cut * 200:012d}.ckpt"
        again, other = fit(*run, "data.keep=workers", keep, checkpoint=checkpoint, folder=tmp_path / f"b{cut}")
        assert again.iteration == 24
        assert equal(uninterrupted, again, (trainer.optimizers, other.optimizers)), f"cut at {cut}"


@pytest.mark.slow
def test_a_finished_run_continues_when_it_is_made_longer(fit: Fit, tmp_path: Path) -> None:
    uninterrupted, trainer = fit(*RUN, "max_images=4000", folder=tmp_path / "a")
    fit(*RUN, "max_images=2200", folder=tmp_path / "b")
    again, other = fit(*RUN, "max_images=4000", checkpoint=tmp_path / "b/checkpoints/last.ckpt", folder=tmp_path / "c")
    assert equal(uninterrupted, again, (trainer.optimizers, other.optimizers))


@pytest.mark.slow
def test_logging_and_sampling_change_nothing(fit: Fit, tmp_path: Path) -> None:
    bare, _ = fit(*RUN, "max_images=2000", "callbacks={}", "log_every=1000", folder=tmp_path / "a")
    watched, _ = fit(*RUN, "max_images=2000", "callbacks.samples.every=200", "log_every=1", folder=tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(bare.state_dict().values(), watched.state_dict().values()))


@pytest.mark.slow
def test_other_random_numbers_in_between_change_nothing(fit: Fit, tmp_path: Path) -> None:
    one, _ = fit(*RUN, "max_images=1000", folder=tmp_path / "a")
    torch.manual_seed(99)
    torch.rand(1000)
    two, _ = fit(*RUN, "max_images=1000", folder=tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


def test_a_failing_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": torch.ones(3)}, path)

    def half_a_save(content, file) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half_a_save)
    io = AtomicCheckpointIO()
    io.save_checkpoint({"value": torch.zeros(3)}, path)
    assert "No space left on device" in io.failed
    assert torch.load(path, weights_only=True)["value"].tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoints_are_data_only_and_other_files_are_refused(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "max_images=200")
    last = checkpoint_path(tmp_path)
    recipe = torch.load(last, weights_only=True)["hyper_parameters"]
    assert recipe["model"]["name"] == "dcgan"
    assert str(tmp_path) not in str(recipe)  # neither where it ran nor where it cached
    for name, content in (
        ("cut", last.read_bytes()[:-2000]),
        ("empty", b""),
        ("text", b"hello"),
        ("zero", bytes(9000)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not a checkpoint"):
            read_checkpoint(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "foreign")
    torch.save([1, 2], tmp_path / "list")
    torch.save(Path, tmp_path / "code")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("x", "y")
    for name in ("foreign", "list", "code", "zip"):
        with pytest.raises(UserError, match="is not a checkpoint"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match="holds no"):
        checkpoint_path(tmp_path.parent)


@pytest.mark.slow
def test_a_resumed_run_uses_the_current_configuration(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "max_images=400", folder=tmp_path / "a")
    changed = ["optim.generator.lr=1e-5", "optim.discriminator.optimizer.betas=[0.1,0.9]"]
    checkpoint = tmp_path / "a" / "checkpoints" / "last.ckpt"
    _, trainer = fit(*RUN, *changed, "max_images=800", checkpoint=checkpoint, folder=tmp_path / "b")
    discriminator, generator = (optimizer.param_groups[0] for optimizer in trainer.optimizers)
    assert generator["lr"] == 1e-5
    assert discriminator["betas"] == (0.1, 0.9)


def test_loading_a_checkpoint_gives_no_warning(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "max_images=100")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path).images_seen == 200
