"""Families of GAN systems: which networks there are, and how they are run on a batch.

A game combines with any loss. A new system is a YAML file that names a game, networks and terms; a new game is needed
only where the networks are connected in a new way.
"""

from oakleaf.games.baselines import Likelihood, Reconstruction
from oakleaf.games.bidirectional import Bidirectional
from oakleaf.games.domains import Domains
from oakleaf.games.game import Batch, Game
from oakleaf.games.generation import Generation
from oakleaf.games.inverter import Inverter
from oakleaf.games.matching import Matching
from oakleaf.games.plug_and_play import PlugAndPlay
from oakleaf.games.pyramid import Pyramid
from oakleaf.games.stackgan import StackGAN
from oakleaf.games.unpaired import Unpaired

__all__ = [
    "Batch",
    "Bidirectional",
    "Domains",
    "Game",
    "Generation",
    "Inverter",
    "Likelihood",
    "Matching",
    "PlugAndPlay",
    "Pyramid",
    "Reconstruction",
    "StackGAN",
    "Unpaired",
]
