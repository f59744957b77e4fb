"""Ways to write a generator down, each able to read back what it wrote."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.export.generator import ExportedGenerator, load_weights, require_package
from oakleaf.export.model_card import is_text

GeneratorFunction = Callable[..., Tensor]  # what was read back: one tensor for each input -> images


class Format(ABC):
    """suffix: of its file. packages: that it needs. keeps_dropout: whether dropout that is noise at drawing stays it."""

    suffix: str
    keeps_dropout = True

    packages: tuple[str, ...] = ()

    def ready(self) -> None:
        """Raises:
        UserError: a package is missing.
        """
        for package in self.packages:
            require_package(package)

    @abstractmethod
    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None: ...

    @abstractmethod
    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        """The same generator, from the file. drawer: one that was built anew, for a format that holds weights alone."""


@dataclass
class Safetensors(Format):
    """Weights alone; the card's recipe is the network. `oakleaf.from_pretrained` reads it."""

    suffix, packages = "safetensors", ("safetensors",)

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        from safetensors.torch import save

        file.write_bytes(save(generator.weights(), {"format": "pt"}))  # itself it hides what a full disk says

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        load_weights(generator, file)
        return generator


@dataclass
class ExportedProgram(Format):
    """torch.export: the computation and its weights, for any number of images; `torch.export.load` needs no Oakleaf."""

    suffix = "pt2"
    keeps_dropout = False

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        coded = io.BytesIO()  # on a full disk torch itself says nothing of it, or aborts
        torch.export.save(_traced(generator, example), coded)
        file.write_bytes(coded.getbuffer())

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        return torch.export.load(file).module()  # type: ignore[no-any-return]


@dataclass
class ONNX(Format):
    """For runtimes of other languages and browsers: one file, any number of images."""

    suffix, packages = "onnx", ("onnx", "onnxscript", "onnxruntime")
    keeps_dropout = False

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        program: Any = torch.onnx.export(
            _traced(generator, example),
            example,
            dynamo=True,
            verbose=False,
            input_names=list(generator.inputs),
            output_names=["image"],
        )
        program.save(str(file), external_data=False)

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda *rows: torch.from_numpy(session.run(None, {n: r.numpy() for n, r in zip(names, rows)})[0])


def _traced(generator: ExportedGenerator, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch, words = torch.export.Dim("batch", min=1), torch.export.Dim("words", min=1)
    free = tuple({0: batch, 1: words} if is_text(rows) else {0: batch} for rows in example)
    return torch.export.export(generator, example, dynamic_shapes=(free,))
