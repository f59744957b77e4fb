"""Ways to double an image: sizes, costs, checkerboards, and what they make of digits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from oakleaf.config.types import PositiveInt
from oakleaf.networks.dcgan import Upsample, upsample_layer
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.finding import Check, Finding, Row
from oakleaf.theory.pictures import Trained, figure, frechet, halves, train

WAYS: tuple[Upsample, ...] = get_args(Upsample)
SMOOTH = WAYS[1:3]  # those that enlarge first
SIZES = [(n, k, s, p, o) for n in (4, 7) for k in (2, 3, 4, 5) for s in (1, 2, 3) for p in (0, 1) for o in range(s)]


@dataclass
class Upsampling:
    """A transposed convolution makes (in - 1) stride - 2 padding + kernel + output_padding pixels (Dumoulin & Visin
    2016, arXiv:1603.07285, relationship 14). Where the stride does not divide its kernel, overlaps are unequal and a
    checkerboard is built in; enlarging first has none (Odena 2016, doi:10.23915/distill.00003).

    images: of each training on digits, one for each way; all else is DCGAN (Radford 2015, arXiv:1511.06434).
    fresh: layers whose initial weights are looked at.
    """

    seed: int = 0
    images: PositiveInt = 24_000
    width: PositiveInt = 16
    batch: PositiveInt = 32
    fresh: PositiveInt = 20

    def run(self) -> Finding:
        torch.manual_seed(derive_seed(self.seed, "upsampling"))
        fresh = {way: sum(_board(way, 4) for _ in range(self.fresh)) / self.fresh for way in WAYS}
        times = {way: _milliseconds(way) for way in WAYS}
        runs = {way: self._train(way) for way in WAYS}
        real = runs[WAYS[0]].real
        drawn: dict[str, Tensor] = {way: run.draw(len(real), self.seed) for way, run in runs.items()}
        table: list[Row] = [
            {
                "upsample": way,
                "MACs": _macs(way) / _macs("transposed"),
                "time": times[way] / times["transposed"],
                "overlaps k=3": _board(way, 3, equal=True),
                "k=4": _board(way, 4, equal=True),
                "k=5": _board(way, 5, equal=True),
                "fresh k=4": fresh[way],
                "digits": checkerboard(drawn[way]),
                "pixel FD": frechet(drawn[way], real),
            }
            for way in WAYS
        ]
        table.append({**dict.fromkeys(table[0], "-"), "upsample": "(real)", "digits": checkerboard(real)})
        table[-1]["pixel FD"] = halves(real, self.seed)
        noise = frechet(torch.rand_like(real) * 2 - 1, real)
        return Finding(table, figure(drawn, real), [_formula(), *_checks(table, noise)])

    def _train(self, way: Upsample) -> Trained:
        players = [f"model.game.{player}.width={self.width}" for player in ("generator", "discriminator")]
        length = [f"max_images={self.images}", f"data.batch_size={self.batch}", f"seed={self.seed}"]
        return train(f"model.game.generator.upsample={way}", *players, *length)


def _board(way: Upsample, kernel: int, equal: bool = False) -> float:
    """The checkerboard that a new layer makes of a constant map, with its random weights or with equal ones."""
    layer = upsample_layer(8, 1, kernel, way, bias=False)
    with torch.no_grad():
        if equal:
            for weight in layer.parameters():
                weight.fill_(1.0)
        return checkerboard(layer(torch.ones(1, 8, 16, 16))[..., 8:-8, 8:-8])  # away from the padding


def checkerboard(images: Tensor) -> float:
    """The share of the energy of images [B, C, H, W] that alternates from pixel to pixel along rows, columns or both:
    the frequencies 1/2 of the spectrum."""
    power = torch.fft.fft2(images.double()).abs().square().sum((0, 1))
    h, w = power.shape[0] // 2, power.shape[1] // 2
    return ((power[h, 0] + power[0, w] + power[h, w]) / power.sum()).item()


def _formula() -> Check:
    """How many of the sizes the formula misses."""
    made = [nn.ConvTranspose2d(1, 1, k, s, p, o)(torch.zeros(1, 1, n, n)).shape[-1] for n, k, s, p, o in SIZES]
    missed = sum(m != (n - 1) * s - 2 * p + k + o for m, (n, k, s, p, o) in zip(made, SIZES))
    return Check(f"output sizes that the formula misses, of {len(SIZES)}", missed, "<", 0.5)


def _macs(way: Upsample) -> int:
    """Operations of one layer with kernel 4, 64 maps from 16 to 32 pixels. A transposed convolution multiplies each
    input pixel by the whole kernel, a convolution each pixel of the map that it makes."""
    with FlopCounterMode(display=False) as counter:
        upsample_layer(64, 64, 4, way)(torch.zeros(1, 64, 16, 16))
    return counter.get_total_flops()


def _milliseconds(way: Upsample) -> float:
    """The least time of 20 forward passes through one layer, 64 maps from 16 to 32 pixels, 16 images."""
    layer, x, times = upsample_layer(64, 64, 4, way), torch.randn(16, 64, 16, 16), []
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            layer(x)
            times.append(time.perf_counter() - start)
    return 1000 * min(times)


def _checks(table: Sequence[Row], noise: float) -> list[Check]:
    of = {row["upsample"]: {k: float(v) for k, v in row.items() if not isinstance(v, str)} for row in table}
    learned = max(of[way]["pixel FD"] for way in WAYS) / noise
    return [
        Check("transposed, kernel 3: energy in unequal overlaps", of["transposed"]["overlaps k=3"], ">", 0.01),
        Check("transposed, kernel 5: energy in unequal overlaps", of["transposed"]["k=5"], ">", 0.01),
        Check("transposed, kernel 4: energy in unequal overlaps", of["transposed"]["k=4"], "<", 1e-9),
        Check("transposed, kernel 4: board of random weights", of["transposed"]["fresh k=4"], ">", 0.1),
        Check("enlarged first: board of random weights", max(of[w]["fresh k=4"] for w in SMOOTH), "<", 1e-9),
        Check("largest pixel FD / that of noise", learned, "<", 0.5),
    ]
