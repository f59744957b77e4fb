"""TensorFlow Lite models as networks of torch: a reader of the file format, and the operations of convolutional models.

The file is a FlatBuffer of the schema tensorflow/lite/schema/schema.fbs; numbers below are its field and operator
numbers. Only float models are read (weights of 16 or 32 bits). Maps are [B, C, H, W] here and [B, H, W, C] in the file.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, linear, max_pool2d, pad, relu, relu6

from oakleaf.frozen.layers import pad_same

TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    2: np.dtype("<i4"),
}  # of tensors: float32, float16, int32
SAME = 0  # padding
ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {0: lambda x: x, 1: relu, 3: relu6}
LOWEST = -1e30  # pads a maximum


class Table:
    """A table of a FlatBuffer.

    Args:
        content: the file.
        position: where the table begins.
    """

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position
        self.fields = position - self._read("<i", position)

    def _read(self, kind: str, position: int) -> Any:
        return struct.unpack_from(kind, self.content, position)[0]

    def _field(self, number: int) -> int:
        """The position of a field; 0 if the table does not have it."""
        entry = 4 + 2 * number
        inside = entry < self._read("<H", self.fields)
        offset = self._read("<H", self.fields + entry) if inside else 0
        return self.position + offset if offset else 0

    def number(self, field: int, kind: str = "<i", default: int = 0) -> int:
        """Return a number; `kind` is its format in `struct`."""
        position = self._field(field)
        return int(self._read(kind, position)) if position else default

    def _vector(self, field: int) -> tuple[int, int]:
        position = self._field(field)
        if not position:
            return 0, 0
        start = position + self._read("<I", position)
        return start + 4, self._read("<I", start)

    def numbers(self, field: int) -> list[int]:
        """Return a vector of integers of 32 bits."""
        start, count = self._vector(field)
        return list(struct.unpack_from(f"<{count}i", self.content, start)) if count else []

    def bytes(self, field: int) -> bytes:
        """Return a vector of bytes."""
        start, count = self._vector(field)
        return self.content[start : start + count]

    def tables(self, field: int) -> list["Table"]:
        """Return a vector of tables."""
        start, count = self._vector(field)
        places = [start + 4 * i for i in range(count)]
        return [Table(self.content, place + self._read("<I", place)) for place in places]

    def table(self, field: int) -> "Table | None":
        """Return a table, or None."""
        position = self._field(field)
        return Table(self.content, position + self._read("<I", position)) if position else None


@dataclass
class Operator:
    """One operator of a graph: its number in the schema, its tensors by index, and its options."""

    code: int
    inputs: list[int]
    outputs: list[int]
    options: Table | None


@dataclass
class Graph:
    """What a file describes: operators in their order, the constants by index, and the indices of input and outputs."""

    operators: list[Operator]
    constants: dict[int, Tensor]
    shapes: dict[int, list[int]]
    inputs: list[int]
    outputs: list[int]


def read_graph(file: Path) -> Graph:
    """Read a .tflite file.

    Raises:
        ValueError, struct.error: it is none, or it holds tensors of other types.
    """
    content = file.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError("not a TensorFlow Lite model")
    model = Table(content, struct.unpack_from("<I", content, 0)[0])
    codes = [max(code.number(0, "<b"), code.number(3)) for code in model.tables(1)]
    (main, *_), buffers = model.tables(2), [buffer.bytes(0) for buffer in model.tables(4)]
    constants, shapes = {}, {}
    for index, tensor in enumerate(main.tables(0)):
        shapes[index] = tensor.numbers(0)
        if data := buffers[tensor.number(2, "<I")]:
            numbers = np.frombuffer(data, TYPES[tensor.number(1, "<b")]).reshape(shapes[index])
            constants[index] = torch.from_numpy(numbers.astype(np.int64 if numbers.dtype.kind == "i" else np.float32))
    operators = [
        Operator(codes[op.number(0, "<I")], op.numbers(1), op.numbers(2), op.table(4)) for op in main.tables(3)
    ]
    return Graph(operators, constants, shapes, main.numbers(1), main.numbers(2))


class Operation(nn.Module):
    """An operation with its constants.

    Args:
        function: of the inputs that are no constants.
        constants: tensors that it uses, which become buffers.
    """

    def __init__(self, function: Callable[..., Tensor], **constants: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in constants.items():
            self.register_buffer(name, value)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the result [B, ...]."""
        return self.function(*inputs, **dict(self.named_buffers()))


class TFLiteNetwork(nn.Module):
    """A graph of a file as a network; its layers are `op0`, `op1`, ... in the order of the file.

    Its output is (the largest output, flattened [B, n], in the order of the file; the others, concatenated [B, m]).

    Args:
        graph: what `read_graph` has read.

    Raises:
        NotImplementedError: the graph has an operator that is not known here.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        values = dict(graph.constants)  # DEQUANTIZE gives constants other indices
        self.steps: list[tuple[str, list[int], int]] = []
        for number, operator in enumerate(graph.operators):
            if operator.code == 6:  # DEQUANTIZE: of constants of 16 bits
                values[operator.outputs[0]] = values[operator.inputs[0]]
                continue
            name = f"op{number}"
            self.add_module(name, _operation(operator, values, graph.shapes))
            variable = [index for index in operator.inputs if index >= 0 and index not in values]
            self.steps.append((name, variable, operator.outputs[0]))
        (self.input,) = graph.inputs
        self.outputs = sorted(graph.outputs, key=lambda index: -int(np.prod(graph.shapes[index])))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the largest output and the others of maps [B, C, H, W]."""
        values = {self.input: x}
        for name, inputs, output in self.steps:
            values[output] = self.get_submodule(name)(*(values[index] for index in inputs))
        first, *others = (_file_order(values[index]).flatten(1) for index in self.outputs)
        return first, torch.cat(others, 1) if others else None


def _file_order(x: Tensor) -> Tensor:
    """Maps [B, C, H, W] as the file has them, [B, H, W, C]; others as they are."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def _operation(operator: Operator, values: dict[int, Tensor], shapes: dict[int, list[int]]) -> Operation:
    """Return the operation of one operator."""
    constants = [values[index] for index in operator.inputs if index in values]
    if operator.code not in OPERATIONS:
        raise NotImplementedError(f"operator {operator.code} of TensorFlow Lite")
    return OPERATIONS[operator.code](operator.options, constants, shapes[operator.outputs[0]])


def _convolution(options: Table, constants: list[Tensor], _: list[int], depthwise: bool = False) -> Operation:
    """CONV_2D, whose weight is [out, h, w, in], or DEPTHWISE_CONV_2D: [1, h, w, out]."""
    weight, *bias = constants
    weight = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
    stride = options.number(1, default=1)
    same = options.number(0, "<b") == SAME
    activation = ACTIVATIONS[options.number(4 if depthwise else 3, "<b")]
    groups = len(weight) if depthwise else 1

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        padded = pad_same(x, weight.shape[2], stride) if same else x
        return activation(conv2d(padded, weight, bias, stride, groups=groups))

    return Operation(run, weight=weight.contiguous(), **({"bias": bias[0]} if bias else {}))


def _depthwise(options: Table, constants: list[Tensor], shape: list[int]) -> Operation:
    return _convolution(options, constants, shape, depthwise=True)


def _pool(options: Table, _: list[Tensor], __: list[int], largest: bool = True) -> Operation:
    """MAX_POOL_2D or AVERAGE_POOL_2D."""
    stride, kernel = options.number(1, default=1), options.number(3, default=1)
    same = options.number(0, "<b") == SAME

    def run(x: Tensor) -> Tensor:
        if largest:
            return max_pool2d(pad_same(x, kernel, stride, LOWEST) if same else x, kernel, stride)
        if not same:
            return avg_pool2d(x, kernel, stride)
        inside = pad_same(torch.ones_like(x[:1, :1]), kernel, stride)  # padding does not count
        return avg_pool2d(pad_same(x, kernel, stride), kernel, stride) / avg_pool2d(inside, kernel, stride)

    return Operation(run)


def _average(options: Table, constants: list[Tensor], shape: list[int]) -> Operation:
    return _pool(options, constants, shape, largest=False)


def _add(options: Table | None, constants: list[Tensor], _: list[int]) -> Operation:
    activation = ACTIVATIONS[options.number(0, "<b") if options else 0]
    if constants:
        return Operation(lambda x, other: activation(x + other), other=constants[0])
    return Operation(lambda one, other: activation(one + other))


def _padding(_: Table | None, constants: list[Tensor], __: list[int]) -> Operation:
    """PAD: constants[0] is [4, 2], before and after each of [B, H, W, C]."""
    (_, _), (top, bottom), (left, right), (first, last) = constants[0].tolist()
    return Operation(lambda x: pad(x, (left, right, top, bottom, first, last)))


def _prelu(_: Table | None, constants: list[Tensor], __: list[int]) -> Operation:
    slope = constants[0].flatten()[:, None, None]
    return Operation(lambda x, slope: torch.where(x > 0, x, x * slope), slope=slope)


def _reshape(_: Table | None, __: list[Tensor], shape: list[int]) -> Operation:
    """RESHAPE, in the order of the file; a map of four dimensions is [B, C, H, W] again."""

    def run(x: Tensor) -> Tensor:
        flat = _file_order(x).flatten(1)
        if len(shape) < 4:
            return flat.reshape(len(x), *shape[1:])
        return flat.reshape(len(x), *shape[1:]).permute(0, 3, 1, 2)

    return Operation(run)


def _dense(options: Table, constants: list[Tensor], _: list[int]) -> Operation:
    activation, (weight, *bias) = ACTIVATIONS[options.number(0, "<b")], constants

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return activation(linear(_file_order(x).flatten(1), weight, bias))

    return Operation(run, weight=weight, **({"bias": bias[0]} if bias else {}))


OPERATIONS: dict[int, Callable[..., Operation]] = {
    0: _add,
    1: _average,
    3: _convolution,
    4: _depthwise,
    9: _dense,
    14: lambda *_: Operation(torch.sigmoid),
    17: _pool,
    19: lambda *_: Operation(relu),
    21: lambda *_: Operation(relu6),
    22: _reshape,
    34: _padding,
    54: _prelu,
}
