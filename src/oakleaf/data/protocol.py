"""The protocol of a user's own data: all that Oakleaf asks of a data set or data module that it does not know.

The configuration names its class, `data._target_=mine.Photos`. Three kinds of objects will do:

| kind | what it has |
|---|---|
| data module | `train_dataloader`, as every `LightningDataModule` |
| map-style set | `__len__` and `__getitem__`: a torch `Dataset`, a Hugging Face `Dataset`, a list |
| iterable set | `__iter__`: a torch `IterableDataset`, a WebDataset, a streamed Hugging Face set |

An item (or a batch of a data module's loader) is an image, a tuple (image, label), or a mapping with `image` and any of
`label`, `attributes`, `caption`, `input` and further rows of numbers. An image is a tensor [C, H, W], an array
[H, W, C], either without C, a PIL image, or the bytes of a picture file.

Nothing else is required. Five attributes are read where the object has them (`OPTIONAL`); each has a default:

| attribute | meaning | default |
|---|---|---|
| `classes` | the names of the classes, in the order of their numbers | the numbers of the labels that are found |
| `targets` | the label of each item, [N] | read from the items |
| `range` | (low, high), the values that mean black and white | decided by the type of the values; see `values` |
| `digest` | a text that changes whenever an image does | a hash of some items, and of all where a metric needs it |
| `pairs` | whether an item's `input` belongs to its `image` | true |

`oakleaf.data.adapter` makes an `ImageDataModule` of such an object, which is what everything else asks for images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from oakleaf.errors import UserError

OPTIONAL = ("classes", "targets", "range", "digest", "pairs")
IMAGE_KEYS = ("image", "img", "pixel_values", "jpg", "jpeg", "png", "webp")  # of a mapping, the first that it has
LABEL_KEYS = ("label", "labels", "cls", "fine_label")
Kind = Literal["module", "map", "iterable"]


def kind_of(data: Any) -> Kind:
    """Return what kind of data an object is.

    Raises:
        UserError: it is none, with what it lacks.
    """
    if hasattr(data, "train_dataloader"):
        return "module"
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return "map"
    if hasattr(data, "__iter__"):
        return "iterable"
    lacks = "__len__" if hasattr(data, "__getitem__") else "__getitem__ and __len__, or __iter__"
    raise UserError(
        f"{type(data).__name__} is no data set: it lacks {lacks}. A torch Dataset has them; a LightningDataModule has "
        "train_dataloader"
    )


def attribute(data: Any, name: str, default: Any = None) -> Any:
    """Return one of the five optional attributes, also of the set that a torch `Subset` selects from.

    Args:
        data: the user's object.
        name: one of `OPTIONAL`.
        default: if the object has no such attribute.

    Raises:
        UserError: the attribute has a type that makes no sense.
    """
    assert name in OPTIONAL
    value = getattr(data, name, None)
    if value is None and hasattr(data, "dataset") and hasattr(data, "indices"):  # torch.utils.data.Subset
        inner = attribute(data.dataset, name)
        if inner is None:
            return default
        return np.asarray(inner)[np.asarray(data.indices)] if name == "targets" else None if name == "digest" else inner
    if value is None or callable(value):  # Hugging Face sets may have methods of such names
        return default
    _check_attribute(data, name, value)
    return value


def _check_attribute(data: Any, name: str, value: Any) -> None:
    def number_pair() -> bool:
        return len(value) == 2 and float(value[0]) < float(value[1])

    expected, check = {
        "classes": ("a sequence of names", lambda: not isinstance(value, str) and len(value) >= 0),
        "targets": ("one label for each item", lambda: len(value) == len(data)),
        "range": ("two numbers (low, high)", number_pair),
        "digest": ("a text", lambda: isinstance(value, str)),
        "pairs": ("true or false", lambda: isinstance(value, bool)),
    }[name]
    try:
        fits = check()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(f"{type(data).__name__}.{name} should be {expected}, and is {str(value)[:60]}")


def rows_of(item: Any, columns: Mapping[str, str] | None = None, batched: bool = False) -> dict[str, Any]:
    """Return the rows of an item, or of a batch, by Oakleaf's names; the values are not converted.

    Args:
        item: what the set returns for a number, or a batch of a data module's loader.
        columns: the item's own key for a row, by the row's name, as {"image": "photo", "label": "kind"}.
        batched: whether it is a batch, whose values have one more dimension.

    Raises:
        UserError: there is no image in it.
    """
    if isinstance(item, Mapping):
        return _rows_of_mapping(item, columns or {})
    if isinstance(item, tuple) or (isinstance(item, list) and not (batched and all(dimensions(x) == 2 for x in item))):
        return _rows_of_tuple(item, int(batched))
    return {"image": item}


def _rows_of_mapping(item: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    if missing := [key for key in columns.values() if key not in item]:
        raise UserError(f"data.columns names {missing[0]}, and an item has {', '.join(map(str, item)) or 'no keys'}")
    own = dict(columns)
    for name, keys in (("image", IMAGE_KEYS), ("label", LABEL_KEYS)):
        candidates = [key for key in keys if key in item and key not in columns.values()]
        if name not in own and candidates:
            own[name] = candidates[0]
    if "image" not in own:
        found = list(map(str, item))
        raise UserError(
            f"an item has no image: its keys are {', '.join(found) or 'none'}; name its key by data.columns.image=KEY"
        )
    rest = {key: value for key, value in item.items() if key not in own.values() and key not in own}
    return {**{name: item[key] for name, key in own.items()}, **rest}


def _rows_of_tuple(item: Sequence[Any], batch_dimensions: int) -> dict[str, Any]:
    if not 1 <= len(item) <= 2:
        raise UserError(
            f"an item is a tuple of {len(item)}; an image, (image, label) or a mapping with `image` is expected"
        )
    if len(item) == 1:
        return {"image": item[0]}
    width = dimensions(item[1]) - batch_dimensions
    if width >= 2:
        raise UserError("an item is a tuple of two pictures; return a mapping with `image` and `input` instead")
    return {"image": item[0], "attributes" if width == 1 else "label": item[1]}


def dimensions(value: Any) -> int:
    """Return the number of dimensions of a value of an item: 0 for a number or a text, 2 or more for a picture."""
    if isinstance(value, str):
        return 0
    if isinstance(value, bytes) or hasattr(value, "getbands"):  # a picture file's content; a PIL image
        return 2
    if isinstance(value, list | tuple):
        return 1 + (dimensions(value[0]) if value else 0)
    return int(getattr(value, "ndim", 0))
