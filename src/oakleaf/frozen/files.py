"""Frozen networks whose weights come from a file."""

import struct
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oakleaf.errors import UserError, one_line
from oakleaf.frozen.network import FrozenNetwork, Returns
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.frozen.reading import Weights, existing_file, load_weights, read_weights
from oakleaf.frozen.tflite import TFLiteNetwork, read_graph
from oakleaf.runtime.checkpoint_io import READ_ERRORS

PROGRAMS = (".pt2", ".tflite")


class WeightsFile(FrozenNetwork):
    """A network of a known architecture whose weights are in a file.

    Args:
        network: the architecture; its output is as for `FrozenNetwork`.
        file: `.safetensors`, a file of `torch.save` with a state dict, or a manifest of TensorFlow.js (`.json`).
        expected: what the network expects as its input.
        embedding, returns: as for `FrozenNetwork`.
    """

    def __init__(
        self,
        network: nn.Module,
        file: str,
        expected: Input,
        embedding: str | None = None,
        returns: Returns = "logits",
    ) -> None:
        self.file = file
        super().__init__(network, expected, embedding, returns)

    @property
    def source(self) -> str:
        return f"{type(self).__name__}({Path(self.file).name})"

    def path(self) -> Path:
        """Return the file.

        Raises:
            UserError: there is no such file.
        """
        return existing_file(self.file, f"{type(self).__name__}: file")

    def check(self) -> None:
        self.path()

    def read(self) -> Provenance:
        file = self.path()
        load_weights(self.network, self.own_names(read_weights(file)), file)
        return of_weights(self.source, self.network, file)

    def own_names(self, weights: Weights) -> Weights:
        """Return the weights under the names, and in the layout, that the network has for them."""
        return weights


class FromFile(WeightsFile):
    """Any network with the weights of a file, or a program: a file that has the computation as well.

    Programs are those of `torch.export` (`.pt2`), whose layers are the modules that were exported, and models of
    TensorFlow Lite (`.tflite`), whose layers are `op0`, `op1`, ... Checkpoints never contain them. A program of
    `torch.export` must accept any batch size, and its output is as for `FrozenNetwork`.

    Args:
        file: `.safetensors`, a file of `torch.save` with a state dict, `.pt2` or `.tflite`.
        network: the architecture; null for a program.
        input: what the network expects as its input; null: images in [-1, 1] of any size with three channels.
        embedding: name of the layer whose input is the embedding; null: the first of two outputs, or none.
        returns: whether a single output is the logits or the embedding.
        prefix: the beginning of the names in the file that the network does not have, such as `module.`; other weights
            of the file are left out.

    Raises:
        UserError: there is no architecture, and the file is no program.
    """

    def __init__(
        self,
        file: str,
        network: nn.Module | None = None,
        input: Input | None = None,
        embedding: str | None = None,
        returns: Returns = "logits",
        prefix: str = "",
    ) -> None:
        self.prefix, self.is_program = prefix, Path(file).suffix in PROGRAMS
        if network is None and not self.is_program:
            kinds = " or ".join(PROGRAMS)
            raise UserError(f"FromFile: file={file}: network= is missing; only a program ({kinds}) needs none")
        if self.is_program:
            self.complete = False
        self.given_embedding = embedding
        layer = None if self.is_program else embedding
        super().__init__(network or nn.Identity(), file, input or Input(), layer, returns)
        if self.is_program and Path(file).expanduser().is_file() and self.preprocessing.factor.device.type != "meta":
            self._read_program()  # its layers are known only then

    def read(self) -> Provenance:
        return self._read_program() if self.is_program else super().read()

    def own_names(self, weights: Weights) -> Weights:
        if not self.prefix:
            return weights
        found = {n.removeprefix(self.prefix): value for n, value in weights.items() if n.startswith(self.prefix)}
        if not found:
            raise UserError(f"FromFile: prefix={self.prefix}: names in {self.file} are like {next(iter(weights))}")
        return found

    def _read_program(self) -> Provenance:
        file = self.path()
        try:
            if file.suffix == ".tflite":
                module: Any = TFLiteNetwork(read_graph(file))
            else:
                module = torch.export.unflatten(torch.export.load(file))
        except NotImplementedError as error:
            raise UserError(f"{file}: {error} is not known here") from error
        except (*READ_ERRORS, struct.error) as error:
            raise UserError(
                f"{file} is not a {file.suffix} program, or it is damaged ({type(error).__name__})"
            ) from error
        self.embedding_layer = self.given_embedding
        self._adopt(module.to(self.preprocessing.factor.device))
        self._check_batch(file)
        return of_weights(self.source, self.network, file)

    @torch.no_grad()
    def _check_batch(self, file: Path) -> None:
        """Run the program on two batches, of sizes for which a program with a fixed batch size fails."""
        expected = self.preprocessing.expected
        if expected.size is None:
            return
        try:
            for count in (2, 3):
                self.run(self.preprocessing(self.preprocessing.factor.new_zeros(count, 3, 8, 8)))
        except UserError:
            raise
        except Exception as error:  # guards of the program, of many types
            reason = one_line(error)
            raise UserError(f"{file}: the program does not accept every batch size ({reason}); export it so") from error
