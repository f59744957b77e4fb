"""One process owns a run's folder from its first file until it ends, and a signal ends every phase of a command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.commands import quick
from helpers.composing import FP32, ROOT, SMALL
from helpers.marks import long_except, slow_except
from oakleaf.errors import UserError
from oakleaf.runtime import locks
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.locks import file_lock, is_locked
from oakleaf.runtime.ownership import OWNER, owned_folder
from oakleaf.runtime.run_dir import atomic_write, make_output_dir, partial_file
from oakleaf.runtime.signals import SIGNALS, Interrupted, handled_by, leave_signals_to_parent, raise_interrupted

RUN = ["train", "data=digits", *SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}


def until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.time() + seconds
    while not happened():
        assert time.time() < end
        time.sleep(0.05)


# ---- ownership -------------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_process_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with owned_folder(folder) as owned:
        assert owned == folder and (folder / OWNER).is_file()
        with pytest.raises(UserError, match=rf"run belongs to a run that is going on \(process {os.getpid()} on "):
            owned_folder(folder).__enter__()
        with owned_folder(folder, may_move=True) as other:  # started in the same second
            assert other.parent == tmp_path and other != folder
    assert not (folder / OWNER).exists()
    with owned_folder(folder):
        pass


def test_further_processes_of_a_run_do_not_own_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with owned_folder(tmp_path / "run") as folder:
        assert not (folder / OWNER).exists()


def test_the_lock_ends_with_a_killed_process_and_is_not_kept_by_a_fork(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from oakleaf.runtime.ownership import owned_folder\n"
        "with owned_folder(Path(sys.argv[1])):\n"
        "    if os.fork(): print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "locked\n"
        assert is_locked(tmp_path / OWNER)
        fork = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        process.kill()
        process.wait()
        until(lambda: not is_locked(tmp_path / OWNER))  # once the forked child has run, which is alive
        os.kill(fork, signal.SIGKILL)
    with owned_folder(tmp_path):
        pass


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process opens the file, its holder removes it and ends, another process creates it anew."""
    original, opened = locks._is_file, []

    def raced(descriptor: int, file: Path) -> bool:
        if not opened:
            file.unlink()
        opened.append(descriptor)
        return original(descriptor, file)

    monkeypatch.setattr(locks, "_is_file", raced)
    with file_lock(tmp_path / "lock"):
        assert len(opened) == 2 and is_locked(tmp_path / "lock")


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    """The case of a scheduler that starts a run again while its first process still saves."""
    assert quick(*RUN, "max_images=32", "folder=run", folder=tmp_path).returncode == 0
    before = {path.name for path in (tmp_path / "run").iterdir()}
    with owned_folder(tmp_path / "run"):
        for line in (["resume=run", "max_images=64"], [*RUN[1:], "folder=run", "resume=auto", "max_images=64"]):
            refused = quick("train", *line, folder=tmp_path)
            assert refused.returncode == 1 and "run belongs to a run that is going on (process " in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
        for name in ("folder=run", "hydra.run.dir=run"):
            new = quick(*RUN, "max_images=32", name, folder=tmp_path)
            assert new.returncode == 1 and "belongs to a run that is going on" in new.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} == before
    assert read_checkpoint(tmp_path / "run")["images_seen"] == 32
    assert quick("train", "resume=run", "max_images=64", folder=tmp_path).returncode == 0


@pytest.mark.slow
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    (tmp_path / "outputs" / "dcgan-digits").mkdir(parents=True)
    taken: list[Any] = []
    import oakleaf.cli.train as command

    original = command.run_folder

    def at_the_same_time(folder: Path, config: Any) -> Any:
        lock = file_lock(folder / OWNER)
        lock.__enter__()  # the other process was faster
        taken.append(lock)
        return original(folder, config)

    monkeypatch.setattr(command, "run_folder", at_the_same_time)
    result = quick(*RUN, "max_images=32", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Everything is in outputs/dcgan-digits/now-2/" in result.stdout.splitlines()[-1]
    assert [path.name for path in (tmp_path / "outputs" / "dcgan-digits" / "now").iterdir()] == [OWNER]
    taken[0].__exit__(None, None, None)


# ---- partial files ---------------------------------------------------------------------------------------------------


def test_what_a_killed_process_has_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    own = partial_file(tmp_path / "grid.png")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    others = [own.with_name(own.name.replace(str(os.getpid()), str(ended.pid)))]
    others += [tmp_path / ".grid.png.elsewhere.1.part.png", tmp_path / "checkpoints" / ".last.ckpt.x.1.part.ckpt"]
    for path in (own, *others):
        path.write_bytes(b"half")
    make_output_dir(tmp_path)  # another process of this machine may write its own, and so may one of another machine
    assert [path.exists() for path in (own, *others)] == [True, False, True, True]
    with owned_folder(tmp_path):  # nobody else writes here
        assert not any(path.exists() for path in (own, *others))


def test_partial_files_are_removed_after_a_signal(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), atomic_write(tmp_path / "x.json") as part:
        part.write_text("half")
        raise Interrupted(signal.SIGTERM)
    assert not list(tmp_path.iterdir())


# ---- signals in every phase ------------------------------------------------------------------------------------------


def before(target: Any, name: str, sent: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Send a signal when a function is called, once."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original, calls = getattr(target, name), []

        def interrupted(*arguments: Any, **keywords: Any) -> Any:
            if not calls:
                calls.append(name)
                os.kill(os.getpid(), sent)
            return original(*arguments, **keywords)

        monkeypatch.setattr(target, name, interrupted)

    return patch


def phases() -> dict[str, tuple[Any, str]]:
    """The function at which the signal arrives, by phase."""
    import oakleaf.builder.recipe as recipe
    import oakleaf.cli.main as main
    import oakleaf.cli.train as train
    import oakleaf.data.cache as cache
    from oakleaf.callbacks import Samples
    from oakleaf.data import Images

    return {
        "composing": (main, "for_hydra"),
        "importing torch": (train, "import_torch"),
        "building": (recipe, "validate"),
        "decoding": (cache, "_decode_all"),
        "opening the data": (Images, "setup"),
        "the first samples": (Samples, "on_train_start"),
        "the end": (Samples, "on_train_end"),
    }


@pytest.mark.parametrize("sent", SIGNALS)
def test_every_signal_of_terminals_and_schedulers_ends_a_command(sent: signal.Signals) -> None:
    outside = signal.signal(sent, signal.default_int_handler)  # under nohup SIGHUP is ignored
    try:
        with pytest.raises(Interrupted, match=f"stopped by {sent.name}") as ended, handled_by(raise_interrupted):
            os.kill(os.getpid(), sent)
        assert ended.value.exit_code == 128 + sent and signal.getsignal(sent) == signal.default_int_handler
    finally:
        signal.signal(sent, outside)


def test_a_closed_terminal_is_ignored_under_nohup_and_by_the_decoding_processes() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled_by(raise_interrupted):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    child = os.fork()
    if child == 0:
        leave_signals_to_parent()
        os.kill(os.getpid(), signal.SIGHUP)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


PHASES = ("composing", "importing torch", "building", "decoding", "opening the data", "the first samples", "the end")
NOTHING_BEGUN = PHASES[:4]


@pytest.mark.parametrize("phase", slow_except(("building", "decoding"), PHASES))
@pytest.mark.parametrize("sent", long_except((signal.SIGTERM,), list(CODES)))
def test_a_signal_ends_every_phase_of_a_training(
    phase: str, sent: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = {number: signal.getsignal(number) for number in CODES}
    monkeypatch.setenv("OAKLEAF_CACHE", str(tmp_path / "cache"))
    line = [*RUN, "max_images=32", "folder=run"]
    with monkeypatch.context() as patch:
        before(*phases()[phase], sent)(patch)
        result = quick(*line, folder=tmp_path)
    assert result.returncode == CODES[sent], result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    said = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(f"stopped by {sent.name}")]
    assert len(said) == 1
    assert {number: signal.getsignal(number) for number in CODES} == handlers
    if phase in NOTHING_BEGUN:
        assert not (tmp_path / "run").exists()
    assert not list(tmp_path.rglob("*.part*")) and not list(tmp_path.glob("cache/making-*"))
    assert not list(tmp_path.rglob(OWNER))
    again = quick(*line, "resume=auto", folder=tmp_path)
    assert again.returncode == 0 and read_checkpoint(tmp_path / "run")["images_seen"] == 32, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", long_except((signal.SIGINT,), list(CODES)))
def test_a_signal_during_an_evaluation_of_the_training_leaves_it_out(
    sent: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import oakleaf.callbacks.evaluate as evaluate

    scored = ["callbacks=scored", "metric@callbacks.evaluate.metric=kid", "callbacks.evaluate.fake=32"]
    scored += ["extractor@callbacks.evaluate.extractor=pixels", "callbacks.evaluate.best=null"]
    before(evaluate, "evaluate_metrics", sent)(monkeypatch)
    result = quick(*RUN, *scored, "max_images=320", "callbacks.evaluate.every=32", "folder=run", folder=tmp_path)
    assert result.returncode == CODES[sent]
    assert "the evaluation is left out" in result.stdout + result.stderr
    assert read_checkpoint(tmp_path / "run")["images_seen"] in (32, 48)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_saving_and_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    assert quick(*RUN, "max_images=32", "folder=run", folder=tmp_path).returncode == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    kept = last.read_bytes()

    def save(content: Any, file: Any) -> None:
        file.write(b"half")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        assert quick("train", "resume=run", "max_images=640", folder=tmp_path).returncode == 130
    assert last.read_bytes() == kept and not list(last.parent.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample", "evaluate", "export"])
def test_a_signal_ends_the_other_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import oakleaf.builder.load as load

    assert quick(*RUN, "max_images=32", "folder=run", folder=tmp_path).returncode == 0
    before(load, "load_weights", signal.SIGTERM)(monkeypatch)
    result = quick(name, "checkpoint=run", "out=out", folder=tmp_path)
    assert (result.returncode, result.stderr) == (143, "stopped by SIGTERM\n")
    assert not list(tmp_path.rglob("*.part*"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,200 names of one picture that takes a while to decode."""
    root = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "picture.png", compress_level=1)
    (root / "set").mkdir()
    for number in range(1200):
        (root / "set" / f"{number:04}.png").symlink_to(root / "picture.png")
    return root / "set"


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("sent", long_except([signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
def test_a_signal_ends_the_decoding_with_all_its_processes(
    sent: signal.Signals, pictures: Path, tmp_path: Path
) -> None:
    line = ["data=folder", f"data.root={pictures}", "data.size=256", *SMALL, "trainer=cpu", "logger=csv", "folder=run"]
    cache = tmp_path / "cache"
    environment = {**os.environ, "OAKLEAF_CACHE": str(cache), "OAKLEAF_CORES": "2"}
    script = [sys.executable, str(ROOT / "train.py"), *line, "max_images=32"]
    with subprocess.Popen(script, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 240
        while not (list(cache.glob("making-*")) and len(children(process.pid)) >= 2):
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.05)
        workers = children(process.pid)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
    if sent != signal.SIGKILL:
        assert (process.returncode, stderr.splitlines()[-1]) == (CODES[sent], f"stopped by {sent.name}")
        assert "Traceback" not in stderr
        assert not (tmp_path / "run").exists() and not list(cache.glob("making-*"))
    deadline = time.time() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.time() < deadline, "a decoding process has outlived the command"
        time.sleep(0.1)


@pytest.mark.slow
def test_the_first_seconds_of_a_command_are_interruptible_too(tmp_path: Path) -> None:
    """Before anything but Python's own modules is imported."""
    script = [sys.executable, "-v", str(ROOT / "train.py"), "max_images=32", "logger=csv"]
    with subprocess.Popen(script, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("import 'hydra"):
                break
        process.send_signal(signal.SIGTERM)
        last = [line for line in process.stderr if not line.startswith("#")]
    assert process.returncode == 143
    assert "stopped by SIGTERM\n" in last and not any("Traceback" in line for line in last)
    assert not list(tmp_path.iterdir())


def test_a_copied_run_can_be_resumed(tmp_path: Path) -> None:
    with owned_folder(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with owned_folder(tmp_path / "copy"):
            pass
