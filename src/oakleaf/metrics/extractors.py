"""Feature extractors: the network, or the pixels, by whose outputs most metrics compare images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.frozen.classifier import Training, cached_classifier, nine_tenths, scaled
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.frozen.tasks import Attributes, Labels, Part, Rotations, Task
from oakleaf.metrics.image_set import Features


class Extractor(ABC):
    """Map stored images [B, C, H, W] to features.

    Attributes:
        prepared_for: digest of the data and name of the device that it is prepared for; None before.
        suffix: appended to the names of the numbers that depend on this extractor, for example "fid-pixels". Only the
            numbers of Inception keep the published names.
        published: names of numbers that have another name with this extractor, without suffix.
        alternative: what to use instead, if a run was trained against its network.
    """

    prepared_for: tuple[str, str] | None = None
    suffix: str
    published: Mapping[str, str] = {}
    alternative = "extractor=classifier, or extractor=pixels"

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        """Load or train what the extractor needs; called once for data and device, before any images are passed.

        Args:
            data: the real images.
            device: where the features are computed.
            rows: the rows of the images that the extractor may be trained on [M]; None: all.

        Raises:
            UserError: weights are missing, or the extractor does not support these images.
        """
        self.device = device

    def number_name(self, number: str) -> str:
        """Return the name of a metric's number that is computed from these features."""
        return self.published.get(number, number + self.suffix)

    @abstractmethod
    def __call__(self, images: Tensor) -> Features:
        """Return the features of stored images [B, C, H, W]."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Return the extractor's name, the hash of its weights, and how it resizes images."""

    def provenance(self) -> Provenance | None:
        """Return what identifies its network, once it is prepared; None without a network."""
        return None


class Pixels(Extractor):
    """Use the pixels as features, after area resizing to at most `side` pixels in each direction.

    Args:
        side: the maximal height and width; smaller images keep their size.
    """

    suffix = "-pixels"

    def __init__(self, side: PositiveInt = 16) -> None:
        self.side = side

    def __call__(self, images: Tensor) -> Features:
        x = scaled(images, self.device)
        size = (min(self.side, x.shape[2]), min(self.side, x.shape[3]))
        return Features(adaptive_avg_pool2d(x, size).flatten(1), None)

    def protocol(self) -> dict[str, Any]:
        return {"name": "pixels", "resize": f"area, at most {self.side} px"}


class Classifier(Extractor):
    """Use the hidden layer of a small classifier that is trained once on the real images.

    It predicts the labels of the data if there are at least two classes, else their attributes, else by how much an
    image was rotated (`Rotations`). Its numbers compare runs on one data set; they are not FID.

    Args:
        training: the network's widths and the training's length.
        seed: of its weights and batches.
        part: train on all rows, or on those of even or odd number. A run with a frozen network that was trained on the
            even rows is judged by one of the odd rows.
    """

    suffix = "-classifier"
    alternative = "another extractor.seed= or extractor.part=, or extractor=pixels"

    def __init__(self, training: Training, seed: int = 0, part: Part = "all") -> None:
        self.training, self.seed, self.part = training, seed, part

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        super().prepare(data, device, rows)
        task = _task_of(data)
        self.kind = task.kind
        rows = self._rows(task, data.count, rows)
        arguments = (data.images(), task, self.training, data.digest, data.cache, device, rows, self.seed)
        self.network, self.accuracy, self.hash = cached_classifier(*arguments)
        self.trained_on = "nine tenths of the real images" if rows is None else f"{len(rows)} real images"
        self.origin: dict[str, Any] = {"data": data.hash, "part": self.part, "seed": self.seed, "task": task.kind}

    def _rows(self, task: Task, count: int, rows: Tensor | None) -> Tensor | None:
        """Return those of the rows that belong to the part of the data; None: a random nine tenths of all."""
        if self.part == "all":
            return rows
        part = task.part(count, self.part)
        return nine_tenths(part) if rows is None else part[torch.isin(part, rows)]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        features, logits = self.network(scaled(images, self.device).contiguous(memory_format=torch.channels_last))
        return Features(features.float(), logits.float() if self.kind == "labels" else None)

    def protocol(self) -> dict[str, Any]:
        return {
            "name": f"classifier of {self.kind}",
            "hash": self.hash,
            "seed": self.seed,
            "part": self.part,
            "trained_on": self.trained_on,
            "held_out_accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "resize": "none",
        }

    def provenance(self) -> Provenance:
        return replace(of_weights(f"the classifier of {self.kind}", self.network), **self.origin)


def _task_of(data: ImageDataModule) -> Task:
    """The labels of the data if there are two classes or more, else the attributes, else rotations."""
    label, attributes = (data.column(name) if name in data.columns else None for name in ("label", "attributes"))
    if label is not None and len(given := label[label >= 0]) and given.max() > given.min():
        return Labels(label, len(data.classes))
    return Rotations(data.size) if attributes is None else Attributes(attributes)
