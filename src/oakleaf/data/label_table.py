"""Labels of pictures from a table beside them, as CSV or JSON."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oakleaf.data.pictures import picture_extensions
from oakleaf.errors import UserError

NAME_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "name", "path", "picture")
LABEL_COLUMNS = ("label", "class", "category", "class_name", "target", "species")


def read_label_table(text: str, place: str) -> dict[str, str]:
    """Return the label of each picture by the picture's name in the table.

    A CSV or TSV has a header with a column for the name (`file`, `image`, ...) and one for the label (`label`, `class`,
    ...); without these names, the first two columns; the header may be left out. A JSON holds {name: label},
    [[name, label], ...], a list of objects with such keys, or one of the last two under `labels`, as `dataset.json` of
    StyleGAN's tools. A label may be a text or a number; an empty one means none.

    Args:
        text: the content of the file.
        place: its path, by which its kind is recognised.

    Raises:
        UserError: it has another form.
    """
    pairs = _json_pairs(text, place) if place.lower().endswith(".json") else _csv_pairs(text, place)
    table: dict[str, str] = {}
    for name, label in pairs:
        table[str(name)] = "" if label is None else str(label)
    return table


def _json_pairs(text: str, place: str) -> list[tuple[Any, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{place} can't be read as JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("labels"), list | dict):
        content = content["labels"]
    if isinstance(content, dict):
        return list(content.items())
    if isinstance(content, list) and all(isinstance(row, list) and len(row) == 2 for row in content):
        return [(name, label) for name, label in content]
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        name, label = _columns(list(content[0]), place)
        return [(row.get(name), row.get(label)) for row in content]
    raise UserError(f"{place}: {{name: label}}, [[name, label], ...] or a list of objects is expected")


def _csv_pairs(text: str, place: str) -> list[tuple[str, str]]:
    lines = text.lstrip("\ufeff").splitlines()
    delimiter = max("\t,;", key=lines[0].count) if lines else ","
    header, *rows = [row for row in csv.reader(lines, delimiter=delimiter) if row] or [[]]
    if len(header) < 2:
        raise UserError(f"{place}: a header with a column for the file and one for the label is expected")
    name, label = (header.index(column) for column in _columns(header, place))
    if Path(header[name]).suffix.lower() in picture_extensions():  # it is the first row
        rows = [header, *rows]
    if short := [row for row in rows if len(row) <= max(name, label)]:
        raise UserError(f"{place}: a row has fewer columns than the header: {','.join(short[0])}")
    return [(row[name], row[label].strip()) for row in rows]


def _columns(header: Sequence[str], place: str) -> tuple[str, str]:
    """The columns of the name and of the label, by their names, else the first two."""
    by_name = {column.strip().lower(): column for column in header}
    name = next((by_name[key] for key in NAME_COLUMNS if key in by_name), None)
    label = next((by_name[key] for key in LABEL_COLUMNS if key in by_name), None)
    if name is None and label is None:
        return header[0], header[1]
    rest = [column for column in header if column not in (name, label)]
    if len(header) == 2 and rest:
        return (name or rest[0]), (label or rest[0])
    if name is None or label is None:
        missing = f"a label ({', '.join(LABEL_COLUMNS)})" if label is None else f"the file ({', '.join(NAME_COLUMNS)})"
        raise UserError(f"{place}: no column is named as {missing}; its columns are {', '.join(header)}")
    return name, label


def labels_of(files: Sequence[Path], root: Path, table: dict[str, str]) -> tuple[list[str | None], int]:
    """Return the label of each picture, and how many rows of the table have no picture.

    A name in the table is a path below `root`, or the file's name where that is unique, each with or without extension.

    Args:
        files: the pictures.
        root: the folder that paths in the table are relative to.
        table: see `read_label_table`.
    """
    paths = [file.relative_to(root).as_posix() for file in files]
    keys: list[dict[str, int]] = []
    for form in (paths, [path.rpartition(".")[0] for path in paths], [f.name for f in files], [f.stem for f in files]):
        counts = Counter(form)
        keys.append({key: i for i, key in enumerate(form) if counts[key] == 1})
    labels: list[str | None] = [None] * len(files)
    without = 0
    for name, label in table.items():
        cleaned = name.replace("\\", "/").removeprefix("./")
        number = next((by_key[cleaned] for by_key in keys if cleaned in by_key), None)
        if number is None:
            without += 1
        else:
            labels[number] = label or None
    return labels, without
