"""An exported generator draws what the checkpoint draws, and needs nothing else."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import oakleaf
from helpers.commands import quick
from helpers.composing import FP32, SMALL, input_options
from helpers.data import condition_options
from helpers.disk import full_disk
from helpers.training import Fit, built
from oakleaf.builder.load import load
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import file_hash

SHORT = ["data.batch_size=8", "max_images=16", "callbacks.samples=null"]


def trained(model: str, folder: Path, captions: Path) -> Path:
    """Return a run of two iterations."""
    options = [f"model={model}", *input_options(model), *condition_options(model, captions), *SHORT]
    options += SMALL[:2] if model in ("dcgan", "acgan", "infogan") else []
    module, data, trainer, _ = built(*FP32, *options, folder=folder)
    trainer.fit(module, datamodule=data, weights_only=True)
    return folder


@pytest.mark.parametrize(
    ("model", "formats", "inputs"),
    [
        ("dcgan", "safetensors,onnx,pt2", ["latent"]),
        pytest.param(*("cyclegan", "safetensors", ["input"]), marks=pytest.mark.slow),
        pytest.param(*("pix2pix", "safetensors,onnx,pt2", ["input"]), marks=pytest.mark.slow),
        pytest.param(*("gan_cls", "safetensors,pt2", ["latent", "caption"]), marks=pytest.mark.slow),
        pytest.param(*("stackgan_2", "safetensors", ["latent", "caption"]), marks=pytest.mark.slow),
        pytest.param(*("lapgan", "safetensors", ["latent"]), marks=pytest.mark.slow),
        pytest.param(*("autoencoder", "safetensors", ["latent"]), marks=pytest.mark.slow),
        pytest.param(*("tagging", "safetensors", ["latent", "features"]), marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_generator_is_exported_and_loaded_again(
    model: str, formats: str, inputs: list[str], tmp_path: Path, captions: Path
) -> None:
    run = trained(model, tmp_path / "run", captions)
    result = quick("export", f"checkpoint={run}", f"format=[{formats}]", "out=out", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [one["name"] for one in card["inputs"]] == inputs
    assert sorted(card["files"]) == sorted(formats.split(","))
    assert all(one["largest_difference"] <= 1e-5 for one in card["files"].values())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    written = {"card.json", "README.md"} | {one["name"] for one in card["files"].values()}
    shown = {"samples.png"} if inputs == ["latent"] else set()  # conditions are rows of the training data
    assert names == written | shown
    generator, module = oakleaf.from_pretrained(tmp_path / "out"), load(run)
    rows = module.game.sample_inputs(3)
    torch.manual_seed(1)
    expected = module.sample(rows)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(generator(*rows.values()), expected)
    assert not [name for name in generator.weights() if "discriminator" in name or "known" in name or "pools" in name]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, captions: Path) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    run = trained("acgan", folder / "run", captions)
    result = quick("export", f"checkpoint={run}", "format=[safetensors,onnx,pt2]", f"out={folder}/out", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "out"


@pytest.mark.parametrize("one", ["safetensors", "onnx", "pt2"])
@pytest.mark.slow
def test_a_full_disk_is_reported_and_leaves_no_partial_export(exported: Path, tmp_path: Path, one: str) -> None:
    with full_disk(10_000):
        result = quick("export", f"checkpoint={exported.parent}/run", f"format={one}", "out=out", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"out/generator.{one} could not be written (File too large): make room there, or choose another place"
    )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_model_card_has_what_a_user_needs(exported: Path) -> None:
    card = json.loads((exported / "card.json").read_text())
    assert card["oakleaf_card"] == 2
    assert card["inputs"] == [
        {"name": "latent", "shape": ["batch", 100], "dtype": "float32"},
        {"name": "label", "shape": ["batch"], "dtype": "int64"},
    ]
    assert card["output"] == {
        "name": "image", "shape": ["batch", 1, 16, 16], "dtype": "float32", "range": [-1.0, 1.0],
    }  # fmt: skip
    assert card["latent"]["prior"]["_target_"] == "oakleaf.conditioning.priors.Uniform"
    assert (card["classes"], card["ema"], card["images_seen"], card["metrics"]) == (10, True, 16, [])
    assert "root" not in card["recipe"]["data"]


@pytest.mark.slow
def test_scores_of_this_checkpoint_are_on_the_model_card(exported: Path, tmp_path: Path) -> None:
    run = exported.parent / "run"
    own = json.loads((exported / "card.json").read_text())["checkpoint"]["hash"]
    entries = [{"name": "fid", "value": 3.0, "protocol": {"checkpoint_hash": h}} for h in (own, "another")]
    (run / "metrics.json").write_text(json.dumps(entries))
    result = quick("export", f"checkpoint={run}", f"out={tmp_path}", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "card.json").read_text())["metrics"] == entries[:1]
    (run / "metrics.json").unlink()


@pytest.mark.slow
def test_an_export_samples_in_a_process_that_has_only_the_folder(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys, oakleaf; assert 'torch' not in sys.modules\n"
        "g = oakleaf.from_pretrained(sys.argv[1]); import torch\n"
        "a, b = g.sample(4, seed=3), g.sample(4, seed=3)\n"
        "assert torch.equal(a, b) and a.shape == (4, 1, 16, 16) and a.abs().max() <= 1\n"
        "assert not torch.equal(a, g.sample(4, seed=4))\n"
        "seven = g.sample(4, seed=3, y=torch.full((4,), 7)); assert not torch.equal(a, seven)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(exported)], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_other_runtimes_sample_without_oakleaf(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, torch, onnxruntime as ort\n"
        "z, y = torch.rand(9, 100) * 2 - 1, torch.arange(9)\n"
        "program = torch.export.load(sys.argv[1] + '/generator.pt2').module()\n"
        "session = ort.InferenceSession(sys.argv[1] + '/generator.onnx')\n"
        "image, = session.run(None, {'latent': z.numpy(), 'label': y.numpy()})\n"
        "assert image.shape == (9, 1, 16, 16) and np.abs(image - program(z, y).detach().numpy()).max() < 1e-5\n"
        "assert 'oakleaf' not in sys.modules\n"
    )
    command = [sys.executable, "-I", "-c", code, str(exported)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_an_export_that_samples_differently_is_removed(exported: Path, tmp_path: Path) -> None:
    def blank(*rows: Any) -> torch.Tensor:
        return torch.zeros(len(rows[0]), 1, 16, 16)

    with mock.patch("oakleaf.export.formats.ExportedProgram.read", lambda *_: blank):
        result = quick("export", f"checkpoint={exported.parent}/run", "format=pt2", "out=o", folder=tmp_path)
    assert result.returncode == 1
    assert "generates other images" in result.stderr
    assert not list((tmp_path / "o").iterdir())


def test_a_format_that_cannot_hold_the_generator_is_refused(tmp_path: Path, captions: Path) -> None:
    run = trained("autoencoder", tmp_path / "run", captions)
    result = quick("export", f"checkpoint={run}", "format=pt2", "out=out", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("format=pt2 can't represent this generator")
    assert len(result.stderr.strip().splitlines()) == 1


def edited(exported: Path, folder: Path, **changes: Any) -> Path:
    for file in ("card.json", "generator.safetensors"):
        (folder / file).write_bytes((exported / file).read_bytes())
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    return folder


@pytest.mark.slow
def test_a_hostile_model_card_is_refused(exported: Path, tmp_path: Path) -> None:
    recipe = json.loads((exported / "card.json").read_text())["recipe"]
    model = recipe["model"]
    bad = {**recipe, "model": {**model, "game": {"_target_": "os.system", "command": "x"}}}
    wide = {**recipe, "model": {**model, "game": {**model["game"], "generator": {**model["game"]["generator"]}}}}
    wide["model"]["game"]["generator"]["width"] = 10**9
    for changes, words in (
        ({"recipe": bad}, "is refused"),
        ({"recipe": wide}, "which width is wrong"),
        ({"recipe": {**recipe, "seed": "${oc.env:HOME}"}}, "read this machine's environment"),
        ({"recipe": {"model": model}}, "has no data"),
        ({"recipe": 7}, "is not a model card of Oakleaf, or it is damaged"),
        ({"oakleaf_card": 1}, "a card of layout 1, and this version of Oakleaf reads layout 2"),
        ({"oakleaf_card": 99}, "a card of layout 99"),
    ):
        with pytest.raises(UserError, match=words):
            oakleaf.from_pretrained(edited(exported, tmp_path, **changes))


@pytest.mark.slow
def test_damaged_weights_and_cards_are_reported(exported: Path, tmp_path: Path) -> None:
    folder = edited(exported, tmp_path)
    weights = (folder / "generator.safetensors").read_bytes()
    for content in (weights[:100], weights[:-100], b"", b"\xff" * 100):
        (folder / "generator.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            oakleaf.from_pretrained(folder)
    (folder / "generator.safetensors").unlink()
    with pytest.raises(UserError, match="format=safetensors writes one"):
        oakleaf.from_pretrained(folder)
    for text in ("", "[1]", "{", "[" * 10**5):
        (folder / "card.json").write_text(text)
        with pytest.raises(UserError, match="is not a model card of Oakleaf"):
            oakleaf.from_pretrained(folder)


def test_unknown_names_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such folder"):
        oakleaf.from_pretrained("nowhere")
    offline = mock.patch("huggingface_hub.snapshot_download", side_effect=OSError("no network"))
    with offline, pytest.raises(UserError, match="the hub's download failed"):
        oakleaf.from_pretrained("nobody/nothing")
    with pytest.raises(UserError, match="it is not an exported generator"):
        oakleaf.from_pretrained(tmp_path)


@pytest.mark.slow
def test_the_hub_receives_the_folder_and_returns_it(exported: Path, tmp_path: Path) -> None:
    with mock.patch("huggingface_hub.HfApi") as api:
        api.return_value.upload_folder.return_value = "https://hub/me/digits"
        options = [f"checkpoint={exported.parent}/run", "push_to_hub=me/digits", f"out={tmp_path}/out"]
        result = quick("export", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "https://hub/me/digits" in result.stdout
    api.return_value.create_repo.assert_called_once_with("me/digits", private=True, exist_ok=True)
    assert api.return_value.upload_folder.call_args.kwargs["folder_path"] == f"{tmp_path}/out"
    with mock.patch("huggingface_hub.snapshot_download", return_value=str(tmp_path / "out")) as get:
        generator = oakleaf.from_pretrained("me/digits")
    assert get.call_args.kwargs["allow_patterns"] == ["card.json", "generator.safetensors"]
    assert np.isfinite(generator.sample(2).numpy()).all()


@pytest.mark.slow
def test_user_errors_of_export_are_sentences(exported: Path, tmp_path: Path) -> None:
    run = exported.parent / "run"
    for arguments, words in (
        ([], "checkpoint= is missing"),
        ([f"checkpoint={run}", "format=tflite"], "there is no such format"),
        ([f"checkpoint={run}", "format=[]"], "format= is empty"),
        ([f"checkpoint={run}", "private=perhaps"], "private=perhaps"),
        (["checkpoint=nowhere"], "no such file or folder"),
    ):
        result = quick("export", *arguments, folder=tmp_path)
        assert result.returncode == 1
        assert words in result.stderr, result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_importing_oakleaf_imports_no_torch(fit: Fit) -> None:
    code = "import sys, oakleaf; oakleaf.__all__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_readme_is_a_model_card_that_the_hub_reads(tmp_path: Path, captions: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    run = trained("acgan", tmp_path / "run", captions)
    protocol = {"checkpoint_hash": file_hash(run / "checkpoints/last.ckpt"), "fake": 300, "real": 1198}
    scores = [{"name": "fid-classifier", "value": 12.5, "baseline": 1.5, "better": "lower", "protocol": protocol}]
    (run / "metrics.json").write_text(json.dumps(scores))
    result = quick("export", f"checkpoint={run}", "out=out", "license=mit", "samples=20", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    data = card.data.to_dict()
    assert (data["license"], data["library_name"]) == ("mit", "oakleaf")
    assert data["pipeline_tag"] == "unconditional-image-generation"
    (found,) = card.data.eval_results
    assert (found.metric_type, found.metric_value, found.dataset_name) == ("fid", 12.5, "digits")
    text = card.text
    for part in (
        "![samples](samples.png)",
        'oakleaf.from_pretrained("out")',
        "| fid-classifier | 12.5 | 1.5 | lower |",
    ):
        assert part in text
    assert "0 0, 1 1, 2 2" in text  # the classes
    assert Image.open(tmp_path / "out" / "samples.png").width > 100
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(compile(code, "README.md", "exec"), {})
    assert Image.open(tmp_path / "samples.png").width > 100


@pytest.mark.slow
def test_push_to_hub_uploads_the_readme_and_the_samples(tmp_path: Path, captions: Path) -> None:
    pytest.importorskip("huggingface_hub")
    run = trained("dcgan", tmp_path / "run", captions)
    with mock.patch("huggingface_hub.HfApi") as api:
        api.return_value.upload_folder.return_value = "https://hub/me/faces"
        result = quick("export", f"checkpoint={run}", "out=out", "push_to_hub=me/faces", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "https://hub/me/faces" in result.stdout
    uploaded = Path(api.return_value.upload_folder.call_args.kwargs["folder_path"])
    assert {path.name for path in (tmp_path / uploaded).iterdir()} == {
        "README.md", "card.json", "generator.safetensors", "samples.png",
    }  # fmt: skip
    assert 'from_pretrained("me/faces")' in (tmp_path / uploaded / "README.md").read_text()
    assert "license" not in (tmp_path / uploaded / "README.md").read_text().split("---")[1]
