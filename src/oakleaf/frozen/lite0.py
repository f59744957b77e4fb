"""EfficientNet-Lite0, a small classifier of ImageNet's 1,000 classes."""

from torch import Tensor, nn

from oakleaf.frozen.layers import SameConv2d

STAGES = [  # kernel, stride of the first block, expansion, channels, blocks: Tan 2019, table 1
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]
EPS = 1e-3  # of the batch normalisation


class InvertedResidual(nn.Module):
    """A 1 x 1 expansion, a depthwise convolution and a 1 x 1 projection; the input is added if the shapes agree.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
        expansion: of the channels between; 1: no expansion.

    Reference: Sandler 2018, arXiv:1801.04381, section 3.3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion > 1:
            self.expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(width, EPS)
        self.depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width, bias=False)
        self.bn1 = nn.BatchNorm2d(width, EPS)
        self.project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, EPS)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn0(self.expand_conv(x)).clamp(0, 6) if self.expands else x
        y = self.bn1(self.depthwise_conv(y)).clamp(0, 6)
        y = self.bn2(self.project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    """EfficientNet-Lite0: no squeeze-and-excitation, and ReLU6 in place of Swish.

    Its layers `blocks.0` to `blocks.15` end the stages at 1 (16 channels), 2 (24), 4 (40), 7 (80), 10 (112), 14 (192)
    and 15 (320); at 224 px the maps of blocks 2, 4, 10 and 15 have 56, 28, 14 and 7 px.

    Reference: Tan 2019, arXiv:1905.11946; the Lite variant is from its authors' code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self.bn0 = nn.BatchNorm2d(32, EPS)
        blocks, inputs = [], 32
        for kernel, stride, expansion, outputs, count in STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(1280, EPS)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding [B, 1280] and the logits [B, 1000] of preprocessed images [B, 3, H, W]."""
        x = self.blocks(self.bn0(self.conv_stem(x)).clamp(0, 6))
        features = self.bn1(self.conv_head(x)).clamp(0, 6).mean((2, 3))
        return features, self.fc(features)


def own_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the package: `_blocks.0._bn1.weight` becomes `blocks.0.bn1.weight`."""
    return {".".join(part.removeprefix("_") for part in name.split(".")): value for name, value in weights.items()}
