"""Labelled pictures: grids of images with headings, points of the plane with axes, and animations of them.

| module | content |
|---|---|
| `text` | fonts, and text that fits: class names of any script |
| `grid` | images in a grid with a title, row and column headings, and captions |
| `plane` | points of the plane with axes, the true modes, and the discriminator's output as background |
| `animation` | frames as an animated GIF or as an MP4 video |

Everything is drawn by Pillow. Importing the package or `text` does not import torch.
"""
