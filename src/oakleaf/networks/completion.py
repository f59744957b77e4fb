"""Completing an image of which a part is missing."""

import torch
from torch import Tensor, nn


class Completion(nn.Module):
    """The image as far as it is known, and `network`'s in the missing part: G(x) * m + x * (1 - m). Pathak 2016,
    arXiv:1604.07379, section 3.

    network: pictures as `Masked` makes them -> images.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor) -> Tensor:
        """y [B, C + 1, H, W], the last channel 1 where the image is missing and -1 elsewhere -> [B, C, H, W]"""
        return torch.where(y[:, -1:] > 0, self.network(y), y[:, :-1].to(y.dtype))

    @property
    def multiple(self) -> int | None:
        """What has to divide a picture's sides."""
        return getattr(self.network, "multiple", None)
