"""Real data: where the training images come from, how they are resized and cached, and how they become batches.

In this package a *picture* is a file (or array) as it is stored, of any mode and size, and an *image* is a tensor of
the configured size. The way from one to the other, module by module:

1. A `Source` (`sources`, `folder`, `celeba`, `pairs`, `captions`, ...) lists pictures and labels, and reads a picture.
2. `DecodedImages` (`decoded`, `decoding`, `resize`, `cache`) decodes and resizes each picture once into a memory-mapped
   file of bytes on disk.
3. `EpochSampler` (`sampling`) decides which rows make up which batch, and a loader gathers them on the training device
   or in worker processes.
4. `BatchTransform` (`transforms`, `inputs`) converts bytes to floats in [-1, 1] on the device, flips and crops at
   random, and computes the input of an image-to-image generator.

`Images` connects the four steps as a Lightning data module; `semi_supervised` hides labels from it. `toy.Points` and
`tags.Tags` are data modules whose "images" are points and word vectors, of one pixel each. All data modules extend
`datamodule.ImageDataModule`.
"""

from oakleaf.data.images import Images

__all__ = ["Images"]
