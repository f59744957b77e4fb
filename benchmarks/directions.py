"""What an edit along a named direction changes: the attribute, all others, and the person.

    python benchmarks/directions.py RUN [--samples 10000] [--edits 300] [--out OUT]

RUN is a run on faces with attributes (data=celeba). A network that was trained on the images of even number labels the
samples from which the directions are fitted; another one, of the odd ones, judges the edits. For each of the most
frequent attributes and each step, latents whose sample does not have the attribute are moved along the direction.
Counted are

- the share of edits after which the judge reads the attribute;
- how many of the other attributes the judge reads differently;
- the cosine of an identity network between both images.

Compared are the directions by logistic regression, the same with the planes of the three most correlated attributes
kept, random directions, and random directions of the step that changes the image as much. A table, OUT/directions.json
and OUT/directions.png, a labelled strip for each attribute, are written. With the defaults about 30 min on one thread
for 32 px at a quarter of the width.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

import oakleaf
from oakleaf.cli.real_data import real_data
from oakleaf.figures.grid import Layout, Panel, draw_grid
from oakleaf.frozen import Trained
from oakleaf.frozen.classifier import Training
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.sampling.inversion import Domain
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs
from oakleaf.sampling.named_directions import Direction, judged_directions, without

KEPT = 3  # directions whose planes are kept, those that are the most similar


def networks(data: Any, images: int) -> tuple[Trained, Trained, Trained]:
    """Return the network that labels, the one that judges, and that of persons."""
    made = []
    for task, part, seed in (("attributes", "even", 1), ("attributes", "odd", 2), ("identity", "all", 3)):
        outputs = len(data.classes) if task == "attributes" else 0
        network = Trained(task, data.channels, list(data.size), outputs, Training(images=images), seed, part)  # type: ignore[arg-type]
        network.initialize(data)
        made.append(network)
    return made[0], made[1], made[2]


@torch.no_grad()
def read(network: Trained, images: Tensor, part: str) -> Tensor:
    """Return logits or embeddings of images, [N, K]."""
    return torch.cat([getattr(network(batch), part) for batch in images.split(500)])


class Edits:
    """Edits of a run's samples, and how they are judged.

    Args:
        run: of the generator.
        judge: reads attributes.
        identity: embeds persons.
        count: of edits for each direction and step.
    """

    def __init__(self, run: oakleaf.Run, judge: Trained, identity: Trained, count: int) -> None:
        self.run, self.judge, self.identity, self.count = run, judge, identity, count
        self.z = seeded_inputs(run.module.game, 10 * count, 99)["latent"]
        self.sd = Domain.of(self.z).sd
        self.images = self.generate(self.z)
        self.read = read(judge, self.images, "logits") > 0

    def generate(self, z: Tensor) -> Tensor:
        return sample_in_batches(self.run.module, {"latent": z})

    def measured(self, number: int, vector: Tensor, step: float) -> dict[str, float]:
        """Return what edits along a direction change.

        Args:
            number: of the attribute.
            vector: the direction [d], or one for each latent [N, d].
            step: in standard deviations.
        """
        rows = torch.nonzero(~self.read[:, number]).flatten()[: self.count]
        along = vector.expand(len(self.z), -1)[rows]
        images = self.generate(self.z[rows] + step * self.sd * along)
        found = read(self.judge, images, "logits") > 0
        others = (found != self.read[rows]).float()
        same = cosine_similarity(*(read(self.identity, x, "embedding") for x in (self.images[rows], images)))
        return {
            "attribute": float(found[:, number].float().mean()),
            "others": float((others.sum(1) - others[:, number]).mean()),
            "identity": float(same.mean()),
            "change": float((images - self.images[rows]).square().mean().sqrt()),
        }

    def step_of_change(self, number: int, vector: Tensor, change: float) -> float:
        """Return the step at which a direction changes the image as much, by bisection."""
        low, high = 0.0, 30.0
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if self.measured(number, vector, middle)["change"] < change else (low, middle)
        return (low + high) / 2


def ways(edits: Edits, number: int, one: Direction, all_: list[Direction]) -> dict[str, Tensor]:
    """Return the directions that are compared for an attribute."""
    others = sorted((o for o in all_ if o.name != one.name), key=lambda o: -abs(float(o.vector @ one.vector)))[:KEPT]
    generator = torch.Generator().manual_seed(number)
    random = normalize(torch.randn(edits.z.shape, generator=generator), dim=1)
    kept = without(one.vector, torch.stack([o.vector for o in others])) if others else one.vector
    return {"logistic": one.vector, "logistic, others kept": kept, "random": random}


def measure(edits: Edits, directions: list[Direction], names: list[str], steps: list[float]) -> list[dict[str, Any]]:
    """Return the numbers of each attribute, way and step."""
    rows = []
    for one in directions:
        number = names.index(one.name)
        found = ways(edits, number, one, directions)
        for step in steps:
            for way, vector in found.items():
                rows.append({"name": one.name, "way": way, "step": step, **edits.measured(number, vector, step)})
            equal = edits.step_of_change(number, found["random"], rows[-len(found)]["change"])
            way = "random, equal change"
            rows.append({"name": one.name, "way": way, "step": step, **edits.measured(number, found["random"], equal)})
        print(one.name, [round(row["attribute"], 2) for row in rows[-4:]], flush=True)
    return rows


def report(rows: list[dict[str, Any]], steps: list[float]) -> None:
    """Print means over the attributes."""
    print("| way | step, sd | attribute read | others changed | identity cosine | change (rms) |")
    print("|---" * 6 + "|")
    for step in steps:
        for way in dict.fromkeys(row["way"] for row in rows):
            own = [row for row in rows if row["way"] == way and row["step"] == step]
            means = [sum(row[key] for row in own) / len(own) for key in ("attribute", "others", "identity", "change")]
            print(f"| {way} | {step:g} | {means[0]:.1%} | {means[1]:.2f} | {means[2]:.2f} | {means[3]:.3f} |")


def draw(edits: Edits, directions: list[Direction], out: Path, reach: float) -> None:
    """Draw a strip for each attribute."""
    offsets = torch.linspace(-reach, reach, 7)
    strips, panels = [], []
    for one in directions[:8]:
        z = edits.z[:2].repeat_interleave(7, 0) + offsets.repeat(2)[:, None] * edits.sd * one.vector
        strips.append(edits.generate(z))
        names = [f"{offset:+.2g}" for offset in offsets.tolist()]
        panels.append(Panel(14, 7, f"{one.name}, in standard deviations", names))
    draw_grid(torch.cat(strips), Layout(panels, "latents that are moved along directions")).save(out / "directions.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=300)
    parser.add_argument("--attributes", type=int, default=12)
    parser.add_argument("--judge-images", type=int, default=200_000)
    parser.add_argument("--steps", nargs="*", type=float, default=[1.0, 3.0, 6.0])
    parser.add_argument("--out", type=Path, default=Path("directions"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = oakleaf.load(options.run)
    data = real_data(read_checkpoint(options.run), None, None).data
    labelling, judge, identity = networks(data, options.judge_images)
    z = seeded_inputs(run.module.game, options.samples, 0)["latent"]
    logits = read(labelling, sample_in_batches(run.module, {"latent": z}), "logits")
    found, left_out = judged_directions(z, logits, list(data.classes), "attributes")
    print(f"left out, too few samples on one side: {', '.join(left_out) or 'none'}")
    found = sorted(found, key=lambda one: -min(one.measured["positive"], 1 - one.measured["positive"]))
    edits = Edits(run, judge, identity, options.edits)
    chosen = found[: options.attributes]
    rows = measure(edits, chosen, list(data.classes), options.steps)
    accuracy = {one.name: dict(one.measured) for one in found}
    (options.out / "directions.json").write_text(json.dumps({"rows": rows, "directions": accuracy}, indent=1))
    report(rows, options.steps)
    draw(edits, chosen, options.out, max(options.steps))


if __name__ == "__main__":
    main()
