"""Data of the user's own: any Dataset or LightningDataModule trains any game, without knowing Oakleaf."""

import io
import logging
import tarfile
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from helpers.commands import quick
from helpers.composing import SMALL, composed
from helpers.own_data import Digits, Module, Noise, RandomPython, Stream, WithoutLength
from helpers.training import Fit, built
from oakleaf.data.adapter import DatasetAdapter
from oakleaf.data.protocol import attribute, kind_of, rows_of
from oakleaf.data.readers import ModuleReader, StreamReader
from oakleaf.data.values import Observed, array_of, decide_range, is_channels_last, with_channels
from oakleaf.errors import UserError

HERE = "helpers.own_data"
WITHOUT_IDENTITY = "~model.game.terms.generator.identity"  # which needs inputs of the images' channels


@pytest.fixture(autouse=True)
def _trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAKLEAF_TRUST", "helpers,datasets")


def own(name: str, *options: str) -> list[str]:
    """Return the overrides for a class of `helpers.own_data`, which stand above those of `data=digits`."""
    return [*SMALL, f"data._target_={HERE}.{name}", "data.workers=0", *options]


def adapter(dataset: Any, world: int = 1, rank: int = 0, iteration: int = 0, **options: Any) -> DatasetAdapter:
    """Return the adapter with a trainer of several processes."""
    data = DatasetAdapter(dataset, **options)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module = SimpleNamespace(iteration=iteration, dtype=torch.float32)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=strategy, global_rank=rank, world_size=world, lightning_module=module, num_devices=world
    )
    return data


# ---- The protocol ----------------------------------------------------------------------------------------------------


def test_the_kind_of_data_is_recognised_and_what_it_lacks_is_named() -> None:
    assert [kind_of(data) for data in (Module(), Noise(), [1, 2], Stream())] == ["module", "map", "map", "iterable"]
    with pytest.raises(UserError, match="WithoutLength is no data set: it lacks __len__"):
        kind_of(WithoutLength())
    with pytest.raises(UserError, match="object is no data set: it lacks __getitem__ and __len__, or __iter__"):
        kind_of(object())


def test_the_optional_attributes_have_defaults_and_are_checked() -> None:
    data = Noise()
    assert attribute(data, "classes") is None
    assert attribute(data, "pairs", True) is True
    for name, wrong, message in (
        ("classes", "cat", "a sequence of names"),
        ("targets", [1, 2], "one label for each item"),
        ("range", (1, 0), "two numbers"),
        ("digest", 3, "a text"),
        ("pairs", "yes", "true or false"),
    ):
        setattr(data, name, wrong)
        with pytest.raises(UserError, match=f"Noise.{name} should be {message}"):
            attribute(data, name)


def test_attributes_of_a_subset_are_those_of_its_set() -> None:
    data = Noise(count=5)
    data.targets, data.classes, data.digest = [4, 3, 2, 1, 0], list("abcde"), "x"  # type: ignore[attr-defined]
    subset = Subset(data, [0, 4])
    assert attribute(subset, "targets").tolist() == [4, 0]
    assert attribute(subset, "classes") == list("abcde")
    assert attribute(subset, "digest") is None  # of other images


def test_items_of_every_form_have_the_same_rows() -> None:
    image = torch.zeros(1, 4, 4)
    assert list(rows_of(image)) == ["image"]
    assert list(rows_of((image, 3))) == ["image", "label"]
    assert list(rows_of((image, np.array([0, 1])))) == ["image", "attributes"]
    assert rows_of({"photo": image, "kind": 3}, {"image": "photo", "label": "kind"})["label"] == 3
    assert set(rows_of({"png": image, "cls": 1, "__key__": "a"})) == {"image", "label", "__key__"}
    batch = torch.zeros(5, 1, 4, 4)
    assert list(rows_of([batch, torch.zeros(5)], batched=True)) == ["image", "label"]  # torch collates tuples to lists
    assert list(rows_of([batch, torch.zeros(5, 3)], batched=True)) == ["image", "attributes"]
    for item, message in (
        ({"a": 1, "b": 2}, "its keys are a, b; name its key by data.columns.image=KEY"),
        ((image, image), "two pictures; return a mapping with `image` and `input`"),
        ((image, 1, 2), "a tuple of 3"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of(item)
    with pytest.raises(UserError, match=r"data\.columns names photo, and an item has a"):
        rows_of({"a": 1}, {"image": "photo"})


# ---- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "low", "high", "eight_bits"),
    [
        (np.array([0, 255], np.uint8), 0, 255, True),
        (np.array([3, 9], np.uint8), 0, 255, True),
        (np.array([False, True]), 0, 1, True),
        (np.array([0, 60000], np.uint16), 0, 65535, False),
        (np.array([0, 51, 255]) / 255, 0, 1, True),  # bytes that were divided by 255
        (np.array([0.0, 0.3]), 0, 1, False),
        (np.array([-1.0, 0.2003]), -1, 1, False),
        (np.array([-1.0, 1.0]), -1, 1, True),
        (np.array([0.0, 200.0]), 0, 255, True),
        (np.array([0.5, 200.0]), 0.5, 200, False),
        (np.array([0.0, 4095.0]), 0, 4095, False),
        (np.array([-1024, 3071], np.int32), -1024, 3071, False),
    ],
)
def test_the_range_is_decided_for_the_set(values: np.ndarray, low: float, high: float, eight_bits: bool) -> None:
    observed = Observed()
    for value in values:
        observed.add(np.full((1, 2, 2), value, values.dtype))  # no single image has the range
    decided = decide_range(observed)
    assert (decided.low, decided.high, decided.eight_bits) == (low, high, eight_bits)
    ends = decided.stored(decided.scaled(np.array([low, high], values.dtype)))
    assert ends.tolist() == ([0, 255] if eight_bits else [-1, 1])


def test_a_set_that_uses_little_of_its_range_is_reported_with_numbers(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    observed.add(np.array([[[0, 4095]]], np.uint16))
    with caplog.at_level(logging.INFO):
        decide_range(observed)
    assert "from 0 to 4095, 6.2 % of the range 0 to 65535" in caplog.text
    assert "data.range=[0,4095] uses it all" in caplog.text
    assert decide_range(observed, (0, 4095)).high == 4095


def test_values_that_do_not_make_one_set_are_refused() -> None:
    observed = Observed()
    observed.add(np.zeros((1, 2, 2), np.uint8))
    observed.add(np.zeros((1, 2, 2), np.float32))
    with pytest.raises(UserError, match=r"types uint8 and float32; data.range"):
        decide_range(observed)
    with pytest.raises(UserError, match="NaN or infinite"):
        Observed().add(np.array([np.nan]))


def test_the_dimension_of_the_channels_follows_from_type_and_size() -> None:
    assert not is_channels_last(torch.zeros(3, 64, 64))
    assert is_channels_last(torch.zeros(64, 64, 3))
    assert is_channels_last(np.zeros((64, 64, 5)))
    assert not is_channels_last(np.zeros((5, 64, 64)))
    assert not is_channels_last(torch.zeros(8, 8, 8))
    assert is_channels_last(np.zeros((8, 8, 8)))
    assert array_of(np.zeros((4, 6)), False).shape == (1, 4, 6)
    assert array_of(np.zeros((4, 6, 3)), True).shape == (3, 4, 6)
    assert array_of(Image.new("RGBA", (6, 4)), False).shape == (4, 4, 6)


def test_channels_are_converted_as_pillow_converts_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    unit = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    composed = with_channels(unit, 3) * 255
    assert np.abs(composed.transpose(1, 2, 0) - np.asarray(white)).max() <= 1  # Pillow rounds
    grey = np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))
    assert np.abs(with_channels(unit[:3], 1)[0] * 255 - grey).max() <= 1
    assert (with_channels(unit[:3], 4)[3] == 1).all()
    with pytest.raises(UserError, match="has 5 channels, which cannot be converted"):
        with_channels(np.zeros((5, 2, 2)), 3)


# ---- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dataset_of_the_same_images_gives_the_same_weights_as_the_built_in_data(fit: Fit, tmp_path: Path) -> None:
    common = [*SMALL, "max_images=320", "callbacks={}"]
    reference, _ = fit(*common, folder=tmp_path / "a")
    options = ["data.size=16", f"data.cache={tmp_path}", "data.workers=0"]
    module, trainer = fit(*common, f"data._target_={HERE}.Digits", *options, folder=tmp_path / "b")
    assert isinstance(trainer.datamodule.dataset, Digits)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), module.parameters()))
    assert module.classes == reference.classes


@pytest.mark.parametrize("form", ["tensor", "array", "picture", "names"])
def test_items_of_every_form_are_trained_on(fit: Fit, form: str) -> None:
    module, trainer = fit(*own("Noise", f"data.form={form}", "max_images=32"))
    assert module.images_seen == 32
    assert (trainer.datamodule.channels, trainer.datamodule.size) == (3, (16, 16))
    assert module.classes == {"tensor": [], "names": ["cat", "dog", "eel"]}.get(form, list("0123"))


@pytest.mark.parametrize(
    ("name", "options", "models"),
    [
        ("Noise", [], ["acgan"]),
        ("Noise", ["data.form=attributes", "model/condition=attributes"], ["acgan"]),
        ("Noise", ["data.form=pair", "data.upscale=true", "data.size=32"], ["pix2pix"]),
        ("Noise", ["data.form=pair", "data.upscale=true", "data.size=32", WITHOUT_IDENTITY], ["cyclegan"]),
        ("Stream", ["data.classes=3"], ["acgan", "bigan"]),
        ("Module", [], ["acgan", "ebgan"]),
        ("Noise", ["data.form=caption"], ["gan_cls"]),
    ],
)
@pytest.mark.slow
def test_every_kind_trains_every_game(
    fit: Fit, tmp_path: Path, name: str, options: list[str], models: list[str]
) -> None:
    for model in models:
        data = [f"data._target_={HERE}.{name}", "data.workers=0", "data.batch_size=8", *options]
        module, _ = fit(f"model={model}", *data, "max_images=24", folder=tmp_path / model)
        assert module.images_seen >= 24
        assert (tmp_path / model / "samples").is_dir()  # samples and alarms asked for images too


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(fit: Fit, tmp_path: Path) -> None:
    """Random transforms, shuffling by the data module's own loader, and callbacks in between, included."""
    for name, options in (("RandomPython", []), ("Module", [])):
        straight, _ = fit(*own(name, *options, "max_images=96"), folder=tmp_path / name / "a")
        fit(*own(name, *options, "max_images=48"), folder=tmp_path / name / "b")
        last = tmp_path / name / "b/checkpoints/last.ckpt"
        resumed, _ = fit(*own(name, *options, "max_images=96"), checkpoint=last, folder=tmp_path / name / "b")
        assert resumed.images_seen == 96
        assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters())), name


@pytest.mark.slow
def test_the_data_of_a_run_are_evaluated_and_sampled(tmp_path: Path) -> None:
    options = ["trainer=cpu", "logger=csv", "max_images=32", "trainer.enable_progress_bar=false"]
    for name in ("Noise", "Module"):
        result = quick("train", *own(name), *options, f"folder={name}", folder=tmp_path)
        assert result.returncode == 0, result.stderr
        measured = quick("evaluate", f"checkpoint={name}", "metric=memorisation", "fake=16", folder=tmp_path)
        assert measured.returncode == 0, measured.stderr
        assert "nearest_training" in measured.stdout
    tested = quick("evaluate", "checkpoint=Module", "metric=memorisation", "split=test", "fake=16", folder=tmp_path)
    assert "these are others" in tested.stdout + tested.stderr
    default = quick("train", *own("Noise"), *options, folder=tmp_path)
    assert "outputs/dcgan-Noise/" in default.stdout + default.stderr


def test_the_options_of_the_data_before_are_not_those_of_a_new_class() -> None:
    data = composed("data=mnist", f"data._target_={HERE}.Noise", "data.form=tensor", "data.flip=true").data
    assert data._target_ == "oakleaf.data.adapter.DatasetAdapter"
    assert data.dataset == {"_target_": f"{HERE}.Noise", "form": "tensor"}
    assert (data.name, data.size, data.channels, data.flip) == ("Noise", None, None, True)
    with pytest.raises(UserError, match=r"data.fourm: there is no such option. Did you mean data.form\?"):
        composed(f"data._target_={HERE}.Noise", "data.fourm=tensor")


# ---- Several processes -----------------------------------------------------------------------------------------------


def values_of(data: DatasetAdapter, batches: int | None = None) -> list[list[int]]:
    """Return the value of the first pixel of each image in some batches, as bytes."""
    found = []
    for batch in data.train_dataloader():
        image = data.on_after_batch_transfer(batch, 0)["image"]
        found.append((image[:, 0, 0, 0] * 127.5 + 127.5).round().int().tolist())
        if batches and len(found) == batches:
            break
    return found


def test_processes_divide_a_stream_without_repetition() -> None:
    ranks = [adapter(Stream(), 2, rank, batch_size=8, workers=0, classes=3) for rank in range(2)]
    first, second = (values_of(data) for data in ranks)
    assert len(first) == len(second) == 6  # of 100 images, 96 fill global batches of 16
    assert [a for both in zip(first, second) for pair in zip(*both) for a in pair] == list(range(96))
    sharded = adapter(Stream(), 2, 1, batch_size=8, workers=0, classes=3, sharded=True)
    assert values_of(sharded)[0] == list(range(8))


def test_processes_divide_the_batches_of_a_data_module() -> None:
    def seen(rank: int, world: int, loader: Any = None) -> list[list[int]]:
        module = Module(60, 12)
        module.setup("fit")
        module.dataset = TensorDataset(torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(-1, -1, 16, 16))
        if loader:
            module.train_dataloader = lambda: loader(module.dataset)  # type: ignore[method-assign]
        reader = ModuleReader(module, 0, "train", None)
        return [batch[0][:, 0, 0, 0].tolist() for batch in reader.loader(lambda: 0, rank, world)]

    alone, first, second = seen(0, 1), seen(0, 2), seen(1, 2)
    assert sorted(chain.from_iterable(alone)) == list(range(60))
    assert first == alone[0:4:2] and second == alone[1:4:2]

    def divided(dataset: Any, rank: int) -> DataLoader[Any]:
        return DataLoader(dataset, 10, sampler=DistributedSampler(dataset, 2, rank))

    own_division = [seen(rank, 2, lambda dataset, rank=rank: divided(dataset, rank)) for rank in (0, 1)]
    assert sorted(chain.from_iterable(own_division[0] + own_division[1])) == list(range(60))


def test_the_order_of_a_data_module_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, iteration: int = 0) -> list[list[float]]:
        module = Module()
        module.setup("fit")
        torch.manual_seed(np.random.randint(1000))  # whatever else draws random numbers
        loader = ModuleReader(module, seed, "train", None).loader(lambda: iteration, 0, 1)
        return [batch[0][:, 0, 0, 0].tolist() for batch in loader]

    assert order(0) == order(0) != order(1)
    assert order(0, 5)[:3] + order(0, 0)[:2] != order(0)
    assert order(0, 2) == [*order(0)[2:], *order(0, 5)[:2]]


# ---- What does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("WithoutLength", [], "WithoutLength is no data set: it lacks __len__"),
        ("Noise", ["data.size=32"], r"an image of 16 x 16 pixels, smaller .* enlarge with data.upscale=true"),
        ("Noise", ["data.classes=3"], "the label 3 is met, and there are 3 classes, from 0 on; data.classes=NUMBER"),
        ("Noise", ["data.columns={image: photo}", "data.form=mapping"], "data.columns names photo"),
        ("Stream", ["data.labelled=9"], "data.labelled=9: a map-style set is needed"),
    ],
)
def test_what_does_not_fit_is_answered_in_one_sentence(
    tmp_path: Path, name: str, options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        built(*own(name, *options), folder=tmp_path)


def test_values_beyond_the_range_of_the_first_images_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    images = [torch.rand(1, 16, 16) * 0.9 for _ in range(200)]
    images[1] = images[1] + 3.0  # not among the 64 that are inspected
    data = adapter(images, batch_size=10, workers=0)
    with caplog.at_level(logging.WARNING):
        values = values_of(data)
    assert len(values) == 20
    assert "is clipped to 0 to 1, the range of the first images; data.range=[low,high] sets another" in caplog.text


def test_a_label_beyond_the_classes_ends_the_training_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="the label 2 is met, and there are 2 classes"):
        adapter(Stream(), batch_size=10, workers=0, classes=2)

    class Late(Stream):
        def __iter__(self) -> Any:
            return ((image, int(i == 99)) for i, (image, _) in enumerate(super().__iter__()))

    with caplog.at_level(logging.WARNING):
        data = adapter(Late(), held=70, workers=0, batch_size=10)
    assert data.classes == ["0"]
    assert "the classes were counted in the first 70 images" in caplog.text
    with pytest.raises(UserError, match="the label 1 is met, and there are 1 classes"):
        list(data.train_dataloader())


def test_few_labels_are_kept_of_a_map_style_set() -> None:
    data = adapter(Noise(count=64), batch_size=8, workers=0, labelled=4)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["labelled_label"].tolist() and set(batch["labelled_label"].tolist()) <= {0, 1, 2, 3}
    assert (batch["label"] >= 0).sum() <= 4
    assert (data.column("label") >= 0).all()  # metrics know all of them


# ---- Other libraries -------------------------------------------------------------------------------------------------


def pictures(count: int = 24) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("function", ["hugging_face", "hugging_face_stream"])
def test_hugging_face_datasets(fit: Fit, tmp_path: Path, function: str) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": pictures(), "label": [i % 2 for i in range(24)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    module, trainer = fit(*own(function, f"data.root={tmp_path / 'saved'}", "max_images=32", "data.batch_size=8"))
    assert module.classes == ["cat", "dog"]
    data = trainer.datamodule
    assert data.kind == ("map" if function == "hugging_face" else "iterable")
    assert (data.images(torch.tensor([3]))[0].permute(1, 2, 0).numpy() == np.asarray(pictures()[3])).all()
    assert data.column("label").tolist() == rows["label"]


def test_web_dataset(fit: Fit, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    with tarfile.open(tmp_path / "shard-000.tar", "w") as tar:
        for i, picture in enumerate(pictures()):
            content = io.BytesIO()
            picture.save(content, "PNG")
            for ending, data in (("png", content.getvalue()), ("cls", str(i % 2).encode())):
                info = tarfile.TarInfo(f"{i:03}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    options = [f"data.root={tmp_path}", "data.classes=2", "max_images=32", "data.batch_size=8"]
    module, trainer = fit(*own("web_dataset", *options))
    assert module.images_seen == 32 and trainer.datamodule.kind == "iterable"
    assert (trainer.datamodule.images(torch.tensor([3]))[0].permute(1, 2, 0).numpy() == np.asarray(pictures()[3])).all()


def test_the_hooks_of_a_data_module_are_called() -> None:
    class Hooked(Module):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            image, label = batch
            return image * 0, label

    data = adapter(Hooked())
    assert data.dataset.prepared == 1
    assert isinstance(data, LightningDataModule) and data.batch_size == 12
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert not batch["image"].any() and set(batch) == {"image", "label"}


def test_every_process_reads_the_random_numbers_of_a_stream_from_its_seed() -> None:
    class Brightness:
        def __iter__(self) -> Any:
            for _ in range(20):
                yield torch.rand(1, 4, 4)

    one, two = (list(StreamReader(Brightness(), 0, seed, 4, False).first_items(3)) for seed in (0, 0))
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert RandomPython().form == "tuple"
