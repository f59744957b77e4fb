"""Each work-around in `oakleaf.compat` is still needed. A failing test here means: remove that entry."""

import importlib.metadata
import inspect
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from hydra import main as hydra_main
from hydra._internal import utils as hydra_utils
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.optimization.manual import _ManualOptimization
from torch.utils.data import DataLoader, TensorDataset

from oakleaf import compat


def test_hydra_still_prints_and_exits_unless_the_environment_says_otherwise() -> None:
    assert "HYDRA_FULL_ERROR" in inspect.getsource(hydra_utils)
    assert "HYDRA_FULL_ERROR" not in inspect.signature(hydra_main).parameters
    before = os.environ.get(compat.HYDRA_FULL_ERROR)
    with compat.hydra_raises_errors() as users_value:
        assert os.environ[compat.HYDRA_FULL_ERROR] == "1" and users_value == before
    assert os.environ.get(compat.HYDRA_FULL_ERROR) == before


def test_hydra_still_has_one_global_state_which_is_restored() -> None:
    instance = GlobalHydra.instance()
    held, instance.hydra = instance.hydra, (marker := Mock(spec=Hydra))
    try:
        with compat.second_hydra():
            assert instance.hydra is None
        assert instance.hydra is marker
    finally:
        instance.hydra = held


@pytest.mark.slow
@pytest.mark.long
def test_torchmetrics_still_imports_matplotlib_and_the_patch_is_taken_back() -> None:
    code = (
        "import sys; from oakleaf import compat\n"
        "from lightning_utilities.core.imports import RequirementCache as R; before = R.__bool__\n"
        "{block}\n"
        "assert R.__bool__ is before; print('matplotlib' in sys.modules and sys.modules['matplotlib'] is not None)\n"
    )
    blocks = {
        "True": "import torchmetrics",
        "False": "with compat.hide_packages({'matplotlib', 'scipy'}):\n    import torchmetrics",
    }
    for expected, block in blocks.items():
        lines = [sys.executable, "-c", code.format(block=block)]
        found = subprocess.run(lines, capture_output=True, text=True, check=True).stdout.strip()
        assert found == expected


def test_lightning_still_counts_optimizer_steps_in_a_private_object_and_runs_hooks_in_its_own_step() -> None:
    assert "optim_step_progress" in inspect.getsource(_ManualOptimization)
    assert "closure" in inspect.getsource(LightningOptimizer.step)
    counts: list[str] = []
    progress = SimpleNamespace(
        increment_ready=lambda: counts.append("ready"), increment_completed=lambda: counts.append("completed")
    )
    loop = SimpleNamespace(manual_optimization=SimpleNamespace(optim_step_progress=progress))
    trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop))
    compat.optimizer_step(trainer, SimpleNamespace(step=lambda: counts.append("step")))
    assert counts == ["ready", "step", "completed"]


def test_lightning_still_asks_for_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.accelerators import cuda

    assert "PYTORCH_NVML_BASED_CUDA_CHECK" in inspect.getsource(cuda)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    compat.disable_nvml_check(torch.device("cuda", 0))
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    compat.disable_nvml_check(torch.device("cpu"))
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "0"


def test_torch_still_has_no_public_names_for_its_foreach_functions() -> None:
    for name in ("norm", "mul_", "lerp_", "copy_"):
        assert not hasattr(torch, f"foreach_{name}") and hasattr(torch, f"_foreach_{name}")
    tensors = [torch.full((2,), 3.0), torch.full((2, 2), -1.0)]
    norms = compat.foreach_norm(tensors)
    torch.testing.assert_close(torch.stack(norms), torch.stack([tensor.norm() for tensor in tensors]))
    copies = [tensor.clone() for tensor in tensors]
    compat.foreach_mul_(copies, torch.tensor(0.5))
    compat.foreach_lerp_(copies, tensors, 0.25)
    for copy, tensor in zip(copies, tensors):
        torch.testing.assert_close(copy, tensor * 0.5 + 0.25 * (tensor - tensor * 0.5))
    compat.foreach_copy_(copies, tensors)
    assert all(torch.equal(copy, tensor) for copy, tensor in zip(copies, tensors))


def test_torch_still_knows_the_cpus_instructions_by_private_functions_alone() -> None:
    public = [name for name in dir(torch.cpu) if "bf16" in name.lower() and not name.startswith("_")]
    assert not public
    assert isinstance(compat.cpu_has_bf16_instructions(), bool)


def test_torch_still_compiles_the_backward_graph_lazily() -> None:
    assert hasattr(torch._functorch.config, "force_non_lazy_backward_lowering")
    before = torch._functorch.config.force_non_lazy_backward_lowering
    try:
        compat.lower_backward_with_forward()
        assert torch._functorch.config.force_non_lazy_backward_lowering is True
    finally:
        torch._functorch.config.force_non_lazy_backward_lowering = before


def test_torch_still_has_no_public_way_to_end_persistent_workers() -> None:
    assert not [name for name in dir(DataLoader) if name in ("close", "shutdown", "stop")]
    loader = DataLoader(TensorDataset(torch.arange(8)), num_workers=1, persistent_workers=True)
    next(iter(loader))
    workers = loader._iterator._workers  # type: ignore[union-attr]
    assert all(worker.is_alive() for worker in workers)
    compat.shutdown_workers(loader)
    for worker in workers:
        worker.join(10)
    assert loader._iterator is None and not any(worker.is_alive() for worker in workers)


def test_versions_in_the_headings_are_those_that_are_installed() -> None:
    source = inspect.getsource(compat)
    for package, heading in {"hydra-core": "Hydra", "lightning": "Lightning", "torch": "torch"}.items():
        version = ".".join(importlib.metadata.version(package).split(".")[:2])
        assert f"# ---- {heading} {version} -" in source, f"review the entries of {heading} for version {version}"
