"""Frozen networks: weights that never change, gradients of the input, layers by name, checkpoints, sources, terms."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.composing import SMALL
from helpers.training import Fit
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.frozen import FrozenNetwork
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.provenance import Provenance, of_weights

TRAINING = "{_target_:oakleaf.frozen.classifier.Training,images:4000,epochs:2,width:8,features:16}"
EYE = [
    "+model.frozen.eye={_target_:oakleaf.frozen.Trained,task:label,channels:1,size:16,outputs:10,"
    f"training:{TRAINING}}}",
]
PERCEPTUAL = [
    "+model.game.terms.generator.same={_target_:oakleaf.losses.recognition.Recognised,network:eye}",
    "model=cdcgan",
]


class Fixed(FrozenNetwork):
    """A small network whose weights come from a seed."""

    def __init__(self, seed: int = 0, size: int | None = None, **options: Any) -> None:
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, 2)
        )
        head = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 5))
        self.number = seed
        super().__init__(head, Input(size, 3, **options), embedding="4")

    def read(self) -> Provenance:
        with torch.random.fork_rng():
            torch.manual_seed(self.number)
            for tensor in self.network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand_like(tensor))
        return of_weights(f"Fixed({self.number})", self.network)


def ready(network: FrozenNetwork) -> FrozenNetwork:
    network.provenance, network.reason = network.read(), ""
    return network


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
    parts: Any = network.network
    plain = copy.deepcopy(parts)
    mean, sd = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    first = plain[0][0](((x + 1) / 2 * 2.0 - mean) / sd)
    normalised = plain[0][1](first)
    embedding = plain[0][3](normalised.relu()).mean((2, 3))
    logits = plain[4](embedding)
    output = network(x, ["0.0", "0.1"])
    for one, other in ((output.maps["0.0"], first), (output.maps["0.1"], normalised),
                       (output.embedding, embedding), (output.logits, logits)):  # fmt: skip
        torch.testing.assert_close(one, other)
    grads = [torch.autograd.grad(value.square().sum(), x, retain_graph=True)[0]
             for value in (output.logits, logits, output.maps["0.1"], normalised)]  # fmt: skip
    torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(grads[2], grads[3])


def test_a_whole_step_through_a_frozen_network_compiles_as_one_graph() -> None:
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
    maps = other(x, ["0.0"]).maps["0.0"]
    torch.testing.assert_close(maps, network(x, ["0.0"]).maps["0.0"])
    assert not any(hasattr(layer, "kept_output") for one in (network, other) for layer in one.modules())


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


# ---- In a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(fit: Fit, tmp_path: Path) -> Any:
    return fit("model=cdcgan", *SMALL, *EYE, *PERCEPTUAL, "max_images=64", "trainer.max_epochs=1")


def test_a_run_with_a_trained_network(run: Any, tmp_path: Path) -> None:
    module, _ = run
    eye = module.game.frozen["eye"]
    assert not eye.training and not eye.network.training
    trained = {id(w) for o in module.optimizers() for group in o.param_groups for w in group["params"]}
    assert not trained & {id(weight) for weight in eye.parameters()}
    assert not any("eye" in name for name, _ in module.ema.named_parameters())
    loaded = load(tmp_path)
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    assert torch.equal(loaded.game.frozen["eye"](x).logits, eye(x).logits)
    assert loaded.game.frozen["eye"].provenance == eye.provenance
