"""Four ways of upsampling by 2: output sizes, costs, checkerboard artifacts, and samples."""

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
from oakleaf.theory.result import Check, LabResult, Row
from oakleaf.theory.training import TrainedGAN, image_figure, pixel_frechet_distance, real_data_baseline, train

METHODS: tuple[Upsample, ...] = get_args(Upsample)
RESIZE_METHODS = METHODS[1:3]  # nearest and bilinear, which enlarge before they convolve
# input size, kernel, stride, padding, output padding
SIZES = [(n, k, s, p, o) for n in (4, 7) for k in (2, 3, 4, 5) for s in (1, 2, 3) for p in (0, 1) for o in range(s)]


@dataclass
class Upsampling:
    """Compare transposed convolution, nearest and bilinear resizing with a convolution, and pixel shuffle.

    A transposed convolution makes (in - 1) stride - 2 padding + kernel + output_padding pixels. If its kernel is not a
    multiple of its stride, its outputs overlap unequally, and a checkerboard is built in; enlarging before the
    convolution has none.

    Args:
        seed: of the weights and the trainings.
        images: seen in each training on digits, one for each method. All else is DCGAN (Radford 2015,
            arXiv:1511.06434).
        width: channels of both networks.
        batch: batch size.
        fresh: randomly initialised layers whose checkerboard is measured.

    Reference: Dumoulin & Visin 2016, arXiv:1603.07285, relationship 14; Odena 2016, doi:10.23915/distill.00003.
    """

    seed: int = 0
    images: PositiveInt = 24_000
    width: PositiveInt = 16
    batch: PositiveInt = 32
    fresh: PositiveInt = 20

    def run(self) -> LabResult:
        """Measure single layers, train with each method and compare."""
        torch.manual_seed(derive_seed(self.seed, "upsampling"))
        fresh = {
            method: sum(_layer_checkerboard(method, 4) for _ in range(self.fresh)) / self.fresh for method in METHODS
        }
        times = {method: _milliseconds(method) for method in METHODS}
        runs = {method: self._train(method) for method in METHODS}
        real = runs[METHODS[0]].real
        samples: dict[str, Tensor] = {method: run.sample(len(real), self.seed) for method, run in runs.items()}
        table: list[Row] = [
            {
                "upsample": method,
                "MACs": _operations(method) / _operations("transposed"),
                "time": times[method] / times["transposed"],
                "overlaps k=3": _layer_checkerboard(method, 3, equal=True),
                "k=4": _layer_checkerboard(method, 4, equal=True),
                "k=5": _layer_checkerboard(method, 5, equal=True),
                "fresh k=4": fresh[method],
                "digits": checkerboard(samples[method]),
                "pixel FD": pixel_frechet_distance(samples[method], real),
            }
            for method in METHODS
        ]
        table.append({**dict.fromkeys(table[0], "-"), "upsample": "(real)", "digits": checkerboard(real)})
        table[-1]["pixel FD"] = real_data_baseline(real, self.seed)
        noise = pixel_frechet_distance(torch.rand_like(real) * 2 - 1, real)
        return LabResult(table, image_figure(samples, real), [_check_formula(), *_checks(table, noise)])

    def _train(self, method: Upsample) -> TrainedGAN:
        players = [f"model.game.{player}.width={self.width}" for player in ("generator", "discriminator")]
        length = [f"max_images={self.images}", f"data.batch_size={self.batch}", f"seed={self.seed}"]
        return train(f"model.game.generator.upsample={method}", *players, *length)


def checkerboard(images: Tensor) -> float:
    """Compute the share of the energy of images [B, C, H, W] at the frequencies 1/2 of the spectrum.

    This is the energy that alternates from pixel to pixel along rows, columns or both.
    """
    power = torch.fft.fft2(images.double()).abs().square().sum((0, 1))
    h, w = power.shape[0] // 2, power.shape[1] // 2
    return ((power[h, 0] + power[0, w] + power[h, w]) / power.sum()).item()


def _layer_checkerboard(method: Upsample, kernel: int, equal: bool = False) -> float:
    """Measure what a new layer makes of a constant map, with its random weights or with equal weights."""
    layer = upsample_layer(8, 1, kernel, method, bias=False)
    with torch.no_grad():
        if equal:
            for weight in layer.parameters():
                weight.fill_(1.0)
        return checkerboard(layer(torch.ones(1, 8, 16, 16))[..., 8:-8, 8:-8])  # without the border, where padding acts


def _check_formula() -> Check:
    """Count the output sizes that the formula predicts wrongly."""
    sizes = [nn.ConvTranspose2d(1, 1, k, s, p, o)(torch.zeros(1, 1, n, n)).shape[-1] for n, k, s, p, o in SIZES]
    wrong = sum(size != (n - 1) * s - 2 * p + k + o for size, (n, k, s, p, o) in zip(sizes, SIZES))
    return Check(f"output sizes that the formula misses, of {len(SIZES)}", wrong, "<", 0.5)


def _operations(method: Upsample) -> int:
    """Count the operations of one layer with kernel 4 and 64 maps, from 16 to 32 pixels.

    A transposed convolution multiplies each input pixel by the whole kernel, a convolution each output pixel.
    """
    with FlopCounterMode(display=False) as counter:
        upsample_layer(64, 64, 4, method)(torch.zeros(1, 64, 16, 16))
    return counter.get_total_flops()


def _milliseconds(method: Upsample) -> float:
    """Measure one layer with 64 maps, from 16 to 32 pixels, 16 images: the shortest of 20 forward passes."""
    layer, x, times = upsample_layer(64, 64, 4, method), torch.randn(16, 64, 16, 16), []
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            layer(x)
            times.append(time.perf_counter() - start)
    return 1000 * min(times)


def _checks(table: Sequence[Row], noise: float) -> list[Check]:
    by_method = {row["upsample"]: {k: float(v) for k, v in row.items() if not isinstance(v, str)} for row in table}
    transposed = by_method["transposed"]
    largest = max(by_method[method]["pixel FD"] for method in METHODS) / noise
    resized = max(by_method[method]["fresh k=4"] for method in RESIZE_METHODS)
    return [
        Check("transposed, kernel 3: energy in unequal overlaps", transposed["overlaps k=3"], ">", 0.01),
        Check("transposed, kernel 5: energy in unequal overlaps", transposed["k=5"], ">", 0.01),
        Check("transposed, kernel 4: energy in unequal overlaps", transposed["k=4"], "<", 1e-9),
        Check("transposed, kernel 4: checkerboard of random weights", transposed["fresh k=4"], ">", 0.1),
        Check("enlarged first: checkerboard of random weights", resized, "<", 1e-9),
        Check("largest pixel FD / that of noise", largest, "<", 0.5),
    ]
