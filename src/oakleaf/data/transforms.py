"""What happens to a batch where the networks are: bytes become [-1, 1], chance mirrors and shifts, inputs are made."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oakleaf.data.inputs import Input
from oakleaf.data.sampling import Rows


@dataclass
class BatchTransform:
    """flip, jitter, input: as for `Images`. An input that belongs to its image is moved with it; one that was dealt on
    its own (`input_mirrored`) by itself. classes: of which rows the colours are classes, and are not mixed.
    """

    flip: bool
    jitter: int
    input: Input | None
    classes: tuple[str, ...] = ()

    def __call__(self, batch: Rows, dtype: torch.dtype, seed: int, train: bool = True) -> Rows:
        """Rows as they are stored -> rows as networks see them. train: whether chance, begun by the seed, may move
        images."""
        chance = torch.Generator().manual_seed(seed)
        batch = dict(batch)
        mirrored = batch.pop("mirrored", None)
        alone = batch.pop("input_mirrored", None)
        pictures = {name: batch[name] for name in ("image", "input") if name in batch}
        if train and self.flip and mirrored is not None:
            sides = {"image": mirrored, "input": mirrored if alone is None else alone}
            pictures = {name: random_flip(picture, sides[name]) for name, picture in pictures.items()}
        pictures = {name: normalize(picture, dtype) for name, picture in pictures.items()}
        if train and self.jitter:
            places = {"image": self.places(batch["image"], chance)}
            places["input"] = places["image"] if alone is None else self.places(batch["input"], chance)
            mixes = {name: name not in self.classes for name in pictures}
            pictures = {n: random_crop(picture, self.jitter, places[n], mixes[n]) for n, picture in pictures.items()}
        if self.input:
            pictures["input"] = self.input(pictures["image"], chance)
        return batch | pictures

    def places(self, images: Tensor, chance: torch.Generator) -> Tensor:
        """Where each image's part begins, [B, 2], in pixels from above and from the left."""
        return torch.randint(self.jitter + 1, (len(images), 2), generator=chance)


def normalize(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes to [-1, 1]."""
    return images.contiguous(memory_format=torch.channels_last).to(dtype).div_(127.5).sub_(1)


def random_flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Those images [B, C, H, W], as bytes still, of which there are a quarter as many. All are mirrored, and of either
    one is taken: how many are to be is nothing that a GPU has to be asked for, and whole images copy fast."""
    rows = images.permute(0, 2, 3, 1).contiguous()  # [B, H, W, C], in the order of memory
    which = torch.arange(len(rows), device=rows.device) + len(rows) * mirrored
    return torch.cat([rows, rows.flip(2)]).index_select(0, which).permute(0, 3, 1, 2)


def random_crop(images: Tensor, jitter: int, places: Tensor, mixes: bool = True) -> Tensor:
    """Images [B, C, H, W] enlarged by `jitter` pixels, and of each the H x W ones from its place on. mixes: whether the
    values between two may be taken, bicubic, or the nearest alone."""
    height, width = images.shape[2:]
    mode = "bicubic" if mixes else "nearest-exact"
    larger = interpolate(images.float(), (height + jitter, width + jitter), mode=mode).clamp(-1, 1).to(images.dtype)
    top, left = places.to(images.device, non_blocking=True).T[:, :, None]
    rows = (top + torch.arange(height, device=images.device))[:, :, None]  # [B, H, 1]
    columns = (left + torch.arange(width, device=images.device))[:, None, :]  # [B, 1, W]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return larger[which, :, rows, columns].permute(0, 3, 1, 2)  # [B, H, W, C] in memory
