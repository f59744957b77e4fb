"""Feature extractors whose networks were trained on other images, and whose weights are downloaded or in a file."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError, first_line
from oakleaf.frozen import FrozenNetwork
from oakleaf.frozen.classifier import scaled
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.image_grid import as_bytes
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.image_set import Features
from oakleaf.runtime.cache import hash_weights

INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


class Pretrained(Extractor):
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


class Inception(Pretrained):
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


class _Timm(Pretrained):
    """A network of timm with the weights of a file, or downloaded.

    Args:
        model: the name of the network in timm.
        weights: a local copy of the weights; null: download them.

    Attributes:
        side: height and width of the network's input.
        mean, sd: by which colours from 0 to 1 are normalised.
        options: arguments of the network's constructor.
    """

    side: int
    mean: tuple[float, float, float]
    sd: tuple[float, float, float]
    options: Mapping[str, Any] = {}

    def __init__(self, model: str, weights: str | None = None) -> None:
        self.model, self.weights = model, weights

    def load(self) -> nn.Module:
        extractor = self.suffix.removeprefix("-")
        try:
            import timm
        except ImportError as error:
            raise UserError(f"extractor={extractor} needs timm: pip install 'oakleaf[{extractor}]'") from error
        file = _weights_file(self.weights)
        local: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}
        try:
            return timm.create_model(self.model, pretrained=True, **self.options, **local)
        except Exception as error:  # the client of the model hub raises errors of many types
            reason = first_line(error)
            raise UserError(
                f"{self.model} cannot be loaded ({reason[:200]}); set extractor.weights=FILE to a local copy, or use "
                "extractor=classifier, which needs no download"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        x = as_bytes(images.to(self.device)).expand(-1, 3, -1, -1).float() / 255
        x = interpolate(x, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, sd = (torch.tensor(values, device=x.device)[:, None, None] for values in (self.mean, self.sd))
        return Features(self.network((x - mean) / sd).float(), None)

    def protocol(self) -> dict[str, Any]:
        return {"name": self.model, "hash": self.hash, "resize": f"bicubic to {self.side} px, antialiased"}


class DINOv2(_Timm):
    """Use the class token of DINOv2.

    Distances of these features agree better with human judgement than those of Inception (Stein 2023). The number of
    `metric=fid` is `fd-dinov2`, which they call FD-DINOv2.

    Args:
        model: the name of the network in timm.
        weights: a local copy of the weights; null: download them.

    Reference: Oquab 2023, arXiv:2304.07193; Stein 2023, arXiv:2306.04675.
    """

    suffix = "-dinov2"
    published = {"fid": "fd-dinov2"}
    side, mean, sd = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    options = {"num_classes": 0, "img_size": 224}

    def __init__(self, model: str = "vit_large_patch14_dinov2.lvd142m", weights: str | None = None) -> None:
        super().__init__(model, weights)


class CLIP(_Timm):
    """Use the image embeddings of CLIP, for `metric=cmmd`.

    Args:
        model: the name of the network in timm.
        weights: a local copy of the weights; null: download them.

    Reference: Radford 2021, arXiv:2103.00020; Jayasumana 2024, arXiv:2401.09603, section 4.
    """

    suffix = "-clip"
    published = {"cmmd": "cmmd", "fid": "fd-clip"}
    side, mean, sd = 336, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, model: str = "vit_large_patch14_clip_336.openai", weights: str | None = None) -> None:
        super().__init__(model, weights)


class FrozenFeatures(Extractor):
    """Use the embedding and the logits of a frozen network of `oakleaf.frozen`, which was trained on other images.

    The features do not depend on the run or its data, so numbers of different data sets have one scale. The number of
    `metric=fid` is `frechet-<name>`: only Inception's is FID.

    Args:
        network: the network; it has an embedding.
        name: by which numbers are named.
    """

    def __init__(self, network: FrozenNetwork, name: str) -> None:
        self.network, self.name = network, name
        self.suffix = f"-{name}"
        self.published = {"fid": f"frechet-{name}"}

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        super().prepare(data, device, rows)
        if data.channels not in (1, 3):
            raise UserError(
                f"extractor={self.name} supports 1 or 3 channels, not {data.channels} channels: extractor=pixels"
            )
        self.network.initialize(data)
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        output = self.network(scaled(images, self.device))
        if output.embedding is None:
            raise UserError(f"extractor={self.name}: the network has no embedding")
        return Features(output.embedding.float(), None if output.logits is None else output.logits.float())

    def protocol(self) -> dict[str, Any]:
        size = self.network.preprocessing.expected.size
        return {"name": self.name, "hash": self.network.provenance.hash, "resize": "none" if size is None else size}

    def provenance(self) -> Provenance:
        return self.network.provenance


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
