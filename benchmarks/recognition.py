"""Train a recognition network as `oakleaf.frozen.Trained` does, and test it on data that it has not seen.

python benchmarks/recognition.py TASK DATA [OVERRIDE ...], for example

    python benchmarks/recognition.py label mnist data.size=28
    python benchmarks/recognition.py attributes celeba data.size=64 images=100000
    python benchmarks/recognition.py identity celeba data.size=64 images=300000 margin=0.35
    python benchmarks/recognition.py age utkface data.size=64 images=200000

A label is tested on the test split; attributes and ages on a tenth of the images; identities on the persons of odd
number, where the network was trained on those of even number.
"""

import sys
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from oakleaf.builder.compose import compose_config
from oakleaf.builder.recipe import build_data
from oakleaf.builder.resolvers import register
from oakleaf.frozen.classifier import Training, nine_tenths, predict, scaled, train_classifier
from oakleaf.frozen.tasks import Ages, Attributes, Identities, Labels, Rotations, Task, expected_age

OWN = ("images", "epochs", "width", "features", "side", "lr", "batch", "seed", "margin", "scale", "kind")  # options


def data_of(name: str, *overrides: str) -> Any:
    """Return a data module, set up."""
    register()
    data = build_data(compose_config("train", [f"data={name}", *overrides]))
    data.prepare_data()
    data.setup("fit")
    return data


def task_of(kind: str, data: Any, options: dict[str, str]) -> Task:
    """Return the task on these data."""
    if kind == "rotation":
        return Rotations(data.size)
    row = data.column(kind)
    margin, scale = float(options.get("margin", 0.35)), float(options.get("scale", 30))
    makers: dict[str, Any] = {
        "label": lambda: Labels(row, len(data.classes)),
        "attributes": lambda: Attributes(row),
        "identity": lambda: Identities(row, margin, scale, options.get("kind", "cosface")),  # type: ignore[arg-type]
        "age": lambda: Ages(row),
    }
    return makers[kind]()  # type: ignore[no-any-return]


def embeddings(network: Any, pixels: Tensor) -> Tensor:
    """Return the embeddings of an image and its mirror image, added, of length 1."""
    found = []
    with torch.no_grad():
        for batch in pixels.split(512):
            x = scaled(batch, "cpu")
            found.append(normalize(normalize(network(x)[0]) + normalize(network(x.flip(3))[0])))
    return torch.cat(found)


def verification(features: Tensor, identity: Tensor, pairs: int = 3000) -> dict[str, float]:
    """Return how well the cosine tells pairs of one person from pairs of two: accuracy by ten folds, and AUC.

    Args:
        features: [N, d] of length 1.
        identity: [N].
        pairs: of each kind, at most.
    """
    generator = torch.Generator().manual_seed(0)
    one, other = torch.triu_indices(len(identity), len(identity), 1)
    same = identity[one] == identity[other]
    chosen = [torch.nonzero(part).flatten() for part in (same, ~same)]
    count = min(pairs, *map(len, chosen))
    rows = torch.cat([part[torch.randperm(len(part), generator=generator)[:count]] for part in chosen])
    cosine, truth = (features[one[rows]] * features[other[rows]]).sum(1), same[rows]
    folds = torch.randperm(len(rows), generator=generator).chunk(10)
    right = []
    for fold in folds:
        others = torch.ones(len(rows), dtype=torch.bool)
        others[fold] = False
        thresholds = cosine[others].quantile(torch.linspace(0, 1, 400))
        shares = ((cosine[others] > thresholds[:, None]) == truth[others]).float().mean(1)
        right.append(((cosine[fold] > thresholds[shares.argmax()]) == truth[fold]).float().mean())
    greater = (cosine[truth][:, None] > cosine[~truth][None]).float().mean()
    return {"pairs": 2 * count, "accuracy": float(torch.stack(right).mean()), "auc": float(greater)}


def numbers_of(kind: str, name: str, overrides: list[str], data: Any, task: Any, network: Any, rows: Tensor) -> Any:
    """Return the numbers on rows [M] that were not trained on."""
    if kind == "label" and "data.source.split" not in " ".join(overrides):
        try:
            data = data_of(name, *overrides, "data.source.split=test")
            rows, task = torch.arange(data.count), Labels(data.column("label"), len(data.classes))
        except Exception as error:  # a set without a test split
            print(f"no test split ({error}); a tenth of the images")
    pixels = data.images(rows)
    if kind == "identity":
        raw = normalize(torch.nn.functional.interpolate(scaled(pixels, "cpu"), (16, 16), mode="area").flatten(1))
        return {"network": verification(embeddings(network, pixels), data.column(kind)[rows]),
                "pixels": verification(raw, data.column(kind)[rows])}  # fmt: skip
    logits = predict(network, pixels)
    if kind == "age":
        age, median = data.column(kind)[rows], data.column(kind).float().median()
        wrong = (expected_age(logits) - age).abs()
        return {"mae": float(wrong.mean()), "within 5 years": float((wrong <= 5).float().mean()),
                "mae of the median age": float((age - median).abs().mean())}  # fmt: skip
    if kind == "attributes":
        truth = data.column(kind)[rows]
        base = torch.maximum(truth.float().mean(0), 1 - truth.float().mean(0)).mean()
        return {"accuracy": float(task.correct(logits, truth)), "accuracy of the more frequent value": float(base)}
    _, target = task.make_batch(scaled(pixels, "cpu"), rows)
    return {"accuracy": float(task.correct(logits, target))}


def main() -> None:
    """Train and test, and print one line."""
    kind, name, *arguments = sys.argv[1:]
    options = dict(argument.split("=") for argument in arguments if argument.split("=")[0] in OWN)
    overrides = [argument for argument in arguments if argument.split("=")[0] not in OWN]
    data = data_of(name, *overrides)
    task = task_of(kind, data, options)
    numbers = {
        key: int(options[key]) for key in ("images", "epochs", "width", "features", "side", "batch") if key in options
    }
    training = Training(**{"mirror": kind != "label", "lr": float(options.get("lr", 2e-3)), **numbers})
    usable = task.rows(data.count)
    rows = task.part(data.count, "even") if kind == "identity" else nine_tenths(usable)
    begun = time.time(), time.process_time()
    network = train_classifier(data.images(), task, training, rows=rows, seed=int(options.get("seed", 0)))
    seconds, own = time.time() - begun[0], time.process_time() - begun[1]
    rest = task.part(data.count, "odd") if kind == "identity" else usable[~torch.isin(usable, rows)]
    found = numbers_of(kind, name, overrides, data, task, network, rest)
    print(f"{' '.join(sys.argv[1:])}: {len(rows)} training images, {len(rest)} others, {found}")
    print(f"{seconds:.0f} s on the clock, {own:.0f} s of computing, {training}")


if __name__ == "__main__":
    main()
