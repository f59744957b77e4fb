"""The part of a game that generates images: what is exported, and what `from_pretrained` returns."""

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError, one_line
from oakleaf.frozen.network import weights_not_needed
from oakleaf.games import Batch, Game
from oakleaf.networks.layers import AlwaysDropout
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import BLOCK


class ExportedGenerator(nn.Module):
    """A trained generator without the networks and data that only the training needs.

    Discriminators, encoders, image pools of past fakes, frozen networks that only losses use, and rows of the training
    data that a condition stores are left out.

    Args:
        game: the game, of which a copy is made.

    Attributes:
        inputs: names of the tensors that `forward` takes, in this order: latents z [B, d]; z and y, where y has one row
            for each image in the form that the condition reads (class numbers [B], attributes, words); or images alone.
        card: the content of `card.json`, if the generator was loaded from a folder.
    """

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = copy.deepcopy(game).eval().requires_grad_(False)
        example = self.game.sample_inputs(2)
        self.inputs = tuple(example)
        used = _used_children(self.game, example)
        for name, _ in list(self.game.named_children()):
            if name not in used:
                setattr(self.game, name, None)
        for name in list(self.game.frozen or {}):
            if f"frozen.{name}" not in used:
                del self.game.frozen[name]
            elif self.game.frozen[name].complete is None:
                self.game.frozen[name].complete = True  # however large it is
        if self.needs_condition_rows:
            condition: Any = self.game.condition
            condition.stored_rows = condition.stored_rows[:0].clone()
        self.card: dict[str, Any] = {}

    @property
    def needs_condition_rows(self) -> bool:
        """Whether the condition takes rows of the training data, which are not exported, so that y is required."""
        return hasattr(self.game.condition, "stored_rows")

    def forward(self, *rows: Tensor) -> Tensor:
        """Generate images [B, C, H, W] in [-1, 1] from one tensor [B, ...] for each of `inputs`."""
        return self.game.generate(dict(zip(self.inputs, rows, strict=True)))

    def weights(self) -> dict[str, Tensor]:
        """Return the non-empty tensors of the state by name, each with its own contiguous memory."""
        tensors = {name: value for name, value in self.state_dict().items() if _is_nonempty(value)}
        return {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}

    def sample_inputs(self, count: int, seed: int = 0, y: Tensor | None = None) -> Batch:
        """Draw the inputs for `count` images.

        Args:
            count: number of images.
            seed: of the latents.
            y: the condition of each image, [count, ...]; None: all classes in order, repeated.

        Returns:
            One tensor for each of `inputs`, by name.

        Raises:
            UserError: y is missing and needed, or given and not possible.
        """
        key = self.game.condition.key if self.game.condition else None
        if y is not None and key is None:
            raise UserError("y: this generator has no condition; leave y out")
        if y is None and self.needs_condition_rows:
            raise UserError(f"y is missing: this generator is conditioned on `{key}`, and needs one row for each image")
        inputs = {"latent": self._latents(count, seed)} if "latent" in self.inputs else {}
        if key:
            inputs[key] = self.game.condition.sample(count) if y is None else y  # type: ignore[union-attr]
        device = next(self.parameters()).device
        return {name: inputs[name].to(device) for name in self.inputs}

    def _latents(self, count: int, seed: int) -> Tensor:
        """Draw the latents of `oakleaf.sampling.latents.seeded_inputs`, without changing the caller's random state."""
        prior: Any = self.game.prior
        blocks = []
        with torch.random.fork_rng(devices=[]):
            for start in range(0, count, BLOCK):
                torch.manual_seed(derive_seed(seed, "draw", start))
                blocks.append(prior(BLOCK))
        return torch.cat(blocks)[:count]

    def sample(self, count: int, seed: int = 0, y: Tensor | None = None) -> Tensor:
        """Generate `count` images [count, C, H, W] in [-1, 1]; the arguments are those of `sample_inputs`."""
        return self(*self.sample_inputs(count, seed, y).values())


def _is_nonempty(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0


def _used_children(game: Game, inputs: Batch) -> set[str]:
    """Return the names of the child modules that take part in generating images, found by running it once.

    A frozen network is named `frozen.<name>`.
    """
    used: set[str] = set()

    def hook(name: str) -> Any:
        parts = name.split(".")
        return lambda *_: used.update({parts[0], ".".join(parts[:2])})

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in game.named_modules() if name]
    with weights_not_needed(game):
        game.generate(inputs)
    for handle in handles:
        handle.remove()
    return used | {name for name, child in game.named_children() if child is game.condition}


def remove_sampling_dropout(generator: ExportedGenerator) -> bool:
    """Turn off dropout that stays active when images are generated, and return whether there was any.

    Such dropout is a generator's source of noise in Isola 2016, arXiv:1611.07004, section 3.1.
    """
    layers = [module for module in generator.modules() if isinstance(module, AlwaysDropout)]
    for layer in layers:
        layer.p = 0.0
    return bool(layers)


def load_weights(generator: ExportedGenerator, file: Path) -> None:
    """Load a safetensors file into a generator.

    Raises:
        UserError: the file is damaged, or holds the weights of other networks.
    """
    require_package("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected = generator.weights().keys()
    try:
        weights = load_file(file)
        if weights.keys() != expected:
            raise RuntimeError(f"{len(weights.keys() ^ expected)} names differ")
        generator.load_state_dict(weights, strict=False)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a safetensors file, or it is damaged") from error
    except RuntimeError as error:
        reason = one_line(error)
        raise UserError(f"{file}: the weights do not fit the networks that the card describes ({reason})") from error


def require_package(package: str) -> None:
    """Check that an optional package is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise UserError(f"{package} is not installed here: pip install 'oakleaf[export]'") from error
