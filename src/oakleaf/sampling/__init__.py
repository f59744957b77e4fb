"""Ways to draw from a generator. A mode maps a game and a seed to images and the number of columns to show them in."""

from oakleaf.sampling.latents import Arithmetic, ByClass, Codes, Grid, Interpolate
from oakleaf.sampling.pyramid import Levels
from oakleaf.sampling.reconstruction import Reconstruct, Translate

__all__ = ["Arithmetic", "ByClass", "Codes", "Grid", "Interpolate", "Levels", "Reconstruct", "Translate"]
