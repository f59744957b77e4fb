"""What a lab finds: numbers, a picture, and claims with their verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from matplotlib.figure import Figure

Row = dict[str, float | str]


@dataclass(frozen=True)
class Check:
    """A claim about one measured number: `value` stands in `relation` to `bound`. A NaN holds no claim."""

    claim: str
    value: float
    relation: Literal["<", ">"]
    bound: float

    @property
    def held(self) -> bool:
        return self.value < self.bound if self.relation == "<" else self.value > self.bound

    def plain(self) -> dict[str, Any]:
        """Itself and its verdict as plain values."""
        return {**vars(self), "held": self.held}

    def __str__(self) -> str:
        verdict = "held" if self.held else "FAILED"
        return f"{verdict}: {self.claim} = {self.value:.4g} {self.relation} {self.bound:.4g}"


@dataclass(frozen=True)
class Finding:
    """table: rows with the same columns. figure: the picture. checks: what must hold."""

    table: Sequence[Row]
    figure: Figure
    checks: Sequence[Check]

    def __str__(self) -> str:
        return "\n".join([*aligned(self.table), *map(str, self.checks)])


class Lab(Protocol):
    """A piece of theory that can be run. Its fields are its configuration; the same fields give the same finding."""

    def run(self) -> Finding: ...


def aligned(table: Sequence[Row]) -> list[str]:
    """The rows below their columns' names, numbers to the right."""
    cells = [list(table[0]), *[[_cell(value) for value in row.values()] for row in table]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    right = [not isinstance(value, str) for value in table[0].values()]
    return [
        "  ".join(cell.rjust(width) if end else cell.ljust(width) for cell, width, end in zip(line, widths, right))
        for line in cells
    ]


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
