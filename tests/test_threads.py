"""The threads of torch on a CPU: how many, and how they wait; torch reads it when it is imported."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from helpers.composing import SMALL
from helpers.training import built
from oakleaf.runtime import threads
from oakleaf.sweeps.job_runner import core_variables

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OAKLEAF_CORES")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment as if no variable were set, on a machine with 8 cores."""
    for name in (*VARIABLES, "OAKLEAF_THREADS"):
        monkeypatch.setenv(name, "")  # so that monkeypatch removes it afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    monkeypatch.setattr(threads, "_torch_was_first", False)
    return monkeypatch


def in_a_process(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, "OAKLEAF_THREADS")}
    result = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_environment_is_set_before_torch_and_the_users_is_kept() -> None:
    code = "import oakleaf, os; print(*(os.environ.get(n) for n in ('OMP_WAIT_POLICY', 'OMP_NUM_THREADS')))"
    cores = str(threads.available_cores())
    assert in_a_process(code) == f"PASSIVE {cores}"
    assert in_a_process(code, OMP_NUM_THREADS="3", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE 3"
    assert in_a_process(code, GOMP_SPINCOUNT="1000") == f"None {cores}"


@pytest.mark.slow
def test_torch_reads_the_environment_that_oakleaf_sets() -> None:
    """libgomp prints its settings when it is loaded, with torch."""
    code = "import oakleaf, torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, "OAKLEAF_THREADS")}
    shown = {**environment, "OMP_DISPLAY_ENV": "true", "OAKLEAF_CORES": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=shown, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "1"
    if "libgomp" in Path(f"/proc/{os.getpid()}/maps").read_text():
        assert "OMP_WAIT_POLICY = 'PASSIVE'" in result.stderr


def test_the_number_of_threads_follows_affinity_quota_and_the_users_choice(clean: pytest.MonkeyPatch) -> None:
    threads.configure()
    assert os.environ["OMP_NUM_THREADS"] == "8" and threads.requested_threads() is None  # it is Oakleaf's own
    clean.setattr(threads, "cgroup_quota", lambda: 2.5)
    threads.configure()  # as a child process does, which inherits the variables
    assert os.environ["OMP_NUM_THREADS"] == "2"
    clean.setattr(threads, "cgroup_quota", lambda: 0.5)
    assert threads.available_cores() == 1
    clean.setenv("OMP_NUM_THREADS", "6,2")
    threads.configure()
    assert os.environ["OMP_NUM_THREADS"] == "6,2" and threads.requested_threads() == 6
    clean.delenv("OMP_NUM_THREADS")
    clean.setenv("MKL_NUM_THREADS", "5")
    assert threads.requested_threads() == 5


def test_processes_and_jobs_share_the_cores(clean: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    clean.setattr(torch, "set_num_threads", chosen.append)
    clean.setattr(torch, "get_num_threads", lambda: 0)
    threads.configure()
    assert [threads.set_threads(None, processes) for processes in (1, 2, 3, 100)] == [8, 4, 2, 1] == chosen
    assert threads.set_threads(7, processes=2) == 7
    for n_jobs, cores in ((None, "8"), (2, "4"), (-1, "1"), (100, "1")):
        launcher = OmegaConf.create({"_target_": "a launcher", "n_jobs": n_jobs})
        assert core_variables(launcher) == {"OAKLEAF_CORES": cores}
    clean.setenv("OAKLEAF_CORES", "4")  # in the job
    threads.configure()
    assert os.environ["OMP_NUM_THREADS"] == "4"


CGROUPS = {
    "version 2": ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
    "version 2, in a container": ("0::/\n", {"cpu.max": "400000 100000"}, 4.0),
    "version 2, the smallest": ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
    "version 1": (
        "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        0.5,
    ),
    "version 1, no quota": ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "none": ("", {}, None),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_quotas_of_cgroups_are_read(name: str, tmp_path: Path) -> None:
    own, files, quota = CGROUPS[name]
    (tmp_path / "own").write_text(own)
    for file, text in files.items():
        (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / file).write_text(text + "\n")
    assert threads.cgroup_quota(tmp_path / "root", tmp_path / "own") == quota


def test_a_late_import_is_reported_when_a_trainer_is_built(
    clean: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen: list[int] = []
    clean.setattr(torch, "set_num_threads", chosen.append)
    threads.configure()  # torch is imported here
    with caplog.at_level(logging.WARNING):
        built(*SMALL, "trainer=cpu", "threads=3", folder=tmp_path)
    assert chosen == [3] and "import oakleaf first" in caplog.text


def test_processes_of_one_run_share_the_cores(clean: pytest.MonkeyPatch) -> None:
    from oakleaf.builder import trainer as builder

    chosen: list[Any] = []
    clean.setattr(builder, "set_threads", lambda *arguments: chosen.append(arguments) or 1)
    device = SimpleNamespace(root_device=torch.device("cpu"))
    for devices, world in ((1, 1), (2, 2), (2, 8)):
        builder._configure_cpu(SimpleNamespace(num_devices=devices, world_size=world, strategy=device), None)  # type: ignore[arg-type]
    assert chosen == [(None, 1), (None, 2), (None, 2)]
