"""Alarms: what is wrong, said once, with what to do about it."""

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Alarm:
    """Raised after `patience` bad looks in a row, and silent from then on until as many have been good in a row."""

    name: str
    words: str
    advice: str
    patience: int
    raised: bool = False
    row: int = 0  # looks in a row that said the contrary of what it says

    def look(self, bad: bool) -> bool:
        """Whether it is to be said now."""
        self.row = self.row + 1 if bad != self.raised else 0
        if self.row < self.patience:
            return False
        self.raised, self.row = bad, 0
        return bad
