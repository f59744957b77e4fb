"""init=: weights of existing runs by name and shape; resume= refuses what would be another run."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.commands import quick
from helpers.composing import FP32, composed
from helpers.training import Fit
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.builder.transfer import Source, aligned_names, table, transfer
from oakleaf.cli.init import initialize, read_source
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import read_checkpoint

THIN = ["model.game.generator.width=4", "model.game.discriminator.width=4", "data.batch_size=16"]
RUN = [*THIN, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits of 32 px, conditioned on the class."""
    folder = tmp_path_factory.mktemp("runs")
    line = ["train", "model=cdcgan", "model.game.generator.hidden=8", "model.game.discriminator.hidden=8"]
    result = quick(*line, *RUN, "data.size=32", "max_images=48", "folder=base", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "base"


def other_module(*overrides: str) -> tuple[Any, Any]:
    module, data, _ = build(composed(*FP32, *THIN, *overrides, folder="x"))
    return module, data


HIDDEN = ["model.game.generator.hidden=8", "model.game.discriminator.hidden=8"]


@pytest.mark.slow
def test_a_new_run_begins_with_the_weights_and_the_samples_of_another(run: Path) -> None:
    """The first samples are those of the other run's averaged generator; clock, optimizers and EMA begin anew."""
    line = ["train", "model=cdcgan", *HIDDEN, *RUN, "data.size=32"]
    result = quick(*line, f"init={run}", "max_images=16", "folder=tuned", "seed=5", folder=run.parent)
    assert result.returncode == 0, result.stderr
    assert "generator" in result.stdout and "of" in result.stdout and "new: " not in result.stdout
    tuned = read_checkpoint(run.parent / "tuned")
    assert tuned["images_seen"] == 16 and tuned["iteration"] == 1
    steps = {int(state["step"]) for one in tuned["optimizer_states"] for state in one["state"].values()}
    assert steps == {1}
    module, data = other_module("model=cdcgan", *HIDDEN, "data.size=32")
    initialize(module, data, {"checkpoint": str(run), "players": None, "ema": True})
    inputs = module.game.sample_inputs(4)
    assert torch.equal(module.sample(inputs, ema=False), load(run).sample(inputs))
    resumed = quick("train", f"resume={run.parent / 'tuned'}", "max_images=32", folder=run.parent)
    assert resumed.returncode == 0, resumed.stderr
    assert read_checkpoint(run.parent / "tuned")["images_seen"] == 32


def test_trained_weights_in_place_of_averages_and_single_players(run: Path) -> None:
    module, data = other_module("model=cdcgan", *HIDDEN, "data.size=32")
    before = {name: w.clone() for name, w in module.game.discriminator.state_dict().items()}
    initialize(module, data, {"checkpoint": str(run), "players": ["generator"], "ema": False})
    state = read_checkpoint(run)["state_dict"]
    for name, weight in module.game.generator.state_dict().items():
        assert torch.equal(weight, state[f"game.generator.{name}"])
    assert all(torch.equal(w, before[name]) for name, w in module.game.discriminator.state_dict().items())
    assert module.game.initialized == {"generator"}


@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes_take_all_layers_at_the_same_distance_from_the_image(run: Path, size: int) -> None:
    """From 32 px, a network for 64 px has one layer more, and one for 16 px one less, at the smallest map."""
    module, data = other_module("model=cdcgan", *HIDDEN, f"data.size={size}")
    results = initialize(module, data, {"checkpoint": str(run), "players": None, "ema": False})
    generator, discriminator = sorted(results, key=lambda one: one.network == "discriminator")
    there = read_checkpoint(run)["state_dict"]
    for one in (generator, discriminator):
        own = module.network(one.network).state_dict()
        assert one.taken
        assert all(torch.equal(own[new], there[f"game.{one.network}.{old}"]) for new, old in one.taken.items())
    shifted = {old for name, old in generator.taken.items() if name != old}
    assert any(name.startswith("stages.") for name in shifted)
    convolutions = [name for name in module.game.generator.state_dict() if name.endswith("weight") and "image" in name]
    assert set(convolutions) <= generator.taken.keys()
    text = table([generator, discriminator])
    assert "new: " in text and "from layers of other numbers" in text and "generator" in text


def test_classes_are_taken_by_name(run: Path) -> None:
    """A generator that joins latents and a one-hot class keeps the columns of latents and of classes it knows."""
    layer, old = nn.Linear(3 + 2, 4), nn.Linear(3 + 3, 4)
    module = nn.ModuleDict({"generator": layer})
    before = layer.weight.detach().clone()
    state = {f"generator.{name}": w for name, w in old.state_dict().items()}
    (result,) = transfer(module, Source(state, ["cat", "dog", "cow"], "old"), ["cow", "hen"], None)
    assert result.in_part == ["weight"] and list(result.taken) == ["bias"]
    assert torch.equal(layer.weight[:, :4], old.weight[:, [0, 1, 2, 5]])
    assert torch.equal(layer.weight[:, 4], before[:, 4])  # of the hen, which is new
    assert result.values == (4 * 4 + 4, 5 * 4 + 4)


def test_shapes_that_differ_by_more_are_new() -> None:
    network = nn.ModuleDict({"generator": nn.Linear(4, 4)})
    with pytest.raises(UserError, match="no weights there have the name and shape"):
        transfer(network, Source({"generator.weight": torch.zeros(5, 6)}, [], "old"), [], None)
    state = {"generator.weight": torch.zeros(5, 4), "generator.bias": torch.ones(4)}
    (result,) = transfer(network, Source(state, [], "old"), [], None)
    assert result.new == {"weight": "4 x 4, there 5 x 4"}
    assert torch.equal(network["generator"].bias, torch.ones(4))  # type: ignore[arg-type]


def test_the_offset_of_layers_is_that_of_most_values() -> None:
    def stack(*widths: int) -> dict[str, Tensor]:
        return {f"layers.{i}.weight": torch.zeros(a, b) for i, (a, b) in enumerate(pairwise(widths))}

    names = aligned_names(stack(9, 8, 4, 2, 1), stack(8, 4, 2, 1))
    assert names["layers.1.weight"] == "layers.0.weight" and names["layers.3.weight"] == "layers.2.weight"
    equal = stack(8, 8, 8, 8)
    assert aligned_names(equal, equal) == {name: name for name in equal}


def test_an_exported_folder_is_a_source_of_the_generator(run: Path) -> None:
    out = run.parent / "exported"
    result = quick("export", f"checkpoint={run}", f"out={out}", "format=safetensors", folder=run.parent)
    assert result.returncode == 0, result.stderr
    module, data = other_module("model=cdcgan", *HIDDEN, "data.size=32")
    (only,) = initialize(module, data, {"checkpoint": str(out), "players": None, "ema": True})
    assert only.network == "generator" and not only.new
    inputs = module.game.sample_inputs(4)
    assert torch.equal(module.sample(inputs, ema=False), load(run).sample(inputs))


@pytest.mark.slow
def test_a_data_dependent_initialisation_does_not_replace_taken_weights(fit: Fit, tmp_path: Path) -> None:
    options = ["model=improved", "data.batch_size=8", "model.game.discriminator.hidden=[8,8]"]
    fit(*options, "max_images=8", folder=tmp_path / "a")
    module, data = build(composed(*FP32, *options, folder=tmp_path / "b"))[:2]
    initialize(module, data, {"checkpoint": str(tmp_path / "a"), "players": None, "ema": False})
    data.prepare_data()
    data.setup()
    before = {name: w.clone() for name, w in module.game.state_dict().items()}
    module.game.initialize_from_data(data)
    assert all(torch.equal(w, before[name]) for name, w in module.game.state_dict().items())
    module.game.initialized = set()
    module.game.initialize_from_data(data)
    assert not all(torch.equal(w, before[name]) for name, w in module.game.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["init=nowhere"], "init=nowhere: there is no such run, checkpoint or folder"),
        (["init={run}", "init.players=[painter]"], "init.players=painter: there is no such network; this run has"),
        (["init={run}", "resume={run}"], "starts a new run, and resume= continues one"),
        (["init={run}", "init.ema=perhaps"], "init.ema=perhaps"),
        (["resume={run}", "model.game.generator.width=6"], "keeps the run's own networks, which model.game.generator"),
        (["resume={run}", "model.game.discriminator.slope=0.1"], "init=RUN begins a new run with their weights"),
        (["resume={run}", "data.crop=stretch"], "these are not the pictures of the training"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(run: Path, options: list[str], said: str) -> None:
    line = [option.format(run=run) for option in options]
    base = [] if any(option.startswith("resume") for option in options) else [*RUN, "max_images=16"]
    result = quick("train", *base, *line, folder=run.parent)
    assert result.returncode == 1 and said in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_source_can_be_read_without_moving_averages(run: Path) -> None:
    state = read_checkpoint(run)["state_dict"]
    name = next(key for key in state if key.startswith("game.generator") and key.endswith("weight"))
    average = name.replace("game.generator", "ema.generator.network")
    assert torch.equal(read_source(str(run)).state[name], state[average])
    assert torch.equal(read_source(str(run), ema=False).state[name], state[name])
    assert not torch.equal(state[name], state[average])
