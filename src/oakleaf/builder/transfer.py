"""Weights of a new module from an existing one, by the names and shapes of the tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oakleaf.errors import UserError

State = Mapping[str, Tensor]
GAME = "game."


class Source(NamedTuple):
    """Existing weights.

    Attributes:
        state: a module's state dict.
        classes: names of the classes that the networks know; empty if there are none.
        description: where they are from, for messages.
    """

    state: State
    classes: Sequence[str]
    description: str


@dataclass
class Transfer:
    """What one network took from existing weights.

    Attributes:
        network: its name.
        taken: the names of its tensors that were taken completely, with those that they had.
        in_part: tensors of which only the entries of known classes, and those of no class, were taken.
        new: all others, with the reason.
        values: numbers in the network that were taken, and all of them.
    """

    network: str
    taken: dict[str, str] = field(default_factory=dict)
    in_part: list[str] = field(default_factory=list)
    new: dict[str, str] = field(default_factory=dict)
    values: tuple[int, int] = (0, 0)


def averaged(state: State) -> dict[str, Tensor]:
    """Return a state dict in which the networks have the weights of their moving averages, where there are any."""
    result = dict(state)
    for name, tensor in state.items():
        network, marker, below = name.removeprefix("ema.").partition(".network.")
        if name.startswith("ema.") and marker:
            result[f"{GAME}{network}.{below}"] = tensor
    return result


@torch.no_grad()
def transfer(module: Any, source: Source, classes: Sequence[str], networks: Sequence[str] | None) -> list[Transfer]:
    """Give a module's networks existing weights wherever names and shapes fit.

    Tensors are matched by their names. Where a network is deeper than the other one, as for larger images, the numbers
    of its layers are moved by the offset at which most values fit. A tensor whose shape differs only by the number of
    classes takes the entries of no class, and those of the classes that have the same name.

    Args:
        module: a `GAN`, or another module; it is changed.
        source: the weights.
        classes: names of the classes that the new networks know; empty if there are none.
        networks: which networks get weights; None: all that the source has, too.

    Returns:
        What each network took.

    Raises:
        UserError: there is no such network here or in the source, or nothing fits.
    """
    prefix = GAME if hasattr(module, "game") else ""
    known = list(module.game.roles) if prefix else [name for name, _ in module.named_children()]
    present = [name for name in known if any(key.startswith(f"{prefix}{name}.") for key in source.state)]
    for name in networks or ():
        if name not in known:
            raise UserError(f"init.players={name}: there is no such network; this run has {', '.join(known)}")
        if name not in present:
            found = ", ".join(present) or "none of this run's networks"
            raise UserError(f"init.players={name}: {source.description} has no network of this name; it has {found}")
    results = []
    for name in networks or present:
        start = f"{prefix}{name}."
        below = {key.removeprefix(start): value for key, value in source.state.items() if key.startswith(start)}
        network = (module.game if prefix else module).get_submodule(name)
        results.append(_transfer(name, network, Source(below, *source[1:]), classes))
    if not any(result.taken for result in results):
        raise UserError(f"init={source.description}: no weights there have the name and shape of weights of this run")
    return results


def _transfer(name: str, network: Any, source: Source, classes: Sequence[str]) -> Transfer:
    own = {key: value for key, value in network.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    names = aligned_names(own, source.state)
    result, taken = Transfer(name), 0
    for key, tensor in own.items():
        source_tensor = source.state.get(names[key])
        if source_tensor is None:
            result.new[key] = f"{shape_text(tensor)}, not there"
        elif source_tensor.shape == tensor.shape:
            tensor.copy_(source_tensor)
            result.taken[key] = names[key]
            taken += tensor.numel()
        elif copied := _copy_classes(tensor, source_tensor, classes, source):
            result.in_part.append(key)
            taken += copied
        else:
            result.new[key] = f"{shape_text(tensor)}, there {shape_text(source_tensor)}"
    result.values = taken, sum(tensor.numel() for tensor in own.values())
    return result


def aligned_names(own: State, other: State) -> dict[str, str]:
    """Return for each tensor the name that it has in another state dict, where layers may have other numbers.

    The first number of a name, such as 2 in `stages.2.linear.weight`, is moved by an offset, which is the same for all
    names with the same beginning: that at which most values have the same shape, and the smallest of those.

    Args:
        own: tensors by name.
        other: those of the other network.

    Returns:
        The name there for each name here; there may be no tensor of that name.
    """
    groups: dict[str, dict[str, tuple[int, str]]] = {}
    result = {name: name for name in own}
    for name in own:
        if (parts := _numbered(name)) is not None:
            groups.setdefault(parts[0], {})[name] = parts[1:]
    for beginning, names in groups.items():
        numbers = {parts[1] for name in other if (parts := _numbered(name)) and parts[0] == beginning}
        offsets = {number - one for number in numbers for one, _ in names.values()} | {0}

        def fitting(offset: int, beginning: str = beginning, names: Any = names) -> int:
            pairs = ((own[name], other.get(f"{beginning}{n + offset}{rest}")) for name, (n, rest) in names.items())
            return sum(one.numel() for one, found in pairs if found is not None and found.shape == one.shape)

        best = max(sorted(offsets, key=abs), key=fitting)
        result |= {name: f"{beginning}{number + best}{rest}" for name, (number, rest) in names.items()}
    return result


def _numbered(name: str) -> tuple[str, int, str] | None:
    """Split a name at its first number: `stages.2.linear.weight` is ("stages.", 2, ".linear.weight")."""
    parts = name.split(".")
    place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if place is None:
        return None
    beginning, rest = (".".join(each) for each in (parts[:place], parts[place + 1 :]))
    return (f"{beginning}." if beginning else ""), int(parts[place]), (f".{rest}" if rest else "")


def _copy_classes(tensor: Tensor, source_tensor: Tensor, classes: Sequence[str], source: Source) -> int:
    """Copy what belongs to no class and to classes of the same name, if the shapes differ by the classes alone.

    In a dimension that is joined of something and the classes, such as latents and a one-hot vector, the classes are
    the last.

    Returns:
        The number of values that were copied; 0 if the shapes differ by something else.
    """
    different = [axis for axis, (here, old) in enumerate(zip(tensor.shape, source_tensor.shape)) if here != old]
    if tensor.dim() != source_tensor.dim() or len(different) != 1:
        return 0
    (axis,) = different
    rest = tensor.shape[axis] - len(classes)
    if rest < 0 or source_tensor.shape[axis] - len(source.classes) != rest:
        return 0
    old = {name: number for number, name in enumerate(source.classes)}
    pairs = [(rest + number, rest + old[name]) for number, name in enumerate(classes) if name in old]
    pairs = [*((number, number) for number in range(rest)), *pairs]
    for number, other in pairs:
        tensor.select(axis, number).copy_(source_tensor.select(axis, other))
    return len(pairs) * (tensor.numel() // tensor.shape[axis])


def shape_text(tensor: Tensor) -> str:
    """Return a shape as text: `64 x 3 x 4 x 4`."""
    return " x ".join(str(side) for side in tensor.shape) or "1 number"


def table(results: Sequence[Transfer], most: int = 12) -> str:
    """Return what was taken and what is new as text: a line for each network, then one for each tensor that is new.

    Args:
        results: of `transfer`.
        most: lines about new tensors of each network.
    """
    rows = [("network", "values taken", "tensors taken", "in part", "new")]
    for one in results:
        taken, values = one.values
        rows.append(
            (one.network, f"{taken:,} of {values:,}", str(len(one.taken)), str(len(one.in_part)), str(len(one.new)))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *(line for one in results for line in _details(one, most))])


def _details(one: Transfer, most: int) -> Iterator[str]:
    moved = [(name, other) for name, other in one.taken.items() if name != other]
    if moved:
        yield f"  {one.network}: {len(moved)} from layers of other numbers, as {moved[0][0]} from {moved[0][1]}"
    lines = [f"in part: {name}" for name in one.in_part] + [f"new: {name} ({why})" for name, why in one.new.items()]
    yield from (f"  {one.network}: {line}" for line in lines[:most])
    if len(lines) > most:
        yield f"  {one.network}: and {len(lines) - most} more that are new"
