"""Stacked-MNIST: 1,000 modes that can be counted."""

from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from oakleaf.config.types import PositiveInt
from oakleaf.data.sources import Arrays, Source, torchvision_set
from oakleaf.runtime.seeds import derive_seed


class StackedMNIST(Source):
    """Three random digits as the channels of one image; its label is their number, 0 to 999. Metz 2016,
    arXiv:1611.02163, section 3.3.

    count fixed triples, as in the code of Srivastava 2017 (VEEGAN), arXiv:1705.07761, and Lin 2017 (PacGAN),
    arXiv:1712.04086; pool: the digits that they are drawn from, all 70,000 there and the 60,000 of the training set in
    other papers.
    """

    def __init__(
        self, root: Path, count: PositiveInt = 128_000, pool: Literal["all", "train", "test"] = "all", seed: int = 0
    ) -> None:
        self.root = root
        splits: list[Literal["train", "test"]] = ["train", "test"] if pool == "all" else [pool]
        parts = [torchvision_set(root, "MNIST", split) for split in splits]
        assert all(isinstance(part, Arrays) for part in parts)
        self.digits = np.concatenate([part.images for part in parts])  # type: ignore[attr-defined]
        said = np.concatenate([part.labels["label"] for part in parts])
        self.triples = np.random.default_rng(derive_seed(seed, "triples")).integers(len(said), size=(count, 3))
        self.labels = {"label": said[self.triples] @ np.array([100, 10, 1])}
        self.classes = [f"{number:03d}" for number in range(1000)]

    def __len__(self) -> int:
        return len(self.triples)

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.digits[self.triples[index]].transpose(1, 2, 0)))

    def name(self, index: int) -> str:
        return f"triple {index}"

    @cached_property
    def digest(self) -> str:
        return blake2b(self.digits.tobytes() + self.triples.tobytes(), digest_size=16).hexdigest()
