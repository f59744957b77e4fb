"""Frozen networks: weights that never change, gradients of the input, layers by name, checkpoints, runs, refusals.

Their sources are in test_frozen_sources.py, the terms and tasks in test_recognition.py.
"""

import copy
import multiprocessing
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, distributed, nn

from helpers.commands import quick
from helpers.composing import FP32, SMALL, composed
from helpers.frozen import Fixed, ready
from helpers.training import Fit, built
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.export.generator import ExportedGenerator
from oakleaf.export.pretrained import from_pretrained
from oakleaf.frozen import FrozenNetwork, Trained
from oakleaf.frozen import network as frozen_network
from oakleaf.frozen.classifier import Training
from oakleaf.frozen.provenance import Provenance, of_weights, same_network
from oakleaf.gan import GAN
from oakleaf.losses.recognition import Perceptual

TRAINING = "{_target_:oakleaf.frozen.classifier.Training,images:4000,epochs:2,width:8,features:16}"
EYE = (
    "+model.frozen.eye={_target_:oakleaf.frozen.Trained,task:label,channels:1,size:16,outputs:10,"
    f"training:{TRAINING}}}"
)
RECOGNISED = "+model.game.terms.generator.class={_target_:oakleaf.losses.recognition.Recognised,network:eye}"
CODE = [
    "model/condition=code",
    "model.game.condition.network=eye",
    "model.game.condition.width=16",
    "model.game.generator.classes=16",
    "model.game.discriminator.classes=16",
    "+model.game.terms.generator.map={_target_:oakleaf.losses.recognition.Perceptual,network:eye,layers:[maps.0,maps.1]}",
]
OPTIONS = ["model=cdcgan", *SMALL, EYE, RECOGNISED]


def other_file(file: Path, seed: int) -> None:
    """Write the weights of `from_file`, made from a seed."""
    torch.manual_seed(seed)
    torch.save({name: torch.rand_like(value) for name, value in nn.Conv2d(1, 4, 3).state_dict().items()}, file)


def from_file(file: Path) -> list[str]:
    """Return the options of a perceptual term with a frozen network of a file."""
    return [
        f"+model.frozen.edges={{_target_:oakleaf.frozen.FromFile,file:'{file}',"
        "network:{_target_:torch.nn.Conv2d,in_channels:1,out_channels:4,kernel_size:3},returns:embedding,"
        "input:{_target_:oakleaf.frozen.preprocessing.Input,channels:1}}",
        "+model.game.terms.generator.same={_target_:oakleaf.losses.recognition.SameIdentity,network:edges,"
        "distance:squared}",
    ]


# ---- A network alone -------------------------------------------------------------------------------------------------


def test_a_frozen_network_stays_as_it_is_while_its_input_gets_the_gradient() -> None:
    network = ready(Fixed())
    before = copy.deepcopy(network.state_dict())
    network.train()
    assert not any(module.training for module in network.modules())
    x = torch.rand(2, 3, 9, 9, requires_grad=True)
    output = network(x, ["0.0", "0.1"])
    loss = output.logits.sum() + output.maps["0.1"].square().sum() + output.embedding.sum()
    loss.backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert all(weight.grad is None and not weight.requires_grad for weight in network.parameters())
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_outputs_and_gradients_are_those_of_the_network_run_by_hand() -> None:
    network = ready(Fixed(mean=(0.1, 0.2, 0.3), sd=(0.5, 0.6, 0.7), white=2.0))
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    network.double()
    plain: Any = copy.deepcopy(network.network)
    mean, sd = (torch.tensor(v)[:, None, None] for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    first = plain[0][0](((x + 1) / 2 * 2.0 - mean) / sd)
    normalised = plain[0][1](first)
    embedding = plain[0][3](normalised.relu()).mean((2, 3))
    logits = plain[4](embedding)
    output = network(x, ["0.0", "0.1"])
    pairs = {"0.0": first, "0.1": normalised}
    for one, other in [(output.embedding, embedding), (output.logits, logits)] + [
        (output.maps[name], value) for name, value in pairs.items()
    ]:
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    for one, other in ((output.logits, logits), (output.maps["0.1"], normalised)):
        gradients = [torch.autograd.grad(value.square().sum(), x, retain_graph=True)[0] for value in (one, other)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_through_a_frozen_network_compiles_as_one_graph() -> None:
    network = ready(Fixed(size=12))

    def loss(x: Tensor) -> Tensor:
        output = network(x, ["0.0", "0.3"])
        return output.logits.square().mean() + sum(maps.square().mean() for maps in output.maps.values())  # type: ignore

    x = torch.rand(2, 1, 9, 9, requires_grad=True)
    expected = torch.autograd.grad(loss(x), x)[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], expected)


def test_a_copy_keeps_its_own_outputs() -> None:
    network = ready(Fixed())
    other = copy.deepcopy(network)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(other(x, ["0.0"]).maps["0.0"], network(x, ["0.0"]).maps["0.0"])
    layers = [layer for one in (network, other) for layer in one.modules()]
    assert not any(hasattr(layer, "kept_output") or getattr(layer, "is_watched", False) for layer in layers)


def test_an_unknown_layer_is_answered_by_the_layers_that_exist() -> None:
    network = ready(Fixed())
    with pytest.raises(UserError, match=r"layer 'conv9'.* it has 0, 0\.0, 0\.1"):
        network(torch.rand(1, 3, 8, 8), ["conv9"])
    with pytest.raises(UserError, match="no weights yet"):
        Fixed()(torch.rand(1, 3, 8, 8))


def test_shapes_and_channels_need_no_weights() -> None:
    assert Fixed(size=9).shapes(["0.0", "0.3", "4"]) == {"0.0": (4, 9, 9), "0.3": (6, 4, 4), "4": (5,)}
    assert Fixed().channels("0.3", size=20) == 6
    with pytest.raises(UserError, match="any size"):
        Fixed().channels("0.3")


def test_small_networks_are_stored_completely_and_large_ones_by_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = ready(Fixed(3)), torch.rand(1, 3, 8, 8)
    complete = network.state_dict()
    assert {"network.0.0.weight", "_extra_state"} <= complete.keys()
    new = Fixed(9)
    new.load_state_dict(complete)
    assert torch.equal(new(x).logits, network(x).logits) and new.provenance == network.provenance
    monkeypatch.setattr(frozen_network, "SMALL", 0)
    by_hash = nn.ModuleDict({"eye": network}).state_dict()
    assert list(by_hash) == ["eye._extra_state"]
    same, other = nn.ModuleDict({"eye": Fixed(3)}), nn.ModuleDict({"eye": Fixed(4)})
    same.load_state_dict(by_hash)
    assert torch.equal(same["eye"](x).logits, network(x).logits)
    other.load_state_dict(by_hash)
    with pytest.raises(UserError, match=r"Fixed\(4\).*other weights than those of the training"):
        other["eye"](x)
    with mock.patch.object(Fixed, "read", side_effect=UserError("file=eye.pth: there is no such file")):
        missing = nn.ModuleDict({"eye": Fixed(3)})
        missing.load_state_dict(by_hash)
    with pytest.raises(UserError, match=r"eye\.pth: there is no such file"):
        missing["eye"](x)


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (Provenance("a", hash="1"), Provenance("b", hash="1"), "same weights"),
        (Provenance("a", hash="1", file_hash="2"), Provenance("b", hash="3", file_hash="2"), "same file"),
        (Provenance("a", tensors=["1", "2"]), Provenance("b", tensors=["2", "3"]), "layers with the same weights"),
        (
            Provenance("a", data="d", part="all", seed=0, task="labels"),
            Provenance("b", data="d", part="even", seed=0, task="labels"),
            "same images with the same seed",
        ),
        (
            Provenance("a", data="d", part="odd", seed=0, task="labels"),
            Provenance("b", data="d", part="even", seed=0, task="labels"),
            None,
        ),
        (
            Provenance("a", data="d", part="all", seed=0, task="labels"),
            Provenance("b", data="d", part="all", seed=1, task="labels"),
            None,
        ),
        (Provenance("a"), Provenance("b"), None),
    ],
)
def test_two_networks_are_the_same_by_weights_file_or_training(
    one: Provenance, other: Provenance, reason: str | None
) -> None:
    found = same_network(one, other)
    assert found is None if reason is None else reason in (found or "")


def test_a_network_with_another_head_is_still_the_same() -> None:
    network = ready(Fixed(wide=40))
    other = ready(Fixed(wide=40))
    other.network[4] = nn.Linear(40, 3)
    reason = same_network(network.provenance, of_weights("other", other.network))
    assert reason == "they have layers with the same weights"


# ---- In a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[GAN, Any, Path]:
    """A run of 64 images whose generator is trained against a classifier of labels."""
    folder = tmp_path_factory.mktemp("trained")
    module, data, trainer, _ = built(*FP32, *OPTIONS, "max_images=64", folder=folder)
    trainer.fit(module, datamodule=data)
    return module, data, folder


def test_a_frozen_network_is_no_player(trained: Any) -> None:
    module, _, _ = trained
    eye = module.game.frozen["eye"]
    module.train()
    assert module.game.training and not any(layer.training for layer in eye.modules())
    weights = {id(w) for o in module.optimizers() for group in o.param_groups for w in group["params"]}
    assert weights and not weights & {id(weight) for weight in eye.parameters()}
    assert "eye" not in module.players and not any("eye" in name for name, _ in module.ema.named_parameters())


def test_a_loaded_run_has_exactly_the_same_network(trained: Any, tmp_path: Path) -> None:
    module, _, folder = trained
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    loaded, eye = load(moved), module.game.frozen["eye"]
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    assert torch.equal(loaded.game.frozen["eye"](x).logits, eye(x).logits)
    assert loaded.game.frozen["eye"].provenance == eye.provenance != Provenance("")


def test_a_second_run_reads_the_network_from_the_cache(trained: Any) -> None:
    module, data, _ = trained
    again = Trained("label", 1, 16, 10, module.game.frozen["eye"].training_settings)
    with mock.patch("oakleaf.frozen.classifier.train_classifier") as train:
        again.initialize(data)
    assert not train.called and again.provenance == module.game.frozen["eye"].provenance


def test_the_random_numbers_of_a_run_do_not_depend_on_its_frozen_networks() -> None:
    plain, with_eye = (build(composed("model=cdcgan", *SMALL, *more, folder="x")).module for more in ([], [EYE]))
    for name in ("generator", "discriminator"):
        one, other = (module.game.get_submodule(name).state_dict() for module in (plain, with_eye))
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_network, "SMALL", 0)
    other_file(tmp_path / "edges.pth", 0)
    options = [*OPTIONS, *from_file(tmp_path / "edges.pth")]
    whole, _ = fit(*options, "max_images=96", folder=tmp_path / "whole")
    fit(*options, "max_images=48", folder=tmp_path / "part")
    last = tmp_path / "part/checkpoints/last.ckpt"
    state = torch.load(last, weights_only=True)["state_dict"]
    assert any(name.startswith("game.frozen.eye.network.") for name in state)  # trained here: completely
    assert [name for name in state if name.startswith("game.frozen.edges.")] == ["game.frozen.edges._extra_state"]
    resumed, _ = fit(*options, "max_images=96", checkpoint=last, folder=tmp_path / "part")
    one, other = whole.state_dict(), resumed.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one if isinstance(one[name], Tensor))
    other_file(tmp_path / "edges.pth", 1)
    with pytest.raises(UserError, match="holds other weights than those of the training"):
        fit(*options, "max_images=128", checkpoint=last, folder=tmp_path / "part")
    (tmp_path / "edges.pth").unlink()
    assert load(last).sample(load(last).game.sample_inputs(2)).shape == (2, 1, 16, 16)  # sampling does not need it
    with pytest.raises(UserError, match=r"edges\.pth: there is no such file"):
        fit(*options, "max_images=128", checkpoint=last, folder=tmp_path / "part")


def test_a_missing_file_is_named_before_a_new_run_begins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pth: there is no such file"):
        build(composed(*OPTIONS, *from_file(tmp_path / "none.pth"), folder="x"))


def test_a_missing_network_is_named_by_its_key(fit: Fit) -> None:
    with pytest.raises(UserError, match=r"model\.frozen\.eye is missing"):
        fit("model=cdcgan", *SMALL, RECOGNISED, "max_images=16")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("outputs=0", "needs outputs="),
        ("outputs=7", r"outputs=7\): the data have 10 classes"),
        ("task=attributes", "needs the row `attributes`; the data have label"),
        ("channels=3", r"is for images \[3, 16\], and the data have \[1, 16, 16\]"),
    ],
)
def test_a_network_that_does_not_fit_the_data_says_so(fit: Fit, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(*OPTIONS, "max_images=16", f"model.frozen.eye.{option}")


def test_two_processes_have_the_same_network(trained: Any, tmp_path: Path) -> None:
    """The second process has another cache, which stays empty, and other random numbers."""
    _, data, _ = trained
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    ranks = [context.Process(target=initialize, args=(rank, data, tmp_path, found)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    hashes = dict(found.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(timeout=60)
    assert hashes[0] == hashes[1] and not (tmp_path / "1").exists()


def initialize(rank: int, data: Any, folder: Path, found: Any) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    data.cache = folder / str(rank)
    network = Trained("label", 1, 16, 10, Training(images=256, width=4, features=8))
    network.initialize(data)
    weights = of_weights("", network.network)
    found.put((rank, (weights.hash, network.provenance.hash, network.provenance.data)))
    distributed.destroy_process_group()


# ---- Another run's network -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_network_of_another_run_needs_that_run_only_once(trained: Any, fit: Fit, tmp_path: Path) -> None:
    _, _, folder = trained
    first = tmp_path / "first"
    shutil.copytree(folder, first)
    (tmp_path / "second").mkdir()
    options = [
        "model=dcgan", *SMALL, "max_images=16",
        f"+model.frozen.other={{_target_:oakleaf.frozen.Run,checkpoint:'{first}',network:generator}}",
    ]  # fmt: skip
    fit(*options, folder=tmp_path / "second")
    shutil.rmtree(first)
    loaded = load(tmp_path / "second").game.frozen["other"]
    expected = load(folder).generator_ema.network
    z, y = torch.rand(3, 100), torch.eye(10)[:3]
    assert torch.equal(loaded.generate(z, y), expected(z, y))
    with pytest.raises(UserError, match="makes images, and cannot look at them"):
        loaded(torch.rand(1, 1, 16, 16))


@pytest.mark.slow
def test_a_discriminator_of_another_run_judges_images(fit: Fit, tmp_path: Path) -> None:
    first = tmp_path / "first"
    module, _ = fit("model=acgan", *SMALL, "max_images=16", folder=first)
    options = [
        "model=dcgan", *SMALL, "max_images=16",
        f"+model.frozen.other={{_target_:oakleaf.frozen.Run,checkpoint:'{first}',network:discriminator}}",
    ]  # fmt: skip
    second, _ = fit(*options, folder=tmp_path / "second")
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    expected, found = module.game.discriminator.eval()(x), second.game.frozen["other"](x)
    assert torch.equal(found.logits, expected.classes)


# ---- Evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_refuses_a_network_that_the_run_was_trained_against(tmp_path: Path) -> None:
    """The same seed and rows; another seed or other rows are accepted."""
    training = "extractor.training={images:4000,epochs:2,width:8,features:16}"
    options = [*FP32, *OPTIONS, "max_images=32", "logger=csv", "folder=run", "+model.frozen.eye.seed=0"]
    result = quick("train", *options, "+model.frozen.eye.part=even", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    for choice, allowed in (([], False), (["extractor.seed=3"], True), (["extractor.part=odd"], True)):
        arguments = ["checkpoint=run", "metric=fid", "fake=64", "real=256", training, *choice]
        result = quick("evaluate", *arguments, folder=tmp_path)
        assert (result.returncode == 0) is allowed, result.stdout + result.stderr
        if not allowed:
            assert "cannot judge this run, which was trained with it as model.frozen.eye" in result.stdout
            assert "another extractor.seed=" in result.stdout
    result = quick("evaluate", "checkpoint=run", "metric=gan_train_test", "fake=64", "real=256", folder=tmp_path)
    assert "cannot judge this run" in result.stdout


# ---- Export ----------------------------------------------------------------------------------------------------------


def test_an_export_has_the_frozen_networks_of_the_generator_alone(trained: Any, tmp_path: Path) -> None:
    module, _, _ = trained
    assert len(ExportedGenerator(module.game).game.frozen or {}) == 0  # a term alone uses it


@pytest.mark.slow
def test_a_generator_conditioned_on_a_code_is_exported_with_its_network(fit: Fit, tmp_path: Path) -> None:
    run = tmp_path / "run"
    module, _ = fit("model=cdcgan", *SMALL, EYE, *CODE, "max_images=48", folder=run)
    result = quick("export", "checkpoint=run", "out=exported", "format=[safetensors,onnx,pt2]", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    generator = from_pretrained(tmp_path / "exported")
    images, z = torch.rand(3, 1, 16, 16) * 2 - 1, torch.rand(3, 100)
    expected = module.sample({"latent": z, "image": images})
    torch.testing.assert_close(generator(z, images), expected, rtol=1e-4, atol=1e-5)
    code = module.game.condition.encode(images)  # the code itself can be given
    torch.testing.assert_close(module.sample({"latent": z, "code": code}), expected)
    assert isinstance(generator.game.frozen["eye"], FrozenNetwork)


@pytest.mark.slow
def test_a_player_step_with_frozen_networks_compiles_as_one_graph(trained: Any) -> None:
    """The first layers of the frozen network as a perceptual term, and its logits."""
    module, data, _ = trained
    game = copy.deepcopy(module.game)
    game.terms["generator"]["same"] = Perceptual("eye", ["maps.0", "maps.1"])
    batch = data.batch(torch.arange(8))
    losses = []
    for compute in (game.player_losses, torch.compile(game.player_losses, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(3)
        losses.append(compute("generator", batch, 1, 0)[0])
    assert losses[0].keys() == {"adversarial", "class", "same"} == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name])
