"""Instantiate objects from a configuration, if the allowlist permits their classes."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from oakleaf.config.allowlist import require_allowed
from oakleaf.errors import UserError, first_line


def instantiate_allowed(node: Any, **changes: Any) -> Any:
    """Instantiate what a node describes, after checking every class that it names (`oakleaf.config.allowlist`).

    Args:
        node: plain containers with `_target_` keys, resolved.
        changes: keyword arguments that replace or extend the node's.

    Raises:
        UserError: a class is not allowed, a constructor raised a UserError, or it needs a package that is missing.
    """
    require_allowed(node)
    try:
        return instantiate(node, **changes, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ImportError):
            raise UserError(f"{node['_target_']}: {first_line(error.__cause__)}") from error
        raise


def instantiate_group(group: str, nodes: Mapping[str, Any], kind: type) -> list[Any]:
    """Instantiate what a group's nodes describe, in their order; a node that is null is left out.

    Args:
        group: name of the group, for messages.
        nodes: plain, resolved containers by name.
        kind: the class of all instances.

    Raises:
        UserError: an instance is of another class.
    """
    instances = {name: instantiate_allowed(node) for name, node in nodes.items() if node}
    if wrong := [name for name, instance in instances.items() if not isinstance(instance, kind)]:
        raise UserError(f"{group}.{wrong[0]}: a {type(instances[wrong[0]]).__name__} is none of Lightning's {group}")
    return list(instances.values())
