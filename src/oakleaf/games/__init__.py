"""Families of systems: which networks there are, and how a batch becomes Rounds."""

from oakleaf.games.baselines import Likelihood, Reconstruction
from oakleaf.games.bidirectional import Bidirectional
from oakleaf.games.game import Batch, Game
from oakleaf.games.generation import Generation
from oakleaf.games.matching import Matching
from oakleaf.games.pyramid import Pyramid
from oakleaf.games.stackgan import StackGAN
from oakleaf.games.unpaired import Unpaired

__all__ = [
    "Batch",
    "Bidirectional",
    "Game",
    "Generation",
    "Likelihood",
    "Matching",
    "Pyramid",
    "Reconstruction",
    "StackGAN",
    "Unpaired",
]
