"""Families of systems: which networks there are, and how a batch becomes Rounds."""

from oakleaf.games.alone import Likelihood, Reconstruction
from oakleaf.games.game import Batch, Game
from oakleaf.games.generation import Generation

__all__ = ["Batch", "Game", "Generation", "Likelihood", "Reconstruction"]
