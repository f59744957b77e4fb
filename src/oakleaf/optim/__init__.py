"""How networks are updated: a player's optimizer, schedules of its numbers, moving averages of weights, and unrolled
optimisation.

A module here works with parameters and gradients and depends on neither losses nor games.
"""
