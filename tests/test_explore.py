"""Exploring latents: principal directions, single images, and the page of `explore.py` in a real browser."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.browser import opened
from helpers.composing import ROOT, SMALL
from helpers.training import Fit, built
from oakleaf.errors import UserError
from oakleaf.image_grid import to_bytes
from oakleaf.sampling.directions import principal_directions
from oakleaf.sampling.explorer import Explorer
from oakleaf.sampling.latents import seeded_inputs


def test_directions_of_a_linear_generator_are_its_singular_vectors() -> None:
    torch.manual_seed(0)
    weights = torch.randn(3 * 5 * 5, 6)
    found = principal_directions(lambda z: (z @ weights.T).view(-1, 3, 5, 5), torch.randn(4, 6), 6)
    _, values, vectors = torch.linalg.svd(weights, full_matrices=False)
    torch.testing.assert_close((found.vectors @ vectors.T).abs(), torch.eye(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.shares, values.square() / values.square().sum(), atol=1e-4, rtol=1e-3)


def test_directions_are_the_mean_over_latents() -> None:
    """Of a generator that changes along one axis only, and by another amount at each latent, that axis is the first."""

    def generate(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[:, 2].sin(), 0.01 * z[:, 0]], 1)[:, :, None, None]

    found = principal_directions(generate, torch.randn(8, 5), 2)
    assert found.vectors[0].abs().argmax() == 2
    assert found.shares[0] > 0.95
    assert found.vectors.norm(dim=1).allclose(torch.ones(2))


def test_an_image_is_that_of_sample_py_and_changes_with_each_control(tmp_path: Path) -> None:
    normal = "model.game.prior={_target_: oakleaf.conditioning.priors.Normal, dim: 100}"
    module, *_ = built("model=cdcgan", normal, *SMALL, folder=tmp_path)
    module.classes = [str(number) for number in range(10)]
    explorer = Explorer(module.eval(), directions=3)
    picture = np.asarray(explorer.image(7))
    inputs = {**seeded_inputs(module.game, 1, 7, with_condition=False), "label": torch.tensor([7])}
    expected = to_bytes(module.sample(inputs))[0, 0].numpy()
    factor = 8 * 2  # an image of 16 pixels is enlarged to 128, and the picture to at least 384 if it can be
    assert explorer.classes == module.classes
    assert (picture[20, 20] == picture[20, 20, 0]).all()
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2, 0]
    assert middle in expected[7:9, 7:9]
    others = [
        explorer.image(8),
        explorer.image(7, [3.0]),
        explorer.image(7, condition=2),
        explorer.image(7, condition="2"),
        explorer.image(7, truncation=0.3),
        explorer.image(7, other_seed=9, weight=0.5),
    ]
    for other in others:
        assert not np.array_equal(np.asarray(other), picture), factor
    assert np.array_equal(np.asarray(others[2]), np.asarray(others[3]))
    assert np.array_equal(np.asarray(explorer.image(7, other_seed=7, weight=0.5)), picture)
    assert explorer.takes_truncation
    with pytest.raises(UserError, match="0 to 9"):
        explorer.image(7, condition=10)


def test_points_are_refused(tmp_path: Path) -> None:
    module, *_ = built("model=toy", "data=toy", "data.points=100", folder=tmp_path)
    with pytest.raises(UserError, match="makes points"):
        Explorer(module)


@pytest.mark.slow
def test_the_page_draws_images_in_a_browser(fit: Fit, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed")
    prior = "model.game.prior={_target_: oakleaf.conditioning.priors.Normal, dim: 100}"
    fit("model=cdcgan", prior, *SMALL, "max_images=160", folder=tmp_path / "run")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [f"checkpoint={tmp_path}/run", f"port={port}", "open=false", "directions=3", "device=cpu"]
    process = subprocess.Popen([sys.executable, str(ROOT / "explore.py"), *arguments], cwd=tmp_path)
    try:
        end = time.time() + 240
        while time.time() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.5)
        with opened(f"http://127.0.0.1:{port}") as page:
            page.wait_for_selector("img[src*='/file']", timeout=60_000)
            text = page.inner_text("body")
            for shown in ("cdcgan on digits", "seed", "class", "truncation", "direction 1", "interpolation"):
                assert shown in text
            before = page.get_attribute("img[src*='/file']", "src")
            page.get_by_label("seed", exact=True).fill("5")
            page.get_by_label("seed", exact=True).press("Enter")
            page.wait_for_function(
                "before => document.querySelector(\"img[src*='/file']\")?.getAttribute('src') !== before",
                arg=before,
                timeout=60_000,
            )
    finally:
        process.terminate()
        process.wait(30)
