"""Data sets and data modules as a user writes them: they know nothing of Oakleaf."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from oakleaf.data import Images
from oakleaf.data.sources import digits


def digit_rows(cache: str) -> tuple[Tensor, Tensor]:
    """Return the images and labels of data=digits."""
    data = Images("digits", digits, "", 16, 1, cache=cache)
    data.setup()
    return data.images(), data.column("label")


class Digits(Dataset[Any]):
    """The images of data=digits as bytes, (image, label)."""

    def __init__(self, cache: str) -> None:
        self.pixels, self.label = digit_rows(cache)
        self.targets, self.classes = self.label.tolist(), [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.label[index])


class Noise(Dataset[Any]):
    """Images in [0, 1] with a random brightness of their own and a label, in one of several forms."""

    def __init__(self, form: str = "tuple", count: int = 48, root: str = "") -> None:
        self.form, self.count, self.root = form, count, root

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index)) * (0.5 + 0.5 * torch.rand(()))
        pixels = (image * 255).byte()
        return {
            "tensor": image,
            "tuple": (image, index % 4),
            "array": (image.numpy().transpose(1, 2, 0), index % 4),
            "bytes": (pixels.numpy().transpose(1, 2, 0), index % 4),
            "picture": (Image.fromarray(pixels.permute(1, 2, 0).numpy()), index % 4),
            "mapping": {"image": image, "label": index % 4, "path": f"{index}.png"},
            "names": {"img": image, "label": ["cat", "dog", "eel"][index % 3]},
            "attributes": (image, np.array([index % 2, index % 3 == 0])),
            "pair": {"image": image, "input": image.mean(0)},
            "caption": {"image": image, "caption": f"a {['red', 'green'][index % 2]} square number{index % 3}"},
        }[self.form]


class Stream(IterableDataset[Any]):
    """Grey images whose value is their number, and a label."""

    def __init__(self, count: int = 100, side: int = 16) -> None:
        self.count, self.side = count, side

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.count):
            yield torch.full((1, self.side, self.side), i, dtype=torch.uint8), i % 3


class Module(LightningDataModule):
    """Tensors in [-1, 1] with labels, shuffled by a DataLoader."""

    def __init__(self, count: int = 60, batch_size: int = 12, workers: int = 0) -> None:
        super().__init__()
        self.count, self.batch_size, self.workers = count, batch_size, workers
        self.prepared = 0

    def prepare_data(self) -> None:
        self.prepared += 1

    def setup(self, stage: str) -> None:
        x = torch.rand(self.count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.dataset = TensorDataset(x, torch.arange(self.count) % 5)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, self.batch_size, shuffle=True, num_workers=self.workers, drop_last=True)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(self.dataset.tensors[0][:20].flip(3), torch.arange(20) % 5), 10)


class WithoutLength:
    """An object that is no data set: it has no length."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(1, 16, 16)


class RandomPython(Noise):
    """Images that are brightened by a number of Python's own generator."""

    def __getitem__(self, index: int) -> Any:
        return torch.full((1, 16, 16), random.random() * 0.5 + float(np.random.rand()) * 0.5), index % 4


def hugging_face(root: str) -> Any:
    """Return a Hugging Face data set that was saved in a folder."""
    from datasets import load_from_disk

    return load_from_disk(root)


def hugging_face_stream(root: str) -> Any:
    """Return the same as a stream."""
    return hugging_face(root).to_iterable_dataset()


def web_dataset(root: str) -> Any:
    """Return a WebDataset of the shards in a folder."""
    import webdataset

    shards = sorted(map(str, Path(root).glob("*.tar")))
    return webdataset.WebDataset(shards, shardshuffle=False).decode("pil")


class TruncatedGenerator(torch.nn.Module):
    """A generator that takes a truncation: it scales its images by it."""

    def __init__(self, latent: int, channels: int, size: int) -> None:
        super().__init__()
        self.layer, self.shape = torch.nn.Linear(latent, channels * size * size), (channels, size, size)

    def forward(self, z: Tensor, truncation: Tensor | None = None) -> Tensor:
        images = torch.tanh(self.layer(z)).view(-1, *self.shape)
        return images if truncation is None else images * truncation[:, None, None, None]
