"""Terms of encoders that invert a generator."""

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class LatentRegression(Term):
    """E (E(G(z)) - z)^2, the mean over all coordinates of fresh latents z; it needs an encoder.

    Reference: Donahue 2016, arXiv:1605.09782, section 4.1 (the latent regressor).
    """

    def measure(self, round: Round) -> Tensor:
        if "encoder" not in round.networks or "latent" not in round.fake_inputs or round.generate is None:
            raise UserError("LatentRegression needs a model with latents and a player `encoder`, as model=inverter")
        with torch.no_grad():
            images = round.generate(dict(round.fake_inputs))
        return (round.networks["encoder"](images) - round.fake_inputs["latent"]).square().mean()
