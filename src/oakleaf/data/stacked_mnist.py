"""Stacked-MNIST: a set of 1,000 modes that can be counted, which shows how many of them a generator covers."""

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
    """Three random MNIST digits as the channels of one image, whose label is the three-digit number, 0 to 999.

    Args:
        root: the folder that holds MNIST, or that it is downloaded to.
        count: the number of images; the triples are drawn once and then fixed, as in the code of VEEGAN and PacGAN.
        pool: the digits that the triples are drawn from: "all" 70,000, as in those two papers' code, or the 60,000 of
            "train", as in other papers, or the 10,000 of "test".
        seed: of the choice of the triples.

    Reference: Metz 2016, arXiv:1611.02163, section 3.3; Srivastava 2017 (VEEGAN), arXiv:1705.07761; Lin 2017 (PacGAN),
        arXiv:1712.04086.
    """

    def __init__(
        self, root: Path, count: PositiveInt = 128_000, pool: Literal["all", "train", "test"] = "all", seed: int = 0
    ) -> None:
        self.root = root
        splits: list[Literal["train", "test"]] = ["train", "test"] if pool == "all" else [pool]
        parts = [torchvision_set(root, "MNIST", split) for split in splits]
        assert all(isinstance(part, Arrays) for part in parts)
        self.digits = np.concatenate([part.images for part in parts])  # type: ignore[attr-defined]
        label = np.concatenate([part.labels["label"] for part in parts])
        self.triples = np.random.default_rng(derive_seed(seed, "triples")).integers(len(label), size=(count, 3))
        self.labels = {"label": label[self.triples] @ np.array([100, 10, 1])}
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
