"""Augmentation: what changes images at random before the critic sees them, real and fake ones alike.

An `Augmentation` stands between the images and the critic's network, so the generator is trained through it and every
operation is differentiable. It keeps a critic from learning a small training set by heart. It does not show in the
generated images as long as the critic also sees enough images that are not changed (Karras 2020, arXiv:2006.06676,
section 2.2). The group `augment` of a configuration chooses one.
"""

from oakleaf.augment.ada import ADA
from oakleaf.augment.apa import APA
from oakleaf.augment.augmentation import Augmentation
from oakleaf.augment.chain import Chain
from oakleaf.augment.consistency import Consistency, FlipAndShift, LatentConsistency, LatentSensitivity
from oakleaf.augment.diffaugment import DiffAugment
from oakleaf.augment.noise import Noise

__all__ = [
    "ADA",
    "APA",
    "Augmentation",
    "Chain",
    "Consistency",
    "DiffAugment",
    "FlipAndShift",
    "LatentConsistency",
    "LatentSensitivity",
    "Noise",
]
