"""A history of generated images for the discriminator."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeInt


class ImagePool(nn.Module):
    """Keep up to `size` past fakes, and give the discriminator some of them in place of new ones.

    As in CycleGAN's code: while the pool fills, fakes pass through; once it is full, each new fake is exchanged with
    probability 1/2 for a random one of the pool. The pool is part of checkpoints, so a resumed run has it. A fake that
    contains NaN is not kept.

    Args:
        size: number of images; 0 disables the pool.
        shape: [C, H, W] of an image.

    Reference: Shrivastava 2016, arXiv:1612.07828, section 2.3; Zhu 2017, arXiv:1703.10593, section 4.
    """

    images: Tensor  # [size, C, H, W]
    held: Tensor  # [], number of images in the pool

    def __init__(self, size: NonNegativeInt, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a Python loop with random branches
    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Exchange some fakes [B, C, H, W] for older ones; returns as many."""
        size, held = len(self.images), int(self.held)
        out = fakes.detach().clone()
        finite = out.isfinite().flatten(1).all(1).tolist()
        for i, (exchanged, position) in enumerate(zip(torch.rand(len(fakes)) < 0.5, torch.rand(len(fakes)))):
            if not finite[i]:
                continue
            if held < size:
                self.images[held] = fakes[i]
                held += 1
            elif size and exchanged:
                old = self.images[int(position * size)]
                out[i] = old
                old.copy_(fakes[i])
        self.held.fill_(held)
        return out
