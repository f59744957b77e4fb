"""The generator of context encoders, which fills in the missing part of an image."""

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError
from oakleaf.networks.unet import UNet


class Completion(nn.Module):
    """Complete an image: the network's output in the missing part, the input elsewhere.

    With a mask m that is 1 where the image is missing, the output is G(x) * m + x * (1 - m).

    Args:
        network: maps masked images [B, C + 1, H, W], as `oakleaf.data.inputs.Masked` makes them, to images
            [B, C, H, W].

    Raises:
        UserError: the network does not have one input channel more than output channels.

    Reference: Pathak 2016, arXiv:1604.07379, section 3.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        if network.inputs != network.channels + 1:
            raise UserError(
                "a completion needs images with a mask as one more channel, which data/input=masked makes, but here "
                f"inputs have {network.inputs} channels and images {network.channels}; else use model=pix2pix"
            )
        self.network = network

    def forward(self, y: Tensor) -> Tensor:
        """Complete images.

        Args:
            y: masked images [B, C + 1, H, W]; the last channel is 1 where the image is missing and -1 elsewhere.

        Returns:
            Images [B, C, H, W].
        """
        return torch.where(y[:, -1:] > 0, self.network(y), y[:, :-1].to(y.dtype))

    @property
    def multiple(self) -> int | None:
        """The number that has to divide both sides of an input, in pixels; None: only one size is possible."""
        return getattr(self.network, "multiple", None)
