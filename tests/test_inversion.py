"""mode=project: latents of given pictures; the optimisers, the domain of the prior, and what the command writes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.commands import quick
from helpers.composing import FP32
from helpers.frozen import Fixed, ready
from oakleaf.builder.load import load
from oakleaf.conditioning.priors import Normal, Uniform
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.losses.recognition import Perceptual, SameIdentity
from oakleaf.round import Round
from oakleaf.runtime.run_dir import LAST
from oakleaf.sampling.inversion import LBFGS, Adam, Distances, Domain, best_of, invert

THIN = ["model.game.generator.width=8", "model.game.discriminator.width=4", "data.batch_size=16"]
RUN = [*THIN, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = quick("train", *RUN, "max_images=64", "model.game.prior.dim=8", "folder=run", folder=folder)
    assert result.returncode == 0, result.stderr
    return with_contrast(folder / "run")


def with_contrast(run: Path) -> Path:
    """Multiply the weights before the image, because so short a training gives grey images."""
    content = torch.load(run / LAST, weights_only=True)
    for name in ("game.generator.image.0.weight", "ema.generator.network.image.0.weight"):
        content["state_dict"][name] *= 100
    torch.save(content, run / LAST)
    return run


def linear(width: int = 4, pixels: int = 12) -> tuple[Any, Domain]:
    """A generator with a known inverse: an orthogonal matrix."""
    torch.manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(pixels, width))[0]
    domain = Domain.of(Normal(width)(2000))
    return (lambda z, numbers: (z @ matrix.T).unflatten(1, (1, 3, pixels // 3))), domain


def pixels(z: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).square().flatten(1).mean(1)


@pytest.mark.parametrize("method", [Adam(steps=200), LBFGS(steps=20)], ids=["adam", "lbfgs"])
def test_latents_of_a_linear_generator_are_recovered(method: Any) -> None:
    generate, domain = linear()
    z = Normal(4)(5).clamp(-2, 2)
    targets = generate(z, torch.arange(5))
    start = domain.mean.expand(5, -1).clone()
    result = invert(generate, targets, start, domain, pixels, method, list(range(5)))
    assert torch.allclose(result.latents, z, atol=0.02)
    assert result.losses.max() < 1e-4 and torch.equal(result.start, start)


@pytest.mark.parametrize("method", [Adam(steps=20), LBFGS(steps=3)], ids=["adam", "lbfgs"])
def test_pictures_of_a_batch_do_not_influence_each_other(run: Path, method: Any) -> None:
    """With another second picture, the first has the same latents, bit for bit."""
    game = load(run).game.eval().requires_grad_(False)
    domain = Domain.of(game.sample_inputs(500)["latent"])
    targets = torch.rand(3, 1, 16, 16) * 2 - 1
    found = []
    for second in (0, 2):
        both = torch.stack([targets[1], targets[second]])
        generate = lambda z, numbers: game.generate({"latent": z})  # noqa: E731
        start = domain.mean.expand(2, -1).clone()
        found.append(invert(generate, both, start, domain, pixels, method, [5, 6]))
    assert torch.equal(found[0].latents[0], found[1].latents[0])
    assert not torch.equal(found[0].latents[1], found[1].latents[1])
    assert found[0].losses[0] < pixels(start, generate(start, None), both)[0]


def test_the_schedule_is_that_of_the_projector() -> None:
    """The values of NVlabs/stylegan2, projector.py, at 1,000 steps: ramps of 0.05 and 0.25, noise until 0.75."""
    adam = Adam(steps=1000, lr=0.1)
    for step in (0, 10, 49, 400, 800, 999):
        t = step / 1000
        down = 0.5 - 0.5 * math.cos(min(1.0, (1.0 - t) / 0.25) * math.pi)
        assert adam.rate(step) == pytest.approx(0.1 * down * min(1.0, t / 0.05), abs=1e-12)
        assert adam.noise_of(step) == pytest.approx(0.05 * max(0.0, 1.0 - t / 0.75) ** 2, abs=1e-12)


def test_steps_without_noise_are_those_of_torchs_adam() -> None:
    generate, _ = linear()
    unit = Domain(torch.zeros(4), torch.ones(4), torch.full((4,), -9.0), torch.full((4,), 9.0))
    targets, start = generate(torch.randn(3, 4), None), torch.randn(3, 4)
    method = Adam(steps=12, rise=0, fall=0, noise=0, lr=0.05)
    *_, (ours, _) = method.minimise(start, unit, lambda z: pixels(z, generate(z, None), targets), _seeds(3))
    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(12):
        optimizer.zero_grad()
        pixels(z, generate(z, None), targets).sum().backward()
        optimizer.step()
    assert torch.allclose(ours, z, atol=1e-6)


def _seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def test_latents_stay_in_the_domain_of_the_prior() -> None:
    """A target far outside needs latents that the prior never draws; z stays within, and the penalty keeps |z|."""
    generate, _ = linear()
    targets = generate(torch.full((1, 4), 7.0), None)
    uniform = Domain.of(Uniform(4)(5000))
    start = uniform.mean[None].clone()
    found = invert(generate, targets, start, uniform, pixels, Adam(steps=100), [0]).latents
    assert found.abs().max() <= 1 and found.min() > 0.99
    normal = Domain.of(Normal(4)(5000))
    z = torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 2], [0, 0, 0, 0]])
    assert torch.allclose(normal.penalty(z), torch.tensor([0.0, 9, 1]), atol=0.5)
    distances = Distances(pixels=1.0, prior=10.0)
    loss = lambda z, images, there: distances(z, images, there, normal, {})  # noqa: E731
    kept = invert(generate, targets, normal.mean[None].clone(), normal, loss, Adam(steps=200), [0]).latents
    free = invert(generate, targets, normal.mean[None].clone(), normal, pixels, Adam(steps=200), [0]).latents
    assert kept.square().mean() < 2 < free.square().mean()


def test_distances_of_images_have_the_mean_of_the_terms() -> None:
    """Each term of a batch is the mean of its images' distances, and gives no gradient to the targets."""
    network = ready(Fixed(1))
    images, targets = torch.rand(4, 3, 9, 9), torch.rand(4, 3, 9, 9)
    round = Round(targets, images, lambda x: x)
    round.frozen = {"fixed": network}
    for term in (
        Perceptual("fixed", ["0.2"], unit=True),
        Perceptual("fixed", ["0.0", "0.2"], distance="absolute"),
        SameIdentity("fixed"),
        SameIdentity("fixed", "squared"),
    ):
        single = torch.cat([term.distances(network, images[i : i + 1], targets[i : i + 1]) for i in range(4)])
        assert torch.allclose(single, term.distances(network, images, targets), atol=1e-6)
        assert torch.allclose(term.measure(round), single.mean(), atol=1e-6)
    both = Distances(0.5, {"identity": SameIdentity("fixed", weight=2.0)})
    domain = Domain.of(Normal(2)(100))
    expected = 0.5 * (images - targets).square().flatten(1).mean(1) + 2 * SameIdentity("fixed").distances(
        network, images, targets
    )
    assert torch.allclose(both(torch.zeros(4, 2), images, targets, domain, {"fixed": network}), expected, atol=1e-6)
    with pytest.raises(
        UserError, match=r"there is no such frozen network; there are none; add one with \+model/frozen"
    ):
        both(torch.zeros(4, 2), images, targets, domain, {})


def test_the_best_of_random_latents_is_the_nearest() -> None:
    generate, _ = linear()
    candidates = torch.randn(300, 4)
    chosen = best_of(generate, generate(candidates[[7, 200]], None), candidates, pixels)
    assert torch.equal(chosen, candidates[[7, 200]])


@pytest.mark.slow
def test_a_folder_is_projected_and_its_latents_are_drawn_again(run: Path, tmp_path: Path) -> None:
    """Pictures of other sizes and colours, one of them damaged; the file of latents gives the same images."""
    images = load(run).sample({"latent": torch.randn(1, 8).clamp(-1, 1)})
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(((images[0, 0] + 1) * 127.5).byte().numpy()).save(photos / "a.png")
    Image.new("RGB", (40, 23), "red").save(photos / "b.jpg")
    (photos / "c.png").write_bytes(b"nothing")
    line = ["sample", f"checkpoint={run}", "device=cpu"]
    options = ["mode=project", "picture=photos", "mode.method.steps=60", "out=found"]
    result = quick(*line, *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "c.png can't be read and is left out" in result.stdout and "found/latents.npy" in result.stdout
    latents = np.load(tmp_path / "found/latents.npy")
    assert latents.shape == (2, 8) and latents.dtype == np.float32 and np.abs(latents).max() <= 1
    assert [row.split(",")[0] for row in (tmp_path / "found/projections.csv").read_text().split()] == [
        "picture",
        "a.png",
        "b.jpg",
    ]
    found = np.load(tmp_path / "found/samples.npy")  # picture, start, projection
    assert found.shape == (6, 16, 16, 1)
    assert _error(found[0], found[2]) < _error(found[0], found[1])
    again = quick(*line, "latents=found/latents.npy", "out=again", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert np.abs(np.load(tmp_path / "again/samples.npy").astype(int) - found[2::3].astype(int)).max() <= 1
    for mode in ("interpolate", "walk"):
        small = ["mode.pairs=1", "mode.frames=2", "mode.steps=3"] if mode == "interpolate" else ["mode.count=1"]
        small += ["mode.points=2", "mode.steps=1"] if mode == "walk" else []
        more = quick(*line, f"mode={mode}", *small, "latents=found/latents.npy", f"out={mode}", folder=tmp_path)
        assert more.returncode == 0, more.stderr
        first = np.load(tmp_path / mode / "samples.npy")[0]
        assert np.abs(first.astype(int) - found[2].astype(int)).max() <= 1
    twice = quick(*line, *options[:-1], "out=twice", folder=tmp_path)
    assert twice.returncode == 0 and np.array_equal(np.load(tmp_path / "twice/latents.npy"), latents)


def _error(one: Any, other: Any) -> float:
    return float(np.square(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["mode=project"], "picture= is missing"),
        (["mode=project", "picture=nowhere"], "picture=nowhere: there is no such file or folder"),
        (["mode=project", "picture=damaged.png"], "picture=damaged.png: it can't be read"),
        (["mode=project", "picture=empty"], "empty holds no pictures"),
        (["mode=project", "picture=a.png", "mode.start=encoder"], "this checkpoint has no encoder; model=inverter"),
        (["picture=a.png"], "picture=: mode=project, ages and ppgn take it"),
        (["mode=project", "picture=a.png", "latents=x.npy"], "latents=: this mode takes none"),
        (["mode=project", "picture=a.png", "mode.method.steps=0"], "mode.method.steps=0"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(run: Path, tmp_path: Path, options: list[str], said: str) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    result = quick("sample", f"checkpoint={run}", *options, folder=tmp_path)
    assert result.returncode == 1 and said in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_frozen_network_can_be_added_to_the_distances(run: Path, tmp_path: Path) -> None:
    """Here the discriminator of the run itself; its features are compared."""
    Image.new("L", (16, 16), 90).save(tmp_path / "a.png")
    options = ["+model/frozen@mode.frozen.critic=run", f"mode.frozen.critic.checkpoint={run}", "mode.method.steps=2"]
    term = "{_target_: oakleaf.losses.recognition.Perceptual, network: critic, layers: [stages.0]}"
    line = ["sample", f"checkpoint={run}", "mode=project", "picture=a.png", *options]
    result = quick(*line, f"+mode.distances.terms.features={term}", folder=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_strip_is_labelled(run: Path, tmp_path: Path) -> None:
    from oakleaf.sampling import Project

    module = load(run)
    (panel,) = Project().panels(module, {}, None)
    assert isinstance(panel, Panel) and panel.group == 3
    assert panel.column_names == ("picture", "start", "projection")
