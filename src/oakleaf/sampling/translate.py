"""One picture through a trained translator."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import pad

from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import module_from_checkpoint
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.inputs import Input
from oakleaf.data.resize import CropResize, Resample, to_8bit
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes, to_bytes
from oakleaf.networks.layers import height_width
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.seeds import derive_seed


class UnreadablePicture(ValueError):
    """A picture that can't be read."""


class Translator:
    """size: trained = cut to the size of the run's own pictures, as they were; own = as large as each is, mirrored at
    its borders up to what the network's halvings divide. make_input: whether the input is made of the picture as in training
    (`data.input`). region: what is missing, where that is to be completed (`Masked`); None: as in training. inverse: from
    images to inputs.

    Raises:
        UserError: no translator; no way back; a size that it can't make.
    """

    def __init__(
        self,
        checkpoint: str,
        size: Literal["trained", "own"] = "trained",
        make_input: bool = False,
        region: str | None = None,
        inverse: bool = False,
        ema: bool = True,
        device: str = "cpu",
    ) -> None:
        content = read_checkpoint(checkpoint)
        self.module = module_from_checkpoint(content).to(device)
        self.ema, self.inverse, self.size = ema, inverse, size
        data = content["hyper_parameters"]["data"]
        if not self.module.game.translates:
            raise UserError(f"{checkpoint}: this checkpoint's generator is given no pictures; sample.py draws from it")
        way = getattr(self.module.game.generator, "to_input" if inverse else "to_image", None)
        if inverse and way is None:
            raise UserError("inverse=true: this checkpoint's generator knows one way alone; model=cyclegan knows both")
        network = way or self.module.game.generator
        self.multiple: int | None = getattr(network, "multiple", None)
        self.least: int = getattr(network, "least", 1)
        if size == "own" and self.multiple is None:
            raise UserError("size=own: this checkpoint's generator makes images of one size alone")
        how = dict(data["input"] or {})
        if region is not None and (not make_input or "region" not in how):
            raise UserError(
                f"region={region}: no part is missing here; make_input=true, of a run with data/input=masked"
            )
        how |= {} if region is None else {"region": region}
        try:
            self.input: Input | None = instantiate_allowed(how) if make_input and how else None
        except UserError as error:
            raise UserError(str(error).replace("data.input.region=", "region=")) from error  # as it is called here
        if make_input and (self.input is None or inverse):
            raise UserError(
                "make_input=true: in this run inputs were not made of images, or inverse=true asks for no inputs"
            )
        self.channels = data["channels"] if inverse or self.input else data["input_channels"]
        if self.channels not in (1, 3):
            raise UserError(
                f"its inputs have {self.channels} channels, which no picture has: make_input=true makes them"
            )
        height, width = height_width(data["size"])
        method: Resample = data["resample"] if _mixes(data["source"], inverse or make_input) else "nearest"
        self.fit = CropResize(self.channels, height, width, data["crop"], method, upscale=True)

    def __call__(self, file: Path, seed: int = 0) -> Image.Image:
        """The picture's translation. seed: of G's dropout, and of a mask's place.

        Raises:
            Unread: no picture, or a damaged one.
        """
        try:
            with Image.open(file) as picture:
                pixels = self.fit(picture) if self.size == "trained" else _whole(picture, self.channels)
        except UNREADABLE as error:
            raise UnreadablePicture(f"can't be read ({error})") from error
        image = from_bytes(torch.from_numpy(np.ascontiguousarray(pixels)))[None]
        if self.input:
            image = self.input(image, torch.Generator().manual_seed(derive_seed(seed, "finish")))
        torch.manual_seed(derive_seed(seed, "translate"))
        made = to_bytes(self._translated(image.to(self.module.device)))[0].permute(1, 2, 0).numpy()
        return Image.fromarray(made.squeeze(2) if made.shape[2] == 1 else made)

    def _translated(self, image: Tensor) -> Tensor:
        """[1, C, H, W] of any size that the network takes, or with size = own of any."""
        height, width = image.shape[2:]
        image = _filled(image, self.multiple or 1, self.least) if self.size == "own" else image
        with self.module.ema_scope(self.ema) as game:
            made: Any = (
                game.get_submodule("generator.to_input")(image) if self.inverse else game.generate({"input": image})
            )
        return made[:, :, :height, :width].float()


def _whole(picture: Image.Image, channels: int) -> np.ndarray:
    """All of it, [C, H, W]."""
    pixels: np.ndarray = np.atleast_3d(np.asarray(to_8bit(ImageOps.exif_transpose(picture), channels))).transpose(
        2, 0, 1
    )
    return pixels


def _mixes(source: dict[str, Any], images: bool) -> bool:
    """Whether pixels of the pictures that are given were mixed in training when they were cut to size: not where
    colours are classes (`SideBySide`). images: whether they are images, not inputs."""
    classes = source.get("classes")
    return classes is None or (classes == source.get("image")) != images


def _filled(image: Tensor, multiple: int, least: int) -> Tensor:
    """Mirrored at the right and below until both sides have `least` pixels and `multiple` divides them; where a picture
    is smaller than what is missing, its border is repeated."""
    down, right = (max(-side % multiple, least - side) for side in image.shape[2:])
    mirrored = down < image.shape[2] and right < image.shape[3]
    return pad(image, (0, right, 0, down), "reflect" if mirrored else "replicate")
