"""Instantiate objects from a configuration, if the allowlist permits their classes."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from oakleaf.config.allowlist import require_allowed
from oakleaf.errors import UserError


def instantiate_allowed(node: Any, **changes: Any) -> Any:
    """Instantiate what a node describes, after checking every class that it names (`oakleaf.config.allowlist`).

    Args:
        node: plain containers with `_target_` keys, resolved.
        changes: keyword arguments that replace or extend the node's.

    Raises:
        UserError: a class is not allowed, or a constructor raised a UserError.
    """
    require_allowed(node)
    try:
        return instantiate(node, **changes, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
