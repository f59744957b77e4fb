"""The base class of frozen networks: weights that never change, named layers, and how a checkpoint stores them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from oakleaf.config.types import Size, height_width
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.frozen.preprocessing import Input, Preprocessing
from oakleaf.frozen.provenance import Provenance, from_tensor

SMALL = 8_000_000  # bytes of weights; a checkpoint contains smaller networks completely
Returns = Literal["logits", "embedding"]
NO_WEIGHTS = "it has no weights yet; it gets them when a training begins, or from a checkpoint"


class FrozenOutput(NamedTuple):
    """The output of a frozen network.

    Attributes:
        logits: of its classes [B, K]; None without a classifier.
        embedding: the features that the logits are computed from [B, d]; None without such a layer.
        maps: the output of each requested layer by name, [B, C, H, W] or [B, d].
    """

    logits: Tensor | None
    embedding: Tensor | None
    maps: Mapping[str, Tensor]


class FrozenNetwork(nn.Module):
    """A network with named layers that is not trained by the game.

    It is always in eval mode. Its weights have no gradient, but its input does, so a loss of its outputs trains the
    generator. Input normalisation, resizing and conversion of channels are part of it.

    Weights are read, or trained, once before the first iteration of a new run. Small networks are stored in the run's
    checkpoints completely, larger ones by file name and hash; a loaded run has exactly the same weights, or the first
    use of the network raises an error that names the file that is missing or differs.

    Args:
        network: with the architecture alone; its weights are replaced by those of the source. Its output is the logits,
            or a pair (embedding, logits or None).
        expected: what it expects as its input.
        embedding: name of the layer whose input is the embedding, flattened; None where `network` returns a pair, or
            where there is no embedding.
        returns: what the output of `network` is, if it is one tensor.

    Attributes:
        provenance: where its weights come from.
        complete: whether state dicts contain the weights; None: if they take less than 8 MB.
        reason: why it cannot be used; empty if it can.

    Example:
        network = EfficientNetLite0()
        output = network(images, layers=["blocks.2", "blocks.4"])  # images [B, C, H, W] in [-1, 1], of any size
        output.logits, output.embedding, output.maps["blocks.2"]
    """

    complete: bool | None = None

    def __init__(
        self, network: nn.Module, expected: Input, embedding: str | None = None, returns: Returns = "logits"
    ) -> None:
        super().__init__()
        self.returns = returns
        self.preprocessing = Preprocessing(expected)
        self.embedding_layer = embedding
        self.provenance = Provenance(self.source)
        self.reason = NO_WEIGHTS
        self.network = network
        self._adopt(network)
        self.register_state_dict_post_hook(_leave_out_large_weights)

    @property
    def source(self) -> str:
        """The class and what it was built with, for messages."""
        return type(self).__name__

    @abstractmethod
    def read(self) -> Provenance:
        """Read the weights into `self.network`, from the place that the constructor's arguments name.

        Raises:
            UserError: the weights are not there, or are those of another network.
        """

    def initialize(self, data: ImageDataModule | None = None) -> None:
        """Get the weights, once, before the first iteration of a new run; equal in all processes.

        Args:
            data: the training data, after `setup`; only networks that are trained on them need them.

        Raises:
            UserError: the weights are not there, or are those of another network.
        """
        self.provenance = self.read()
        self.reason = ""

    def check(self) -> None:
        """Check what can be checked before a new run decodes its data.

        Raises:
            UserError: a file is missing.
        """

    # ---- Outputs -----------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, layers: Sequence[str] = ()) -> FrozenOutput:
        """Run the network.

        Args:
            x: images [B, C, H, W] in [-1, 1], of any size.
            layers: names of the layers whose outputs are needed; `layer_names` lists them.

        Raises:
            UserError: the network has no weights, or no such layer.
        """
        self.require_weights()
        return self.run(self.preprocessing(x), layers)

    def run(self, x: Tensor, layers: Sequence[str] = ()) -> FrozenOutput:
        """Run the network on an input that is preprocessed already; the arguments are those of `forward`."""
        watched = [self.layer(name) for name in layers]
        for layer in watched:
            layer.is_watched = True
        result = self.network(x)
        maps = {}
        for name, layer in zip(layers, watched):
            maps[name] = _take_output(layer, name)
            layer.is_watched = False
        embedding, logits = self.parts(result)
        if self.embedding_layer is not None:
            last: Any = self.network.get_submodule(self.embedding_layer)
            embedding = last.kept_input.flatten(1)
            del last.kept_input
        return FrozenOutput(logits, embedding, maps)

    def parts(self, result: Any) -> tuple[Tensor | None, Tensor | None]:
        """Return embedding and logits of what the network has returned."""
        if isinstance(result, tuple):
            embedding, logits = result
            return embedding, logits
        return (result, None) if self.returns == "embedding" else (None, result)

    def layer(self, name: str) -> Any:
        """Return a layer by its name.

        Raises:
            UserError: there is none of that name; the message lists those that exist.
        """
        try:
            if name:
                return self.network.get_submodule(name)
        except AttributeError:
            pass
        names = [each for each in self.layer_names if each.count(".") < 2]
        listing = ", ".join(names[:60]) + (" ..." if len(names) > 60 else "")
        raise UserError(f"layer {name!r}: {self.source} has no layer of that name; it has {listing}")

    @property
    def layer_names(self) -> list[str]:
        """The names of all layers, in the order in which the network lists them."""
        return [name for name, _ in self.network.named_modules() if name]

    @torch.no_grad()
    def shapes(self, layers: Sequence[str], size: Size | None = None) -> dict[str, tuple[int, ...]]:
        """Return the shapes of layers' outputs without the batch, (C, H, W) or (d,), by name; no weights are needed.

        Args:
            layers: names of the layers.
            size: of the images, in pixels; only a network for any size needs it.

        Raises:
            UserError: there is no such layer, or the size is missing.
        """
        expected = self.preprocessing.expected
        if (size := expected.size or size) is None:
            raise UserError(f"{self.source} accepts images of any size, so the shapes of its layers depend on a size")
        x = torch.zeros(1, expected.channels, *height_width(size), device=self.preprocessing.factor.device)
        x = x.to(self.preprocessing.factor.dtype)
        return {name: tuple(found.shape[1:]) for name, found in self.run(x, layers).maps.items()}

    def channels(self, layer: str, size: Size | None = None) -> int:
        """Return the number of channels of a layer's output; the arguments are those of `shapes`."""
        return self.shapes([layer], size)[layer][0]

    # ---- State -------------------------------------------------------------------------------------------------------

    def require_weights(self) -> None:
        """Check that the network can be used.

        Raises:
            UserError: it has no weights; the message says why.
        """
        if self.reason:
            raise UserError(f"the frozen network {self.source} cannot be used: {self.reason}")

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Stay in eval mode, whatever mode is requested."""
        return super().train(False)

    def is_stored_completely(self) -> bool:
        """Whether state dicts contain the weights, and not only their provenance."""
        if self.complete is not None:
            return self.complete
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors()) < SMALL

    def _tensors(self) -> list[Tensor]:
        return [*self.network.parameters(), *self.network.buffers()]

    def _adopt(self, network: nn.Module) -> None:
        """Make a network the frozen one: no gradients, eval mode, and layers whose outputs can be taken."""
        self.network = network.requires_grad_(False)
        for layer in network.modules():
            if hasattr(layer, "inplace"):
                layer.inplace = False  # type: ignore[assignment]  # the layer before it would lose its output
            layer.__dict__["is_watched"] = False  # past torch's check of attributes
            layer.register_forward_hook(_keep_output)
        if self.embedding_layer is not None:
            network.get_submodule(self.embedding_layer).register_forward_pre_hook(_keep_input)
        self.eval()

    def get_extra_state(self) -> Tensor:
        """Return the provenance as JSON in a tensor."""
        return self.provenance.to_tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing; `_load_from_state_dict` reads the provenance, before the weights."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Take the weights from a state dict or, if it has only their provenance, read them from their source again.

        In the second case the network's own weights are put into `state_dict`, torch's copy of the caller's, so that
        loading them with `strict=True` succeeds.
        """
        key, weights = f"{prefix}_extra_state", f"{prefix}network."
        if key in state_dict:
            try:
                stored = from_tensor(state_dict[key])
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(f"{key}: the description of a frozen network is damaged") from error
            if any(name.startswith(weights) for name in state_dict):
                self.provenance, self.reason = stored, "" if stored.hash else NO_WEIGHTS
            else:
                self._read_again(stored)
                state_dict |= {f"{weights}{name}": tensor for name, tensor in self.network.state_dict().items()}
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[arg-type]

    def _read_again(self, stored: Provenance) -> None:
        """Read the weights of a checkpoint that has only their provenance; if that fails, keep the reason."""
        if self.preprocessing.factor.device.type == "meta" or (not self.reason and self.provenance.hash == stored.hash):
            return
        self.provenance = stored
        try:
            found = self.read()
        except UserError as error:
            self.reason = str(error)
            return
        differs = f"{found.file or self.source} holds other weights than those of the training"
        self.reason = "" if found.hash == stored.hash else f"{differs} ({found.hash}, expected {stored.hash})"


@contextmanager
def weights_not_needed(game: nn.Module) -> Iterator[None]:
    """Let the frozen networks of a game run with whatever weights they have, where only shapes or names count."""
    networks = [network for network in game.modules() if isinstance(network, FrozenNetwork)]
    reasons = [network.reason for network in networks]
    for network in networks:
        network.reason = ""
    try:
        yield
    finally:
        for network, reason in zip(networks, reasons):
            network.reason = reason


def _leave_out_large_weights(module: Any, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    if not module.is_stored_completely():
        for name in [name for name in state_dict if name.startswith(f"{prefix}network.")]:
            del state_dict[name]


def _keep_output(layer: Any, _: Any, output: Any) -> None:
    """Forward hook. The output is an attribute of the layer, so that copies of the network keep their own."""
    if layer.is_watched:
        layer.kept_output = output


def _keep_input(layer: Any, arguments: tuple[Any, ...]) -> None:
    """Forward pre-hook of the layer whose input is the embedding."""
    layer.kept_input = arguments[0]


def _take_output(layer: Any, name: str) -> Tensor:
    """Return and remove what `_keep_output` has kept."""
    if not hasattr(layer, "kept_output"):
        raise UserError(f"layer {name!r} of a frozen network does not take part in its forward pass")
    output = layer.kept_output
    del layer.kept_output
    if not isinstance(output, Tensor):
        raise UserError(f"layer {name!r} of a frozen network returns no tensor; name one of the layers within it")
    return output
