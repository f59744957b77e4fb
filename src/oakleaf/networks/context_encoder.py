"""Completing an image of which a part is missing."""

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError
from oakleaf.networks.unet import UNet


class Completion(nn.Module):
    """The image as far as it is known, and `network`'s in the missing part: G(x) * m + x * (1 - m). Pathak 2016,
    arXiv:1604.07379, section 3.

    network: pictures as `Masked` makes them -> images.

    Raises:
        UserError: a network of other pictures.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        if network.inputs != network.channels + 1:
            raise UserError(
                "a completion is given images and where they are missing, which data/input=masked makes, and here "
                f"{network.inputs} channels for images of {network.channels}; model=pix2pix makes images of any"
            )
        self.network = network

    def forward(self, y: Tensor) -> Tensor:
        """y [B, C + 1, H, W], the last channel 1 where the image is missing and -1 elsewhere -> [B, C, H, W]"""
        return torch.where(y[:, -1:] > 0, self.network(y), y[:, :-1].to(y.dtype))

    @property
    def multiple(self) -> int | None:
        """What has to divide a picture's sides."""
        return getattr(self.network, "multiple", None)
