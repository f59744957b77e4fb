"""Translating picture files by a trained translator (`translate.py`)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import pad

from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import gan_from_checkpoint
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.inputs import Input
from oakleaf.data.pictures import has_opacity, to_8bit
from oakleaf.data.resize import CropResize, Resample
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes, to_bytes
from oakleaf.networks.layers import height_width
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.seeds import derive_seed

SAME_SHAPE = 0.03  # relative difference of two ratios of sides that count as the same


class UnreadablePicture(ValueError):
    """A file that is not a picture, or is damaged."""


class Translator:
    """A function from picture files to translated pictures.

    Args:
        checkpoint: a run's folder or a checkpoint file.
        size: "trained": pictures are cropped and resized to the training's size, as in training; "own": each keeps its
            size, and is extended by reflection to the multiple of pixels that the network needs.
        make_input: whether to compute the generator's input from the picture, as in training (`data.input`); otherwise
            the picture is the input.
        region: the missing region, if `data.input` masks one (`Masked`); None: as in training.
        inverse: whether to translate in the other direction, from images to inputs.
        ema: whether to use the EMA generator, if there is one.
        device: where to compute.
        half: the half of each picture that is translated, for pictures that hold an input and its target side by side;
            None: the whole picture.

    Attributes:
        pair_shape: width by height of pictures that look like such pairs; None if the run was trained on others.

    Raises:
        UserError: the checkpoint is no translator, or cannot do what the arguments request.
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
        half: Literal["left", "right"] | None = None,
    ) -> None:
        content = read_checkpoint(checkpoint)
        self.module = gan_from_checkpoint(content).to(device)
        self.ema, self.inverse, self.size, self.half = ema, inverse, size, half
        data = content["hyper_parameters"]["data"]
        if not self.module.game.translates:
            raise UserError(f"{checkpoint}: the generator of this checkpoint is given no pictures; use sample.py")
        direction = getattr(self.module.game.generator, "to_input" if inverse else "to_image", None)
        if inverse and direction is None:
            raise UserError("inverse=true: this checkpoint translates in one direction only; model=cyclegan in both")
        network = direction or self.module.game.generator
        self.multiple: int | None = getattr(network, "multiple", None)
        self.least: int = getattr(network, "least", 1)
        if size == "own" and self.multiple is None:
            raise UserError("size=own: the generator of this checkpoint takes images of one size only; size=trained")
        self.input = _input_transform(data["input"], make_input, region)
        if make_input and (self.input is None or inverse):
            raise UserError(
                "make_input=true: it needs a run whose inputs are computed from its images (data/input=), and "
                "inverse=false"
            )
        self.channels = data["channels"] if inverse or self.input else data["input_channels"]
        if self.channels not in (1, 3):
            raise UserError(
                f"the inputs have {self.channels} channels, and a picture has 1 or 3: make_input=true computes them"
            )
        height, width = height_width(data["size"])
        method: Resample = (
            data["resample"] if _mixes_pixels(data.get("source") or {}, inverse or make_input) else "nearest"
        )
        self.fit = CropResize(self.channels, height, width, data["crop"], method, upscale=True)
        self.fit_opacity = CropResize(1, height, width, data["crop"], "bilinear", upscale=True)
        side_by_side = (data.get("source") or {}).get("image") in ("left", "right") and half is None
        self.pair_shape = 2 * width / height if side_by_side else None

    def __call__(self, file: Path, seed: int = 0) -> Image.Image:
        """Translate one picture; what is transparent in it stays so.

        Args:
            file: the picture.
            seed: of the generator's dropout, and of the place of a random mask.

        Returns:
            The translation, of mode L, LA, RGB or RGBA.

        Raises:
            UnreadablePicture: the file is no picture, or is damaged.
        """
        try:
            with Image.open(file) as opened:
                # a whole picture of the training's size is turned and decoded by `fit`, as in training
                own = self.size == "own" or self.half is not None
                picture = _half(ImageOps.exif_transpose(opened), self.half) if own else opened
                pixels = self.fit(picture) if self.size == "trained" else _full_size(picture, self.channels)
                opacity = self._opacity(picture)
        except UNREADABLE as error:
            raise UnreadablePicture(f"can't be read ({error})") from error
        image = from_bytes(torch.from_numpy(np.ascontiguousarray(pixels)))[None]
        if self.input:
            image = self.input(image, torch.Generator().manual_seed(derive_seed(seed, "finish")))
        torch.manual_seed(derive_seed(seed, "translate"))
        translated = to_bytes(self._translate(image.to(self.module.device)))[0].permute(1, 2, 0).numpy()
        image_out = Image.fromarray(translated.squeeze(2) if translated.shape[2] == 1 else translated)
        if opacity is not None and image_out.size == opacity.size:
            image_out.putalpha(opacity)
        return image_out

    def looks_like_pair(self, file: Path) -> bool:
        """Return whether a picture has the shape of an input and its target side by side, as in the training."""
        if self.pair_shape is None:
            return False
        try:
            with Image.open(file) as picture:
                return abs(picture.width / picture.height / self.pair_shape - 1) < SAME_SHAPE
        except UNREADABLE:
            return False

    def _opacity(self, picture: Image.Image) -> Image.Image | None:
        """Return the opacity of a picture, cropped and resized as the picture is; None if nothing is transparent."""
        if not has_opacity(picture):
            return None
        opacity = picture.convert("RGBA").getchannel("A")
        if opacity.getextrema() == (255, 255):
            return None
        if self.size == "own":
            return opacity
        return Image.fromarray(np.ascontiguousarray(self.fit_opacity(opacity)[0]))

    def _translate(self, image: Tensor) -> Tensor:
        """Translate [1, C, H, W], of the training's size, or with size="own" of any size."""
        height, width = image.shape[2:]
        image = _extend(image, self.multiple or 1, self.least) if self.size == "own" else image
        with self.module.ema_scope(self.ema) as game:
            if self.inverse:
                translated: Any = game.get_submodule("generator.to_input")(image)
            else:
                translated = game.generate({"input": image})
        return translated[:, :, :height, :width].float()


def _input_transform(config: dict[str, Any] | None, make_input: bool, region: str | None) -> Input | None:
    """Build what computes the generator's input from a picture; None if the picture is the input."""
    config = dict(config or {})
    if region is not None:
        if not make_input or "region" not in config:
            raise UserError(
                f"region={region}: no part is missing here; it needs make_input=true and a run with data/input=masked"
            )
        config["region"] = region
    try:
        return instantiate_allowed(config) if make_input and config else None  # type: ignore[no-any-return]
    except UserError as error:
        raise UserError(str(error).replace("data.input.region=", "region=")) from error  # its name in this command


def _half(picture: Image.Image, half: str | None) -> Image.Image:
    """Return one half of a picture, or all of it."""
    if half is None:
        return picture
    middle = picture.width // 2
    return picture.crop((0, 0, middle, picture.height) if half == "left" else (middle, 0, 2 * middle, picture.height))


def _full_size(picture: Image.Image, channels: int) -> np.ndarray:
    """Read all pixels, [C, H, W]."""
    pixels: np.ndarray = np.atleast_3d(np.asarray(to_8bit(picture, channels)))
    return pixels.transpose(2, 0, 1)


def _mixes_pixels(source: dict[str, Any], images: bool) -> bool:
    """Return whether pixels may be averaged when a picture is resized, as they were in training.

    They may not where colours are class labels (`SideBySide`).

    Args:
        source: the configuration of the data's source.
        images: whether the pictures are images, not inputs.
    """
    classes = source.get("classes")
    return classes is None or (classes == source.get("image")) != images


def _extend(image: Tensor, multiple: int, min_side: int) -> Tensor:
    """Extend an image to the right and below until its sides are multiples of `multiple` and at least `min_side`.

    The image is reflected; where it is smaller than the extension, its border is repeated instead.
    """
    down, right = (max(-side % multiple, min_side - side) for side in image.shape[2:])
    reflects = down < image.shape[2] and right < image.shape[3]
    return pad(image, (0, right, 0, down), "reflect" if reflects else "replicate")
