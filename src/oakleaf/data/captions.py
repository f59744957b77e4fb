"""Sources of pictures with captions, which they read from a folder with a table `captions.txt`.

Two sources encode the captions differently. `CaptionWords` has a vector of 0 and 1 for each picture, which of the words
occur; it is the source for tagging. `CaptionTokens` has the words in their order, and is the source for text-to-image
models.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.config.types import NonNegativeInt
from oakleaf.data.folder import Folder
from oakleaf.data.sources import Source
from oakleaf.data.vocabulary import sentence_embeddings, tokenize, word_indices
from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed

Split = Literal["all", "train", "valid", "test"]
TENTHS = 10  # the groups are divided into ten parts: two for the test, one for validation, seven for training


class CaptionWords(Folder):
    """Pictures with the words of their captions as attributes.

    The folder has a table `captions.txt` with one or more lines `image,caption` for each picture, below that header.
    The pictures are in the folder itself, or in `images/`.

    Pictures of one group are variants of each other (an emoji in several skin tones), and a test on a variant of a
    training picture would show nothing. So a group is never divided between splits. The vocabulary is that of the
    training split in every split, so that nothing is learned from the others.

    Args:
        root: the folder.
        split: "train" (70 % of the groups), "valid" (10 %), "test" (20 %) or "all".
        group: the column of `metadata.csv` (a table with a column `image`) that names the group of a picture. null, or
            no such table: each picture is a group of its own.
        fold: which of five divisions into splits, 0 to 4; their five test splits are disjoint.
        upscale: enlarge pictures smaller than `data.size`; otherwise such a picture is an error.

    Attributes:
        captions: the texts of each picture.
        classes: the words of the training split, the most frequent first.
        labels: `attributes` [N, V] uint8, 1 where a word of `classes` is in a caption of the picture; `word_count` [N],
            how many different words the captions have, in the vocabulary or not; `group` [N], the number of the group.

    Raises:
        UserError: a table is missing or damaged, a picture is not in `metadata.csv`, or no picture is in the split.
    """

    def __init__(
        self,
        root: Path,
        split: Split = "all",
        group: str | None = None,
        fold: NonNegativeInt = 0,
        upscale: bool = False,
    ) -> None:
        captions = _read_captions(root / "captions.txt")
        if group and (root / "metadata.csv").is_file():
            groups = _read_column(root / "metadata.csv", group)
        else:
            groups = {name: name for name in captions}
        if lacking := [name for name in captions if name not in groups]:
            raise UserError(
                f"{root}/metadata.csv lacks {len(lacking)} pictures of captions.txt, the first: {lacking[0]}"
            )
        splits = {name: split_of(groups[name], fold) for name in captions}
        names = [name for name in captions if split in ("all", splits[name])]
        if not names:
            raise UserError(
                f"data.source.split={split}: none of the {len(captions)} pictures in {root} is in that split"
            )
        words = {name: set(tokenize(" ".join(texts))) for name, texts in captions.items()}
        counts = Counter(word for name in captions if splits[name] == "train" for word in words[name])
        self.root, self.upscale = root, upscale
        folder = root / "images" if (root / "images").is_dir() else root
        self.listed_files = [folder / name for name in captions]
        self.files = [folder / name for name in names]
        self.captions = [captions[name] for name in names]
        self.classes = sorted(counts, key=lambda word: (-counts[word], word))
        self.labels = _word_rows([words[name] for name in names], self.classes)
        group_number = {name: i for i, name in enumerate(dict.fromkeys(groups.values()))}
        self.labels["group"] = np.array([group_number[groups[name]] for name in names])

    def complete(self) -> None:
        """Check that the pictures of all splits exist, so that none is found missing when the run is evaluated."""
        if missing := [file for file in self.listed_files if not file.is_file()]:
            raise UserError(f"{missing[0]}: captions.txt lists it, but it does not exist ({len(missing)} such)")


class CaptionTokens(CaptionWords):
    """Pictures with the words of their captions in order, and optionally with sentence embeddings.

    Args:
        root: see `CaptionWords`, as for `split`, `group`, `fold` and `upscale`.
        sentences: a sentence-transformers model, by its name or folder, that embeds the captions; null: none.

    Attributes:
        labels: `caption` [N, L] int64, the numbers of the words in `classes` counted from 1, -1 for a word that is not
            in it, 0 as padding; several captions of a picture are joined. With `sentences` also `sentence` [N, d], the
            mean of the embeddings of a picture's captions.

    Raises:
        UserError: as `CaptionWords`; a caption has no word; the model cannot be loaded.
    """

    def __init__(
        self,
        root: Path,
        split: Split = "all",
        group: str | None = None,
        fold: NonNegativeInt = 0,
        upscale: bool = False,
        sentences: str | None = None,
    ) -> None:
        super().__init__(root, split, group, fold, upscale)
        set_caption_rows(self, self.captions, sentences)


def set_caption_rows(source: Source, captions: Sequence[Sequence[str]], sentences: str | None) -> None:
    """Replace the labels of a source by the rows `caption` and, with a sentence encoder, `sentence`.

    Args:
        source: the pictures; its `classes` are the vocabulary.
        captions: the texts of each picture.
        sentences: a sentence-transformers model; None for no embeddings.

    Raises:
        UserError: the captions of a picture have no word, or the model cannot be loaded.
    """
    texts = [tokenize(" ".join(of_picture)) for of_picture in captions]
    if empty := [i for i, words in enumerate(texts) if not words]:
        raise UserError(f"{source.name(empty[0])}: its caption has no word in it (and {len(empty) - 1} more)")
    source.labels = {"caption": word_indices(texts, source.classes)}
    if sentences:
        embeddings = sentence_embeddings([text for of_picture in captions for text in of_picture], sentences)
        counts = np.array([len(of_picture) for of_picture in captions])
        starts = np.cumsum(counts) - counts
        source.labels["sentence"] = np.add.reduceat(embeddings, starts) / counts[:, None].astype(np.float32)


def split_of(group: str, fold: int) -> Split:
    """Return the split that a group belongs to.

    It depends on the name of the group alone, so pictures that are added later move no others to another split.

    Args:
        group: its name.
        fold: 0 to 4; see `CaptionWords`.
    """
    tenth = (derive_seed("part", group) - 2 * fold) % TENTHS
    return "test" if tenth < 2 else "valid" if tenth == 2 else "train"


def _word_rows(words: list[set[str]], vocabulary: list[str]) -> dict[str, np.ndarray]:
    """The rows `attributes` and `word_count`."""
    column = {word: i for i, word in enumerate(vocabulary)}
    attributes = np.zeros((len(words), len(vocabulary)), dtype=np.uint8)
    for row, of_picture in zip(attributes, words):
        row[[column[word] for word in of_picture if word in column]] = 1
    return {"attributes": attributes, "word_count": np.array([len(of_picture) for of_picture in words])}


def _read_captions(file: Path) -> dict[str, list[str]]:
    """The captions of each picture, by its name."""
    captions: dict[str, list[str]] = {}
    for row in _read_csv(file, "caption"):
        captions.setdefault(row["image"], []).append(row["caption"])
    return captions


def _read_column(file: Path, name: str) -> dict[str, str]:
    """The value of a column for each picture, by its name."""
    return {row["image"]: row[name] for row in _read_csv(file, name)}


def _read_csv(file: Path, column: str) -> list[dict[str, str]]:
    """The rows of a CSV file that has the columns `image` and `column`.

    Raises:
        UserError: the file is missing or damaged, lacks a column or a value, or has no rows.
    """
    if not file.is_file():
        raise UserError(
            f"{file} is missing: a captioned folder has images/ and captions.txt with lines `image,caption` below that "
            "header, and metadata.csv where data.source.group names a column of it. Name yours: data.root=FOLDER"
        )
    rows = []
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            table = csv.DictReader(lines, skipinitialspace=True, strict=True)
            if missing := {"image", column} - set(table.fieldnames or ()):
                raise UserError(f"{file}: its first line names no column {' or '.join(sorted(missing))}")
            for row in table:
                if row.get(None):  # type: ignore[call-overload]
                    raise UserError(f'{file}, line {table.line_num}: more values than columns; a comma needs "quotes"')
                if not row["image"] or row[column] is None:
                    raise UserError(
                        f"{file}, line {table.line_num}: a row lacks its {column if row['image'] else 'image'}"
                    )
                rows.append(row)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: is not UTF-8 (byte {error.start}); save it in that encoding") from error
        except csv.Error as error:
            raise UserError(f"{file}, line {table.line_num}: {error}") from error
    if not rows:
        raise UserError(f"{file}: no rows")
    return rows
