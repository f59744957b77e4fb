"""Augmentation between the images and the critics: real and fake images, in the steps of all players.

An augmentation is one class derived from `Augmentation` and one YAML in `conf/augment`. Gradient penalties are taken
with respect to the images before the augmentation, through it.
"""

from oakleaf.augment.augmentation import Augmentation

__all__ = ["Augmentation"]
