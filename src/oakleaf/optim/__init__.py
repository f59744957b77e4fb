"""How networks are updated: players with their optimizers and schedules, moving averages of weights, unrolled optimisation."""
