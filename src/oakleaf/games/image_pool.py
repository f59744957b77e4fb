"""A history of fakes."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeInt


class ImagePool(nn.Module):
    """Up to `size` fakes of the past, of which the discriminator sees some in place of new ones. Shrivastava 2016,
    arXiv:1612.07828, section 2.3; as in the code of Zhu 2017, arXiv:1703.10593, section 4: once full, each fake is
    with probability 1/2 exchanged for a random one of the pool. It is kept in checkpoints, so a resumed run has it; a
    fake with NaN is not kept.

    shape: [C, H, W] of an image.
    """

    images: Tensor  # [size, C, H, W]
    held: Tensor  # how many of them there are

    def __init__(self, size: NonNegativeInt, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # its places are chosen by chance, one by one
    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Fakes [B, C, H, W] in, as many out."""
        size, held = len(self.images), int(self.held)
        out = fakes.detach().clone()
        sound = out.isfinite().flatten(1).all(1).tolist()
        for i, (exchanged, place) in enumerate(zip(torch.rand(len(fakes)) < 0.5, torch.rand(len(fakes)))):
            if not sound[i]:
                continue
            if held < size:
                self.images[held] = fakes[i]
                held += 1
            elif size and exchanged:
                old = self.images[int(place * size)]
                out[i] = old
                old.copy_(fakes[i])
        self.held.fill_(held)
        return out
