"""Terms and objectives for small data, against loops written by hand."""

import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from helpers.composing import composed
from helpers.training import Fit
from oakleaf.augment import ADA, Consistency, FlipAndShift, LatentConsistency, LatentSensitivity
from oakleaf.callbacks import Overfitting
from oakleaf.errors import UserError
from oakleaf.losses.energy import Equilibrium
from oakleaf.losses.lecam import LeCam
from oakleaf.losses.objectives import Hinge, NonSaturating, Relativistic
from oakleaf.losses.top_k import TopK
from oakleaf.round import BoundCritic, CriticOutput, Round
from oakleaf.runtime import distributed

SMALL = ["model.game.generator.width=4", "model.game.discriminator.width=4", "data.batch_size=8", "max_images=64"]


def round_of(real: Tensor, fake: Tensor, **rows: Any) -> Round:
    """A round whose critic returns the images as scores."""
    return Round(real, fake, lambda x: CriticOutput(x), **rows)


# ---- LeCam -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_sided", [True, False])
def test_lecam_is_the_loop_written_by_hand(one_sided: bool) -> None:
    term = LeCam(weight=2.0, decay=0.9, start=3, one_sided=one_sided)
    generator = torch.Generator().manual_seed(0)
    a_real = a_fake = 0.0
    for step in range(12):
        real, fake = torch.randn(16, generator=generator) + 1, torch.randn(16, generator=generator) - 1
        expected = 0.0
        if step >= 3:
            for x, y in zip(real.tolist(), fake.tolist()):
                first, second = x - a_fake, a_real - y
                if one_sided:
                    first, second = max(first, 0.0), max(second, 0.0)
                expected += (first**2 + second**2) / 16
        assert float(term(round_of(real, fake))) == pytest.approx(2 * expected, rel=1e-4)
        term.update_state()
        term.update_state()  # the generator's step
        decay = 0.9 if step >= 3 else 0.0
        a_real = decay * a_real + (1 - decay) * float(real.mean())
        a_fake = decay * a_fake + (1 - decay) * float(fake.mean())
        assert term.averages.tolist() == pytest.approx([a_real, a_fake], abs=1e-5)
    assert set(term.diagnostics(round_of(real, fake))) == {"lecam/real", "lecam/fake"}


def test_lecam_gives_no_gradient_to_the_averages_and_none_before_its_start() -> None:
    term, real, fake = LeCam(start=1), torch.ones(4, requires_grad=True), -torch.ones(4, requires_grad=True)
    assert torch.equal(torch.autograd.grad(term(round_of(real, fake)), real)[0], torch.zeros(4))
    term.update_state()
    loss = term(round_of(real, fake))
    assert torch.allclose(torch.autograd.grad(loss, real)[0], torch.full((4,), 0.3 * 2 * (1 + 1) / 4))
    assert not term.averages.requires_grad


def test_lecam_resumes_ignores_nan_and_averages_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [(torch.randn(8), torch.randn(8)) for _ in range(9)]

    def run(term: LeCam, rounds: Any) -> None:
        for real, fake in rounds:
            term(round_of(real, fake))
            term.update_state()

    whole, first, second = (LeCam(start=2) for _ in range(3))
    run(whole, data)
    run(first, [*data[:4], (torch.full((8,), math.nan), data[0][1])])
    second.load_state_dict(first.state_dict())
    run(second, data[4:])
    assert torch.equal(whole.averages, second.averages) and int(second.steps) == 9
    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (0, 2))
    ranks = [LeCam(start=2) for _ in range(2)]
    for real, fake in data:
        for rank, part in zip(ranks, (slice(4), slice(4, 8))):
            rank(round_of(real[part], fake[part]))
        mean = (ranks[0].recorded + ranks[1].recorded) / 2
        with mock.patch.object(distributed, "all_reduce_mean", lambda tensors, mean=mean: tensors[0].copy_(mean)):
            for rank in ranks:
                rank.update_state()
    assert torch.allclose(ranks[0].averages, whole.averages, atol=1e-6)
    assert torch.equal(ranks[0].averages, ranks[1].averages)


# ---- Top-k -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [NonSaturating(), Hinge(), Relativistic(), Equilibrium()])
def test_top_k_is_the_objective_of_the_best_fakes(of: Any) -> None:
    objective = TopK(of, share=0.5)
    real, fake = torch.randn(8), torch.tensor([0.3, -1.0, 2.0, 0.1, -0.2, 1.5, -3.0, 0.0], requires_grad=True)
    round = round_of(real, fake, batch={"label": torch.arange(8)}, fake_inputs={"latent": torch.arange(8)})
    best = torch.tensor([2, 5, 0, 3])
    expected = of.generator(round_of(real[:4], fake[best]))
    loss = objective.generator(round)
    assert torch.allclose(loss, expected)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert set(gradient.nonzero().flatten().tolist()) == {0, 2, 3, 5}
    assert torch.equal(objective.discriminator(round), of.discriminator(round))


def test_k_falls_from_the_batch_size_to_its_share_in_levels() -> None:
    objective = TopK(NonSaturating(), share=0.5, images=1000, levels=4)
    shares = [objective.share_at(images) for images in range(0, 1200, 10)]
    assert shares[0] == 1 and shares[-1] == 0.5 and shares == sorted(shares, reverse=True)
    assert sorted(set(shares)) == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0])
    for images, share in zip(range(0, 1000, 10), shares):
        assert 0 <= share - 0.5 ** (images / 1000) < 0.125 + 1e-9  # the paper's exponential decay, from above
    fake = torch.randn(10)
    objective.prepare(0)
    assert torch.equal(objective.generator(round_of(fake, fake)), softplus(-fake).mean())
    objective.prepare(1000)
    assert torch.allclose(objective.generator(round_of(fake, fake)), softplus(-fake.topk(5).values).mean())


def test_top_k_of_patches_keeps_whole_images() -> None:
    fake = torch.randn(6, 1, 3, 3)
    best = fake.mean((1, 2, 3)).topk(3).indices
    loss = TopK(NonSaturating(), share=0.5).generator(round_of(fake, fake))
    assert torch.allclose(loss, softplus(-fake[best]).mean())


def test_top_k_keeps_what_the_objective_logs_and_its_state() -> None:
    objective = TopK(NonSaturating())
    assert torch.equal(objective.discriminator_probability(torch.zeros(1)), torch.full((1,), 0.5))
    assert objective.decision_threshold(round_of(torch.ones(2), torch.ones(2))) == 0
    assert not hasattr(TopK(Hinge()), "discriminator_probability")
    assert "of.k" in TopK(Equilibrium()).state_dict()


# ---- Consistency -----------------------------------------------------------------------------------------------------


class Scores(nn.Module):
    """A critic that is not invariant to shifts: a fixed linear form, plus the condition's if there is one."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        weight = torch.linspace(-1, 1, x[0].numel())
        score = x.flatten(1) @ weight
        return CriticOutput(score if y is None else score + y.flatten(1) @ torch.linspace(0, 2, y[0].numel()))


@pytest.mark.parametrize("real, fake", [(True, False), (False, True), (True, True)])
def test_consistency_compares_the_scores_of_each_image_and_its_change(real: bool, fake: bool) -> None:
    x, g = torch.randn(5, 3, 8, 8), torch.randn(5, 3, 8, 8)
    term = Consistency(real=real, fake=fake, weight=10.0)
    torch.manual_seed(0)
    loss = term(Round(x, g, Scores()))
    torch.manual_seed(0)
    expected = 0.0
    for images in [*([x] if real else []), *([g] if fake else [])]:
        changed, _ = FlipAndShift()(images)
        expected += 10 * sum((Scores()(a[None])[0] - Scores()(b[None])[0]) ** 2 for a, b in zip(images, changed)) / 5
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_consistency_moves_the_picture_that_images_are_conditioned_on() -> None:
    x, y = torch.randn(5, 3, 8, 8), torch.randn(5, 1, 8, 8)
    torch.manual_seed(0)
    loss = Consistency(weight=1.0).measure(Round(x, x, BoundCritic(Scores(), y)))
    torch.manual_seed(0)
    moved, condition = FlipAndShift()(x, y)
    assert loss == (Scores()(x, y).score - Scores()(moved, condition).score).square().mean()


def test_consistency_comes_before_the_augmentation_of_the_critic() -> None:
    x, seen = torch.randn(5, 3, 8, 8), []
    own = lambda images, condition: (seen.append(images) or images, condition)  # noqa: E731
    torch.manual_seed(0)
    Consistency(weight=1.0).measure(Round(x, x, BoundCritic(Scores(), augment=own)))
    torch.manual_seed(0)
    assert torch.equal(seen[0], x) and torch.equal(seen[1], FlipAndShift()(x)[0])


def test_flip_and_shift_reflects_at_the_borders() -> None:
    torch.manual_seed(0)
    x = torch.arange(16.0).expand(300, 1, 16, 16)
    y = FlipAndShift()(x)[0][:, 0, 0]
    found = {tuple(row.tolist()) for row in y}
    expected = set()
    for flip in (False, True):
        for shift in range(-2, 3):
            padded = torch.nn.functional.pad(torch.arange(16.0)[None, None], (2, 2), mode="reflect")[0, 0]
            row = (padded.flip(0) if flip else padded)[2 - shift : 18 - shift]
            expected.add(tuple(row.tolist()))
    assert found == expected


def test_latent_consistency_by_hand() -> None:
    weight, z = torch.randn(4, 12), torch.randn(6, 4)
    generate = lambda rows: (rows["latent"] @ weight).view(-1, 3, 2, 2) * rows["scale"][:, None, None, None]  # noqa: E731
    inputs = {"latent": z, "scale": torch.rand(6)}
    round = Round(torch.randn(6, 3, 2, 2), generate(inputs), Scores(), fake_inputs=inputs)
    round.generate = generate
    torch.manual_seed(3)
    consistency, sensitivity = LatentConsistency(sd=0.1, weight=20.0)(round), LatentSensitivity(sd=0.1, weight=0.5)
    torch.manual_seed(3)
    near = generate({**inputs, "latent": z + 0.1 * torch.randn_like(z)})
    expected = 20 * (Scores()(round.fake).score - Scores()(near).score).square().mean()
    assert torch.allclose(consistency, expected)
    torch.manual_seed(3)
    assert torch.allclose(sensitivity(round), -0.5 * (round.fake - near).square().mean())


def test_consistency_without_a_side_and_latent_consistency_without_latents_are_errors() -> None:
    with pytest.raises(UserError, match="real=true or fake=true"):
        Consistency(real=False)
    with pytest.raises(UserError, match="latents"):
        LatentConsistency().measure(round_of(torch.ones(2), torch.ones(2)))


# ---- In a run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, logged",
    [
        (["augment=ada", "augment.images=100"], {"augment/p", "augment/r_t"}),
        (
            ["augment=ada_fixed", "augment.ops=[blit,geometry,colour,filter,noise,cutout]", "loss=relativistic"],
            {"augment/p"},
        ),
        (["augment=apa", "augment.p=0.5"], {"augment/p"}),
        (
            [
                "augment=ada_fixed",
                "augment.p=0.5",
                "+schedules.augment.p={_target_: oakleaf.optim.schedules.Linear, to: 0, over: 64}",
            ],
            {"augment/p"},
        ),
        (["augment=diffaugment", "loss=wasserstein_gp"], set()),
        (["+loss/penalty=lecam", "loss.penalties.lecam.start=2"], {"lecam/real", "loss/discriminator/lecam"}),
        (
            [
                "+loss/penalty=[consistency,latent_consistency]",
                "+model.game.terms.generator.latent_sensitivity={_target_: oakleaf.augment.LatentSensitivity}",
            ],
            {f"loss/{name}" for name in ("discriminator/consistency", "generator/latent_sensitivity")},
        ),
        (["loss=top_k", "loss.objective.images=32"], {"D(x)"}),
    ],
)
def test_a_run_with_each(fit: Fit, overrides: list[str], logged: set[str], tmp_path: Any) -> None:
    module, _ = fit(*SMALL, "model=dcgan", *overrides, folder=tmp_path)
    assert logged <= module.last_scalars.keys()
    assert all(math.isfinite(value) for value in module.last_scalars.values())


def test_overfitting_is_measured_on_the_split_that_is_not_trained_on(fit: Fit, captions: Path, tmp_path: Path) -> None:
    options = ["data=folder", f"data.root={captions}/images", "data.size=16", "callbacks=overfitting", *SMALL]
    module, trainer = fit(*options, "data.source.split=train", "callbacks.overfitting.count=20", folder=tmp_path)
    (callback,) = (one for one in trainer.callbacks if isinstance(one, Overfitting))
    assert {name: len(batch["image"]) for name, batch in callback.batches.items()} == {"train": 20, "held_out": 10}
    seen = {image.numpy().tobytes() for image in callback.batches["train"]["image"]}
    assert not seen & {image.numpy().tobytes() for image in callback.batches["held_out"]["image"]}
    found = callback.measure(module)
    module.eval()
    with torch.no_grad():
        real = {name: module.game.discriminator(x["image"]).score.mean() for name, x in callback.batches.items()}
    assert found["overfitting/score_gap"] == pytest.approx(float(real["train"] - real["held_out"]), abs=1e-5)
    assert "overfitting/r_v" in (next(tmp_path.rglob("metrics.csv"))).read_text()


def test_overfitting_says_so_where_nothing_is_held_out(fit: Fit, caplog: Any, tmp_path: Path) -> None:
    _, trainer = fit("model=dcgan", "callbacks=overfitting", *SMALL, folder=tmp_path)
    (callback,) = (one for one in trainer.callbacks if isinstance(one, Overfitting))
    assert not callback.batches and "no held-out images" in caplog.text


def test_the_groups_are_composed() -> None:
    assert not composed("augment=none").augment
    assert composed("augment=ada_fixed").augment.p == 0.2
    assert isinstance(ADA(), nn.Module)
