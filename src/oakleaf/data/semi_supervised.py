"""Learning with few labels: which images keep theirs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from oakleaf.data.sampling import Rows
from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed


@dataclass
class LabelSubset:
    """`count` images, the same number of each class, drawn by `seed`: the split. Salimans 2016, arXiv:1606.03498,
    section 5.1."""

    count: int
    seed: int

    def rows(self, rows: Rows) -> Tensor:
        """Which they are, [count].

        Raises:
            UserError: no labels, too few of a class, or a number that can't be shared out.
        """
        if "label" not in rows or not bool((rows["label"] >= 0).any()):
            raise UserError(f"data.labelled={self.count}: these images have no labels to keep; data.labelled=null")
        label = rows["label"]
        classes = label[label >= 0].unique()
        each, left = divmod(self.count, len(classes))
        if left or not each:
            raise UserError(f"data.labelled={self.count}: must be a multiple of the {len(classes)} classes")
        order = torch.randperm(len(label), generator=torch.Generator().manual_seed(derive_seed(self.seed, "labelled")))
        kept = [order[label[order] == one][:each] for one in classes]
        if (fewest := min(map(len, kept))) < each:
            most = fewest * len(classes)
            raise UserError(f"data.labelled={self.count}: one class has only {fewest} images; at most {most}")
        return torch.cat(kept)


def mask_labels(label: Tensor, kept: Tensor) -> Tensor:
    """The labels [N] with -1 for all but those that are kept."""
    shown = torch.full_like(label, -1)
    shown[kept] = label[kept]
    return shown


def split_labelled(batch: Rows) -> Rows:
    """A batch in which the labelled images were dealt after the others: those become rows of names of their own,
    `labelled_image`, `labelled_label`, ..."""
    half = len(batch["image"]) // 2
    first = {name: values[:half] for name, values in batch.items()}
    return first | {f"labelled_{name}": values[half:] for name, values in batch.items()}
