"""Alarms: what is wrong, said once, with what to do about it. What makes a look a bad one are plain functions."""

from collections.abc import Mapping
from dataclasses import dataclass

ADVICE = {
    "discriminator_dominates": "a lower optim.discriminator.lr, or a penalty or noise for it: loss=relativistic, loss.instance_noise",
    "collapse": "loss=relativistic or wasserstein_gp, a lower optim.generator.lr, or model.game.packing=2",
    "memorisation": "more data or data.flip=true, a smaller network, or an earlier checkpoint",
    "oscillation": "a lower optim.generator.lr and optim.discriminator.lr",
    "ema_lag": "a lower optim.ema.half_life, or ema=false for samples",
}

VANISHING = ("discriminator/adversarial", "generator/gradient_norm")  # both vanish when discriminator_dominates


@dataclass
class Alarm:
    """Raised by `patience` bad looks in a row, and then silent until as many in a row have been good."""

    patience: int
    raised: bool = False
    row: int = 0  # looks in a row that contradict `raised`

    def update(self, bad: bool, patience: int = 0) -> bool:
        """Whether it is to be said now. patience: if more is asked for than its own."""
        self.row = self.row + 1 if bad != self.raised else 0
        if self.row < max(self.patience, patience):
            return False
        self.raised, self.row = bad, 0
        return bad


def discriminator_dominates(seen: Mapping[str, float], most: Mapping[str, float], accuracy: float, left: float) -> bool:
    """Whether D tells all real images from all fake ones, and what it pays and G's gradient are at most `left` of the
    most that they ever were. A loss without a floor at 0 (Wasserstein's) never gets there; nor does G's gradient where
    its loss does not saturate (hinge), and there G goes on."""
    if any(seen.get(f"discriminator/accuracy_{side}", 0.0) < accuracy for side in ("real", "fake")):
        return False
    return all(name in seen and 0 <= seen[name] <= left * most[name] for name in VANISHING)


def has_collapsed(now: float, best: float, share: float) -> bool:
    """Whether it is below that share of its best, of which what is above 1, real images', does not count."""
    return now < share * min(best, 1.0)


def ema_lags(apart: float, moved: float, most: float) -> bool:
    """Whether the average draws other images than G, farther off than G goes between two looks: not because G moves,
    but because the average does not follow."""
    return apart > most and apart > 1.5 * moved
