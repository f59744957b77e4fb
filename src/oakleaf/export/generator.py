"""The part of a game that draws, alone: what is exported, and what comes back."""

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError, one_line
from oakleaf.games import Batch, Game
from oakleaf.networks.layers import AlwaysDropout
from oakleaf.runtime.seeds import derive_seed


class ExportedGenerator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] from what `inputs` names, in that order: latents z [B, d]; or z and y, which is
    one row for each image as the condition reads them (class numbers [B], attributes, words); or pictures alone.

    Discriminators, encoders, histories of fakes and what a condition needs_condition_rows of the training's data stay behind.
    card: what is known about it, as in `card.json`.
    """

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = copy.deepcopy(game).eval().requires_grad_(False)
        request = self.game.sample_inputs(2)
        self.inputs = tuple(request)
        used = _used(self.game, request)
        for name, _ in list(self.game.named_children()):
            if name not in used:
                setattr(self.game, name, None)
        if self.needs_condition_rows:
            condition: Any = self.game.condition
            condition.remembered = condition.remembered[:0].clone()
        self.card: dict[str, Any] = {}

    @property
    def needs_condition_rows(self) -> bool:
        """Whether its condition asks for rows of the training's data, which are not here."""
        return hasattr(self.game.condition, "remembered")

    def forward(self, *rows: Tensor) -> Tensor:
        """One tensor for each of `inputs`, [B, ...] -> [B, C, H, W]"""
        return self.game.generate(dict(zip(self.inputs, rows, strict=True)))

    def weights(self) -> dict[str, Tensor]:
        """Its tensors by name, each with its own memory."""
        full = {name: value for name, value in self.state_dict().items() if _full(value)}
        return {name: value.clone(memory_format=torch.contiguous_format) for name, value in full.items()}

    def sample_inputs(self, count: int, seed: int = 0, y: Tensor | None = None) -> Batch:
        """What to ask for `count` images, by input: latents that the seed draws, and y, or every class in turn.

        Raises:
            UserError: y is needed, or there is none.
        """
        key = self.game.condition.key if self.game.condition else None
        if y is not None and key is None:
            raise UserError("y: this generator is told nothing")
        if y is None and self.needs_condition_rows:
            raise UserError(f"y is missing: this generator is told `{key}`, a row for each image")
        torch.manual_seed(derive_seed(seed, "draw"))
        prior: Any = getattr(self.game, "prior", None)
        inputs = {"latent": prior(count)} if "latent" in self.inputs else {}
        if key:
            inputs[key] = self.game.condition.sample(count) if y is None else y  # type: ignore[union-attr]
        return {name: inputs[name] for name in self.inputs}

    def sample(self, count: int, seed: int = 0, y: Tensor | None = None) -> Tensor:
        """`count` images; the same seed draws the same."""
        return self(*self.sample_inputs(count, seed, y).values())


def _full(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0


def _used(game: Game, request: Batch) -> set[str]:
    """The children of a game without which it can't draw."""
    used: set[str] = set()

    def mark(name: str) -> Any:
        return lambda *_: used.add(name.split(".")[0])

    hooks = [module.register_forward_pre_hook(mark(name)) for name, module in game.named_modules() if name]
    game.generate(request)
    for hook in hooks:
        hook.remove()
    return used | {name for name, child in game.named_children() if child is game.condition}


def remove_sampling_dropout(generator: ExportedGenerator) -> bool:
    """Take out the dropout that is noise at drawing too (Isola 2016), for formats without dice; whether there was
    any."""
    noisy = [module for module in generator.modules() if isinstance(module, AlwaysDropout)]
    for module in noisy:
        module.p = 0.0
    return bool(noisy)


def load_weights(generator: ExportedGenerator, file: Path) -> None:
    """Put a file's weights into a drawer.

    Raises:
        UserError: a damaged file, or weights of other networks.
    """
    require_package("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    wanted = generator.weights().keys()
    try:
        there = load_file(file)
        if there.keys() != wanted:
            raise RuntimeError(f"{len(there.keys() ^ wanted)} names differ")
        generator.load_state_dict(there, strict=False)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} holds no weights, or is damaged") from error
    except RuntimeError as error:
        reason = one_line(error)
        raise UserError(f"{file}: its weights do not fit the networks of its card ({reason})") from error


def require_package(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise UserError(f"{package} is not installed here: pip install 'oakleaf[export]'") from error
