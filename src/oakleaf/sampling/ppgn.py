"""Plug & play generation: a search of codes whose images a classifier assigns to what was requested.

Reference: Nguyen 2016, arXiv:1612.00005, eq. (5) and (7) to (12), and the authors' sampler.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oakleaf.conditioning.code import Code
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.inputs import Masked
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.frozen.network import FrozenNetwork
from oakleaf.games import Batch, Game
from oakleaf.games.plug_and_play import PlugAndPlay
from oakleaf.gan import GAN
from oakleaf.image_grid import from_bytes
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import GridInputs, Mode
from oakleaf.sampling.pictures import read_pictures, require_contrast
from oakleaf.sampling.project import with_weights

Variant = Literal["ppgn_x", "dgn_am", "ppgn_h", "joint", "noiseless"]
HIGHEST = 0.999  # quantile of the data's codes above which codes are clipped


class Request(NamedTuple):
    """What images are conditioned on: classes, or attributes that they should or should not have.

    Attributes:
        columns: numbers of logits [B, n].
        signs: 1 where an attribute should be there, -1 where not [B, n]; None: `columns` [B, 1] are classes.
    """

    columns: Tensor
    signs: Tensor | None = None


def log_probability(logits: Tensor, request: Request, published: bool = False) -> Tensor:
    """Return the log-probability of the request for each image.

    The authors' code does not follow the gradient of log p(class): it sends 1 - p back through the logit of the class
    and 0 through all others. With `published` the value returned has that gradient.

    Args:
        logits: of the classifier [B, K].
        request: classes or attributes.
        published: whether the gradient with respect to the logits is that of the authors' code.

    Returns:
        [B], in nats; for several attributes their sum.

    Reference: Nguyen 2016, arXiv:1612.00005, eq. (5); sampler.py of the authors.
    """
    chosen = logits.gather(1, request.columns)
    if request.signs is not None:
        return logsigmoid(request.signs * chosen).sum(1)
    log_p = logits.log_softmax(1).gather(1, request.columns).squeeze(1)
    if not published:
        return log_p
    seeded = (1 - log_p.exp()).detach() * chosen.squeeze(1)
    return seeded + (log_p - seeded).detach()


def stepped(state: Tensor, direction: Tensor, lr: float, normalised: bool, low: float, high: float) -> Tensor:
    """Move each chain along its direction, and clip it.

    Args:
        state: [B, ...].
        direction: [B, ...].
        lr: with `normalised`, the mean absolute change of a value; otherwise the factor of the direction.
        normalised: whether each chain's direction is divided by its mean absolute value, as the authors do. The step
            then never becomes shorter, and only the ratios of the epsilons count.
        low, high: the range to which values are clipped.
    """
    if normalised:
        size = direction.abs().flatten(1).mean(1).clamp(min=torch.finfo(direction.dtype).tiny)
        direction = direction / size.view(-1, *[1] * (direction.dim() - 1))
    return (state + lr * direction).clamp(low, high)


@dataclass
class Chain:
    """The update of PPGN: prior, condition and noise, for any of its variants.

    Args:
        decode: the state [B, ...] to images [B, C, H, W].
        reconstruct: the state, and the images that the networks see, to R(state), of which R(state) - state estimates
            the gradient of log p(state).
        condition: images to log p(request | image) [B]; None: without a condition.
        e1: weight of the prior.
        e2: weight of the condition.
        e3: standard deviation of the noise.
        e4: weight of the picture around a hole.
        context: pictures [B, C, H, W] and the masks of their holes [B, 1, H, W] bool; None without a picture.

    Reference: Nguyen 2016, arXiv:1612.00005, eq. (5), (7), (10), (11) and (12).
    """

    decode: Callable[[Tensor], Tensor]
    reconstruct: Callable[[Tensor, Tensor], Tensor]
    condition: Callable[[Tensor], Tensor] | None
    e1: float
    e2: float
    e3: float
    e4: float = 0.0
    context: tuple[Tensor, Tensor] | None = None

    def direction(self, state: Tensor) -> Tensor:
        """Return e1 (R(h) - h) + e2 d log p(c | h) / dh + e4 d context / dh + N(0, e3^2), like the state."""
        with torch.enable_grad():
            state = state.detach().requires_grad_()
            images = self.decode(state)
            seen, total = images, state.new_zeros(())
            if self.context is not None:
                picture, hole = self.context
                seen = torch.where(hole, images, picture)  # E and C see the picture with G's image in its hole
                total = total - self.e4 * 0.5 * ((images - picture) * ~hole).square().sum()
            if self.condition is not None:
                total = total + self.e2 * self.condition(seen).sum()
            gradient = torch.autograd.grad(total, state)[0] if total.requires_grad else torch.zeros_like(state)
        with torch.no_grad():
            prior = self.reconstruct(state, seen) - state
        return self.e1 * prior + gradient.detach() + self.e3 * torch.randn_like(state)


@dataclass
class PPGN(Mode):
    """Images that a classifier assigns to a class or to attributes, by iterative search; `condition=` chooses them.

    Without `condition=` each class has a column. Attributes are listed with commas, unwanted ones after a minus:
    `condition="Smiling,-Male"`.

    Args:
        variant: `joint` and `noiseless`, R(h) = E(G(h)), for a generator that was trained with and without noise;
            `ppgn_h`, R by an auto-encoder of codes; `dgn_am`, R(h) = 0, which is a weight decay of h, and no noise;
            `ppgn_x`, a chain of images with R by an auto-encoder of images.
        count: number of chains.
        iterations: steps of a chain.
        moments: images that are shown of each chain, at equal distances; the last one is its end.
        step: `normalised`, as in the authors' code, or `plain`, a Langevin step if e3 is not 0.
        lr: of the first step. Normalised: the mean absolute change, as a share of the root mean square of the data's
            codes (of images: of 1). Plain: the factor of the whole step.
        lr_end: of the last step, reached linearly; null: lr.
        e1: weight of the prior; null: that of the variant.
        e2: weight of the condition.
        e3: standard deviation of the noise.
        e4: weight of the picture around the hole.
        published: the gradient of the authors' code in place of the gradient of log p; see `log_probability`.
        start: of the chains: `noise`, N(0, 1) in units of the root mean square of the codes, or `data`, the codes of
            images.
        network: the name of the frozen network that is the classifier; null: the encoder.
        frozen: further frozen networks, of which one can be the classifier, by name; those of the run are known.
        picture: a picture with a hole that is filled, or a folder of such pictures; null: none.
        region: what is missing in it, as for data/input=masked: centre, block, half, or a picture of the mask.

    Reference: Nguyen 2016, arXiv:1612.00005, section 3, and the authors' sampler.py.
    """

    title = "plug & play generation"
    variant: Variant = "noiseless"
    count: PositiveInt = 64
    iterations: PositiveInt = 200
    moments: PositiveInt = 1
    step: Literal["normalised", "plain"] = "normalised"
    lr: PositiveFloat = 0.1
    lr_end: PositiveFloat | None = None
    e1: NonNegativeFloat = 1e-3
    e2: NonNegativeFloat = 1.0
    e3: NonNegativeFloat = 1e-17
    e4: NonNegativeFloat = 1.0
    published: bool = False
    start: Literal["noise", "data"] = "noise"
    network: str | None = None
    frozen: Mapping[str, FrozenNetwork] = field(default_factory=dict)
    picture: str | None = None
    region: str = "centre"
    data: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    module: GAN | None = field(default=None, init=False)
    condition: int | str | None = field(default=None, init=False)

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:
        """Give the mode access to the run's real images."""
        self.data = data

    def request(self, module: GAN, condition: int | str | None) -> bool:
        """Take the requested condition, which is one of the classifier."""
        self.module, self.condition = module, condition
        return True

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Run the chains."""
        if not isinstance(game, PlugAndPlay) or not isinstance(game.condition, Code):
            raise UserError("mode=ppgn: the generator of this checkpoint was not trained on codes; model=ppgn")
        self._check_variant(game.condition)
        device = next(game.parameters()).device
        codes = game.condition.encode(from_bytes(game.condition.stored_rows).to(device))
        unit = 1.0 if self.variant == "ppgn_x" else codes.square().mean().sqrt().item()
        low, high = (-1.0, 1.0) if self.variant == "ppgn_x" else (codes.min().item(), _quantile(codes))
        chain = self._chain(game, device, seed)
        torch.manual_seed(derive_seed(seed, "ppgn"))
        state = self._first(codes, game, unit).clamp(low, high)
        kept = []
        for number in range(self.iterations):
            share = number / max(1, self.iterations - 1)
            lr = (self.lr + share * ((self.lr_end or self.lr) - self.lr)) * (unit if self.step == "normalised" else 1.0)
            state = stepped(state, chain.direction(state), lr, self.step == "normalised", low, high)
            if number + 1 in self._moments():
                kept.append(state)
        shown = torch.stack(kept, 1).flatten(0, 1)
        inputs: Batch = {"code": shown}
        if chain.context is not None:
            inputs["context"], inputs["hole"] = (part.repeat_interleave(self.moments, 0) for part in chain.context)
        return inputs, self._columns()

    def generate(self, game: Game, batch: Batch) -> Tensor:
        """Decode states; a picture with a hole keeps everything but the hole."""
        images = batch["code"] if self.variant == "ppgn_x" else game.generate({"code": batch["code"]})
        return torch.where(batch["hole"], images, batch["context"]) if "hole" in batch else images

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        names = self._class_names() if self.condition is None and self._requests_classes() else []
        if self.moments > 1:
            steps = [f"step {moment}" for moment in self._moments()]
            rows = [names[number % len(names)] for number in range(self.count)] if names else []
            return [Panel(columns=columns, column_names=steps, row_names=rows)]
        return [Panel(columns=columns, column_names=names)]

    # ---- Parts of the chain ------------------------------------------------------------------------------------------

    def _check_variant(self, condition: Code) -> None:
        """Check that the checkpoint has been trained as the variant needs."""
        if self.variant == "joint" and not condition.noise:
            raise UserError("mode.variant=joint: this checkpoint was trained without noise; mode.variant=noiseless")
        if self.variant == "noiseless" and condition.noise:
            raise UserError("mode.variant=noiseless: this checkpoint was trained with noise; mode.variant=joint")

    def _chain(self, game: PlugAndPlay, device: torch.device, seed: int) -> Chain:
        def decoded(state: Tensor) -> Tensor:
            return state if self.variant == "ppgn_x" else game.generate({"code": state})

        noise = 0.0 if self.variant == "dgn_am" else self.e3
        condition, context = self._condition(game, device), self._context(device, seed)
        return Chain(decoded, self._prior(game), condition, self.e1, self.e2, noise, self.e4, context)

    def _prior(self, game: PlugAndPlay) -> Callable[[Tensor, Tensor], Tensor]:
        """Return R, a function of the state and of the images that the networks see."""
        encoder = game.condition
        assert isinstance(encoder, Code)
        priors: dict[Variant, Callable[[Tensor, Tensor], Tensor]] = {
            "ppgn_x": lambda state, _: game.image_denoiser(state),
            "dgn_am": lambda state, _: torch.zeros_like(state),
            "ppgn_h": lambda state, _: game.code_denoiser(state),
        }
        return priors.get(self.variant, lambda _, images: encoder.encode(images))

    def _first(self, codes: Tensor, game: PlugAndPlay, unit: float) -> Tensor:
        """Return the states that the chains start from, [count, ...]."""
        assert isinstance(game.condition, Code)
        images = from_bytes(game.condition.stored_rows).to(codes)
        rows = torch.arange(self.count) % len(codes)
        states = (images if self.variant == "ppgn_x" else codes)[rows]
        return states if self.start == "data" else unit * torch.randn_like(states)

    def _context(self, device: torch.device, seed: int) -> tuple[Tensor, Tensor] | None:
        """Return the picture of each chain and its hole."""
        if self.picture is None:
            return None
        pictures = read_pictures(self.picture, self.data_node)
        require_contrast(pictures)
        rows = pictures.images[torch.arange(self.count) % len(pictures.images)].to(device)
        generator = torch.Generator().manual_seed(derive_seed(seed, "hole"))
        return rows, Masked(self.region).missing(self.count, rows.shape[2], rows.shape[3], generator, device)

    def _condition(self, game: PlugAndPlay, device: torch.device) -> Callable[[Tensor], Tensor] | None:
        """Return log p(request | images), a function of images; None for a hole that nothing is requested of."""
        if self.picture is not None and self.condition is None:
            return None
        network = self._classifier(game, device)
        request = self._request(network)
        request = Request(request.columns.to(device), None if request.signs is None else request.signs.to(device))

        def log_p(images: Tensor) -> Tensor:
            logits = network(images).logits
            if logits is None:
                raise UserError(f"mode.network: {network.source} has no classes; name a classifier")
            return log_probability(logits, request, self.published)

        return log_p

    def _classifier(self, game: Game, device: torch.device) -> FrozenNetwork:
        assert isinstance(game.condition, Code)
        known = {**dict(game.frozen.items()), **with_weights(self.frozen, device, self.data)}
        name = self.network or game.condition.name
        if name not in known:
            raise UserError(f"mode.network={name}: the frozen networks are {', '.join(known)}")
        return known[name]

    def _request(self, network: FrozenNetwork) -> Request:
        """Turn the condition into logits of the classifier."""
        names = self._class_names()
        if getattr(network, "task", "label") == "attributes":
            return self._attributes(names)
        if self.condition is None:
            return Request((torch.arange(self.count) % max(1, len(names)))[:, None])
        return Request(torch.full((self.count, 1), self._number(self.condition, names)))

    def _attributes(self, names: Sequence[str]) -> Request:
        if self.condition is None:
            raise UserError("condition= is missing: list attributes, unwanted ones after a minus: 'Smiling,-Male'")
        parts = [part.strip() for part in str(self.condition).split(",") if part.strip()]
        columns = [self._number(part.removeprefix("-"), names) for part in parts]
        signs = [-1.0 if part.startswith("-") else 1.0 for part in parts]
        return Request(torch.tensor(columns).expand(self.count, -1), torch.tensor(signs).expand(self.count, -1))

    def _number(self, value: int | str, names: Sequence[str]) -> int:
        """Return the number of a class that is given by number or name."""
        if str(value) in names:
            return names.index(str(value))
        if str(value).isdigit() and (not names or int(value) < len(names)):
            return int(value)
        if not names:
            raise UserError(f"condition={value}: the names of this classifier's classes are not known; give a number")
        known = ", ".join(f"{number} {one}" for number, one in enumerate(names[:20])) + (", ..." if names[20:] else "")
        raise UserError(f"condition={value}: there is no class of this name; the classes are {known}")

    # ---- The figure --------------------------------------------------------------------------------------------------

    def _class_names(self) -> list[str]:
        return list(self.module.classes) if self.module and self.network not in self.frozen else []

    def _requests_classes(self) -> bool:
        return self.picture is None

    def _moments(self) -> list[int]:
        """Return the steps after which a chain is shown, from 1."""
        return [round(self.iterations * (number + 1) / self.moments) for number in range(self.moments)]

    def _columns(self) -> int | None:
        if self.moments > 1:
            return self.moments
        return len(self._class_names()) or None if self.condition is None and self._requests_classes() else None


def _quantile(codes: Tensor) -> float:
    return codes.float().flatten().quantile(HIGHEST).item()
