"""Real images: any mode, size and layout; decoded once; batches that depend on (seed, iteration) alone."""

import io
import logging
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import SMALL
from helpers.marks import slow_except
from helpers.training import Fit, built
from oakleaf.data import Images, decoding
from oakleaf.data.cache import decode_to_cache
from oakleaf.data.celeba import CelebA
from oakleaf.data.folder import Folder
from oakleaf.data.pictures import to_8bit
from oakleaf.data.resize import CropResize, PictureTooSmall
from oakleaf.data.sampling import DeviceLoader, EpochSampler, WorkerLoader
from oakleaf.data.sources import digits, torchvision_set
from oakleaf.data.transforms import random_flip
from oakleaf.data.utkface import UTKFace
from oakleaf.errors import UserError
from oakleaf.runtime.memory import available_bytes, total_bytes


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode) if mode in ("RGB", "RGBA") else value).save(path)
    return path


def images_of(root: Path, source=Folder, **arguments) -> Images:
    data = Images("test", source, str(root), cache=str(root.parent / "cache"), **{"size": 16, **arguments})
    data.prepare_data()
    data.setup()
    return data


def test_digits_are_scikit_learns_in_their_order() -> None:
    from sklearn.datasets import load_digits

    source, bunch = digits(Path()), load_digits()
    assert len(source) == 1797
    assert np.array_equal(source.labels["label"], bunch.target)
    assert np.array_equal(np.asarray(source.read(5)), np.round(bunch.images[5] * 255 / 16))


def test_a_folder_is_read_recursively_with_its_folders_as_classes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name, value in (("cat/a.png", 10), ("cat/deep/b.JPG", 20), ("dog/c.webp", 30)):
        picture(root / name, value=value)
    (root / "notes.txt").write_text("no picture")
    picture(root / ".thumbs" / "hidden.png")
    data = images_of(root)
    assert data.channels == 3
    assert data.rows["image"].shape == (3, 3, 16, 16)
    assert data.rows["label"].tolist() == [0, 0, 1]
    assert list(data.source.classes) == ["cat", "dog"]


def test_classes_are_the_same_in_each_split(tmp_path: Path) -> None:
    for i, name in enumerate("abbbbbbbbbbbbcc"):  # every tenth, the first and the eleventh, is for the test
        picture(tmp_path / "set" / name / f"{i:02d}.png", value=i)
    train, test = (Folder(tmp_path / "set", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ["a", "b", "c"]
    assert test.labels["label"].tolist() == [0, 1]
    assert train.labels["label"].tolist() == [1] * 11 + [2] * 2


@pytest.mark.parametrize(
    ("mode", "value", "grey", "rgb"),
    [
        ("L", 100, 100, 100),
        ("1", 1, 255, 255),
        ("I;16", 65535 // 5, 51, 51),  # 16 bits scaled to 8, not cut off
        ("RGBA", 0, 255, 255),  # wholly transparent on white
        ("LA", 0, 255, 255),
        ("P", 0, 0, 0),
        ("CMYK", 0, 255, 255),
        ("F", 1, 255, 255),
    ],
)
def test_every_mode_becomes_eight_bits(mode: str, value: int, grey: int, rgb: int) -> None:
    colour = (value,) * {"RGBA": 4, "LA": 2, "CMYK": 4}.get(mode, 1)
    image = Image.new(mode, (4, 4), colour if len(colour) > 1 else value)
    assert np.asarray(to_8bit(image, 1))[0, 0] == grey
    assert np.asarray(to_8bit(image, 3))[0, 0].tolist() == [rgb] * 3


@pytest.mark.parametrize("size", [16, [16, 32], [32, 16]])
@pytest.mark.parametrize("crop", ["center", "stretch", "pad", 20])
def test_crops_give_the_requested_size(size, crop) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    resize = CropResize(3, height, width, crop, upscale=True)
    assert resize(Image.new("RGB", (50, 40), "red")).shape == (3, height, width)


def test_crop_center_keeps_the_middle_and_pad_keeps_the_whole_image() -> None:
    image = Image.new("RGB", (60, 20), "black")
    image.paste("white", (20, 0, 40, 20))
    assert (CropResize(1, 20, 20)(image) == 255).all()
    padded = CropResize(1, 20, 60, "pad", upscale=True)(Image.new("L", (20, 20), 255))
    assert (padded[:, :, 20:40] == 255).all()
    assert (padded[:, :, :20] == 0).all()


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (32, 16), "white")
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees
    assert CropResize(3, 32, 16)(image).shape == (3, 32, 16)


@pytest.mark.parametrize(
    ("resize", "orientation"),
    [(CropResize(3, 32, 32), 1), (CropResize(1, 24, 32), 1), (CropResize(3, 24, 32, "pad"), 6)],
)
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(resize: CropResize, orientation: int) -> None:
    noise = np.random.default_rng(0).normal(size=(9, 12, 3)) * 60 + 128
    large = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize((400, 300), Image.Resampling.BICUBIC)
    large.getexif()[0x0112] = orientation
    file = io.BytesIO()
    large.save(file, "JPEG", exif=large.getexif())
    jpeg, decoded = Image.open(file), Image.open(io.BytesIO(file.getvalue()))
    decoded.load()  # at its full size
    difference = np.abs(resize(jpeg).astype(float) - resize(decoded))
    assert max(jpeg.size) == 200
    assert difference.mean() < 1


@pytest.mark.parametrize(
    "resize", [CropResize(3, 32, 32, 300), CropResize(3, 32, 32, resample="nearest"), CropResize(3, 64, 64)]
)
def test_a_jpeg_is_decoded_in_full_where_pixels_are_counted_or_classes_or_needed(resize: CropResize) -> None:
    file = io.BytesIO()
    Image.new("RGB", (400, 300)).save(file, "JPEG")
    jpeg = Image.open(file)
    resize(jpeg)
    assert jpeg.size == (400, 300)


def test_a_small_picture_is_refused_by_name_or_skipped_or_enlarged(tmp_path: Path, caplog) -> None:
    root = tmp_path / "set"
    picture(root / "a.png", (64, 64))
    picture(root / "tiny.png", (8, 8))
    with pytest.raises(PictureTooSmall):
        CropResize(3, 16, 16)(Image.new("RGB", (8, 8)))
    with pytest.raises(UserError, match=r"tiny\.png: 8 x 8 pixels, smaller than the 16 x 16 requested"):
        images_of(root)
    with pytest.raises(UserError, match=r"smaller data\.size or enlarge with data\.source\.upscale=true, or leave"):
        images_of(root)
    assert len(images_of(root, on_corrupt="skip").rows["image"]) == 1
    assert len(images_of(root, partial(Folder, upscale=True)).rows["image"]) == 2


def test_corrupt_pictures_are_named_or_skipped_and_counted(tmp_path: Path, caplog) -> None:
    root = tmp_path / "set"
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        (root / str(i % 2)).mkdir(parents=True, exist_ok=True)
        noise.save(root / str(i % 2) / f"{i}.jpg", quality=90)
    content = (root / "1" / "1.jpg").read_bytes()
    (root / "1" / "1.jpg").write_bytes(content[: len(content) // 2])
    (root / "1" / "3.png").write_bytes(b"no picture at all")
    (root / "1" / "4.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.jpg: can't be read .*on_corrupt=skip"):
        images_of(root, channels=3)
    with caplog.at_level(logging.WARNING):
        data = images_of(root, on_corrupt="skip")
    assert data.rows["image"].shape[0] == 2
    assert data.rows["label"].tolist() == [0, 0]  # labels stay with their pictures
    assert "3 of 5 pictures skipped" in caplog.text


@pytest.mark.parametrize("least", [1, 1000])  # by several processes; by this one
def test_each_image_is_in_its_place_whichever_process_decoded_it(tmp_path: Path, monkeypatch, least: int) -> None:
    monkeypatch.setattr("oakleaf.data.decoding.MIN_FOR_PROCESSES", least)
    monkeypatch.setattr("oakleaf.data.decoding.CHUNK_BYTES", 3 * 3 * 16 * 16)
    root = tmp_path / "set"
    for i in range(40):
        picture(root / f"{i:02}.png", value=i)
    for i in (0, 7, 8, 39):  # the first, two together, the last
        (root / f"{i:02}.png").write_bytes(b"no picture")
    images, kept, skipped, _ = decode_to_cache(Folder(root), CropResize(3, 16, 16), "skip", tmp_path / "cache")
    assert kept.tolist() == [i for i in range(40) if i not in (0, 7, 8, 39)]
    assert len(skipped) == 4
    assert images.shape == (36, 3, 16, 16)
    assert (images == kept[:, None, None, None]).all()
    (entry,) = (tmp_path / "cache").iterdir()
    assert sorted(file.name for file in entry.iterdir()) == ["images.npy", "kept.npy", "notes.json", "skipped.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("least", [1, 1000])
def test_a_disk_that_fills_up_while_decoding_is_reported(tmp_path: Path, monkeypatch, least: int) -> None:
    monkeypatch.setattr("oakleaf.data.decoding.MIN_FOR_PROCESSES", least)
    init = decoding._Decoder.__init__

    def with_full_disk(self: decoding._Decoder, *arguments: object) -> None:
        init(self, *arguments)
        self.file = Path("/dev/full").open("r+b")  # noqa: SIM115, as the class itself has it

    monkeypatch.setattr("oakleaf.data.decoding._Decoder.__init__", with_full_disk)
    picture(tmp_path / "set" / "a.png")
    picture(tmp_path / "set" / "b.png")
    with pytest.raises(UserError, match=r"No space left on device; choose another cache"):
        decode_to_cache(Folder(tmp_path / "set"), CropResize(3, 16, 16), "skip", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("make", ["missing", "empty", "file"])
def test_missing_and_empty_folders_are_reported(tmp_path: Path, make: str) -> None:
    root = tmp_path / "set"
    if make == "empty":
        root.mkdir()
    elif make == "file":
        root.write_text("x")
    with pytest.raises(UserError, match=r"data\.root="):
        images_of(root)


def celeba(root: Path, nested: bool = False, kaggle: bool = False) -> Path:
    inner = root / "img_align_celeba" / ("img_align_celeba" if nested else "")
    for i in range(1, 5):
        picture(inner / f"{i:06d}.jpg", (89, 109), value=i)
    rows = [(f"{i:06d}.jpg", 1 if i % 2 else -1, -1) for i in range(1, 9)]  # more than there are pictures
    if kaggle:
        lines = ["image_id,Smiling,Young", *(",".join(map(str, row)) for row in rows)]
        (root / "list_attr_celeba.csv").write_text("\n".join(lines) + "\n")
        parts = ["image_id,partition", *(f"{name},{i // 4}" for i, (name, *_) in enumerate(rows))]
        (root / "list_eval_partition.csv").write_text("\n".join(parts) + "\n")
    else:
        lines = [str(len(rows)), "Smiling Young", *("  ".join(map(str, row)) for row in rows)]
        (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        parts = [f"{name} {int(i > 1)}" for i, (name, *_) in enumerate(rows)]
        (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


@pytest.mark.parametrize("kaggle", [False, True])
def test_celeba_takes_the_official_layout_kaggles_and_any_part(tmp_path: Path, kaggle: bool) -> None:
    root = celeba(tmp_path / "celeba", nested=kaggle, kaggle=kaggle)
    data = images_of(root, CelebA, size=32)
    assert data.rows["image"].shape == (4, 3, 32, 32)
    assert data.rows["attributes"].tolist() == [[1, 0], [0, 0], [1, 0], [0, 0]]
    assert list(data.source.classes) == ["Smiling", "Young"]


def test_the_celeba_partition_is_used_if_present(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba")
    assert len(CelebA(root, split="train")) == 2
    assert len(CelebA(root, split="valid")) == 2
    with pytest.raises(UserError, match="none of the faces"):
        CelebA(root, split="test")
    (root / "list_eval_partition.txt").unlink()
    assert len(CelebA(root)) == 4
    with pytest.raises(UserError, match="split=all needs none"):
        CelebA(root, split="train")
    with pytest.raises(UserError, match="img_align_celeba"):
        CelebA(tmp_path)


def test_missing_torchvision_data_sets_are_named(tmp_path: Path, monkeypatch) -> None:
    from torchvision import datasets

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    for kind in (datasets.MNIST, datasets.CIFAR10):
        monkeypatch.setattr(kind, "download", offline)
    for name in ("MNIST", "FashionMNIST", "CIFAR10"):
        with pytest.raises(UserError, match=rf"{name} is not in .*no network.*data\.root="):
            torchvision_set(tmp_path, name)


def test_the_cache_is_keyed_by_content_and_size(tmp_path: Path) -> None:
    root, cache = tmp_path / "set", tmp_path / "cache"
    picture(root / "a.png", value=10)
    resize = CropResize(3, 16, 16)
    assert decode_to_cache(Folder(root), resize, "error", cache).images[0, 0, 0, 0] == 10
    assert len(list(cache.iterdir())) == 1
    decode_to_cache(Folder(root), resize, "error", cache)
    assert len(list(cache.iterdir())) == 1
    decode_to_cache(Folder(root), CropResize(1, 16, 16), "error", cache)
    assert len(list(cache.iterdir())) == 2
    picture(root / "a.png", value=20)  # the same name, another content
    assert decode_to_cache(Folder(root), resize, "error", cache).images[0, 0, 0, 0] == 20
    (root / "b.png").write_bytes(b"no picture")
    assert len(decode_to_cache(Folder(root), resize, "skip", cache).images) == 1
    with pytest.raises(UserError, match=r"b\.png"):  # the entry without it is no entry for on_corrupt=error
        decode_to_cache(Folder(root), resize, "error", cache)
    assert not list(cache.glob("making-*"))


def test_channels_and_size_come_from_the_data_and_reach_the_networks(tmp_path: Path) -> None:
    for mode, channels in (("L", 1), ("RGB", 3)):
        root = tmp_path / mode
        for i in range(4):
            picture(root / f"{i}.png", (48, 32), mode, value=i)
        module, _data, _, recipe = built("data=folder", f"data.root={root}", "data.size=null", *SMALL, folder=tmp_path)
        assert (recipe["data"]["channels"], recipe["data"]["size"]) == (channels, [32, 48])
        assert module.sample(module.game.sample_inputs(2)).shape == (2, channels, 32, 48)


def test_each_image_is_in_one_batch_of_an_epoch_on_one_rank() -> None:
    samplers = [EpochSampler(103, 10, seed=3, rank=rank, world=2) for rank in range(2)]
    in_batches = [row for sampler in samplers for rows, _ in sampler.batches(0) for row in rows.tolist()]
    assert len(in_batches) == len(set(in_batches)) == 100
    joint = EpochSampler(103, 20, seed=3)
    for (both, _), (first, _), (second, _) in zip(joint.batches(0), *(sampler.batches(0) for sampler in samplers)):
        assert both.tolist() == [*first.tolist(), *second.tolist()]


def test_batches_depend_on_seed_and_iteration_alone() -> None:
    sampler = EpochSampler(103, 10, seed=3)
    straight = [rows.tolist() for start in (0, 10) for rows, _ in sampler.batches(start)]
    resumed = [rows.tolist() for rows, _ in EpochSampler(103, 10, seed=3).batches(7)]
    assert straight[7:17] == resumed  # across the border of the epoch too
    assert straight[:10] != straight[10:]
    assert straight[0] != next(EpochSampler(103, 10, seed=4).batches(0))[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", slow_except([0], [0, 2]))
def test_batches_of_workers_equal_those_of_the_device(fit: Fit, tmp_path: Path, workers: int) -> None:
    common = [*SMALL, "data.flip=true", "max_images=1840", "data.batch_size=92"]
    on_device, _ = fit(*common, "data.keep=device", folder=tmp_path / "a")
    by_workers, trainer = fit(*common, "data.keep=workers", f"data.workers={workers}", folder=tmp_path / "b")
    assert isinstance(trainer.train_dataloader, WorkerLoader)
    assert all(torch.equal(a, b) for a, b in zip(on_device.parameters(), by_workers.parameters()))


def test_auto_keeps_data_on_the_device_if_they_take_less_than_a_quarter_of_its_free_memory(
    tmp_path: Path, monkeypatch
) -> None:
    for i in range(4):
        picture(tmp_path / "set" / f"{i % 2}" / f"{i}.png")
    data = images_of(tmp_path / "set", batch_size=2, workers=0)
    data.rows["input"] = data.rows["image"].clone()
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(strategy=device, num_devices=2, global_rank=0, world_size=2, lightning_module=None)
    loader = data.train_dataloader()
    assert isinstance(loader, DeviceLoader) and 0 < available_bytes() <= total_bytes()
    assert all(loader.rows[name].is_contiguous(memory_format=torch.channels_last) for name in ("image", "input"))
    assert next(iter(loader))["image"].is_contiguous(memory_format=torch.channels_last)
    input_options = 2 * 4 * 3 * 16 * 16 + 4 * 8  # images, inputs, labels; in each of two processes
    for available, kind in ((8 * input_options + 1, DeviceLoader), (8 * input_options, WorkerLoader)):
        monkeypatch.setattr("oakleaf.data.images.available_bytes", lambda available=available: available)
        assert type(data.train_dataloader()) is kind


def test_images_reach_the_networks_in_minus_1_to_1_and_mirrored_at_random(tmp_path: Path) -> None:
    _, data, *_ = built("data.flip=true", folder=tmp_path)
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 1, 1, 1)
    batch = data.on_after_batch_transfer({"image": image, "mirrored": torch.tensor([False, True])}, 0)
    assert batch["image"][0].min() == -1
    assert batch["image"][0].max() == 1
    assert torch.equal(batch["image"][0].flip(2), batch["image"][1])
    assert set(batch) == {"image"}


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_chosen_images_are_mirrored_and_no_others(layout: torch.memory_format) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 6), dtype=torch.uint8).contiguous(memory_format=layout)
    mirrored = torch.rand(9) < 0.5
    expected = torch.stack([image.flip(2) if mirror else image for image, mirror in zip(images, mirrored)])
    assert torch.equal(random_flip(images, mirrored), expected)


@pytest.mark.slow
def test_fewer_pictures_than_a_batch_still_train(fit: Fit, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for i in range(5):
        picture(root / f"{i}.png", (20, 20), value=40 * i)
    small = [*SMALL, "data=folder", f"data.root={root}", "data.size=16"]
    module, _ = fit(*small, "data.batch_size=64", "trainer.max_epochs=3")
    assert (module.iteration, module.images_seen) == (3, 15)
    with pytest.raises(UserError, match="too few for 8 processes"):
        images_of(root).sampler(rank=0, world=8)
    for i in range(1, 5):
        (root / f"{i}.png").unlink()
    module, _ = fit(*small, "trainer.max_epochs=2", folder=tmp_path / "alone")
    assert module.images_seen == 2


def test_unreadable_pictures_in_front_are_skipped_when_the_channels_are_found_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for i in range(1, 4):
        picture(root / f"{i}.png", mode="L")
    (root / "0.png").write_bytes(b"")
    assert images_of(root, on_corrupt="skip").channels == 1
    with pytest.raises(UserError, match=r"0\.png: can't be read"):
        images_of(root)


def test_one_colour_picture_among_grey_ones_makes_the_set_colour(tmp_path: Path) -> None:
    for i in range(100):
        picture(tmp_path / "set" / f"{i:03d}.png", mode="L")
    for i in range(100, 200):
        picture(tmp_path / "set" / f"{i:03d}.png")
    assert images_of(tmp_path / "set").channels == 3


def test_palettes_of_greys_are_grey_and_grey_stored_as_colour_is_reported(tmp_path: Path, caplog) -> None:
    ramp = Image.fromarray(np.arange(0, 240, dtype=np.uint8).reshape(12, 20).repeat(2, 0))
    for name, made in {"grey": ramp.convert("P"), "grey_as_rgb": ramp.convert("RGB")}.items():
        (tmp_path / name).mkdir()
        made.save(tmp_path / name / "a.png")
    picture(tmp_path / "colour" / "a.gif", mode="RGB")
    Image.new("RGB", (30, 30), (200, 10, 10)).convert("P").save(tmp_path / "colour" / "b.gif")
    with caplog.at_level(logging.INFO):
        channels = [images_of(tmp_path / name).channels for name in ("grey", "grey_as_rgb", "colour")]
    assert channels == [1, 3, 3]
    assert [record.message for record in caplog.records if "data.channels=1" in record.message] == [
        "grey pictures are stored in colour; data.channels=1 loads them as grey"
    ]


def test_linked_folders_and_names_that_are_not_utf8_are_read_once(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "set"
    picture(root / "one" / "b.png")
    (root / "two").symlink_to(tmp_path / "elsewhere")
    (root / "two" / "loop").symlink_to(root)
    (root / "one" / "b.png").rename(root / "one" / os.fsdecode(b"\xff.png"))
    assert len(images_of(root).rows["image"]) == 2


@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
def test_size_of_the_data_respects_exif_orientation(tmp_path: Path, ending: str) -> None:
    (tmp_path / "set").mkdir()
    for i in range(2):
        image = Image.new("RGB", (64, 32))
        image.getexif()[0x0112] = 6
        image.save(tmp_path / "set" / f"{i}.{ending}", exif=image.getexif())
    assert images_of(tmp_path / "set", size=None).size == (64, 32)


def test_classes_are_numbered_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "9", "2", "b1", "a10", "a9", "a"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "0.png")
    assert Folder(tmp_path).classes == ["2", "9", "10", "a", "a9", "a10", "b1"]


@pytest.mark.slow
def test_the_value_of_a_command_line_flag_may_have_any_characters(tmp_path: Path) -> None:
    folder = tmp_path / "x=é (1)" / "model"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [dcgan]\nname: mine\n")
    options = ["model=mine", "trainer=cpu", "max_images=3", "logger=csv", "callbacks={}", *SMALL]
    result = quick("train", "--config-dir", str(folder.parent), *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_name_of_a_folder_may_have_any_characters(tmp_path: Path) -> None:
    root = tmp_path / "José's faces (a=b) [1]"
    for i in range(3):
        picture(root / f"{i}.png", (16, 16))
    options = ["data=folder", f"data.root={root}", "data.size=16", "trainer=cpu", "max_images=3", "logger=csv", *SMALL]
    result = quick("train", *options, "callbacks={}", folder=tmp_path)
    assert result.returncode == 0, result.stderr


def test_celeba_knows_the_persons_and_utkface_the_ages(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba")
    assert "identity" not in CelebA(root).labels
    names = [file.name for file in CelebA(root).files]
    (root / "identity_CelebA.txt").write_text(f"{names[0]} 7\n{names[2]} 9\n")
    assert CelebA(root).labels["identity"].tolist() == [7, -1, 9, -1]
    (root / "identity_CelebA.txt").write_text(f"{names[0]} someone\n")
    with pytest.raises(UserError, match="identity_CelebA: each line is a file and a number"):
        CelebA(root)
    for name in ("26_0_2_2017.jpg", "20170104_1.jpg", "me.jpg", "100_1_0_x.jpg"):
        picture(tmp_path / "utkface" / name)
    found = UTKFace(tmp_path / "utkface")
    assert dict(zip([file.name for file in found.files], found.labels["age"].tolist())) == {
        "100_1_0_x.jpg": 100, "20170104_1.jpg": -1, "26_0_2_2017.jpg": 26, "me.jpg": -1,
    }  # fmt: skip
