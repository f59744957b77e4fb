"""Semi-supervised learning: the choice of the few images that keep their labels, and the batches with them.

A run with `data.labelled=100` hides all labels but 100. The sampler repeats those 100 images in each batch (see
`EpochSampler`), and `split_labelled` gives them names of their own, so that a game has an unlabelled and a labelled
half of equal size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from oakleaf.data.sampling import Rows
from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed


@dataclass
class LabelSubset:
    """A random choice of labelled images, the same number of each class.

    Args:
        count: how many images keep their label; a multiple of the number of classes.
        seed: which images; another seed is another split of the data.

    Reference: Salimans 2016, arXiv:1606.03498, section 5.1.
    """

    count: int
    seed: int

    def rows(self, rows: Rows) -> Tensor:
        """Return the row numbers of the images that keep their label, [count], class by class.

        Args:
            rows: the data set, with `label` [N], -1 = unlabelled.

        Raises:
            UserError: there are no labels, a class has too few images, or `count` is no multiple of the classes.
        """
        if "label" not in rows or not bool((rows["label"] >= 0).any()):
            raise UserError(f"data.labelled={self.count}: these images have no labels to keep; data.labelled=null")
        label = rows["label"]
        classes = label[label >= 0].unique()
        per_class, remainder = divmod(self.count, len(classes))
        if remainder or not per_class:
            raise UserError(f"data.labelled={self.count}: must be a multiple of the {len(classes)} classes")
        order = torch.randperm(len(label), generator=torch.Generator().manual_seed(derive_seed(self.seed, "labelled")))
        kept = [order[label[order] == number][:per_class] for number in classes]
        if (fewest := min(map(len, kept))) < per_class:
            most = fewest * len(classes)
            raise UserError(f"data.labelled={self.count}: one class has only {fewest} images; at most {most}")
        return torch.cat(kept)


def mask_labels(label: Tensor, kept: Tensor) -> Tensor:
    """Return labels in which all but the kept ones are -1 (unlabelled).

    Args:
        label: [N] int64.
        kept: [n] int64, the row numbers whose label stays.
    """
    masked = torch.full_like(label, -1)
    masked[kept] = label[kept]
    return masked


def split_labelled(batch: Rows) -> Rows:
    """Give the labelled half of a batch names of its own.

    Args:
        batch: rows [2 B, ...], whose second half was repeated from the labelled images by `EpochSampler`.

    Returns:
        The first half under its names, and the second half as `labelled_image`, `labelled_label`, ..., each [B, ...].
    """
    half = len(batch["image"]) // 2
    first = {name: values[:half] for name, values in batch.items()}
    return first | {f"labelled_{name}": values[half:] for name, values in batch.items()}
