"""Faces in words: sentences made of CelebA's attributes, since the set has no captions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from oakleaf.data.captions import tokenize
from oakleaf.data.celeba import CelebA
from oakleaf.data.vocabulary import set_caption_rows
from oakleaf.errors import UserError

HAIR = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "gray"}
SHAPE = {"Straight_Hair": "straight", "Wavy_Hair": "wavy"}
HAS = {
    "Bangs": "bangs", "Goatee": "a goatee", "Mustache": "a mustache", "Sideburns": "sideburns",
    "Pale_Skin": "pale skin", "Rosy_Cheeks": "rosy cheeks",
}  # fmt: skip
WEARS = {
    "Eyeglasses": "eyeglasses", "Wearing_Hat": "a hat", "Wearing_Earrings": "earrings", "Wearing_Lipstick": "lipstick",
    "Wearing_Necklace": "a necklace", "Wearing_Necktie": "a necktie",
}  # fmt: skip
NEEDED = {"Male", "Young", "Smiling", "Bald", *HAIR, *SHAPE, *HAS, *WEARS}


class Described(CelebA):
    """CelebA's faces with a caption each, `a young woman with wavy black hair, wearing lipstick, smiling`: caption
    [N, L], as for `Captioned`, and sentences too; `classes` are its words.
    """

    def __init__(
        self, root: Path, split: Literal["all", "train", "valid", "test"] = "all", sentences: str | None = None
    ) -> None:
        super().__init__(root, split)
        if "attributes" not in self.labels or not set(self.classes) >= NEEDED:
            raise UserError(
                f"{root}: captions are made of CelebA's attributes; list_attr_celeba is missing, or some are"
            )
        names = list(self.classes)
        texts = [sentence(dict(zip(names, row))) for row in self.labels["attributes"].tolist()]
        self.classes = WORDS
        set_caption_rows(self, [[text] for text in texts], sentences)


def sentence(true: Mapping[str, int]) -> str:
    """What the attributes say, as a phrase."""
    who = f"{'a young' if true['Young'] else 'an old'} {'man' if true['Male'] else 'woman'}"
    colour = " and ".join(word for name, word in HAIR.items() if true[name])
    hair = " ".join([*(word for name, word in SHAPE.items() if true[name]), *([colour] if colour else []), "hair"])
    has = [] if hair == "hair" or true["Bald"] else [hair]
    has += [word for name, word in HAS.items() if true[name]]
    wears = [word for name, word in WEARS.items() if true[name]]
    parts = [f"bald, {who}" if true["Bald"] else who]
    parts[0] += f" with {_listed(has)}" if has else ""
    parts += [f"wearing {_listed(wears)}"] if wears else []
    return ", ".join([*parts, *(["smiling"] if true["Smiling"] else [])])


def _listed(things: list[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


_ALL = ["a an young old man woman with hair and wearing smiling bald", *HAIR.values(), *SHAPE.values()]
WORDS = list(dict.fromkeys(tokenize(" ".join([*_ALL, *HAS.values(), *WEARS.values()]))))
