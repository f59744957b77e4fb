"""Feature extractors: the networks, or the pixels, by whose outputs most metrics compare images."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError, first_line
from oakleaf.frozen import FrozenNetwork
from oakleaf.frozen.classifier import Training, cached_classifier, nine_tenths, scaled
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.frozen.tasks import Attributes, Labels, Part, Rotations, Task
from oakleaf.image_grid import as_bytes
from oakleaf.metrics.image_set import Features
from oakleaf.runtime.cache import hash_weights

INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


class Extractor(ABC):
    """Map stored images [B, C, H, W] to features.

    Attributes:
        prepared_for: digest of the data and name of the device that it is prepared for; None before.
        suffix: appended to the names of the numbers that depend on this extractor, for example "fid-pixels". Only the
            numbers of Inception keep the published names.
        alternative: what to use instead, if a run was trained against its network.
    """

    prepared_for: tuple[str, str] | None = None
    suffix: str
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
        return number + self.suffix

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


class FrozenFeatures(Extractor):
    """Use the embedding and the logits of a frozen network.

    Args:
        network: the network (`oakleaf.frozen`); one that is trained here is trained on the real images.
        name: what is appended to the names of the numbers.
    """

    def __init__(self, network: FrozenNetwork, name: str = "frozen") -> None:
        self.network, self.suffix = network, f"-{name}"

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        super().prepare(data, device, rows)
        self.network.to(device).initialize(data)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        output = self.network(scaled(images, self.device))
        if output.embedding is None:
            raise UserError(f"{self.network.source} has no embedding, which metrics compare")
        return Features(output.embedding.float(), None if output.logits is None else output.logits.float())

    def protocol(self) -> dict[str, Any]:
        size = self.network.preprocessing.expected.size
        resize = "none" if size is None else f"to {size} px, antialiased"
        return {"name": self.network.source, "hash": self.network.provenance.hash, "resize": resize}

    def provenance(self) -> Provenance:
        return self.network.provenance


class _Pretrained(Extractor):
    """A network with pretrained weights, for images with one or three channels."""

    network: nn.Module
    hash: str

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        super().prepare(data, device, rows)
        if data.channels not in (1, 3):
            raise UserError(
                f"{type(self).__name__} supports 1 or 3 channels, not {data.channels} channels: extractor=pixels"
            )
        self.network = self.load().eval().requires_grad_(False).to(device)
        self.hash = hash_weights(self.network)

    def provenance(self) -> Provenance:
        file = getattr(self, "weights", None)
        return of_weights(self.protocol()["name"], self.network, Path(file).expanduser() if file else None)

    @abstractmethod
    def load(self) -> nn.Module:
        """Build the network and load its weights.

        Raises:
            UserError: the package or the weights are missing, or the file holds other weights.
        """


class Inception(_Pretrained):
    """Use the pool features and the logits of Inception-v3 of 2015-12-05, the network of FID and Inception Score.

    The port and the resizing, as in TensorFlow 1, are those of torch-fidelity.

    Args:
        weights: a local copy of `weights-inception-2015-12-05-6726825d.pth`; null: download it.

    Reference: Heusel 2017, arXiv:1706.08500.
    """

    suffix = ""

    def __init__(self, weights: str | None = None) -> None:
        self.weights = weights

    def load(self) -> nn.Module:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise UserError("extractor=inception needs torch-fidelity: pip install 'oakleaf[inception]'") from error
        file = _weights_file(self.weights)
        try:
            return FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], file)
        except (URLError, OSError) as error:
            raise UserError(
                f"Inception's weights cannot be downloaded ({error}); download {INCEPTION} elsewhere and set "
                "extractor.weights=FILE, or use extractor=classifier, which needs no download"
            ) from error
        except RuntimeError as error:
            raise UserError(f"extractor.weights={self.weights}: these are not Inception's weights") from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        x = as_bytes(images.to(self.device)).expand(-1, 3, -1, -1)
        features, logits = self.network(x)
        return Features(features, logits)

    def protocol(self) -> dict[str, Any]:
        return {"name": "inception-2015-12-05", "hash": self.hash, "resize": "bilinear to 299 px as in TensorFlow 1"}


class DINOv2(_Pretrained):
    """Use the class token of DINOv2.

    Distances of these features agree better with human judgement than those of Inception (Stein 2023).

    Args:
        model: the name of the network in timm.
        weights: a local copy of the weights; null: download them.

    Reference: Oquab 2023, arXiv:2304.07193; Stein 2023, arXiv:2306.04675.
    """

    suffix = "-dinov2"

    def __init__(self, model: str = "vit_large_patch14_dinov2.lvd142m", weights: str | None = None) -> None:
        self.model, self.weights = model, weights

    def load(self) -> nn.Module:
        try:
            import timm
        except ImportError as error:
            raise UserError("extractor=dinov2 needs timm: pip install 'oakleaf[dinov2]'") from error
        file = _weights_file(self.weights)
        local: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}
        try:
            return timm.create_model(self.model, pretrained=True, num_classes=0, img_size=224, **local)
        except Exception as error:  # the client of the model hub raises errors of many types
            reason = first_line(error)
            raise UserError(
                f"{self.model} cannot be loaded ({reason[:200]}); set extractor.weights=FILE to a local copy, or use "
                "extractor=classifier, which needs no download"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        x = as_bytes(images.to(self.device)).expand(-1, 3, -1, -1).float() / 255
        x = interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        mean, sd = (
            torch.tensor(v, device=x.device)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return Features(self.network((x - mean) / sd).float(), None)

    def protocol(self) -> dict[str, Any]:
        return {"name": self.model, "hash": self.hash, "resize": "bicubic to 224 px, antialiased"}


def _weights_file(path: str | None) -> str | None:
    """Check that a file holds weights only, because the packages' loaders would execute code in a pickle file.

    Raises:
        UserError: the file is missing, or holds anything but weights.
    """
    if path is None:
        return None
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"extractor.weights={path}: there is no such file")
    if file.suffix != ".safetensors":
        try:
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"extractor.weights={path}: this is not a file of weights, or it is damaged") from error
    return str(file)
