"""The alarms of the training monitor: what each one advises, and when it is raised and cleared."""

from dataclasses import dataclass

ADVICE = {
    "discriminator_dominates": "a lower optim.discriminator.lr, a penalty (loss=relativistic), or augment=noise",
    "collapse": "loss=relativistic or wasserstein_gp, a lower optim.generator.lr, or model.game.packing=2",
    "memorisation": "more data or data.flip=true, a smaller network, or an earlier checkpoint",
    "oscillation": "a lower optim.generator.lr and optim.discriminator.lr",
    "ema_lag": "a lower optim.ema.half_life, or ema=false for samples",
}


@dataclass
class Alarm:
    """The state of one alarm: raised after several bad checks in a row, cleared after as many good ones.

    Args:
        patience: checks in a row that raise or clear the alarm.
        raised: whether the alarm is raised.
        streak: how many checks in a row contradicted `raised`.
    """

    patience: int
    raised: bool = False
    streak: int = 0

    def update(self, bad: bool, patience: int = 0) -> bool:
        """Take in the result of one check, and return whether the alarm has just been raised.

        Args:
            bad: whether the check failed.
            patience: the number of checks needed, where it is larger than the alarm's own.
        """
        self.streak = self.streak + 1 if bad != self.raised else 0
        if self.streak < max(self.patience, patience):
            return False
        self.raised, self.streak = bad, 0
        return bad
