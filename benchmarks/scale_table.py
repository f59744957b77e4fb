"""What larger runs take, computed, not measured: python benchmarks/scale_table.py

Weights, FLOPs and activations are counted on the systems themselves, a few images on a CPU. All else follows from them
and from ASSUMED, which stands in the output too.
"""

import math

from counting import System, counted

from oakleaf.builder.resolvers import register

ASSUMED = {  # name: value, unit, where it is from
    "peak": (989e12, "FLOP/s", "a GPU, dense bf16: NVIDIA H100 SXM, data sheet"),
    "utilisation": (0.2, "", "share of the peak that a system reaches: a guess; small networks reach far less"),
    "memory": (80e9, "B", "per GPU: the same data sheet"),
    "within": (450e9, "B/s", "per direction, between GPUs of one machine: the same data sheet, NVLink"),
    "between": (50e9, "B/s", "per direction and GPU, between machines: 400 Gbit/s for each GPU"),
    "latency": (20e-6, "s", "of one hop of an all-reduce: ring within a machine, tree between machines; a guess"),
    "jpeg": (0.3, "B per pixel", "size of a JPEG file: a guess"),
    "dataset": (1e9, "images", "images of the training, each seen once"),
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


def iteration(system: System, gpus: int) -> tuple[float, float]:
    """Seconds of computing, and of averaging gradients, which ours does after it and not beside it."""
    if gpus == 1:
        return system.batch * system.flops / (PEAK * USED), 0.0
    speed = WITHIN if gpus <= 8 else BETWEEN
    hops = 2 * gpus if gpus <= 8 else 2 * (8 + math.ceil(math.log2(gpus / 8)))
    exchange = 2 * (gpus - 1) / gpus * system.reduced / speed + system.reductions * hops * LATENCY
    return system.batch * system.flops / (PEAK * USED), exchange


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
        "weights, gradients, Adam, EMA": short(system.fixed, "B"),
        "activations per image": short(system.activations, "B"),
        "images that fit": f"{fits:,.0f}",
        "FLOPs per image": short(system.flops),
        "all-reduced per iteration": short(system.reduced, "B"),
        "all-reduces per iteration": f"{system.reductions:g}",
    }


def scaled(system: System) -> list[dict[str, str]]:
    rows = []
    for gpus in GPUS:
        compute, exchange = iteration(system, gpus)
        rate = gpus * system.batch / (compute + exchange)
        rows.append(
            {
                "system": system.name,
                "GPUs": str(gpus),
                "global batch": f"{gpus * system.batch:,}",
                "computing per iteration": short(compute * 1e3, "ms"),
                "all-reduce": short(exchange * 1e3, "ms"),
                "share of computing": f"{compute / (compute + exchange):.0%}",
                "images/s": short(rate),
                "bytes/s per GPU": short(rate / gpus * system.pixels, "B/s"),
                "JPEG bytes/s from disk": short(rate * system.pixels / 3 * JPEG, "B/s"),
                "time for a billion images": f"{IMAGES / rate / 3600:.3g} h",
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
