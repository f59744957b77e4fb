"""Pictures of any number of channels and bits: one range of values for the set, and samples in it."""

import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import SMALL
from helpers.training import Fit
from oakleaf.data import Images
from oakleaf.data.decoded import DecodedImages
from oakleaf.data.folder import Folder
from oakleaf.data.pictures import open_picture
from oakleaf.data.values import Observed, decide_range
from oakleaf.errors import UserError
from oakleaf.figures.grid import draw_grid
from oakleaf.image_grid import as_bytes, from_bytes
from oakleaf.metrics.neighbours import flat
from oakleaf.sampling.stored import sample_rows

RANDOM = np.random.default_rng(0)


def images_of(root: Path, **options: Any) -> Images:
    data = Images("test", Folder, str(root), cache=str(root.parent / "cache"), **{"size": 16, **options})
    data.prepare_data()
    data.setup()
    return data


def write(root: Path, arrays: list[np.ndarray], ending: str = "tif") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        file = root / f"{i:03}.{ending}"
        if ending == "npy":
            np.save(file, array)
        elif ending == "png" and array.dtype == np.uint16 and array.ndim == 3:
            file.write_bytes(png16(array))
        elif array.ndim == 3 and (array.shape[2] not in (3, 4) or array.dtype != np.uint8):
            pytest.importorskip("tifffile").imwrite(file, array, photometric="minisblack", planarconfig="contig")
        else:
            Image.fromarray(array).save(file)
    return root


def png16(values: np.ndarray) -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow cannot write."""
    height, width, channels = values.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_float_pictures_have_the_range_of_the_set_and_not_each_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [RANDOM.uniform(0, 255, (16, 16)).astype(np.float32) for _ in range(6)]
    pictures[2] = pictures[2] / 255  # dark, all of it below 1
    with caplog.at_level(logging.INFO):
        data = images_of(write(tmp_path / "set", pictures), channels=None)
    low, high = min(p.min() for p in pictures), max(p.max() for p in pictures)
    assert data.value_range == pytest.approx((low, high)) and data.channels == 1
    expected = (np.stack(pictures)[:, None] - low) / (high - low) * 2 - 1
    np.testing.assert_allclose(data.images().numpy(), expected, atol=1e-6)
    assert data.images()[2].max() < -0.99
    assert f"values: float32 from {low:g} to {high:g}, which are taken as black and white" in caplog.text


def test_the_extremes_of_the_set_are_found_in_every_picture(tmp_path: Path) -> None:
    pictures = [np.full((16, 16), 100 + i % 7, np.int32) for i in range(200)]
    pictures[1][0, 0], pictures[198][3, 3] = -1024, 3071  # not among the 64 that are inspected
    data = images_of(write(tmp_path / "set", pictures), channels=None)
    assert data.value_range == (-1024, 3071)
    assert (data.images().min(), data.images().max()) == (-1, 1)
    (file,) = (tmp_path / "cache/ranges").iterdir()
    assert json.loads(file.read_text())["low"] == -1024
    assert images_of(tmp_path / "set", channels=None).hash == data.hash


def test_a_given_range_clips_with_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [np.full((16, 16), value, np.float32) for value in (-5, 0, 50, 100, 300)]
    with caplog.at_level(logging.WARNING):
        data = images_of(write(tmp_path / "set", pictures), channels=None, range=(0, 100))
    assert data.images()[:, 0, 0, 0].tolist() == [-1, -1, 0, 1, 1]
    assert "2 pictures have values from -5 to 300, clipped to 0 to 100" in caplog.text


@pytest.mark.parametrize("ending", ["tif", "png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_kept(tmp_path: Path, channels: int, ending: str) -> None:
    shape = (16, 16) if channels == 1 else (16, 16, 3)
    pictures = [RANDOM.integers(0, 65536, shape, dtype=np.uint16) for _ in range(4)]
    data = images_of(write(tmp_path / "set", pictures, ending), channels=None)
    assert (data.channels, data.value_range) == (channels, (0, 65535))
    stored = np.stack(pictures).reshape(4, 16, 16, channels)
    assert (sample_rows(data.images(), {"range": [0, 65535]}) == stored).all()


def test_twelve_bits_in_sixteen_are_reported_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [RANDOM.integers(0, 4096, (16, 16), dtype=np.uint16) for _ in range(4)]
    with caplog.at_level(logging.WARNING):
        images_of(write(tmp_path / "set", pictures), channels=None)
    assert "6.2 % of the range 0 to 65535 (black to white); data.range=[" in caplog.text
    caplog.clear()
    data = images_of(tmp_path / "set", channels=None, range=(0, 4095))
    assert not caplog.text and data.images().max() > 0.99


def test_eight_and_sixteen_bits_in_one_set_have_the_range_of_their_type(tmp_path: Path) -> None:
    pictures: list[np.ndarray] = [np.full((16, 16), 51, np.uint8), np.full((16, 16), 51 * 257, np.uint16)]
    data = images_of(write(tmp_path / "set", pictures, "png"), channels=None)
    torch.testing.assert_close(data.images()[0], data.images()[1])
    torch.testing.assert_close(data.images()[0], torch.full((1, 16, 16), 51 / 127.5 - 1))


def test_one_deep_picture_among_bytes_is_scaled_and_one_of_floats_refused(tmp_path: Path) -> None:
    pictures: list[np.ndarray] = [np.full((16, 16), i, np.uint8) for i in range(200)]
    pictures[1] = np.full((16, 16), 65535, np.uint16)  # not among the 64 that are inspected
    data = images_of(write(tmp_path / "set", pictures), channels=None)
    assert data.images().dtype == torch.uint8 and data.images()[1].min() == 255
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(tmp_path / "set/001.tif")
    with pytest.raises(UserError, match=r"001\.tif: has values of float32, and the set has bytes: data\.range="):
        images_of(tmp_path / "set", channels=None)


@pytest.mark.parametrize("ending", ["tif", "npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pictures_of_five_channels_are_resized_as_pillow_resizes_each(tmp_path: Path, dtype: Any, ending: str) -> None:
    scale = {np.uint8: 255, np.uint16: 65535, np.float32: 1.0}[dtype]
    pictures = [(RANDOM.random((32, 32, 5)) * scale).astype(dtype) for _ in range(3)]
    data = images_of(write(tmp_path / "set", pictures, ending), channels=None)
    assert data.channels == 5
    channel = Image.fromarray(pictures[1][:, :, 3].astype(np.float32) / scale).resize((16, 16), 2)
    low, high = data.value_range or (0, scale)
    expected = (np.asarray(channel) * scale - low) / (high - low)
    found = from_bytes(data.images())[1, 3].numpy() / 2 + 0.5
    np.testing.assert_allclose(found, expected, atol=0.003 if dtype is np.uint8 else 1e-5)


def test_opacity_is_kept_or_shown_on_a_background(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[:8] = (200, 100, 50, 255)
    write(tmp_path / "set", [picture], "png")
    assert images_of(tmp_path / "set", channels=None).images()[0, :, 12, 0].tolist() == [255, 255, 255]
    black = images_of(tmp_path / "set", background="black").images()[0]
    assert (black[:, 0, 0].tolist(), black[:, 12, 0].tolist()) == ([200, 100, 50], [0, 0, 0])
    kept = images_of(tmp_path / "set", channels=4)
    assert kept.channels == 4 and kept.images()[0, :, 0, 0].tolist() == [200, 100, 50, 255]
    assert kept.images()[0, 3, 12, 0] == 0


def test_pictures_whose_channels_do_not_fit_together_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "set", [np.zeros((16, 16, 5), np.uint8)] * 2 + [np.zeros((16, 16, 7), np.uint8)], "npy")
    with pytest.raises(UserError, match=r"images have 5 and 7 channels.*of 3 pictures, 2 have 5, 1 have 7 channels"):
        images_of(tmp_path / "set", channels=None)
    with pytest.raises(UserError, match=r"002\.npy: data\.channels=5: an image has 7 channels"):
        images_of(tmp_path / "set", channels=5)


def test_colours_among_grey_pictures_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "set").mkdir()
    for i in range(400):
        colour = i in (1, 2, 4, 5, 8)
        Image.new("RGB" if colour else "L", (16, 16), (200, 0, 0) if colour else i % 256).save(
            tmp_path / "set" / f"{i:03}.png"
        )
    with caplog.at_level(logging.WARNING):
        assert images_of(tmp_path / "set", channels=None).channels == 1
    assert "5 pictures have colours that channels=1 drops; data.channels=3 keeps them" in caplog.text


def test_a_damaged_deep_picture_is_a_problem_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "set", [RANDOM.integers(0, 65536, (16, 16, 3), dtype=np.uint16) for _ in range(3)], "png")
    content = (tmp_path / "set/001.png").read_bytes()
    (tmp_path / "set/001.png").write_bytes(content[:200])
    assert images_of(tmp_path / "set", on_corrupt="skip").count == 2
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    for wrong in (np.zeros(3), np.zeros((2, 2, 2, 2)), np.array(["a"])):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(ValueError, match="is no picture"):
            open_picture(tmp_path / "wrong.npy")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        open_picture(tmp_path / "object.npy")


def test_stored_images_of_both_kinds_have_the_same_distances() -> None:
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    floats = from_bytes(pixels)
    torch.testing.assert_close(flat(pixels), flat(floats))
    assert torch.equal(as_bytes(floats), pixels)
    points = torch.randn(4, 2, 1, 1)
    assert torch.equal(flat(points), points.flatten(1))


@pytest.mark.parametrize(("channels", "columns"), [(2, 2), (5, 5), (12, 8)])
def test_a_grid_of_other_channels_shows_each_in_its_own_column(channels: int, columns: int) -> None:
    images = torch.linspace(-1, 1, channels)[None, :, None, None].expand(3, -1, 16, 16)
    grid = np.asarray(draw_grid(images, captions=False))
    width, height = grid.shape[1] / columns, grid.shape[0] / 3
    found = [int(grid[int(0.5 * height), int((c + 0.5) * width), 0]) for c in range(columns)]
    assert found == [round((v + 1) * 127.5) for v in torch.linspace(-1, 1, channels)[:columns].tolist()]
    headed = np.asarray(draw_grid(images))
    assert headed.shape[0] > grid.shape[0]  # the numbers of the channels stand above


@pytest.mark.slow
def test_a_run_on_five_channels_of_sixteen_bits_is_sampled_and_evaluated(fit: Fit, tmp_path: Path) -> None:
    write(tmp_path / "set", [RANDOM.integers(0, 65536, (16, 16, 5), dtype=np.uint16) for _ in range(32)])
    options = ["data=folder", f"data.root={tmp_path / 'set'}", "data.size=16", "data.flip=true", "data.jitter=2"]
    module, _ = fit(*SMALL, *options, "max_images=32", folder=tmp_path / "run")
    assert module.sample(module.game.sample_inputs(2)).shape == (2, 5, 16, 16)
    assert quick("sample", "checkpoint=run", "count=3", folder=tmp_path).returncode == 0
    samples = np.load(tmp_path / "samples/samples.npy")
    assert (samples.dtype, samples.shape) == (np.uint16, (3, 16, 16, 5)) and samples.max() > 255
    result = quick("evaluate", "checkpoint=run", "metric=memorisation", "fake=16", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "others" not in result.stderr + result.stdout and "not the pictures" not in result.stderr + result.stdout


def test_dark_sets_of_eight_bits_are_reported_and_clipped_values_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Masks with the values 0 and 1, pictures of 12 bits that were stored in 8."""
    for i in range(4):
        values = np.random.default_rng(i).integers(0, 41, (16, 16), dtype=np.uint8)
        values[0, :2] = 0, 40
        Image.fromarray(values).save(tmp_path / f"{i}.png")

    def read(**options: Any) -> None:
        caplog.clear()
        stock = DecodedImages(Folder(tmp_path), None, 16, "center", "bilinear", "error", tmp_path / "cache", **options)
        stock.prepare()
        stock.read()

    read()
    assert "from 0 to 40, 15.7 % of the range 0 to 255" in caplog.text and "data.range=[0,40]" in caplog.text
    read(range=(0, 40))
    assert not caplog.text
    read(range=(0, 20))
    assert "4 pictures have values from 0 to 40, clipped to 0 to 20" in caplog.text


@pytest.mark.parametrize("number", [3, 70])
def test_a_picture_with_nan_is_named_or_skipped(number: int, tmp_path: Path) -> None:
    for i in range(72):
        values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        np.save(tmp_path / f"{i:02}.npy", np.full_like(values, np.nan) if i == number else values)

    def decoded(on_corrupt: Any) -> int:
        options = ("center", "bilinear", on_corrupt, tmp_path / "cache")
        return len(DecodedImages(Folder(tmp_path), None, 16, *options).read()[0])

    assert decoded("skip") == 71
    with pytest.raises(UserError, match=f"{number:02}.npy: .*NaN or infinite"):
        decoded("error")


@pytest.mark.parametrize("given", [(1, 0), (3, 3), (float("nan"), 1), (0, float("inf"))])
def test_a_range_that_is_none_is_refused(given: tuple[float, float]) -> None:
    observed = Observed()
    observed.add(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(UserError, match="black comes first, and white is a larger number"):
        decide_range(observed, given)
