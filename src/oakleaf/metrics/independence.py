"""A network that judges samples must not be one that the generator was trained against."""

from collections.abc import Mapping

from oakleaf.errors import UserError
from oakleaf.frozen import FrozenNetwork
from oakleaf.frozen.provenance import Provenance, same_network


def require_independent(judge: Provenance | None, frozen: Mapping[str, FrozenNetwork], alternative: str) -> None:
    """Check that a network is none of a run's frozen networks, whose answers the generator has learned to please.

    Args:
        judge: of the network that a metric uses; None if it uses none.
        frozen: the run's frozen networks by name.
        alternative: what to do instead, for the message.

    Raises:
        UserError: it is one of them.
    """
    for name, network in frozen.items():
        reason = same_network(judge, network.provenance) if judge else None
        if judge and reason:
            raise UserError(
                f"{judge.source} cannot judge this run, which was trained with it as model.frozen.{name} ({reason}): "
                f"{alternative}"
            )
