"""The file formats of exported generators; each can write a file and read it back."""

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

GeneratorFunction = Callable[..., Tensor]  # one tensor for each input -> images [B, C, H, W]


class Format(ABC):
    """A file format for generators.

    Attributes:
        suffix: of the file.
        packages: which have to be installed.
        keeps_dropout: whether the file can contain dropout that stays active when images are generated. Formats that
            cannot draw random numbers have to leave it out.
    """

    suffix: str
    packages: tuple[str, ...] = ()
    keeps_dropout = True

    def ready(self) -> None:
        """Check that the packages are installed.

        Raises:
            UserError: a package is missing.
        """
        for package in self.packages:
            require_package(package)

    @abstractmethod
    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        """Write the generator to a file.

        Args:
            generator: what is written.
            example: inputs of a small batch, for formats that trace the computation.
            file: where it is written.
        """

    @abstractmethod
    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        """Read a file that `write` wrote.

        Args:
            file: the file.
            generator: a newly built generator of the same architecture, for formats that store weights alone.
        """


@dataclass
class Safetensors(Format):
    """The weights alone; the configuration in `card.json` describes the network. Read by `oakleaf.from_pretrained`."""

    suffix, packages = "safetensors", ("safetensors",)

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        """Write the weights."""
        from safetensors.torch import save

        file.write_bytes(save(generator.weights(), {"format": "pt"}))  # its own `save_file` hides a full disk's error

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        """Load the weights into `generator`, and return it."""
        load_weights(generator, file)
        return generator


@dataclass
class ExportedProgram(Format):
    """torch.export: the computation and its weights, any batch size. `torch.export.load` reads it without Oakleaf."""

    suffix = "pt2"
    keeps_dropout = False

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        """Trace the generator and write the program."""
        buffer = io.BytesIO()  # written to a full disk directly, torch reports no error, or aborts
        torch.export.save(_trace(generator, example), buffer)
        file.write_bytes(buffer.getbuffer())

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        """Load the program; `generator` is not used."""
        return torch.export.load(file).module()  # type: ignore[no-any-return]


@dataclass
class ONNX(Format):
    """ONNX, for other languages, runtimes and browsers: one file, any batch size."""

    suffix, packages = "onnx", ("onnx", "onnxscript", "onnxruntime")
    keeps_dropout = False

    def write(self, generator: ExportedGenerator, example: tuple[Tensor, ...], file: Path) -> None:
        """Trace the generator, convert it and write the model."""
        program: Any = torch.onnx.export(
            _trace(generator, example),
            example,
            dynamo=True,
            verbose=False,
            input_names=list(generator.inputs),
            output_names=["image" if "image" not in generator.inputs else "generated"],  # an image is the condition
        )
        program.save(str(file), external_data=False)

    def read(self, file: Path, generator: ExportedGenerator) -> GeneratorFunction:
        """Open the model in ONNX Runtime, on the CPU; `generator` is not used."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        return lambda *rows: torch.from_numpy(session.run(None, {n: r.numpy() for n, r in zip(names, rows)})[0])


def _trace(generator: ExportedGenerator, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Trace the generator, with a variable batch size and variable lengths of texts."""
    batch, words = torch.export.Dim("batch", min=1), torch.export.Dim("words", min=1)
    shapes = tuple({0: batch, 1: words} if is_text(rows) else {0: batch} for rows in example)
    return torch.export.export(generator, example, dynamic_shapes=(shapes,))
