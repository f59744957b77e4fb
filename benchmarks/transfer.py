"""Few pictures: training from scratch against fine-tuning a run by init=, with D frozen up to a layer (FreezeD).

    python benchmarks/transfer.py OUT [--source data=celeba] [--target data=utkface] [--pictures 100 1000] ...

A DCGAN is trained on the source, once. Each system is then trained on so many pictures of the target, and measured at
equal parts of its run by the Frechet distance of samples (EMA) to held-out pictures of the target, in the features of a
classifier of other pictures of the target (of its labels, or of rotations where it has none). A run that is done is
skipped. OUT/transfer.json, OUT/transfer.png and a table are written at the end. With the defaults: the source 8 min on
one thread, each of ten runs 2 to 4 min, about 45 min.

Reference: Mo 2020 (FreezeD), arXiv:2002.10964; Wang 2018 (transferring GANs), arXiv:1805.01677.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import oakleaf
from oakleaf.builder.compose import compose_config
from oakleaf.builder.recipe import build_data
from oakleaf.frozen.classifier import Training, train_classifier
from oakleaf.frozen.tasks import Labels, Rotations
from oakleaf.image_grid import from_bytes, to_bytes
from oakleaf.metrics.fid import frechet_distance
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.report.charts import Chart, Series, write_png

FROZEN = (0, 1, 2)  # layers of D that are not trained, the one at the image first


def common(options: Any) -> list[str]:
    """Return the overrides of all runs."""
    widths = [f"model.game.{one}.width={options.width}" for one in ("generator", "discriminator")]
    return [
        *("model=dcgan", "trainer=cpu", "trainer.precision=32-true", "logger=csv", "trainer.enable_progress_bar=false"),
        *("callbacks.samples=null", "callbacks.report=null", "callbacks.training_monitor=null", "data.batch_size=32"),
        *(*widths, f"data.size={options.size}", "threads=1"),
    ]


def systems(source: Path) -> dict[str, list[str]]:
    """Return the overrides of each system by its name."""
    found: dict[str, list[str]] = {"from scratch": []}
    for count in FROZEN:
        patterns = ",".join(f'"stages.{k}.*"' for k in range(count))
        frozen = [f"optim.discriminator.freeze=[{patterns}]"] if count else []
        found[f"fine-tuned, {count} layers of D frozen" if count else "fine-tuned"] = [f"init={source}", *frozen]
    found["fine-tuned, only G taken"] = [f"init={source}", "init.players=[generator]"]
    return found


class Judge:
    """Held-out pictures of the target and the features by which samples are compared with them.

    Args:
        options: of the command.
        out: where the pictures of the runs are written, as PNGs in folders by their number.
    """

    def __init__(self, options: Any, out: Path) -> None:
        data: Any = build_data(compose_config("train", [*common(options), *options.target, "data.flip=false"]))
        data.prepare_data()
        data.setup()
        order = torch.randperm(data.count, generator=torch.Generator().manual_seed(0))
        most = max(options.pictures)
        self.held_out, rest = data.images(order[most : most + options.held_out]), order[most + options.held_out :]
        for count in options.pictures:
            folder = out / f"pictures-{count}"
            if not folder.is_dir():
                folder.mkdir(parents=True)
                for i, image in enumerate(data.images(order[:count])):
                    pixels = image.permute(1, 2, 0).squeeze(2).numpy()
                    Image.fromarray(pixels).save(folder / f"{i:05}.png")
        task = Labels(data.column("label", rest), len(data.classes)) if data.classes else Rotations(data.size)
        training = Training(images=options.classifier_images, width=16, features=64)
        self.network = train_classifier(data.images(rest), task, training).eval()
        self.real = self.features(self.held_out)
        self.floor = frechet_distance(self.features(data.images(order[:most])).moments, self.real.moments)

    @torch.no_grad()
    def features(self, images: Tensor) -> ImageSet:
        batches = [self.network(from_bytes(batch).float())[0] for batch in images.split(500)]
        return ImageSet(Features(torch.cat(batches), None), images)

    def score(self, run: oakleaf.Run, samples: int) -> float:
        images = to_bytes(run.sample(samples, seed=1))
        return frechet_distance(self.features(images).moments, self.real.moments)


def train(folder: Path, overrides: list[str], images: int, every: int) -> list[Path]:
    """Train a run, if it has not been trained yet; return its checkpoints."""
    if not (folder / "checkpoints/last.ckpt").exists():
        oakleaf.train(
            [*overrides, f"max_images={images}", f"callbacks.checkpoint.keep_every={every}", f"folder={folder}"]
        )
    return sorted((folder / "checkpoints").glob("0*.ckpt"))


def measure(options: Any, out: Path) -> list[dict[str, Any]]:
    """Train all systems and return their scores along the runs."""
    source, rows = out / "source", []
    train(source, [*common(options), *options.source], options.source_images, options.source_images)
    judge = Judge(options, out)
    (out / "floor.json").write_text(json.dumps(judge.floor))
    for count in options.pictures:
        place = [f"data.root={out / f'pictures-{count}'}", "data=folder", f"data.channels={judge.held_out.shape[1]}"]
        for name, overrides in systems(source).items():
            began = time.process_time()
            folder = out / f"{count}-{name.replace(', ', '-').replace(' ', '_')}"
            files = train(
                folder, [*common(options), *place, *overrides], options.images, options.images // options.points
            )
            for file in files:
                run = oakleaf.load(file)
                row = {"pictures": count, "system": name, "images": run.module.images_seen}
                rows.append({**row, "fid": judge.score(run, options.samples)})
            print(count, name, rows[-1], f"{time.process_time() - began:.0f} s", flush=True)
    return rows


def report(rows: list[dict[str, Any]], out: Path) -> None:
    """Print a table and draw a chart for each number of pictures."""
    print("| pictures | system | FID, best | at images | FID, last |\n|---|---|---|---|---|")
    charts = []
    for count in dict.fromkeys(row["pictures"] for row in rows):
        series = []
        for name in dict.fromkeys(row["system"] for row in rows):
            own = [row for row in rows if row["pictures"] == count and row["system"] == name]
            best = min(own, key=lambda row: row["fid"])
            print(f"| {count:,} | {name} | {best['fid']:.2f} | {best['images']:,} | {own[-1]['fid']:.2f} |")
            series.append(Series(name, [row["images"] for row in own], [row["fid"] for row in own], marked=True))
        charts.append(Chart(f"{count:,} pictures", series, note="FID to held-out pictures"))
    write_png(charts, "images seen", "From scratch and fine-tuned", out / "transfer.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", nargs="*", default=["data=celeba"])
    parser.add_argument("--target", nargs="*", default=["data=utkface"])
    parser.add_argument("--pictures", nargs="*", type=int, default=[100, 1000])
    for name, value in {"images": 60_000, "source-images": 200_000, "points": 6, "samples": 2000, "size": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in {"width": 16, "held-out": 3000, "classifier-images": 60_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out.resolve()
    rows = measure(options, out)
    (out / "transfer.json").write_text(json.dumps({"options": {**vars(options), "out": ""}, "rows": rows}, indent=1))
    report(rows, out)


if __name__ == "__main__":
    main()
