"""Texts as conditions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from oakleaf.conditioning.condition import REMEMBERED, Condition, Vector
from oakleaf.config.types import PositiveInt
from oakleaf.data.captions import tokenize
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.vocabulary import bag_of_words, sentence_embeddings, word_indices
from oakleaf.errors import UserError


class Caption(Condition):
    """The words of a caption, whose rows are numbers of words (`data.texts`): y [B, width], the share that each known
    word has in it. A linear map of y is the mean of the words' embeddings, so that a player whose network begins with
    one has a text encoder of its own, which it learns; and y of two texts can be mixed.

    width: how many words are known. Without a batch it asks for captions that it remembers from the data.
    """

    key = "caption"
    source_hint = "data=emoji_captions and celeba_captions have captions, or data.root=FOLDER with captions.txt"
    one: Tensor

    def __init__(self, width: PositiveInt) -> None:
        super().__init__()
        self.width = width
        self.words: list[str] = []
        self.remembered = torch.zeros(1, 1, dtype=torch.long)  # [REMEMBERED, L]; of any length, so no buffer
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the precision

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return bag_of_words(batch[self.key], self.width).to(self.one.dtype)

    def sample(self, count: int) -> Tensor:
        return self.remembered[torch.arange(count) % len(self.remembered)]

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < len(self.remembered):
            raise UserError(
                f"condition={index}: the checkpoint remembers {len(self.remembered)} captions, from 0 on; or a text"
            )
        return self.remembered[index].expand(count, -1)

    def from_text(self, text: str, count: int) -> Tensor:
        spoken = tokenize(text)
        if strange := [word for word in dict.fromkeys(spoken) if word not in self.words]:
            raise UserError(f"condition={text}: nobody has told this checkpoint of {' or '.join(strange)}")
        if not spoken:
            raise UserError(f"condition={text}: there is no word in it")
        return torch.from_numpy(word_indices([spoken], self.words)).expand(count, -1)

    def texts(self, rows: Tensor) -> list[str]:
        """What rows [B, L] say."""
        return [" ".join(self.words[word - 1] for word in row if word > 0) for row in rows.tolist()]

    def fit(self, data: ImageDataModule) -> None:
        there = data.rows[self.key]
        some = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        self.remembered = there[some[torch.arange(REMEMBERED) % len(there)]].clone()
        self.words = list(data.classes)

    def get_extra_state(self) -> dict[str, object]:
        return {"words": self.words, "remembered": self.remembered}

    def set_extra_state(self, state: dict[str, object]) -> None:
        self.words, self.remembered = state["words"], state["remembered"]  # type: ignore[assignment]


class Sentence(Vector):
    """A caption by a text encoder that was trained elsewhere and stays as it is: y [B, width]. model: of
    sentence-transformers, as `data.source.sentences` names it; needed for texts that the data do not have.
    """

    source_hint = "data.source.sentences=NAME embeds captions by a sentence-transformers model that is installed"

    def __init__(self, model: str | None, width: PositiveInt) -> None:
        super().__init__("sentence", width)
        self.model = model

    def from_text(self, text: str, count: int) -> Tensor:
        return torch.from_numpy(sentence_embeddings([text], self.model or "")).expand(count, -1)
