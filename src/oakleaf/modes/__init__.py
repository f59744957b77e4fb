"""Ways to draw from a generator. A mode maps a game and a seed to images and the number of columns to show them in."""

from oakleaf.modes.inference import Reconstruct, Translate
from oakleaf.modes.latents import Arithmetic, ByClass, Codes, Grid, Interpolate
from oakleaf.modes.pyramid import Levels

__all__ = ["Arithmetic", "ByClass", "Codes", "Grid", "Interpolate", "Levels", "Reconstruct", "Translate"]
