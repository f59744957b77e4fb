"""Ways to write a generator down, each able to read back what it wrote."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.export.generator import Drawer, filled, needed
from oakleaf.export.model_card import spoken

Drawn = Callable[..., Tensor]  # what was read back: one tensor for each input -> images


class Format(ABC):
    """suffix: of its file. packages: that it needs. dice: whether dropout that is noise at drawing stays it."""

    suffix: str
    dice = True

    packages: tuple[str, ...] = ()

    def ready(self) -> None:
        """Raises:
        Mistake: a package is missing.
        """
        for package in self.packages:
            needed(package)

    @abstractmethod
    def write(self, drawer: Drawer, example: tuple[Tensor, ...], file: Path) -> None: ...

    @abstractmethod
    def read(self, file: Path, drawer: Drawer) -> Drawn:
        """The same generator, from the file. drawer: one that was built anew, for a format that holds weights alone."""


@dataclass
class Safetensors(Format):
    """Weights alone; the card's recipe is the network. `oakleaf.from_pretrained` reads it."""

    suffix, packages = "safetensors", ("safetensors",)

    def write(self, drawer: Drawer, example: tuple[Tensor, ...], file: Path) -> None:
        from safetensors.torch import save

        file.write_bytes(save(drawer.weights(), {"format": "pt"}))  # itself it hides what a full disk says

    def read(self, file: Path, drawer: Drawer) -> Drawn:
        filled(drawer, file)
        return drawer


@dataclass
class Program(Format):
    """torch.export: the computation and its weights, for any number of images; `torch.export.load` needs no Oakleaf."""

    suffix = "pt2"
    dice = False

    def write(self, drawer: Drawer, example: tuple[Tensor, ...], file: Path) -> None:
        coded = io.BytesIO()  # on a full disk torch itself says nothing of it, or aborts
        torch.export.save(_traced(drawer, example), coded)
        file.write_bytes(coded.getbuffer())

    def read(self, file: Path, drawer: Drawer) -> Drawn:
        return torch.export.load(file).module()  # type: ignore[no-any-return]


@dataclass
class ONNX(Format):
    """For runtimes of other languages and browsers: one file, any number of images."""

    suffix, packages = "onnx", ("onnx", "onnxscript", "onnxruntime")
    dice = False

    def write(self, drawer: Drawer, example: tuple[Tensor, ...], file: Path) -> None:
        program: Any = torch.onnx.export(
            _traced(drawer, example),
            example,
            dynamo=True,
            verbose=False,
            input_names=list(drawer.inputs),
            output_names=["image"],
        )
        program.save(str(file), external_data=False)

    def read(self, file: Path, drawer: Drawer) -> Drawn:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda *rows: torch.from_numpy(session.run(None, {n: r.numpy() for n, r in zip(names, rows)})[0])


def _traced(drawer: Drawer, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch, words = torch.export.Dim("batch", min=1), torch.export.Dim("words", min=1)
    free = tuple({0: batch, 1: words} if spoken(rows) else {0: batch} for rows in example)
    return torch.export.export(drawer, example, dynamic_shapes=(free,))
