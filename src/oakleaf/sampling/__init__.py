"""Sampling from trained generators: the modes of `sample.py`, and the translation of single pictures.

A mode chooses the inputs of the generator, and the columns and headings of their grid; `mode=` on the command line
selects one. `oakleaf.sampling.sampler.Sampler` generates the images, and writes and draws them.

| mode | what it shows |
|---|---|
| `Grid` | independent samples |
| `Interpolate` | interpolation between pairs of latents, also as an animation |
| `Walk` | an animation of closed walks through latent space |
| `Arithmetic` | a - b + c with means of latents |
| `ByClass` | a column for each class |
| `Codes` | the meaning of an InfoGAN's code |
| `Levels` | the levels of a Laplacian pyramid |
| `Ages` | given faces at each age |
| `Edit` | latents that are moved along named directions |
| `Project` | given pictures and their projections, by optimisation of the latents |
| `Reconstruct` | real images and their reconstructions |
| `PPGN` | images that a classifier assigns to a request, by a search of codes |
| `Translate` | real inputs, their translations, and the target images |

`oakleaf.sampling.translate.Translator` translates picture files (`translate.py`).
"""

from oakleaf.sampling.ages import Ages
from oakleaf.sampling.edit import Edit
from oakleaf.sampling.latents import Arithmetic, ByClass, Codes, Grid, Interpolate, Walk
from oakleaf.sampling.ppgn import PPGN
from oakleaf.sampling.project import Project
from oakleaf.sampling.pyramid import Levels
from oakleaf.sampling.reconstruction import Reconstruct, Translate

__all__ = [
    "PPGN",
    "Ages",
    "Arithmetic",
    "ByClass",
    "Codes",
    "Edit",
    "Grid",
    "Interpolate",
    "Levels",
    "Project",
    "Reconstruct",
    "Translate",
    "Walk",
]
