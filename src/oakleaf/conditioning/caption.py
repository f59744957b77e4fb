"""Texts as conditions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from oakleaf.conditioning.condition import REMEMBERED, Condition, Row
from oakleaf.config.types import Count
from oakleaf.data.captions import spelled
from oakleaf.data.datamodule import Dealt
from oakleaf.data.vocabulary import bags, embedded, numbered
from oakleaf.errors import Mistake


class Caption(Condition):
    """The words of a caption, whose rows are numbers of words (`data.texts`): y [B, width], the share that each known
    word has in it. A linear map of y is the mean of the words' embeddings, so that a player whose network begins with
    one has a text encoder of its own, which it learns; and y of two texts can be mixed.

    width: how many words are known. Without a batch it asks for captions that it remembers from the data.
    """

    key = "caption"
    whence = "data=emoji_captions and celeba_captions have captions, or data.root=FOLDER with captions.txt"
    one: Tensor

    def __init__(self, width: Count) -> None:
        super().__init__()
        self.width = width
        self.words: list[str] = []
        self.known = torch.zeros(1, 1, dtype=torch.long)  # [REMEMBERED, L]; of any length, so no buffer
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the precision

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return bags(batch[self.key], self.width).to(self.one.dtype)

    def request(self, count: int) -> Tensor:
        return self.known[torch.arange(count) % len(self.known)]

    def wanted(self, asked: int, count: int) -> Tensor:
        if not 0 <= asked < len(self.known):
            raise Mistake(
                f"condition={asked}: the checkpoint remembers {len(self.known)} captions, from 0 on; or a text"
            )
        return self.known[asked].expand(count, -1)

    def said(self, text: str, count: int) -> Tensor:
        spoken = spelled(text)
        if strange := [word for word in dict.fromkeys(spoken) if word not in self.words]:
            raise Mistake(f"condition={text}: nobody has told this checkpoint of {' or '.join(strange)}")
        if not spoken:
            raise Mistake(f"condition={text}: there is no word in it")
        return torch.from_numpy(numbered([spoken], self.words)).expand(count, -1)

    def texts(self, rows: Tensor) -> list[str]:
        """What rows [B, L] say."""
        return [" ".join(self.words[word - 1] for word in row if word > 0) for row in rows.tolist()]

    def meet(self, data: Dealt) -> None:
        there = data.rows[self.key]
        some = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        self.known = there[some[torch.arange(REMEMBERED) % len(there)]].clone()
        self.words = list(data.classes)

    def get_extra_state(self) -> dict[str, object]:
        return {"words": self.words, "known": self.known}

    def set_extra_state(self, state: dict[str, object]) -> None:
        self.words, self.known = state["words"], state["known"]  # type: ignore[assignment]


class Sentence(Row):
    """A caption by a text encoder that was trained elsewhere and stays as it is: y [B, width]. model: of
    sentence-transformers, as `data.source.sentences` names it; needed for texts that the data do not have.
    """

    whence = "data.source.sentences=NAME embeds captions by a sentence-transformers model that is installed"

    def __init__(self, model: str | None, width: Count) -> None:
        super().__init__("sentence", width)
        self.model = model

    def said(self, text: str, count: int) -> Tensor:
        return torch.from_numpy(embedded([text], self.model or "")).expand(count, -1)
