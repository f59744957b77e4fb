"""Labelled pictures: text of any script, grids with headings, the plane with axes, animations."""

import csv
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from helpers.commands import quick
from helpers.composing import SMALL
from helpers.training import Fit, built
from oakleaf.errors import UserError
from oakleaf.figures import text
from oakleaf.figures.animation import Video, animate, save_gif
from oakleaf.figures.grid import MAX_WIDTH, Layout, Panel, draw_grid
from oakleaf.figures.plane import LEFT, REACH, SIDE, Background, draw_plane, plane_points
from oakleaf.image_grid import from_bytes
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sampling import Arithmetic, ByClass, Codes, Grid, Interpolate, Walk
from oakleaf.sampling.figure import critic_background, sample_panel, sample_title
from oakleaf.sampling.files import class_folder
from oakleaf.sampling.latents import parse_seeds, seeded_inputs

WORDS = ["cat", "кот", "γάτα", "חתול", "قطة", "đèn", "猫", "แมว", "बिल्ली", "고양이", "😀", "", " "]


def glyphs(word: str) -> list[bytes]:
    """What is drawn for each character of a word, and last what is drawn for a missing one."""
    font = text.font_for(word, 24)
    return [bytes(font.getmask(c)) for c in [*word.replace(" ", ""), text.MISSING]]


def unique_images(count: int, side: int = 8, channels: int = 3) -> torch.Tensor:
    """Images of one colour each, no two the same."""
    colours = torch.stack([torch.arange(count) // 16 * 16, torch.arange(count) % 16 * 16, torch.full((count,), 40)], 1)
    return from_bytes(colours[:, :channels, None, None].expand(-1, -1, side, side).to(torch.uint8))


@pytest.mark.parametrize("system", [True, False])
def test_class_names_of_any_script_are_never_drawn_as_boxes(system: bool) -> None:
    with mock.patch.object(text, "_system_file", text._system_file if system else lambda _: None):
        labels = text.class_labels(WORDS)
        assert labels[:5] == WORDS[:5]  # matplotlib's font has these scripts
        assert labels[11:] == ["class 11", "class 12"]
        for label in labels:
            *drawn, missing = glyphs(label)
            assert missing not in drawn, label
        if not system:
            assert labels[6] == "class 6"
            assert text.drawable("one 猫\tcat") == "one ? cat"


def test_text_is_shortened_and_wrapped_to_its_room() -> None:
    long = "a name of a class that is much too long for its column"
    for width in (20, 60, 200):
        assert text.text_width(text.shorten(long, 14, width), 14) <= width
        lines = text.wrap(long, 14, width, most=3)
        assert len(lines) <= 3
        assert all(text.text_width(line, 14) <= width for line in lines)
    assert text.shorten("short", 14, 200) == "short"
    assert " ".join(text.wrap(long, 14, 200)) == long
    assert text.shorten(long, 14, 100).endswith("…")


def test_plain_tiles_are_the_images_and_white_lines() -> None:
    images = unique_images(6)
    grid = np.asarray(draw_grid(images, Layout((Panel(columns=3, column_names=["x"]),), "title"), captions=False))
    zoom = 16  # an image of 8 pixels is enlarged to at most 128
    tile = zoom * 8
    for i in range(6):
        top, left = 8 + i // 3 * (tile + 8), 8 + i % 3 * (tile + 8)
        expected = (images[i, :, 0, 0] + 1) * 127.5
        assert (grid[top : top + tile, left : left + tile] == expected.round().numpy()).all()
    assert (grid[:8] == 255).all()
    assert grid.shape == (2 * (tile + 8) + 8, 3 * (tile + 8) + 8, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_channels_and_shape_are_drawn(channels: int) -> None:
    assert draw_grid(torch.zeros(5, channels, 7, 13)).mode == "RGB"


@pytest.mark.parametrize("columns", [None, 10, 40])
@pytest.mark.parametrize("names", [["a"], [f"a long name of class {i}" for i in range(40)]])
def test_every_image_of_a_wide_grid_is_drawn_and_rows_are_broken(columns: int | None, names: list[str]) -> None:
    images = unique_images(160, side=64)
    picture = draw_grid(images, Layout((Panel(columns=columns, column_names=names, captions=names),), "t" * 99, "n"))
    assert picture.width <= MAX_WIDTH + 100
    seen = {tuple(pixel) for pixel in np.asarray(picture).reshape(-1, 3)}
    colours = ((images[:, :, 0, 0] + 1) * 127.5).round().int().tolist()
    assert {tuple(colour) for colour in colours} <= seen


def test_groups_are_not_broken_and_headings_are_repeated() -> None:
    panel = Panel(column_names=("input", "output", "target"), group=3)
    plain = draw_grid(unique_images(192, 64), Layout((panel,)), captions=False)
    titled = draw_grid(unique_images(192, 64), Layout((panel,)))
    assert plain.width == titled.width
    assert titled.height > plain.height
    grid = np.asarray(plain)
    row = [tuple(pixel) for pixel in grid[8]]
    changes = sum(one != other for one, other in pairwise(row))
    assert changes == 2 * 15  # five groups of three, each image between white


def test_text_grows_with_the_picture() -> None:
    heights = []
    for side in (32, 128, 256):
        images = torch.zeros(64, 1, side, side)
        plain, titled = (draw_grid(images, Layout(title="title"), captions) for captions in (False, True))
        heights.append(titled.height - plain.height)
    assert heights[0] < heights[1] <= heights[2]


def test_points_are_drawn_where_they_lie_with_modes_and_field() -> None:
    points = torch.tensor([[0.5, -0.25], [3.0, 0.0]])[:, :, None, None]
    plane = plane_points(9)
    field = Background((plane[:, 0] > 0).float().view(9, 9), "D(x)", 0.0, 1.0)
    picture = np.asarray(draw_plane(points, torch.tensor([[-0.5, 0.5]]), field, "gan on ring", "10 images")).astype(int)
    top = picture.shape[0] - SIDE - text.line_height(14) * 3 - 12  # below the title

    def pixel(x: float, y: float) -> list[int]:
        place = top + (0.5 - y / (2 * REACH)) * SIDE, LEFT + (x / (2 * REACH) + 0.5) * SIDE
        return picture[round(place[0]), round(place[1])].tolist()

    assert max(pixel(0.5, -0.25)) < 100  # the point
    red, blue = pixel(-0.9, -0.9), pixel(0.9, 0.9)
    assert red[0] > red[2] + 40
    assert blue[2] > blue[0] + 40
    column = picture[:, LEFT + round((-0.5 / (2 * REACH) + 0.5) * SIDE)]
    assert [214, 39, 40] in column.tolist()  # the circle of the mode
    assert draw_plane(points, captions=False).size == (SIDE, SIDE)


def test_the_field_is_the_critics_output_where_it_scores_points(tmp_path: Path) -> None:
    module, data, *_ = built("model=toy", "data=toy", "data.points=500", folder=tmp_path)
    field = critic_background(module)
    assert field is not None
    assert field.values.shape == (65, 65)
    point = torch.tensor([[REACH, -REACH]])[:, :, None, None]
    score = module.game.discriminator.eval()(point).score
    probability = score.sigmoid() if field.name == "D(x)" else score
    torch.testing.assert_close(field.values[0, -1], probability[0], atol=1e-5, rtol=1e-4)
    assert data.modes is not None
    assert data.modes.abs().max() <= 1
    packs, *_ = built("model=toy", "data=toy", "data.points=500", "model.game.packing=2", folder=tmp_path)
    assert critic_background(packs) is None  # it scores no single points


def test_animations_repeat_and_show_each_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (41, 30), "white") for i in range(10)]
    for i, frame in enumerate(frames):
        frame.paste((180, 0, 200), (4 * i, 10, 4 * i + 4, 20))
    animate(lambda i: frames[i], 10, 20, tmp_path / "it.gif", tmp_path / "it.mp4")
    gif = Image.open(tmp_path / "it.gif")
    assert (gif.n_frames, gif.info["loop"], gif.size) == (10, 0, (41, 30))  # type: ignore[attr-defined]
    assert gif.convert("RGB").getpixel((40, 0)) == (255, 255, 255)
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "it.mp4")) as video:
        shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(shown) == 10
    assert shown[0].shape == (30, 42, 3)
    assert abs(shown[9][15, 38].astype(int) - (180, 0, 200)).max() < 40
    assert abs(shown[9][15, 8].astype(int) - (255, 255, 255)).max() < 12


def test_a_failed_video_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "it.mp4") as part, Video(part, 20) as video:
        video.add(Image.new("RGB", (16, 16)))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_left_out(tmp_path: Path) -> None:
    """A run may be resumed with other captions or another number of samples."""
    files = []
    for i, side in enumerate((20, 30, 30)):
        image = Image.new("RGB", (side, side), "white")
        image.paste((0, 0, 0), (0, 0, 5 * i, 5))
        image.save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    save_gif(files, tmp_path / "it.gif")
    assert Image.open(tmp_path / "it.gif").n_frames == 2  # type: ignore[attr-defined]


def test_headings_of_the_modes(tmp_path: Path) -> None:
    module, *_ = built("model=cdcgan", *SMALL, folder=tmp_path)
    module.classes = [f"digit {i}" for i in range(10)]
    for mode, names, rows in (
        (ByClass(rows=3), module.classes, []),
        (Interpolate(pairs=2, steps=3), ["0", "0.5", "1"], ["digit 0", "digit 1"]),
        (Walk(count=2, points=2), ["latent 1", "latent 2"], ["digit 0", "digit 1"]),
    ):
        inputs, columns = mode(module.game, seed=0)
        (panel,) = mode.panels(module, inputs, columns)
        assert (list(panel.column_names), list(panel.row_names)) == (names, rows)
    inputs, columns = Arithmetic()(module.game, seed=0)
    assert [panel.count for panel in Arithmetic().panels(module, inputs, columns)] == [9, 3, 9]
    inputs, _ = Grid(count=64)(module.game, seed=0)
    assert sample_panel(module, inputs).column_names == module.classes  # few classes: a column for each
    assert sample_panel(module, {**inputs, "label": torch.full((64,), 3)}).captions == ()  # all the same
    shuffled = {**inputs, "label": torch.arange(64).flip(0) ** 2 % 10}
    assert sample_panel(module, shuffled).captions[0] == "digit 9"
    assert sample_title(module) == "cdcgan on digits"


def test_headings_of_codes(tmp_path: Path) -> None:
    module, *_ = built(
        "model=infogan", "model.game.generator.width=8", "model.game.generator.hidden=8", folder=tmp_path
    )
    mode = Codes(rows=2)
    inputs, columns = mode(module.game, seed=0)
    panels = mode.panels(module, inputs, columns)
    assert [panel.row_names[0] for panel in panels] == ["category", "c1 = -2 ... 2", "c2 = -2 ... 2"]
    assert panels[0].column_names == [str(i) for i in range(10)]
    assert (panels[1].column_names[0], panels[1].column_names[-1]) == ("-2", "2")
    assert sum(panel.count or 0 for panel in panels) == len(inputs["latent"])


def test_frames_of_animated_modes_begin_and_end_at_the_same_latents(tmp_path: Path) -> None:
    module, *_ = built(*SMALL, folder=tmp_path)
    between, walk = Interpolate(pairs=2, steps=3, frames=8), Walk(count=2, points=3, steps=4)
    inputs, _ = between(module.game, seed=0)
    rows = inputs["latent"].unflatten(0, (2, 3))
    torch.testing.assert_close(between.frame(0)["latent"], rows[:, 0])
    torch.testing.assert_close(between.frame(4)["latent"], rows[:, 2])
    torch.testing.assert_close(between.frame(7)["latent"], between.frame(1)["latent"])  # and back
    way = walk(module.game, seed=0)[0]["latent"].unflatten(0, (2, 3))
    assert walk.frames == 12
    for point in range(3):
        torch.testing.assert_close(walk.frame(4 * point)["latent"], way[:, point])
    steps = [(walk.frame((i + 1) % 12)["latent"] - walk.frame(i)["latent"]).norm() for i in range(12)]
    assert max(steps) < 2 * min(steps)  # the walk is closed, and nowhere jumps


def test_lists_of_seeds() -> None:
    assert parse_seeds("0-3,77, 5") == [0, 1, 2, 3, 77, 5]
    assert parse_seeds(7) == [7]
    assert parse_seeds([3, 1]) == [3, 1]
    for wrong in ("a", "3-1", "1-", "-2", "1,,2"):
        with pytest.raises(UserError, match="such as 0-35,77"):
            parse_seeds(wrong)


def test_samples_are_drawn_in_parts_that_do_not_depend_on_their_number(tmp_path: Path) -> None:
    module, *_ = built("model=cdcgan", *SMALL, folder=tmp_path)
    parts = [inputs for inputs, _ in Grid(count=700).batches(module.game, 3)]
    assert [len(part["latent"]) for part in parts] == [256, 256, 188]
    whole = seeded_inputs(module.game, 700, 3)
    for name in whole:
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])
    seeds, _ = Grid(seeds="2,700")(module.game, 0)
    assert torch.equal(seeds["latent"][0], seeded_inputs(module.game, 1, 2)["latent"][0])
    assert torch.equal(seeds["latent"][1], seeded_inputs(module.game, 1, 700)["latent"][0])
    assert seeds["label"].tolist() == [2, 0]


def test_folders_of_classes_are_safe_and_different() -> None:
    assert class_folder(3, "3") == "3"
    assert class_folder(0, "../a b") == "0-a_b"
    assert class_folder(1, "猫") == "1-猫"
    assert class_folder(2, "///") == "2"
    assert len(class_folder(4, "x" * 500)) < 100


@pytest.mark.slow
def test_sample_writes_png_files_by_seed_in_folders_by_class(fit: Fit, tmp_path: Path) -> None:
    fit("model=cdcgan", *SMALL, "max_images=32", folder=tmp_path / "run")

    def sampled(*options: str) -> Path:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        result = quick("sample", f"checkpoint={tmp_path}/run", f"out={out}", *options, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        return out

    out = sampled("format=[npy,png]", "count=300", "seed=5")
    array, files = np.load(out / "samples.npy"), sorted(out.glob("*/*.png"))
    assert array.shape == (300, 16, 16, 1)
    assert len(files) == 300
    assert [path.name for path in sorted(out.glob("?"))] == [str(i) for i in range(10)]
    for file in files[::17]:
        number = int(file.stem.removeprefix("seed0005-"))
        assert file.parent.name == str(number % 10)
        assert np.array_equal(np.asarray(Image.open(file)), array[number, :, :, 0])
    with (out / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["number"] for row in rows[:11]] == [str(i % 10) for i in range(11)]
    assert (out / rows[10]["file"]).is_file()

    out = sampled("format=png", "seeds=5,0-2")
    assert sorted(path.name for path in out.rglob("seed*.png")) == [f"seed000{i}.png" for i in (0, 1, 2, 5)]
    alone = sampled("seed=5", "count=1", "condition=5")
    (five,) = out.rglob("seed0005.png")
    assert np.array_equal(np.asarray(Image.open(five)), np.load(alone / "samples.npy")[0, :, :, 0])

    latents = seeded_inputs(built("model=cdcgan", *SMALL, folder=tmp_path)[0].game, 3, 9)["latent"]
    np.save(tmp_path / "z.npy", latents.numpy())
    torch.save(latents, tmp_path / "z.pt")
    arrays = [
        np.load(sampled(*o) / "samples.npy") for o in (["latents=z.npy"], ["latents=z.pt"], ["seed=9", "count=3"])
    ]
    assert np.array_equal(arrays[0], arrays[1])
    assert np.array_equal(arrays[0], arrays[2])
    np.save(tmp_path / "wrong.npy", latents[:, :5].numpy())
    for options, message in (
        (["latents=wrong.npy"], "latents [N, 100] are needed"),
        (["latents=none.npy"], "latents=none.npy: it can't be read"),
        (["mode=walk", "seeds=3"], "seeds=: only mode=grid takes it"),
        (["format=onnx"], "format=onnx: for generators"),
    ):
        result = quick("sample", f"checkpoint={tmp_path}/run", f"out={tmp_path}/x", *options, folder=tmp_path)
        assert result.returncode == 1
        assert message in result.stderr


@pytest.mark.slow
def test_a_walk_is_written_as_gif_and_video(fit: Fit, tmp_path: Path) -> None:
    fit(*SMALL, "max_images=32", folder=tmp_path / "run")
    options = ["mode=walk", "mode.count=4", "mode.points=2", "mode.steps=3", "captions=false"]
    result = quick("sample", f"checkpoint={tmp_path}/run", "out=out", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"animation.gif", "grid.png", "samples.npy"}
    assert Image.open(tmp_path / "out/animation.gif").n_frames == 6  # type: ignore[attr-defined]
    assert ("animation.mp4" in result.stdout) == (tmp_path / "out/animation.mp4").is_file()


def test_the_default_font_is_there() -> None:
    assert isinstance(text.font_for("title", 14, bold=True), ImageFont.FreeTypeFont)
    assert Path(text._default_file(False)).is_file()
