"""Translation of images between several domains by one generator."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import STORED_PICTURES, Condition, random_rows
from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.games.game import Batch, Game
from oakleaf.image_grid import as_bytes, from_bytes
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.layers import Size, height_width
from oakleaf.round import CycleRound, Round, generator_output


class Domains(Game):
    """StarGAN: G translates an image to the classes or attributes of another image of the batch.

    A round's fake is G(x, y') with y' the rows of the batch in random order, and its way back is G(G(x, y'), y). So the
    term `Cycle` applies, and `Classification` of real images with their own rows and of fakes with those that were
    asked for. D is not given the condition.

    Samples are made of 64 pictures that were drawn from the data before the training, and are stored as bytes.

    Args:
        generator: images and y to images.
        discriminator: images to a `CriticOutput` with class logits.
        condition: encodes the domain: a class or attributes.
        channels: of the images.
        size: of the images, in pixels.
        loss, terms: as for `Game`.

    Reference: Choi 2017 (StarGAN), arXiv:1711.09020, section 3.1.
    """

    pictures: Tensor  # [STORED_PICTURES, channels, H, W] uint8, images of the data

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        condition: Condition,
        channels: PositiveInt,
        size: Size,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        super().__init__(loss, terms, condition)
        self.generator, self.discriminator = generator, discriminator
        pictures = torch.zeros(STORED_PICTURES, channels, *height_width(size), dtype=torch.uint8)
        self.register_buffer("pictures", pictures)

    def initialize_frozen(self, data: ImageDataModule) -> None:
        """Give the frozen networks their weights, and store pictures for samples."""
        super().initialize_frozen(data)
        self.pictures.copy_(as_bytes(data.images(random_rows(data.count, STORED_PICTURES))))

    def encoded(self, rows: Tensor) -> Tensor:
        """Return the condition y [B, width] of its rows [B, ...]."""
        assert self.condition is not None
        return self.condition({self.condition.key: rows})  # type: ignore[no-any-return]

    def play(self, batch: Batch) -> list[Round]:
        assert self.condition is not None
        x, key = batch["image"], self.condition.key
        rows = batch[key]
        target = rows[torch.randperm(len(rows), device=rows.device)]
        translated, back = (_bound(self.generator, self.encoded(each)) for each in (target, rows))
        round = CycleRound(x, x, translated, back, self.discriminator)  # type: ignore[arg-type]
        round.batch, round.fake_inputs = batch, {"input": x, key: target}
        return [round]

    def generate(self, batch: Batch) -> Tensor:
        assert self.condition is not None
        return generator_output(self.generator(batch["input"], self.encoded(batch[self.condition.key]))).image

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        assert self.condition is not None
        pictures = from_bytes(self.pictures.cpu()[torch.arange(count) % STORED_PICTURES])
        rows = self.condition.sample(count)
        return {"input": pictures.to(device), self.condition.key: rows.to(device)}


def _bound(generator: nn.Module, y: Tensor) -> object:
    """Return a generator as a function of images, with the condition y bound."""

    def translate(x: Tensor) -> Tensor:
        return generator_output(generator(x, y)).image

    return translate
