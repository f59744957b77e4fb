"""CelebA with captions that are composed of its attributes, since the set has none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from oakleaf.data.captions import set_caption_rows
from oakleaf.data.celeba import CelebA
from oakleaf.data.vocabulary import tokenize
from oakleaf.errors import UserError

HAIR_COLOUR = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "gray"}
HAIR_SHAPE = {"Straight_Hair": "straight", "Wavy_Hair": "wavy"}
WITH = {
    "Bangs": "bangs", "Goatee": "a goatee", "Mustache": "a mustache", "Sideburns": "sideburns",
    "Pale_Skin": "pale skin", "Rosy_Cheeks": "rosy cheeks",
}  # fmt: skip
WEARING = {
    "Eyeglasses": "eyeglasses", "Wearing_Hat": "a hat", "Wearing_Earrings": "earrings", "Wearing_Lipstick": "lipstick",
    "Wearing_Necklace": "a necklace", "Wearing_Necktie": "a necktie",
}  # fmt: skip
REQUIRED_ATTRIBUTES = {"Male", "Young", "Smiling", "Bald", *HAIR_COLOUR, *HAIR_SHAPE, *WITH, *WEARING}


class CelebACaptions(CelebA):
    """CelebA's faces with a caption each, such as `a young woman with wavy black hair, wearing lipstick, smiling`.

    Args:
        root: the folder; see `CelebA`.
        split: the part of the official partition; see `CelebA`.
        sentences: a sentence-transformers model, by its name or folder, that embeds the captions; null: none.

    Attributes:
        classes: the vocabulary.
        labels: `caption` [N, L] and, with `sentences`, `sentence` [N, d]; see `captions.CaptionTokens`.

    Raises:
        UserError: the attributes are missing, all or some; otherwise as `CelebA`.
    """

    def __init__(
        self, root: Path, split: Literal["all", "train", "valid", "test"] = "all", sentences: str | None = None
    ) -> None:
        super().__init__(root, split)
        if "attributes" not in self.labels or not set(self.classes) >= REQUIRED_ATTRIBUTES:
            raise UserError(
                f"{root}: captions are composed of CelebA's attributes; list_attr_celeba is missing or lacks some"
            )
        names = list(self.classes)
        captions = [describe(dict(zip(names, row))) for row in self.labels["attributes"].tolist()]
        self.classes = VOCABULARY
        set_caption_rows(self, [[caption] for caption in captions], sentences)


def describe(attributes: Mapping[str, int]) -> str:
    """Compose a caption.

    Args:
        attributes: 1 or 0 for each of `REQUIRED_ATTRIBUTES`.

    Example:
        With "Young", "Black_Hair" and "Smiling" set: "a young woman with black hair, smiling".
    """
    person = f"{'a young' if attributes['Young'] else 'an old'} {'man' if attributes['Male'] else 'woman'}"
    colour = " and ".join(word for name, word in HAIR_COLOUR.items() if attributes[name])
    shape = [word for name, word in HAIR_SHAPE.items() if attributes[name]]
    hair = " ".join([*shape, *([colour] if colour else []), "hair"])
    features = [] if hair == "hair" or attributes["Bald"] else [hair]
    features += [word for name, word in WITH.items() if attributes[name]]
    worn = [word for name, word in WEARING.items() if attributes[name]]
    parts = [f"bald, {person}" if attributes["Bald"] else person]
    parts[0] += f" with {_enumerate(features)}" if features else ""
    parts += [f"wearing {_enumerate(worn)}"] if worn else []
    return ", ".join([*parts, *(["smiling"] if attributes["Smiling"] else [])])


def _enumerate(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


_PARTS = ["a an young old man woman with hair and wearing smiling bald", *HAIR_COLOUR.values(), *HAIR_SHAPE.values()]
VOCABULARY = list(dict.fromkeys(tokenize(" ".join([*_PARTS, *WITH.values(), *WEARING.values()]))))
