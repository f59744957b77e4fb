"""Layers as TensorFlow defines them, for networks that were trained in it."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad images [B, C, H, W] as TensorFlow's "SAME" does: each side becomes ceil(side / stride) after the layer.

    An odd amount has its larger half at the bottom and on the right.
    """
    rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
    return pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=value)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding "SAME"; the arguments are those of `nn.Conv2d`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, stride, **options)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size[0], self.stride[0]))


class SeparableConv2d(nn.Module):
    """A depthwise convolution and a pointwise one with a bias, both with padding "SAME".

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = SameConv2d(inputs, inputs, 3, stride, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
