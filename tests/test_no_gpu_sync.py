"""A training step on a GPU never waits for it. No GPU is needed: fake tensors are on one, and have no values."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.data.inputs import Edges, Grey, Masked
from oakleaf.data.sampling import DeviceLoader, prefetch
from oakleaf.optim.optimizers import adam, sgd
from oakleaf.runtime.nonfinite import NonFiniteGuard


class BlockingCopies(TorchDispatchMode):
    """Records copies between the host and the GPU that are waited for. (An operation that needs a value of the GPU, or
    a shape that depends on one, is an error with fake tensors.)"""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            if blocking and source.device.type != result.device.type:
                self.found.append(f"{func}: {source.device} to {result.device}")
        return result


@pytest.mark.parametrize("augment", ["noise", "ada", "apa", "diffaugment"])
def test_a_training_step_on_a_gpu_waits_for_nothing(
    augment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["data.flip=true", "data.jitter=2", "data/input=edges", f"augment={augment}", "+loss/penalty=lecam"]
    module, data, *_ = built(*FP32, *SMALL, *options, "data.labelled=20", folder=tmp_path)
    data.prepare_data()
    data.setup()
    monkeypatch.setattr("oakleaf.gan.seed_generators", lambda *_: None)  # it and the backward pass need a real GPU
    monkeypatch.setattr(torch.autograd, "backward", _gradients_of_one)
    module._trainer = SimpleNamespace(world_size=1, global_rank=0)  # type: ignore[assignment]
    with FakeTensorMode(allow_non_fake_inputs=True):
        module.to("cuda")
        module._device = torch.device("cuda", 0)
        module.weights = {name: list(module.network(name).parameters()) for name in module.players}
        optimizers = [SimpleNamespace(optimizer=o, param_groups=o.param_groups) for o in module.configure_optimizers()]
        monkeypatch.setattr(module, "_optimizers", lambda: optimizers)
        monkeypatch.setattr(module, "_step", lambda optimizer: optimizer.optimizer.step())
        rows = {name: values.to("cuda") for name, values in data.rows.items()}
        loader = iter(DeviceLoader(rows, data.sampler(0, 1, torch.arange(20)), data.iteration))
        next(loader)  # the order of an epoch is copied when it begins
        with BlockingCopies() as copies:
            for _ in range(2):  # scalars are computed in the first
                module.training_step(data.on_after_batch_transfer(next(loader), 0), 0)
    assert module.iteration == 2 and not copies.found


def _gradients_of_one(_: Tensor, inputs: list[nn.Parameter]) -> None:
    for weight in inputs:
        weight.grad = torch.ones_like(weight)


@pytest.mark.parametrize("input", [Grey(), Edges(), Masked("centre"), Masked("block"), Masked("half")])
def test_inputs_are_computed_on_a_gpu_without_waiting(input: Any) -> None:
    with FakeTensorMode(), BlockingCopies() as copies:
        assert input(torch.zeros(4, 3, 16, 16, device="cuda"), torch.Generator()).device.type == "cuda"
    assert not copies.found


class OnGPU(Tensor):
    """A tensor whose `device` is a GPU, wherever its values are."""

    device = torch.device("cuda", 0)  # type: ignore[assignment]


def test_the_guard_counts_and_prevents_steps_on_the_device() -> None:
    guard, optimizer = NonFiniteGuard(max_consecutive=3), SimpleNamespace(defaults={"fused": True}, found_inf=None)
    found_inf, counts = [], []
    for loss, norm in [(1.0, 2.0), (torch.nan, 2.0), (1.0, torch.inf), (1.0, 2.0), (-torch.inf, 2.0)]:
        losses = {"adversarial": torch.tensor(loss).as_subclass(OnGPU), "r1": torch.tensor(0.5).as_subclass(OnGPU)}
        assert guard.check("generator", optimizer, losses, torch.tensor(norm).as_subclass(OnGPU))
        found_inf.append(float(optimizer.found_inf))
        counts.append((int(guard.consecutive["generator"]), int(guard.skipped["generator"])))
        losses["adversarial"].fill_(7.0)  # a CUDA graph that is replayed
        kept = {name: float(value) for name, value in guard.last_losses["generator"].items()}
        assert kept == pytest.approx({"adversarial": loss, "r1": 0.5}, nan_ok=True)
    assert found_inf == [0, 1, 1, 0, 1]
    assert counts == [(0, 0), (1, 1), (2, 2), (0, 2), (1, 3)]
    assert guard.raise_if_diverged(5, {}) and "generator" in guard.consecutive


@pytest.mark.parametrize("make", [adam, lambda weights, lr: sgd(weights, lr, momentum=0.5)], ids=["adam", "sgd"])
def test_a_fused_optimizer_skips_steps_on_the_device_the_first_too(make: Any) -> None:
    """On a GPU the kernel reads `found_inf`; here the CPU's kernel does."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = make([weight], lr=0.1)
    assert optimizer.defaults["fused"]
    for gradient, found in [(torch.nan, 1.0), (1.0, 0.0)]:
        weight.grad, optimizer.found_inf = torch.full((3,), gradient), torch.tensor(found)
        before = weight.detach().clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before if found else before - 0.1, atol=1e-4, rtol=0)
    assert all(bool(value.isfinite().all()) for value in optimizer.state[weight].values())


def test_a_batch_is_copied_to_the_gpu_while_the_one_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    events, read, current, recorded = itertools.count(), [], Mock(), []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Mock(record_event=lambda: next(events)))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda values, stream: recorded.append(int(values[0])))

    def batches() -> Iterator[dict[str, Tensor]]:
        for number in range(3):
            read.append(number)
            yield {"image": torch.full((2,), number)}

    yielded = [
        (int(batch["image"][0]), len(read), current.wait_event.call_args.args[0])
        for batch in prefetch(batches(), torch.device("cpu"))
    ]
    assert yielded == [(0, 2, 0), (1, 3, 1), (2, 3, 2)]  # batch, how many were copied by then, whose copy it waits for
    assert recorded == [0, 1, 2]
