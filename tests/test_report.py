"""Reports: what a page shows of a run and of a sweep, in a real browser, and when it is written."""

import json
import math
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image

from helpers.browser import opened
from helpers.composing import SMALL
from helpers.disk import full_disk
from helpers.training import Fit
from oakleaf.callbacks.report import Report, nearest_of_data
from oakleaf.image_grid import from_bytes
from oakleaf.report import run as run_report
from oakleaf.report.charts import Chart, Series, axes_of, decades, svg, tick_label, ticks, write_png
from oakleaf.report.curves import alarms_of, charts_of, read_table
from oakleaf.report.page import duration, number
from oakleaf.report.provenance import new_session, read_sessions, write_sessions
from oakleaf.report.run import MAX_FRAMES, RunReport

ADVICE = {"collapse": "a lower learning rate"}
NASTY = "<script>alert(1)</script>"


def write_run(folder: Path, rows: int = 400) -> Path:
    """Write the files of a run as the training leaves them, without training."""
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").touch()
    for i in range(5):
        Image.new("RGB", (80, 60), (40 * i, 90, 0)).save(folder / f"samples/{i * 1000:012d}.png")
    config = f"model: {{name: dcgan, note: '{NASTY}'}}\ndata: {{name: digits}}\nseed: 3\nfolder: outputs/it\n"
    (folder / "config.yaml").write_text(config)
    names = ["images", "seconds", "loss/discriminator/adversarial", "loss/generator/adversarial", "loss/generator/l1"]
    names += ["D(x)", "D(G(z))", "gradient_norm/generator", "metric/fid-classifier", "alarm/collapse", "mine/number"]
    lines = [",".join(names)]
    for i in range(rows):
        loss = "nan" if i == 7 else f"{math.exp(-i / 90):.4f}"
        fid = f"{50 - i / 10}" if i % 80 == 0 else ""
        alarm = {100: "1.0", 200: "0.0", 300: "1.0"}.get(i, "")
        row = [i * 10, i / 2, loss, 1 - i / 900, 0.1, 0.6, 0.4, 10 ** (i % 5 - 2), fid, alarm, i]
        lines.append(",".join(str(value) for value in row))
    (folder / "metrics.csv").write_text("\n".join([*lines, "4000,20"]) + "\n")  # the last row is not complete
    session = {"status": "finished", "images": 4000, "total_images": 4000, "start_images": 0, "seconds": 200.0}
    write_sessions(folder, [{**new_session("python train.py model=dcgan data=digits"), **session}])
    protocol = {"fake": 1000, "real": 1797, "images_seen": 4000, "extractor": {"name": "classifier", "accuracy": 0.98}}
    score = {"name": "fid-classifier", "value": 12.5, "baseline": 1.25, "better": "lower", "protocol": protocol}
    (folder / "metrics.json").write_text(json.dumps([score]))
    Image.new("RGB", (90, 40), (0, 0, 200)).save(folder / "neighbours.png")
    return folder


def test_the_page_of_a_run_in_a_browser(tmp_path: Path) -> None:
    RunReport(write_run(tmp_path / "it"), ADVICE).write()
    with opened(tmp_path / "it/report.html") as page:
        text = page.inner_text("body")
        for shown in (
            "dcgan on digits", "finished", "4,000", "3 min 20 s", "python train.py model=dcgan data=digits",
            "collapse", "1,000", "2,000", "still raised", "a lower learning rate",
            "fid-classifier", "12.5", "1.25", "1,000 samples, 1,797 real images",
            "python train.py resume=outputs/it", "python sample.py checkpoint=outputs/it",
            "python evaluate.py checkpoint=outputs/it", "python export.py checkpoint=outputs/it",
            "Adversarial losses", "Loss terms of the generator", "Gradient norms", "mine", "D's probability",
            "torch", "processor",
        ):  # fmt: skip
            assert shown in text, shown
        assert page.title() == "dcgan on digits, it"
        assert page.locator(".over-images svg:visible").count() == 6
        assert page.locator(".over-seconds svg:visible").count() == 0
        page.check("#seconds")
        assert page.locator(".over-images svg:visible").count() == 0
        assert page.locator(".over-seconds svg:visible").count() == 6
        assert page.inner_text("#frame-label") == "4,000 images"
        last = page.get_attribute("#frame", "src")
        page.locator("#frame-number").fill("1")
        assert page.inner_text("#frame-label") == "1,000 images"
        assert page.get_attribute("#frame", "src") != last
        sizes = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
        assert sizes == [[True, 80], [True, 90]]
        page.get_by_text("model", exact=True).click()
        assert NASTY in page.inner_text("body")  # as text
        page.reload()
        assert page.inner_text("#frame-label") == "1,000 images"  # the page remembers what was chosen
        assert page.is_checked("#seconds")


@pytest.mark.slow
def test_the_page_of_a_run_that_is_going_reloads_itself(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "it", rows=100)
    sessions = read_sessions(folder)
    write_sessions(folder, [{**sessions[0], "status": "running", "images": 1000}])
    report = RunReport(folder, ADVICE)
    report.write(refresh=1)
    with opened(folder / "report.html") as page:
        assert "running, 25%, about 10 min 00 s left" in page.inner_text("#status")
        page.locator("#frame-number").fill("2")
        write_sessions(folder, [{**sessions[0], "status": "running", "images": 2000}])
        report.write(refresh=1)
        end = time.time() + 20
        while "50%" not in page.inner_text("#status") and time.time() < end:
            page.wait_for_timeout(200)
        assert "50%" in page.inner_text("#status")
        assert page.inner_text("#frame-label") == "2,000 images"
    report.write()
    assert "ended without a last word" in (folder / "report.html").read_text()  # it was killed


@pytest.mark.parametrize("missing", ["all", "metrics.csv", "config.yaml", "run.json", "samples"])
def test_a_page_of_what_there_is(missing: str, tmp_path: Path) -> None:
    """Files may be missing or damaged."""
    folder = tmp_path / "it"
    if missing == "all":
        folder.mkdir()
    else:
        write_run(folder, rows=5)
        for file in [folder / missing] if missing != "samples" else list((folder / "samples").iterdir()):
            file.write_bytes(b"\0\xff damaged")
    RunReport(folder, ADVICE).write()
    with opened(folder / "report.html") as page:
        assert "Commands" in page.inner_text("body")


def test_many_sample_grids_are_thinned_and_converted_once(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    (folder / "samples").mkdir(parents=True)
    for i in range(100):
        Image.new("RGB", (8, 8), (2 * i, 0, 0)).save(folder / f"samples/{i:012d}.png")
    report = RunReport(folder, ADVICE)
    frames = report.content(None)["frames"]
    assert len(frames) == MAX_FRAMES
    assert (frames[0]["label"], frames[-1]["label"]) == ("0 images", "99 images")
    with mock.patch("oakleaf.report.run.picture", side_effect=AssertionError):
        assert report.content(None)["frames"] == frames


def test_charts_of_scalars(tmp_path: Path) -> None:
    table = read_table(write_run(tmp_path / "it") / "metrics.csv")
    charts = {chart.title: chart for chart in charts_of(table)}
    assert [one.name for one in charts["Adversarial losses"].series] == ["discriminator", "generator"]
    assert len(charts["Adversarial losses"].series[0].x) == 399  # without the one that is not finite
    assert charts["fid-classifier"].series[0].x == (0, 800, 1600, 2400, 3200)
    assert charts["Gradient norms"].logarithmic
    over_seconds = {chart.title: chart for chart in charts_of(table, over_seconds=True)}
    assert over_seconds["fid-classifier"].series[0].x == (0, 40, 80, 120, 160)
    assert [(one.name, one.raised, one.cleared) for one in alarms_of(table)] == [
        ("collapse", 1000, 2000), ("collapse", 3000, None),
    ]  # fmt: skip


def test_a_long_curve_is_reduced_to_means_with_a_band() -> None:
    values = [float(i % 10) for i in range(6000)]
    values[3000] = 1000.0  # a peak stays visible
    one = Series("it", [float(i) for i in range(6000)], values).reduced()
    assert len(one.x) == 300
    assert max(one.high) == 1000
    assert min(one.low) == 0
    assert one.y[0] == 4.5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-0.3, 0.31, [-0.2, 0, 0.2]), (3, 1e6, [2e5, 4e5, 6e5, 8e5, 1e6])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_as_text() -> None:
    assert [tick_label(value) for value in (0, 1.5, 20_000, 3e6, 1e-5, -0.25)] == [
        "0",
        "1.5",
        "20k",
        "3M",
        "1e-05",
        "-0.25",
    ]
    assert decades(0.02, 300) == [0.1, 1, 10, 100]
    assert [duration(s) for s in (0.5, 59, 61, 3720, 200_000)] == [
        "0.5 s",
        "59 s",
        "1 min 01 s",
        "1 h 02 min",
        "2.3 days",
    ]
    assert [number(value) for value in (None, math.nan, 12.0, 0.12345, 1234)] == ["", "nan", "12", "0.1235", "1,234"]


def test_points_of_an_svg_lie_where_their_values_are() -> None:
    chart = Chart("it", [Series("a", [0, 10], [1, 100])], logarithmic=True)
    axes = axes_of(chart)
    assert axes is not None
    assert axes.logarithmic
    left, right = axes.place(0, 10)[0], axes.place(10, 10)[0]
    assert axes.place(5, 10)[0] == pytest.approx((left + right) / 2)
    heights = [axes.place(0, value)[1] for value in (1, 10, 100)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert svg(Chart("it", [Series("a", [1], [math.nan])]), "x") == ""
    gap = svg(Chart("it", [Series("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 2, 1])]), "x")
    assert gap.count("<polyline") == 2
    assert svg(Chart("it", [Series("a", [3], [2])]), "x").count("<circle") == 1  # a single value


def test_curves_are_written_as_a_picture(tmp_path: Path) -> None:
    charts = [Chart("a", [Series("x", [0, 1], [1, 2])]), Chart("none"), Chart("b", [Series("y", [0, 1], [1, 1])])]
    write_png(charts, "images seen", "it", tmp_path / "it.png")
    assert Image.open(tmp_path / "it.png").width == 1000  # two charts side by side


@pytest.mark.slow
def test_the_report_is_written_in_training_and_at_its_end(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_report, "write_png", write_png)
    fit(*SMALL, "max_images=960", "log_every=10", "callbacks.report.every=1")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "curves.png", "run.json", "neighbours.png"} <= names
    assert Image.open(tmp_path / "curves.png").width == 1500
    (session,) = read_sessions(tmp_path)
    assert session["status"] == "finished"
    assert session["images"] == 960
    assert session["peak_memory"]["process"] > 1e8
    assert 0 < session["report_seconds"] < session["seconds"] + 60
    content = RunReport(tmp_path, ADVICE).content(None)
    assert content["neighbours"]
    assert {chart["title"] for chart in content["charts"]} >= {"Adversarial losses", "Gradient norms", "Speed"}


def test_writing_takes_no_more_than_its_share_of_the_time(fit: Fit, tmp_path: Path) -> None:
    """A page that takes long to write is written less often."""
    written: list[float] = []

    def slow(self: RunReport, refresh: int | None = None) -> None:
        written.append(time.perf_counter())
        time.sleep(0.2)

    with mock.patch.object(RunReport, "write", slow):
        fit(*SMALL, "max_images=960", "callbacks.report.every=1")
    assert len(written) == 2  # the first and the last page: 0.2 s are 1 % of 20 s


def test_a_full_disk_or_a_mistake_in_the_report_ends_no_training(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mock.patch.object(RunReport, "content", side_effect=ZeroDivisionError):
        module, _ = fit(*SMALL, "max_images=160", "callbacks.checkpoint=null", folder=tmp_path / "other")
    assert module.images_seen == 160
    assert caplog.text.count("report.html could not be written; training continues without it") >= 1
    without = ["max_images=160", "callbacks.checkpoint=null", "callbacks.progress=null"]
    with full_disk(0):
        module, _ = fit(*SMALL, *without, folder=tmp_path / "full")
    assert module.images_seen == 160
    assert not list((tmp_path / "full").glob("*.html"))


def test_a_failed_run_says_why_in_its_page(fit: Fit, tmp_path: Path) -> None:
    with (
        mock.patch("oakleaf.callbacks.log_scalars.LogScalars.write_row", side_effect=RuntimeError("no more")),
        pytest.raises(RuntimeError, match="no more"),
    ):
        fit(*SMALL, "max_images=960", "log_every=10")
    assert "failed: RuntimeError: no more" in (tmp_path / "report.html").read_text()


def test_nearest_training_images_are_found_in_parts() -> None:
    """The result is that of all distances at once."""
    images = torch.randint(0, 256, (3000, 1, 4, 4), dtype=torch.uint8)

    class Data:
        count = len(images)

        @staticmethod
        def iter_images(size: int, rows: torch.Tensor):
            return (images[part] for part in rows.split(size))

    samples = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    found, searched = nearest_of_data(samples, Data(), 3, seconds=60)  # type: ignore[arg-type]
    distance = torch.cdist(samples.flatten(1).double(), images.flatten(1).double())
    assert torch.equal(found.row.sort().values, distance.topk(3, largest=False).indices.sort().values)
    assert searched == 3000
    _, searched = nearest_of_data(samples, Data(), 3, seconds=-1)  # type: ignore[arg-type]
    assert searched == 1024
    assert from_bytes(samples).shape == samples.shape


def test_without_other_processes_the_callback_needs_no_gan() -> None:
    assert not getattr(Report, "needs_gan", False)
