"""A condition that is computed from the image itself by a frozen network."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from oakleaf.conditioning.condition import STORED_PICTURES, Condition, random_rows
from oakleaf.config.types import NonNegativeFloat, PositiveInt, Size, height_width
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.frozen.network import FrozenNetwork
from oakleaf.image_grid import from_bytes, to_bytes


class Code(Condition):
    """A frozen network's features of the image: y = E(x), so that the generator learns to invert E.

    Samples are made from the codes of 64 images that were drawn from the data before the training and are stored as
    bytes. A code of another origin can be given as the row `code` in the place of the row `image`.

    Args:
        network: the name of the frozen network, `model.frozen.<network>`.
        channels: of the images.
        size: of the images, in pixels.
        layer: the layer whose flattened output is y; null: the embedding.
        width: the length of y; null: that of the layer. Generators need it in their configuration.
        noise: Gaussian noise during the training of the generator: on the `image`, on the output of layers by their
            names, and on the `code`. Each number is the noise's standard deviation as a share of the root mean square
            of the values that it is added to. null: none.

    Reference: Nguyen 2016 (PPGN), arXiv:1612.00005, section 3.4, with noise; section 3.5, without; Dosovitskiy 2016,
    arXiv:1602.02644.
    """

    key = "image"
    stored_rows: Tensor  # [STORED_PICTURES, channels, H, W] uint8, images of the data

    def __init__(
        self,
        network: str,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt,
        layer: str | None = None,
        noise: dict[str, NonNegativeFloat] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.layer, self.width, self.noise = network, layer, width, dict(noise or {})
        self._network: tuple[FrozenNetwork, ...] = ()  # a tuple, so that it is no submodule of this one
        pictures = torch.zeros(STORED_PICTURES, channels, *height_width(size), dtype=torch.uint8)
        self.register_buffer("stored_rows", pictures)

    def use_frozen(self, networks: Mapping[str, FrozenNetwork]) -> None:
        """Take the game's frozen networks, of which this condition runs one.

        Raises:
            UserError: there is none of that name.
        """
        if self.name not in networks:
            raise UserError(f"model.frozen.{self.name} is missing, which the condition needs")
        self._network = (networks[self.name],)

    @property
    def network(self) -> FrozenNetwork:
        """The frozen network."""
        if not self._network:
            raise UserError(f"model.frozen.{self.name} is missing, which the condition needs")
        return self._network[0]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the row `code` [B, width] if there is one, else the codes of the row `image`, without a gradient."""
        if "code" in batch:
            return batch["code"]
        with torch.no_grad():
            images = batch[self.key]
            return self.encode_noisy(images) if self.training and self.noise else self.encode(images)

    def encode_noisy(self, images: Tensor) -> Tensor:
        """Return the codes [B, width] of images [B, C, H, W], with `noise` on images, layers and codes."""
        share = self.noise.get
        layers = [name for name in self.noise if name not in ("image", "code")]
        hooks = [self.network.layer(name).register_forward_hook(_noise_hook(self.noise[name])) for name in layers]
        try:
            return with_noise(self.encode(with_noise(images, share("image", 0.0))), share("code", 0.0))
        finally:
            for hook in hooks:
                hook.remove()

    def encode(self, images: Tensor) -> Tensor:
        """Return the codes [B, width] of images [B, C, H, W] in [-1, 1], differentiably.

        Raises:
            UserError: the layer has another width than the one that the networks were built for.
        """
        if self.layer is None:
            code = self.network(images).embedding
            if code is None:
                raise UserError(f"{self.network.source} has no embedding: name a layer of it")
        else:
            code = self.network(images, [self.layer]).maps[self.layer].flatten(1)
        if code.shape[1] != self.width:
            raise UserError(f"model.game.condition.width={self.width}: the code has {code.shape[1]} numbers")
        return code

    def sample(self, count: int) -> Tensor:
        return from_bytes(self.stored_rows.cpu()[torch.arange(count) % len(self.stored_rows)])

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < STORED_PICTURES:
            raise UserError(f"condition={index}: the checkpoint has {STORED_PICTURES} images, from 0 on")
        return from_bytes(self.stored_rows.cpu()[index]).expand(count, -1, -1, -1)

    def fit(self, data: ImageDataModule) -> None:
        rows = random_rows(data.count, STORED_PICTURES)
        self.stored_rows.copy_(to_bytes(data.batch(rows)[self.key]))

    def preview(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        return batch.get(self.key)  # there is no image where the code is given


def with_noise(values: Tensor, share: float) -> Tensor:
    """Add Gaussian noise whose standard deviation is a share of the root mean square of the values [B, ...]."""
    return values + share * values.square().mean().sqrt() * torch.randn_like(values) if share else values


def _noise_hook(share: float) -> Callable[[Any, Any, Tensor], Tensor]:
    """Return a forward hook that adds noise to a layer's output."""
    return lambda _, __, output: with_noise(output, share)
