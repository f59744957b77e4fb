"""Truncation: fewer unusual samples, for better single ones of less variety."""

import torch
from torch import Tensor

from oakleaf.conditioning.priors import Normal
from oakleaf.config.types import Truncation
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game

ROW = "truncation"


def truncated(game: Game, inputs: Batch, truncation: Truncation | None) -> Batch:
    """Return the inputs of a generator with a truncation.

    A generator whose `forward` names `truncation` gets it as a row [B] and decides what it means; the latents stay the
    same (Karras 2018, arXiv:1812.04948, appendix B). Otherwise, where the latents are normal, coordinates beyond the
    truncation, in standard deviations, are drawn again (`Normal.truncated`).

    Args:
        game: the game whose generator is used.
        inputs: drawn from the prior, [B, ...] by name; random numbers are torch's default ones.
        truncation: above 0 and at most 1. 1, as None, is no truncation: the latents of a seed are those without it.

    Raises:
        UserError: the generator does not take it, and its latents are not normal.
    """
    if truncation is None:
        return inputs
    if game.takes_option(ROW):
        count = len(next(iter(inputs.values())))
        return {**inputs, ROW: torch.full((count,), float(truncation))}
    if truncation == 1:
        return inputs
    prior = getattr(game, "prior", None)
    if not isinstance(prior, Normal) or "latent" not in inputs:
        latents = f"its latents are {type(prior).__name__}, not Normal" if prior else "it has no latents"
        raise UserError(
            f"truncation={truncation:g}: the generator of this checkpoint does not take a truncation, and {latents}"
        )
    latent: Tensor = inputs["latent"]
    return {**inputs, "latent": prior.truncated(latent, torch.full((len(latent),), float(truncation)))}
