"""The path length regulariser of StyleGAN2."""

import math

import torch
from torch import Tensor

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import Round
from oakleaf.runtime import distributed


class PathLength(Term):
    """Let a step of a given length in w change the image by the same amount everywhere: E[(|J_w^T y| - a)^2].

    y is an image of normal numbers, divided by the square root of its number of pixels, and J_w^T y is the gradient of
    (G(w) * y).sum() with respect to w. Its squared length is averaged over the layers' copies of w. a is a moving
    average of the lengths, over all processes; it counts the present lengths and is not differentiated.

    The generator has to return the styles of all layers as `w` [B, layers, d] in its `GeneratorOutput` and to make
    images of them by a method `synthesis(w)`, as that of `oakleaf.networks.stylegan2`.

    Args:
        weight: factor of the term; 2 in the authors' code.
        share: part of the batch that it is computed for.
        decay: of the moving average, for each step in which the term is computed.
        every: as for `Term`; 4 in the authors' code.

    Attributes:
        mean: a, a tensor [].

    Reference: Karras 2019, arXiv:1912.04958, eq. (4) and appendix B; `share`, `decay`: its code.
    """

    mean: Tensor
    recorded: Tensor  # [2]: in this step, the sum of the mean lengths over the rounds, and the number of rounds

    def __init__(self, weight: float = 2.0, share: float = 0.5, decay: Fraction = 0.99, every: PositiveInt = 4) -> None:
        super().__init__(weight, every)
        if not 0 < share <= 1:
            raise UserError(f"share={share}: the part of the batch has to be above 0 and at most 1")
        self.share, self.decay = share, decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("recorded", torch.zeros(2), persistent=False)

    def measure(self, round: Round) -> Tensor:
        lengths = self.lengths(round)
        with torch.no_grad():
            self.recorded += torch.stack([lengths.mean(), torch.ones_like(lengths.mean())]).to(self.recorded.dtype)
            target = torch.lerp(lengths.mean(), self.mean.to(lengths.dtype), self.decay)
        return (lengths - target).square().mean()

    def lengths(self, round: Round) -> Tensor:
        """Return |J_w^T y| of the first images of a round, [n]; differentiable.

        Raises:
            UserError: the generator returns no styles.
        """
        styles = round.extras.get("w")
        if styles is None:
            raise UserError("the generator returns no styles w, which the term PathLength needs: model=stylegan2")
        styles = styles[: max(1, math.ceil(self.share * len(styles)))]
        synthesis = round.networks["generator"].synthesis
        noise = torch.randn_like(round.fake[: len(styles)]) / math.sqrt(math.prod(round.fake.shape[2:]))

        def projection(styles: Tensor) -> Tensor:
            return (synthesis(styles) * noise).sum()  # type: ignore[operator]

        if torch.compiler.is_compiling():  # as in `oakleaf.round.output_and_input_gradient`
            gradient = torch.func.grad(projection)(styles)
        else:
            gradient = torch.autograd.grad(projection(styles), styles, create_graph=True)[0]
        return gradient.float().square().sum(2).mean(1).sqrt()

    @torch.no_grad()
    def update_state(self) -> None:
        """Update the average after a step in which the term was computed. A step with NaN changes nothing."""
        recorded = distributed.take_mean(self.recorded)
        counted = (recorded[1] > 0) & recorded.isfinite().all()
        mean = torch.lerp(recorded[0] / recorded[1].clamp(min=1), self.mean, self.decay)
        self.mean.copy_(torch.where(counted, mean, self.mean))
