"""An evaluation of two sets of pictures, without a checkpoint."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.data.array_file import picture_set
from oakleaf.data.images import Images
from oakleaf.errors import UserError
from oakleaf.games import Batch
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet


class PictureSets(EvaluationData):
    """Two sets of pictures, one in the place of the samples.

    Both are cropped and resized to the size of the first generated picture, as in training, and have its channels.
    Metrics that need the generator, its latents or its condition are refused.

    Args:
        real: a folder, a .zip or a .npy file of real pictures.
        fake: the same of generated ones.
        device: where features are computed.
        cache: the folder of what is computed once.
        arguments: further ones of `EvaluationData`.
    """

    def __init__(self, real: Path, fake: Path, device: str, cache: str, **arguments: Any) -> None:
        self.fake_data = _images("fake", fake, cache, None, None)
        self.chosen_device = torch.device(device)
        data = _images("real", real, cache, self.fake_data.size, self.fake_data.channels)
        super().__init__(None, data, fake=self.fake_data.count, real=data.count, **arguments)  # type: ignore[arg-type]

    @property
    def module(self) -> Any:  # type: ignore[override]
        """Raise, since there is no generator.

        Raises:
            UserError: always.
        """
        raise UserError("needs a generator (checkpoint=), and there are pictures alone")

    @module.setter
    def module(self, _: Any) -> None:
        """Ignore what the base class sets."""

    @property
    def device(self) -> torch.device:
        return self.chosen_device

    @property
    def frozen_networks(self) -> dict[str, Any]:
        """Empty: what the pictures' generator was trained against is not known."""
        return {}

    @property
    def is_training_data(self) -> bool:
        """True: whether the pictures were made by a generator that was trained on the real ones is not known."""
        return True

    @property
    def condition_rows(self) -> None:  # type: ignore[override]
        """None: nothing is known of conditions."""

    @cached_property
    def fake(self) -> ImageSet:
        """The generated pictures, the first ones of their set."""
        rows = torch.arange(self.fake_count)
        pixels = self.fake_data.images(rows)
        label = self.fake_data.column("label", rows) if "label" in self.fake_data.columns else None
        return ImageSet(self._extract(pixels), pixels, label)

    def _generate(self, inputs: Batch) -> Tensor:
        raise UserError("needs a generator (checkpoint=), and there are pictures alone")

    def protocol(self, with_extractor: bool, fake: int) -> dict[str, Any]:
        protocol: dict[str, Any] = {
            "data": self.data.name,
            "data_digest": self.data.hash,
            "fake_data": self.fake_data.name,
            "fake_digest": self.fake_data.hash,
            **self.data.resize_protocol,
            "shape": [self.data.channels, *self.data.size],
            "fake": fake,
            "real": len(self.real),
            "truncation": None,
        }
        return {**protocol, "extractor": self.extractor.protocol()} if with_extractor else protocol


def _images(key: str, place: Path, cache: str, size: Any, channels: int | None) -> Images:
    """Return the pictures of a place, decoded."""
    data = Images(place.name, partial(_source, key, place), str(place), size, channels, on_corrupt="skip", cache=cache)
    data.prepare_data()
    data.setup()
    return data


def _source(key: str, place: Path, _: Path) -> Any:
    return picture_set(place, key)
