"""What features are: the networks, or the pixels, that measures look through."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError, first_line
from oakleaf.metrics.classifier import Training, kept, scaled, weights_hash
from oakleaf.metrics.classifier_targets import Attributes, Labels, Rotations, Task
from oakleaf.metrics.image_set import Features

INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


class Extractor(ABC):
    """Images [B, C, H, W] as stored -> features.

    suffix: what is put behind the names of numbers that depend on it; only Inception's are FID itself.
    """

    suffix: str

    def prepare(self, data: ImageDataModule, device: Any) -> None:
        """Called once, with the real images at hand.

        Raises:
            UserError: weights that are not there, or images that it can't see.
        """
        self.device = device

    @abstractmethod
    def __call__(self, images: Tensor) -> Features: ...

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Name, hash of its weights, how it resizes."""


class Pixels(Extractor):
    """The pixels themselves, at most `side` of them in each direction, by area."""

    suffix = "-pixels"

    def __init__(self, side: PositiveInt = 16) -> None:
        self.side = side

    def __call__(self, images: Tensor) -> Features:
        x = scaled(images, self.device)
        return Features(
            adaptive_avg_pool2d(x, (min(self.side, x.shape[2]), min(self.side, x.shape[3]))).flatten(1), None
        )

    def protocol(self) -> dict[str, Any]:
        return {"name": "pixels", "resize": f"area, at most {self.side} px"}


class Classifier(Extractor):
    """A small network that learned the run's own set, once: its labels, its attributes, or, if it has none, by how
    much an image was turned. The numbers tell runs on one set apart; they are no FID."""

    suffix = "-classifier"

    def __init__(self, training: Training) -> None:
        self.training = training

    def prepare(self, data: ImageDataModule, device: Any) -> None:
        super().prepare(data, device)
        task = _task(data)
        self.kind = task.kind
        learned = (data.rows["image"], task, self.training, data.digest, data.cache, device)
        self.network, self.accuracy, self.hash = kept(*learned)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        features, logits = self.network(scaled(images, self.device).contiguous(memory_format=torch.channels_last))
        return Features(features.float(), logits.float() if self.kind == "labels" else None)

    def protocol(self) -> dict[str, Any]:
        return {
            "name": f"classifier of {self.kind}",
            "hash": self.hash,
            "held_out_accuracy": round(self.accuracy, 4),
            "resize": "none",
        }


def _task(data: ImageDataModule) -> Task:
    label, attributes = data.rows.get("label"), data.rows.get("attributes")
    if label is not None and len(given := label[label >= 0]) and given.max() > given.min():
        return Labels(label, len(data.classes))
    return Rotations(data.size) if attributes is None else Attributes(attributes)


class _Pretrained(Extractor):
    """A network with weights from elsewhere, for one or three channels."""

    network: nn.Module
    hash: str

    def prepare(self, data: ImageDataModule, device: Any) -> None:
        super().prepare(data, device)
        if data.channels not in (1, 3):
            raise UserError(
                f"{type(self).__name__} sees grey or colour, not {data.channels} channels: extractor=pixels"
            )
        self.network = self.load().eval().requires_grad_(False).to(device)
        self.hash = weights_hash(self.network)

    @abstractmethod
    def load(self) -> nn.Module: ...


class Inception(_Pretrained):
    """The network of FID and Inception Score: Inception-v3 of 2015-12-05, ported by torch-fidelity, which also resizes
    as TensorFlow 1 did. Heusel 2017, arXiv:1706.08500.

    weights: a local copy of `weights-inception-2015-12-05-6726825d.pth`; null: downloaded where the network allows.
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
                f"Inception's weights can't be downloaded ({error}); bring {INCEPTION} here and name it: "
                "extractor.weights=FILE; or take extractor=classifier, which needs none"
            ) from error
        except RuntimeError as error:
            raise UserError(f"extractor.weights={self.weights}: these are not Inception's weights") from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        x = images.to(self.device).expand(-1, 3, -1, -1)
        features, logits = self.network(x)
        return Features(features, logits)

    def protocol(self) -> dict[str, Any]:
        return {"name": "inception-2015-12-05", "hash": self.hash, "resize": "bilinear to 299 px as in TensorFlow 1"}


class DINOv2(_Pretrained):
    """DINOv2's class token (Oquab 2023, arXiv:2304.07193), which agrees better with people than Inception: Stein 2023,
    arXiv:2306.04675.

    model: a name of timm's. weights: a local copy; null: downloaded where the network allows.
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
        except Exception as error:  # whatever the hub's client stumbles over
            reason = first_line(error)
            raise UserError(
                f"{self.model} can't be had ({reason[:200]}); name a local copy: extractor.weights=FILE; or take "
                "extractor=classifier, which needs none"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        x = images.to(self.device).expand(-1, 3, -1, -1).float() / 255
        x = interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        mean, sd = (
            torch.tensor(v, device=x.device)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return Features(self.network((x - mean) / sd).float(), None)

    def protocol(self) -> dict[str, Any]:
        return {"name": self.model, "hash": self.hash, "resize": "bicubic to 224 px, antialiased"}


def _weights_file(path: str | None) -> str | None:
    """The file, if it holds weights and nothing else: loaders elsewhere would run what a pickle says.

    Raises:
        UserError: missing, or no weights.
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
            raise UserError(f"extractor.weights={path}: no weights, or a damaged file") from error
    return str(file)
