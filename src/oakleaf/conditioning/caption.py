"""Conditions for texts: captions as bags of words, or as embeddings by a pretrained sentence encoder."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from oakleaf.conditioning.condition import STORED_ROWS, Condition, Vector, random_rows
from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.vocabulary import bag_of_words, sentence_embeddings, tokenize, word_indices
from oakleaf.errors import UserError


class Caption(Condition):
    """A caption as a bag of words: y [B, width] has the share of each word of the vocabulary in the caption.

    A linear layer that is applied to y gives the mean of the embeddings of the words. So a network that begins with one
    has a text encoder of its own, which it learns, and the mixture of the y of two texts is the y of a text between
    them.

    Samples are conditioned on 256 captions that were drawn from the data before the training.

    Args:
        width: the size of the vocabulary.

    Attributes:
        words: the vocabulary, from the data; saved in the checkpoint.
    """

    key = "caption"
    source_hint = "data=emoji_captions and celeba_captions have captions, or data.root=FOLDER with captions.txt"
    one: Tensor

    def __init__(self, width: PositiveInt) -> None:
        super().__init__()
        self.width = width
        self.words: list[str] = []
        # [STORED_ROWS, L] after `fit`; L is not known before, and a buffer must not change its shape
        self.stored_rows = torch.zeros(1, 1, dtype=torch.long)
        self.register_buffer("one", torch.ones(()), persistent=False)  # its dtype is the precision of the model

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return bag_of_words(batch[self.key], self.width).to(self.one.dtype)

    def sample(self, count: int) -> Tensor:
        return self.rows_at(torch.arange(count))

    def rows_at(self, numbers: Tensor) -> Tensor:
        return self.stored_rows[numbers % len(self.stored_rows)]

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < len(self.stored_rows):
            raise UserError(
                f"condition={index}: the checkpoint has {len(self.stored_rows)} captions, from 0 on; or give a text"
            )
        return self.stored_rows[index].expand(count, -1)

    def from_text(self, text: str, count: int) -> Tensor:
        words = tokenize(text)
        if unknown := [word for word in dict.fromkeys(words) if word not in self.words]:
            raise UserError(f"condition={text}: the vocabulary of this checkpoint lacks {' or '.join(unknown)}")
        if not words:
            raise UserError(f"condition={text}: there is no word in it")
        return torch.from_numpy(word_indices([words], self.words)).expand(count, -1)

    def texts(self, rows: Tensor) -> list[str]:
        """Return rows of word numbers as texts.

        Args:
            rows: [B, L] int64, as from `sample`; padding and unknown words are left out.
        """
        return [" ".join(self.words[word - 1] for word in row if word > 0) for row in rows.tolist()]

    def labels(self, batch: Mapping[str, Tensor], classes: Sequence[str]) -> list[str]:
        return self.texts(batch[self.key])

    def fit(self, data: ImageDataModule) -> None:
        self.stored_rows = data.column(self.key, random_rows(data.count, STORED_ROWS)).clone()
        self.words = list(data.classes)

    def get_extra_state(self) -> dict[str, object]:
        """Return what the checkpoint has besides buffers: the vocabulary and the stored captions."""
        return {"words": self.words, "stored_rows": self.stored_rows}

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Restore what `get_extra_state` returned."""
        self.words, self.stored_rows = state["words"], state["stored_rows"]  # type: ignore[assignment]


class Sentence(Vector):
    """A caption as the embedding of a pretrained text encoder, which is not trained: y [B, width].

    Args:
        model: the sentence-transformers model, as in `data.source.sentences`; it is needed for texts that are not in
            the data. null: such texts are refused.
        width: the length of its embeddings.
    """

    source_hint = "data.source.sentences=NAME embeds captions by a sentence-transformers model that is installed"

    def __init__(self, model: str | None, width: PositiveInt) -> None:
        super().__init__("sentence", width)
        self.model = model

    def from_text(self, text: str, count: int) -> Tensor:
        return torch.from_numpy(sentence_embeddings([text], self.model or "")).expand(count, -1)
