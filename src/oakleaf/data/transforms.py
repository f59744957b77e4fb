"""The transforms of a batch on the training device: bytes to [-1, 1], random flips and crops, and computed inputs.

Images are stored, copied and gathered as bytes, which take a quarter of the memory of floats, and are converted when
the batch is on the device. There the transforms work on whole batches, and worker processes have nothing to do but
read. All random decisions are made on the CPU, by generators whose seed follows from the iteration, so that they are
the same on each device and after a resumption. None of them depends on a value that is on the GPU, so the CPU never has
to wait for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oakleaf.data.inputs import Input
from oakleaf.data.sampling import Rows


@dataclass
class BatchTransform:
    """Convert rows as they are stored into rows as the networks expect them.

    An input that belongs to its image is flipped and cropped together with it; an unpaired one (its batch has the row
    `input_mirrored`) independently of it.

    Args:
        flip: mirror half of the images.
        jitter: enlarge images by this many pixels and crop a random part of the original size; 0: no crop.
        input: how the input of an image-to-image generator is computed from the image; None: the batch has it already,
            or there is none.
        class_maps: names of the rows ("image", "input") whose colours stand for classes, and must not be mixed when
            they are enlarged.
    """

    flip: bool
    jitter: int
    input: Input | None
    class_maps: tuple[str, ...] = ()

    def __call__(self, batch: Rows, dtype: torch.dtype, seed: int, train: bool = True) -> Rows:
        """Transform a batch.

        Args:
            batch: `image` [B, C, H, W] uint8, and optionally `input` [B, C', H, W] uint8, `mirrored` [B] bool,
                `input_mirrored` [B] bool; further rows pass through.
            dtype: of the resulting images.
            seed: of the random crops, and of an `input` that is random.
            train: whether images are flipped and cropped at random.

        Returns:
            The batch with `image` and `input` in [-1, 1], of the given dtype, channels last.
        """
        generator = torch.Generator().manual_seed(seed)
        batch = dict(batch)
        mirrored = batch.pop("mirrored", None)
        input_mirrored = batch.pop("input_mirrored", None)
        images = {name: batch[name] for name in ("image", "input") if name in batch}
        if train and self.flip and mirrored is not None:
            flips = {"image": mirrored, "input": mirrored if input_mirrored is None else input_mirrored}
            images = {name: random_flip(values, flips[name]) for name, values in images.items()}
        images = {name: normalize(values, dtype) for name, values in images.items()}
        if train and self.jitter:
            offsets = {"image": self.crop_offsets(len(batch["image"]), generator)}
            paired = input_mirrored is None
            offsets["input"] = offsets["image"] if paired else self.crop_offsets(len(batch["input"]), generator)
            images = {
                name: random_crop(values, self.jitter, offsets[name], mixes=name not in self.class_maps)
                for name, values in images.items()
            }
        if self.input:
            images["input"] = self.input(images["image"], generator)
        return batch | images

    def crop_offsets(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw where each crop begins.

        Returns:
            [count, 2] int64, in pixels from the top and from the left, each from 0 to `jitter`.
        """
        return torch.randint(self.jitter + 1, (count, 2), generator=generator)


def normalize(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert stored images [B, C, H, W] to values in [-1, 1], channels last; floating point is in this range."""
    images = images.contiguous(memory_format=torch.channels_last)
    return images.to(dtype) if images.is_floating_point() else images.to(dtype).div_(127.5).sub_(1)


def random_flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror some images horizontally.

    All images are mirrored, and either version of each is selected. That avoids `images[mirrored]`, whose result has a
    size that the CPU would have to wait for; and copying whole images is cheap while they are still bytes.

    Args:
        images: [B, C, H, W], bytes.
        mirrored: [B] bool, which images to mirror.
    """
    rows = images.permute(0, 2, 3, 1).contiguous()  # [B, H, W, C], in the order of memory
    selected = torch.arange(len(rows), device=rows.device) + len(rows) * mirrored
    return torch.cat([rows, rows.flip(2)]).index_select(0, selected).permute(0, 3, 1, 2)


def random_crop(images: Tensor, jitter: int, offsets: Tensor, mixes: bool = True) -> Tensor:
    """Enlarge images and crop a part of the original size.

    Args:
        images: [B, C, H, W] in [-1, 1].
        jitter: images are enlarged to H + jitter, W + jitter.
        offsets: [B, 2] int64, where each crop begins, from the top and from the left, at most `jitter`.
        mixes: whether neighbouring pixels may be mixed: bicubic interpolation, else the nearest pixel.

    Returns:
        [B, C, H, W].
    """
    height, width = images.shape[2:]
    mode = "bicubic" if mixes else "nearest-exact"
    larger = interpolate(images.float(), (height + jitter, width + jitter), mode=mode).clamp(-1, 1).to(images.dtype)
    top, left = offsets.to(images.device, non_blocking=True).T[:, :, None]
    rows = (top + torch.arange(height, device=images.device))[:, :, None]  # [B, H, 1]
    columns = (left + torch.arange(width, device=images.device))[:, None, :]  # [B, 1, W]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return larger[batch, :, rows, columns].permute(0, 3, 1, 2)  # [B, H, W, C] in memory
