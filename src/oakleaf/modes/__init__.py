"""Ways to draw from a generator. A mode maps a game and a seed to images and the number of columns to show them in."""

from oakleaf.modes.inference import Reconstruct, Translate
from oakleaf.modes.latents import Arithmetic, ByClass, Codes, Grid, Interpolate

__all__ = ["Arithmetic", "ByClass", "Codes", "Grid", "Interpolate", "Reconstruct", "Translate"]
