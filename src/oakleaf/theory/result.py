"""What a lab returns: a table of numbers, a figure, and checks that pass or fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from matplotlib.figure import Figure

Row = dict[str, float | str]


@dataclass(frozen=True)
class Check:
    """A strict bound on one measured number.

    Args:
        description: what the number is.
        value: the number; NaN passes no check.
        relation: "<" or ">", in which the value has to stand to the bound.
        bound: the bound.
    """

    description: str
    value: float
    relation: Literal["<", ">"]
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value < self.bound if self.relation == "<" else self.value > self.bound

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the outcome as plain values, for JSON."""
        return {**vars(self), "passed": self.passed}

    def __str__(self) -> str:
        outcome = "passed" if self.passed else "FAILED"
        return f"{outcome}: {self.description} = {self.value:.4g} {self.relation} {self.bound:.4g}"


@dataclass(frozen=True)
class LabResult:
    """The result of a lab.

    Args:
        table: rows with the same columns.
        figure: a plot of them.
        checks: what has to pass if the theory is right.
    """

    table: Sequence[Row]
    figure: Figure
    checks: Sequence[Check]

    def __str__(self) -> str:
        return "\n".join([*format_table(self.table), *map(str, self.checks)])


class Lab(Protocol):
    """A demonstration that can be run. Its fields are its configuration; equal fields give equal results."""

    def run(self) -> LabResult:
        """Run the lab."""


def format_table(table: Sequence[Row]) -> list[str]:
    """Format rows as aligned lines of text, numbers to the right, below a line with the names of the columns."""
    cells = [list(table[0]), *[[_format_cell(value) for value in row.values()] for row in table]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    is_number = [not isinstance(value, str) for value in table[0].values()]
    return [
        "  ".join(c.rjust(width) if right else c.ljust(width) for c, width, right in zip(line, widths, is_number))
        for line in cells
    ]


def _format_cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
