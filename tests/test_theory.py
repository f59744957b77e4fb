"""The theory lab: its parts against closed forms, small runs of its labs, and the command."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from helpers.composing import FP32, ROOT, choices
from helpers.training import Fit
from oakleaf.builder.compose import compose_config
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.cli import theory
from oakleaf.config.validate import validate
from oakleaf.losses import divergences as f
from oakleaf.networks import dcgan
from oakleaf.theory import divergences, upsampling
from oakleaf.theory.critics import Critics
from oakleaf.theory.densities import Mixture, grid, integral, jensen_shannon
from oakleaf.theory.dirac import Dirac
from oakleaf.theory.disjoint_supports import DisjointSupports
from oakleaf.theory.fits import nearest
from oakleaf.theory.jensen_shannon import JensenShannon
from oakleaf.theory.mode_collapse import ModeCollapse
from oakleaf.theory.normalisation import Normalisation
from oakleaf.theory.optimal_discriminator import OptimalDiscriminator
from oakleaf.theory.result import Check, LabResult, format_table
from oakleaf.theory.saturation import Saturation
from oakleaf.theory.training import pixel_frechet_distance, train
from oakleaf.theory.upsampling import METHODS, checkerboard

LABS = choices("lab")
TWO = Mixture((0.6, 0.4), (-1.5, 1.5), (0.5, 0.8))
TINY = ["model.game.generator.width=4", "model.game.discriminator.width=4", "data.batch_size=16", "max_images=64"]


def verdicts(result: LabResult) -> dict[str, bool]:
    return {check.description: check.passed for check in result.checks}


@pytest.mark.parametrize("lab", LABS)
def test_every_theory_experiment_has_a_valid_configuration_and_is_documented(lab: str) -> None:
    node: Any = OmegaConf.to_container(compose_config("theory", [f"lab={lab}"]), resolve=True)
    validate(node["lab"], "lab")
    built = instantiate_allowed(node["lab"])
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(built).items()}
    assert vars(type(built)(seed=0)) == given  # the same defaults in code and configuration
    assert "arXiv" in (type(built).__doc__ or "")
    assert f"lab={lab}" in (ROOT / "docs" / "theory.md").read_text()
    assert (ROOT / "docs" / "theory" / f"{lab}.png").stat().st_size < 120_000


def test_a_claim_is_a_strict_bound_and_nan_holds_none() -> None:
    assert Check("x", 0.004, "<", 0.01).passed
    assert str(Check("x", 0.0041, "<", 0.01)) == "passed: x = 0.0041 < 0.01"
    assert str(Check("x", 0.0041, ">", 0.01)) == "FAILED: x = 0.0041 > 0.01"
    assert not Check("x", math.nan, "<", 0.01).passed
    assert not Check("x", math.nan, ">", 0.01).passed
    assert format_table([{"name": "a", "n": 1.0}, {"name": "long", "n": 12.5}]) == [
        "name     n",
        "a        1",
        "long  12.5",
    ]


def test_densities_integrate_and_samples_follow_them() -> None:
    x = grid()
    p = TWO.log_density(x).exp()
    assert integral(p, x).item() == pytest.approx(1)
    assert integral(p * x, x).item() == pytest.approx(TWO.mean)
    assert integral(p * (x - TWO.mean) ** 2, x).item() == pytest.approx(TWO.sd**2)
    u = torch.linspace(0.01, 0.99, 33, dtype=torch.float64)
    torch.testing.assert_close(TWO.cumulative(TWO.quantile(u)), u, atol=1e-6, rtol=0)
    torch.manual_seed(0)
    sample = TWO.sample(10_000)
    assert sample.mean().item() == pytest.approx(TWO.mean, abs=1e-3)
    assert sample.std().item() == pytest.approx(TWO.sd, rel=1e-3)
    assert jensen_shannon(TWO, TWO) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(Mixture(means=(-8.0,)), Mixture(means=(8.0,))) == pytest.approx(math.log(2), rel=1e-9)


def test_many_critics_are_independent() -> None:
    torch.manual_seed(0)
    critics, x = Critics(3, inputs=2, width=8), torch.randn(3 * 5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(critics(x).score[5:10].sum(), x)
    assert gradient[5:10].abs().min() > 0
    assert gradient[:5].abs().max() == gradient[10:].abs().max() == 0


@pytest.mark.slow
def test_the_nearest_gaussian_by_kl_has_the_moments_and_by_any_f_is_the_gaussian_itself() -> None:
    assert nearest(TWO, f.KullbackLeibler()) == pytest.approx((TWO.mean, TWO.sd), abs=1e-3)
    shifted = Mixture(means=(0.7,), sds=(1.3,))
    for kind in divergences.KINDS:
        assert nearest(shifted, kind()) == pytest.approx((0.7, 1.3), abs=1e-3)


@pytest.mark.slow
def test_discriminators_reach_their_optimum_and_untrained_ones_do_not() -> None:
    assert all(verdicts(OptimalDiscriminator(steps=300, batch=256).run()).values())
    assert not any(verdicts(OptimalDiscriminator(steps=1, batch=256).run()).values())
    assert all(verdicts(JensenShannon(distances=(0.0, 1.0, 2.0), steps=300, batch=256).run()).values())
    assert not all(verdicts(JensenShannon(distances=(0.0, 2.0), steps=1, batch=256).run()).values())


@pytest.mark.slow
def test_disjoint_lines_and_saturation_and_without_training_neither() -> None:
    assert all(verdicts(DisjointSupports(thetas=(-0.5, 0.5), steps=500, batch=64).run()).values())
    assert not any(verdicts(DisjointSupports(thetas=(-0.5, 0.5), steps=1, batch=64).run()).values())
    assert all(verdicts(Saturation(measured_steps=(1, 20, 300), batch=128).run()).values())
    assert not all(verdicts(Saturation(measured_steps=(1, 2), batch=128).run()).values())


@pytest.mark.slow
def test_the_dirac_gan_is_as_proven_follows_from_its_seed_and_needs_its_penalties() -> None:
    assert all(verdicts(Dirac(steps=500, batch=512).run()).values())
    short = {"steps": 20, "batch": 8}
    first, again, other = Dirac(**short).run(), Dirac(**short).run(), Dirac(seed=1, **short).run()
    assert first.table == again.table != other.table
    without = verdicts(Dirac(steps=200, batch=8, gamma=0.0, noise=0.0).run())
    assert not any(without[f"{name}: end / start"] for name in ("instance noise", "R1", "R2", "WGAN, R1"))


@pytest.mark.slow
def test_two_divergences_are_fitted_by_the_game() -> None:
    kinds = (f.Pearson, f.JensenShannon)
    with mock.patch.object(divergences, "KINDS", kinds):
        torch.manual_seed(0)
        fits = divergences.Divergences(steps=700, batch=128)._train()
    for kind, (mu, sigma) in zip(kinds, fits):
        best = nearest(divergences.P, kind())
        assert mu == pytest.approx(best[0], abs=0.03 * divergences.P.sd)
        assert sigma == pytest.approx(best[1], rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("way", METHODS)
def test_every_way_to_double_doubles_and_trains(fit: Fit, way: dcgan.Upsample) -> None:
    for kernel in (3, 4, 5):
        assert dcgan.upsample_layer(3, 2, kernel, way)(torch.zeros(1, 3, 4, 7)).shape == (1, 2, 8, 14)
    module, _ = fit(*FP32, *TINY, f"model.game.generator.upsample={way}")
    assert all(torch.isfinite(weight).all() for weight in module.parameters())
    assert module.sample(module.game.sample_inputs(2)).shape == (2, 1, 16, 16)


def test_shuffle_interleaves_four_maps() -> None:
    layer = dcgan.upsample_layer(1, 1, 3, "shuffle")
    x = torch.randn(1, 1, 4, 4)
    maps = layer[0](x)
    image = layer(x)
    for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        torch.testing.assert_close(image[:, 0, i::2, j::2], maps[:, k])


def test_checkerboards_are_where_overlaps_are_unequal() -> None:
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert checkerboard(board[None, None]) == pytest.approx(1)
    assert checkerboard(torch.ones(1, 1, 8, 8)) == pytest.approx(0)
    overlaps = {(way, k): upsampling._layer_checkerboard(way, k, equal=True) for way in METHODS for k in (3, 4, 5)}
    assert {key for key, energy in overlaps.items() if energy > 1e-9} == {("transposed", 3), ("transposed", 5)}
    phases = torch.tensor([1.0, 2.0, 2.0, 4.0])  # overlaps of kernel 3, stride 2
    assert overlaps["transposed", 3] == pytest.approx(1 - phases.mean().item() ** 2 / phases.square().mean().item())
    assert upsampling._check_formula().passed


def test_the_frechet_distance_of_gaussians() -> None:
    torch.manual_seed(0)
    a = torch.randn(50_000, 2) * torch.tensor([1.0, 2.0])
    b = torch.randn(50_000, 2) * torch.tensor([3.0, 2.0]) + torch.tensor([1.0, 0.0])
    assert pixel_frechet_distance(a, b) == pytest.approx(1 + (3 - 1) ** 2, rel=0.03)
    assert pixel_frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_modes_are_counted_for_four_games_on_two_sets() -> None:
    finding = ModeCollapse(points=1024, width=8, unrolled=1).run()
    assert [(row["set"], row["points"]) for row in finding.table[4:]] == [("grid", p) for p in (1024, 1024, 256, 2048)]
    assert len({row["game"] for row in finding.table}) == 4
    for row in finding.table:
        found, count = float(row["modes"]), 8 if row["set"] == "ring" else 25
        assert 0 <= float(row["effective"]) <= found <= count
    assert not verdicts(finding)["ring, RpGAN + R1 + R2: high quality"]  # untrained


@pytest.mark.slow
def test_trainings_of_the_lab_are_the_frameworks_own_and_follow_from_their_seed() -> None:
    first, again = (train(*TINY, "seed=3").sample(5, 0) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    standard = Normalisation(width=4, images=32, batch=16)._train(-0.4, 0.6, 0)
    usual = train(*TINY)
    torch.testing.assert_close(standard.real, (usual.real + 0.4) / 0.6)
    assert usual.real.shape == (1797, 1, 16, 16)
    assert 0 <= usual.accuracy() <= 1


def command(*arguments: str) -> int:
    GlobalHydra.instance().clear()
    with mock.patch("sys.argv", ["theory.py", *arguments]):
        try:
            theory.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.slow
def test_the_command_writes_its_findings_and_fails_if_a_claim_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["lab=dirac", "lab.steps=300", "lab.batch=256"]
    with contextlib.chdir(tmp_path):
        assert command(*quick, "out=here") == 0
        assert command(*quick, "lab.gamma=0", "out=there") == 1
    content = json.loads((tmp_path / "here" / "dirac.json").read_text())
    assert {"loss", "end / start"} <= set(content["table"][0])
    assert all(check["passed"] for check in content["checks"])
    assert (tmp_path / "here" / "dirac.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "there" / "dirac.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there"}
    shown = capsys.readouterr()
    assert "checks failed" in shown.err
    assert "FAILED: R1: end / start" in shown.out


def test_user_errors_of_theory_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([], "lab= is missing: one of dirac, "),
        (["lab=dirak"], "Did you mean lab=dirac?"),
        (["lab=dirac", "lab.step=5"], "lab.step"),
        (["lab=dirac", "lab.steps=0"], "lab.steps=0"),
    ):
        assert command(*arguments) == 1
        assert words in capsys.readouterr().err
