"""A network of another run."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from oakleaf.errors import UserError
from oakleaf.frozen.network import FrozenNetwork, FrozenOutput
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.frozen.reading import Weights, load_weights
from oakleaf.optim.player import Role
from oakleaf.round import CriticOutput, generator_output
from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint


class Run(FrozenNetwork):
    """A network of another run: its generator, discriminator, encoder, or a further critic.

    The new run's checkpoints contain the weights, and its configuration the architecture, so neither resuming nor
    loading it needs the other run.

    A discriminator's output has its class logits and its features; an encoder's output is the embedding. They accept
    images of any size. A generator is called by `generate`.

    Args:
        checkpoint: the folder of the run, or a checkpoint file.
        network: its name in that run's `model.game` (or `model.critics`), such as `generator` or `discriminator`.
        ema: take the moving average of the weights, where the run has one.
        module: the architecture; null: it is read from the checkpoint when a new run is built.
        input: the images that the network was trained on; null: as `module`.
        role: of the network in its run; null: as `module`.
        prior: of the latents that a generator takes (`oakleaf.conditioning.priors`); null: as `module`, if it has one.

    Raises:
        UserError: the checkpoint or the architecture is missing.
    """

    complete = True

    def __init__(
        self,
        checkpoint: str,
        network: str = "generator",
        ema: bool = True,
        module: nn.Module | None = None,
        input: Input | None = None,
        role: Role | None = None,
        prior: Any = None,
    ) -> None:
        if module is None:
            raise UserError(
                "model.frozen: Run: module= is missing; it is read when a run is built from a configuration"
            )
        self.checkpoint, self.name, self.ema = checkpoint, network, ema
        self.classes: list[str] = []
        self.role, self.prior = role, prior
        super().__init__(module, input or Input())

    @staticmethod
    def describe(recipe: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments `module`, `input`, `role` and `prior` for a node of a configuration.

        Args:
            recipe: the resolved configuration of the other run.
            node: the arguments of this class, of which `module` is null.

        Raises:
            UserError: the run has no such network.
        """
        name = node.get("network", "generator")
        model, data = recipe["model"], recipe["data"]
        critics = {critic: part.get("network") for critic, part in (model.get("critics") or {}).items()}
        others = ("prior", "condition")
        parts = {key: value for key, value in {**model["game"], **critics}.items() if key not in others}
        found = {key: value for key, value in parts.items() if _describes_network(value)}
        if name not in found:
            raise UserError(f"network={name}: the run {node['checkpoint']} has {', '.join(found)}")
        target = f"{Input.__module__}.{Input.__name__}"
        role = (recipe["optim"].get(name) or {}).get("role")
        prior = model["game"].get("prior") if role == "generator" else None
        return {
            "module": found[name],
            "role": role,
            "prior": prior,
            "input": {"_target_": target, "size": data["size"], "channels": data["channels"]},
        }

    @property
    def source(self) -> str:
        return f"Run({self.checkpoint}, {self.name})"

    def check(self) -> None:
        checkpoint_path(self.checkpoint)

    def read(self) -> Provenance:
        """Read the weights from the checkpoint; `classes` are those of its data."""
        content = read_checkpoint(self.checkpoint)
        weights = _weights_of(content["state_dict"], self.name, self.ema)
        if not weights:
            raise UserError(f"{self.checkpoint}: the checkpoint has no network of the name {self.name}")
        file = checkpoint_path(self.checkpoint)
        load_weights(self.network, weights, file)
        self.classes = list(content["trained_on"]["classes"])
        return of_weights(self.source, self.network, file)

    def generate(self, *inputs: Tensor) -> Tensor:
        """Generate images by a generator.

        Args:
            inputs: what it takes: latents [B, d], and a condition [B, ...].

        Returns:
            Images [B, C, H, W] in [-1, 1] of its own size.
        """
        self.require_weights()
        return generator_output(self.network(*inputs)).image

    def run(self, x: Tensor, layers: Sequence[str] = ()) -> FrozenOutput:
        if self.role == "generator":
            raise UserError(f"{self.source} makes images, and cannot look at them: name another network of the run")
        return super().run(x, layers)

    def parts(self, result: Any) -> tuple[Tensor | None, Tensor | None]:
        if isinstance(result, CriticOutput):
            return None if result.features is None else result.features.flatten(1), result.classes
        if isinstance(result, Tensor):
            return result.flatten(1), None
        return super().parts(result)


def _describes_network(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _weights_of(state: Mapping[str, Tensor], name: str, ema: bool) -> Weights:
    """Return the weights of a network in a run's state dict, without their prefix; empty if there are none."""
    prefixes = [f"ema.{name}.network."] * ema + [f"game.{name}."]
    for prefix in prefixes:
        if found := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            return found
    return {}
