"""What larger runs take, computed, not measured: python benchmarks/scale_table.py

Weights, FLOPs and activations are counted on the systems themselves, a few images on a CPU. All else follows from them
and from ASSUMED, which stands in the output too.
"""

import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from oakleaf.cli.door import conf
from oakleaf.recipe import build
from oakleaf.resolvers import register

ASSUMED = {  # name: value, unit, where it is from
    "peak": (989e12, "FLOP/s", "a GPU, dense bf16: NVIDIA H100 SXM, data sheet"),
    "utilisation": (0.2, "", "share of the peak that a system reaches: a guess; small networks reach far less"),
    "memory": (80e9, "B", "of a GPU: the same data sheet"),
    "within": (450e9, "B/s", "each way between GPUs of one machine: the same data sheet, NVLink"),
    "between": (50e9, "B/s", "each way and GPU between machines: 400 Gbit/s for each GPU"),
    "latency": (20e-6, "s", "a hop of the ring within, and of a tree between machines: a guess"),
    "jpeg": (0.3, "B a pixel", "a JPEG on disk: a guess"),
    "dataset": (1e9, "images", "what is trained on, seen once"),
}
PEAK, USED, MEMORY, WITHIN, BETWEEN, LATENCY, JPEG, IMAGES = (value for value, _, _ in ASSUMED.values())
GPUS = (1, 8, 64, 1000)
PAIRS = ["data/input=low_resolution", "data.channels=3"]  # what they show does not matter here
SYSTEMS = {
    "dcgan 64": (128, ["model=dcgan", "data=digits", "data.channels=3", "data.size=64"]),
    "sngan 32": (64, ["model=sngan", "data=digits", "data.channels=3", "data.size=32"]),
    "stackgan 64": (64, ["model=stackgan", "data=emoji_captions", "data.size=64"]),
    "cyclegan 256": (
        1,
        ["model=cyclegan", "data=digits", "data.size=256", *PAIRS],
    ),
}
COUNTED = 2  # images that are played to count; the result is per image


@dataclass
class System:
    """bytes are of fp32; flops, activations and pixels are of one image that is seen."""

    name: str
    batch: int
    weights: int
    averaged: int
    reduced: float  # bytes of gradients that a turn averages over processes, by each player's `every`
    flops: float
    activations: float
    pixels: int

    @property
    def fixed(self) -> float:
        """Bytes that do not grow with the batch: weights, their gradients, Adam's two moments, the average; and the
        flat copy of the gradients that the all-reduce takes."""
        return 4 * (4 * self.weights + self.averaged) + self.reduced

    def turn(self, gpus: int) -> tuple[float, float]:
        """Seconds of computing, and of averaging gradients, which ours does after it and not beside it."""
        if gpus == 1:
            return self.batch * self.flops / (PEAK * USED), 0.0
        speed = WITHIN if gpus <= 8 else BETWEEN
        hops = 2 * gpus if gpus <= 8 else 2 * (8 + torch.tensor(gpus / 8).log2().ceil().item())
        exchange = 2 * (gpus - 1) / gpus * self.reduced / speed + hops * LATENCY
        return self.batch * self.flops / (PEAK * USED), exchange


def counted(name: str, batch_size: int, overrides: list[str]) -> System:
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(conf()), version_base="1.3"):
        fixed = ["logger=csv", "trainer=cpu", f"folder={folder}"]
        module, data, _ = build(compose("train", overrides=[*fixed, *overrides]))
    shape = (COUNTED, data.channels, *data.size)
    batch = {"image": torch.rand(shape) * 2 - 1}
    if data.input_channels:
        batch["input"] = torch.rand(COUNTED, data.input_channels, *data.size) * 2 - 1
    elif module.game.condition:
        data.prepare_data()
        data.setup("fit")
        module.game.condition.meet(data)
        batch = data.batch(torch.arange(COUNTED))
    flops = reduced = activations = 0.0
    for player, how in module.players.items():
        own, kept = played(module, player, batch)
        flops += own / how.every / COUNTED
        activations = max(activations, kept / COUNTED)
        reduced += 4 * sum(weight.numel() for weight in module.weights[player]) / how.every
    numbers = {player: sum(weight.numel() for weight in weights) for player, weights in module.weights.items()}
    averaged = sum(numbers[player] for player in module.averages)
    pixels = data.channels * data.size[0] * data.size[1]
    return System(name, batch_size, sum(numbers.values()), averaged, reduced, flops, activations, pixels)


def played(module: Any, player: str, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """FLOPs of a player's whole turn, and bytes that its forward pass keeps for the way back."""
    for other, weights in module.weights.items():
        for weight in weights:
            weight.requires_grad_(other == player)
    ours = {weight.untyped_storage().data_ptr() for weights in module.weights.values() for weight in weights}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            losses, _ = module.game.losses(player, batch, 0, 0)
        sum(losses.values()).backward()
    return float(counter.get_total_flops()), float(sum(kept.values()))


def table(rows: list[dict[str, str]]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(value: float, unit: str = "") -> str:
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def one(system: System) -> dict[str, str]:
    fits = (MEMORY - system.fixed) / system.activations
    return {
        "system": system.name,
        "weights": short(system.weights),
        "weights, gradients, Adam, average": short(system.fixed, "B"),
        "activations an image": short(system.activations, "B"),
        "images that fit": f"{fits:,.0f}",
        "FLOPs an image": short(system.flops),
        "all-reduce a turn": short(system.reduced, "B"),
    }


def scaled(system: System) -> list[dict[str, str]]:
    rows = []
    for gpus in GPUS:
        compute, exchange = system.turn(gpus)
        rate = gpus * system.batch / (compute + exchange)
        rows.append(
            {
                "system": system.name,
                "GPUs": str(gpus),
                "joint batch": f"{gpus * system.batch:,}",
                "a turn computes": short(compute * 1e3, "ms"),
                "exchanges": short(exchange * 1e3, "ms"),
                "share computing": f"{compute / (compute + exchange):.0%}",
                "images/s": short(rate),
                "bytes/s a GPU needs": short(rate / gpus * system.pixels, "B/s"),
                "JPEGs/s from disk": short(rate * system.pixels / 3 * JPEG, "B/s"),
                "a billion images": f"{IMAGES / rate / 3600:.3g} h",
            }
        )
    return rows


def main() -> None:
    register()
    systems = [counted(name, batch, overrides) for name, (batch, overrides) in SYSTEMS.items()]
    print(table([{"assumed": n, "value": short(v, u), "what": w} for n, (v, u, w) in ASSUMED.items()]), "\n")
    print(table([one(system) for system in systems]), "\n")
    print(table([row for system in systems for row in scaled(system)]))


if __name__ == "__main__":
    main()
