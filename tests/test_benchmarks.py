"""What the benchmarks race and count, without a race."""

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.composing import ROOT, composed
from oakleaf.builder.build import build

CODE = {  # f"{value:format}" of their sources, with values of a run: training_loop.py; src/worker.py
    "r3gan": [
        f"tick {0:<5d} kimg {0.128:<8.1f} time {'21s':<12s} sec/tick {3.2:<7.1f} sec/kimg {25.11:<7.2f}",
        f"tick {12:<5d} kimg {12.4:<8.1f} time {'3m 10s':<12s} sec/tick {9.2:<7.1f} sec/kimg {9.11:<7.2f}",
    ],
    "studiogan": [
        "[INFO] 2026-11-23 03:00:00 > Start training!",
        f"[INFO] 2026-11-23 03:00:00 > Step: {30:>6} Progress: {0.0003:<.1%} Elapsed: 0:00:10 Gen_loss: {0.1:<.4} ",
    ],
}
PLAYERS = {  # weights of D and G: those of the checkouts' own networks are counted on them
    "wgan_gp": (1_053_825, 1_204_483),
    "r3gan": (22_381_440, 22_429_824),
    "studiogan": (1_055_879, 4_276_739),
}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    for folder in ("benchmarks", "benchmarks/contestants"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module


@pytest.mark.parametrize("name", CODE)
def test_a_log_line_of_another_code_is_recognised_once_it_trains(
    name: str, benchmark: Callable[[str], Any], tmp_path: Path
) -> None:
    checkout = benchmark("checkouts").CHECKOUTS[name]
    contestant = checkout.contestant(tmp_path, tmp_path, tmp_path, 96)
    assert [bool(re.search(contestant.sign, line)) for line in CODE[name]] == [False, True]
    assert contestant.images == {"r3gan": 11 * 96, "studiogan": 10 * 5 * 96}[name]  # 1,000 images are reached in 11


@pytest.mark.parametrize("name", PLAYERS)
@pytest.mark.slow
def test_compared_networks_have_the_stated_sizes(
    name: str, benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training, checkouts = benchmark("training"), benchmark("checkouts").CHECKOUTS
    recipe = training.RECIPES[name][1] if name in training.RECIPES else checkouts[name].recipe
    for key, value in training.TRUST.items():
        monkeypatch.setenv(key, value)
    module, _, _ = build(composed(*recipe, "data=digits", "data.channels=3", folder=tmp_path))
    counts = {player: sum(w.numel() for w in weights) for player, weights in module.weights.items()}
    assert (counts["discriminator"], counts["generator"]) == PLAYERS[name]
    assert module.players["generator"].every == (5 if name in ("wgan_gp", "studiogan") else 1)


@pytest.mark.slow
def test_counted_cost_per_image_does_not_depend_on_the_count(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, table = benchmark("counting"), benchmark("scale_table")
    recipe = ["model=sngan", "data=digits", "data.channels=3", "data.size=16"]
    recipe += ["model.game.generator.width=8", "model.game.discriminator.width=8"]
    few = counting.counted("sngan", 64, recipe)
    monkeypatch.setattr(counting, "COUNTED", (4, 7))
    more = counting.counted("sngan", 64, recipe)
    assert few.activations == more.activations > 0
    assert few.flops == pytest.approx(more.flops)
    assert few.reductions == 1.2  # D in each iteration, G in one of five
    difference = table.iteration(replace(few, reductions=2.2), 8)[1] - table.iteration(few, 8)[1]
    assert difference == pytest.approx(16 * table.LATENCY)  # one more ring of eight, there and back


def test_a_pair_counts_as_two_images_to_read(benchmark: Callable[[str], Any]) -> None:
    recipe = ["model=pix2pix", "data=digits", "data.size=32", "data/input=low_resolution", "data.channels=3"]
    recipe += ["model.game.generator.width=4", "model.game.discriminator.width=4"]
    assert benchmark("counting").counted("pix2pix", 1, recipe).pixels == 2 * 3 * 32 * 32


def test_batches_of_the_bare_loop_are_images_and_their_mirror_images(benchmark: Callable[[str], Any]) -> None:
    images = torch.randint(256, (8, 3, 4, 5), dtype=torch.uint8)
    data = SimpleNamespace(
        batch_size=8, channels=3, size=(4, 5), rows={"image": images}, prepare_data=lambda: None, setup=lambda: None
    )
    batch = next(benchmark("bare").batches("real", data, torch.device("cpu"), True))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    both = [image.float() / 127.5 - 1 for image in images] + [image.float().flip(2) / 127.5 - 1 for image in images]
    found = [[i for i, image in enumerate(both) if torch.allclose(image, row)] for row in batch]
    assert sorted(i % 8 for (i,) in found) == list(range(8))


@pytest.mark.slow
def test_the_runs_of_the_queue_compose(benchmark: Callable[[str], Any]) -> None:
    queue = benchmark("run_queue")
    entries = queue.entries()
    assert len({entry.name for entry in entries}) == len(entries) > 5
    for entry in entries:
        assert entry.hours > 0 and entry.purpose
        if entry.script:
            assert (ROOT / entry.script[0]).is_file()
        else:
            composed(*entry.train, *queue.FIXED, folder="x")


def test_the_queue_skips_what_is_done_and_writes_a_table(
    benchmark: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = benchmark("run_queue")
    (tmp_path / "runs.yaml").write_text("[{name: a, purpose: it, hours: 1, seeds: [0, 1, 2], train: [model=dcgan]}]")
    (tmp_path / "zoo.md").write_text(f"before\n{queue.BEGIN}\nold\n{queue.END}\nafter\n")
    for name, file in (("RUNS", "runs.yaml"), ("ROWS", "rows.json"), ("ZOO", "zoo.md")):
        monkeypatch.setattr(queue, name, tmp_path / file)
    (entry,) = queue.entries()
    assert queue.missing(entry, queue.rows()) == [0, 1, 2]
    row = {"name": "a", "purpose": "it", "command": " ".join(entry.command), "images": 1000, "core_hours": 0.5}
    row |= {"commit": "c0ffee", "machine": {"processor": "CPU"}}
    for seed, value in ((0, 2.0), (2, 4.0)):
        scores = [{"name": "fid-classifier", "value": value, "baseline": 1.0, "better": "lower"}]
        queue.merge([{**row, "seed": seed, "scores": scores}])
    assert queue.missing(entry, queue.rows()) == [1]
    longer = entry._replace(train=["model=dcgan", "max_images=5"])
    assert queue.missing(longer, queue.rows()) == [0, 1, 2]  # another command
    queue.render()
    text = (tmp_path / "zoo.md").read_text()
    assert "| it | 0, 2 | 1,000 | fid-classifier 3 +- 1.4 (1) | 1.0 | c0ffee |" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "2 runs, 1.0 core-hours" in text
