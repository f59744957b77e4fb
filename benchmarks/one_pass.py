"""The critic's turn with real and fake images in one pass, beside two: python benchmarks/one_pass.py [--seconds 8]

`Game.losses` of the discriminator and the way back, on noise, each way in its turn in one process, on a GPU where there
is one, else with as many threads as OMP_NUM_THREADS says.
"""

import argparse
import statistics
import time

import torch
from contest import record

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.games import Batch, Game
from oakleaf.runtime.precision import best_precision

CASES = {
    "ring, R1 + R2": ["experiment=ring"],
    "digits, 16 px, R1 + R2": ["experiment=digits_dcgan"],
    "points, hinge": ["model=toy", "data=toy", "loss=hinge"],
    "WGAN-GP, 28 px": ["model=wgan_gp", "data=digits", "data.size=28", "data.batch_size=128"],
    "DCGAN-64, R1 + R2": ["model=dcgan", "data=digits", "data.size=64", "data.channels=3", "loss=relativistic"],
}
WARM = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = best_precision("auto") == "bf16-mixed"  # without its instructions it is far slower than fp32


def iteration(game: Game, batch: Batch, jointly: bool) -> float:
    """Seconds."""
    game.batched["discriminator"] = jointly
    game.get_submodule("discriminator").zero_grad()
    begin = time.perf_counter()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=HALF):
        losses, _ = game.player_losses("discriminator", batch, 0)
    torch.stack(list(losses.values())).sum().backward()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each case")
    a = parser.parse_args()
    rows = []
    for name, recipe in CASES.items():
        module, data, _ = build(compose_config("train", [*recipe, "logger=csv", "folder=."]))
        game = module.game.train().to(DEVICE)
        game.get_submodule("generator").requires_grad_(False)
        images = torch.randn(data.batch_size, data.channels, *data.size, device=DEVICE)
        images = images.contiguous(memory_format=torch.channels_last)
        pairs, end = [], time.perf_counter() + a.seconds
        while time.perf_counter() < end or len(pairs) < WARM + 5:
            pairs.append((iteration(game, {"image": images}, True), iteration(game, {"image": images}, False)))
        one, two = ([pair[i] * 1e3 for pair in pairs[WARM:]] for i in range(2))
        ratios = [b / a for a, b in zip(one, two)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        times = {"one pass ms": statistics.median(one), "two passes ms": statistics.median(two)}
        rows.append(
            {
                "step": name,
                "batch": data.batch_size,
                **times,
                "ratio": middle,
                "lower quartile": low,
                "upper quartile": high,
            }
        )
    where = "GPU" if DEVICE == "cuda" else f"threads: {torch.get_num_threads()}"
    record(f"one pass, {where}", f"The discriminator's step: one forward pass against two, {where}", rows)


if __name__ == "__main__":
    main()
