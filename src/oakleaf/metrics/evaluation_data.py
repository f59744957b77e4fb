"""What measures look at: samples and real images, drawn, read and seen once."""

import hashlib
import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime import distributed
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import seeded_inputs

log = logging.getLogger(__name__)

AT_ONCE = 256  # images generated and seen together


class EvaluationData:
    """One pass over features, shared by all measures; everything is taken when it is first asked for.

    fake: so many samples, by the average of G where `average`. real: at most so many real images, drawn evenly from
    the set. test: a data module of the set's test split, called when it is needed; None if it has none. unseen: one
    that has images of the training split that the run did not see, with their rows.
    """

    def __init__(
        self,
        module: GAN,
        data: ImageDataModule,
        extractor: Extractor,
        fake: int,
        real: int,
        ema: bool = True,
        seed: int = 0,
        test: Callable[[], ImageDataModule] | None = None,
        unseen: Callable[[], tuple[ImageDataModule, Tensor]] | None = None,
    ) -> None:
        self.module, self.data, self.extractor, self._test, self._unseen = module, data, extractor, test, unseen
        self.counts, self.ema, self.seed = (fake, real), ema, seed
        self.reserved: set[int] = set()
        self.missing_features_reason = "no extractor was asked for"  # why there are no features

    def prepare(self) -> None:
        """Make the extractor ready, before anything is drawn; without it samples have no features."""
        try:
            self.extractor.prepare(self.data, self.device)
            self.missing_features_reason = ""
        except UserError as error:
            self.missing_features_reason = str(error)

    def require_features(self) -> None:
        """Make sure that there are features.

        Raises:
            UserError: the extractor sees nothing, or no numbers.
        """
        if self.missing_features_reason:
            raise UserError(self.missing_features_reason)
        for what, sample in (("samples", self.fake), ("real images", self.real)):
            if bad := int((~torch.isfinite(sample.features)).any(1).sum()):
                raise UserError(f"features are no numbers (NaN) for {bad:,} of {len(sample):,} {what}")

    @property
    def of_the_run(self) -> bool:
        """Whether the real images are those that the run learned from, as far as it is known."""
        return self.module.trained_on in ("", self.data.hash)

    def protocol(self, extractor: bool, with_baseline: bool) -> dict[str, Any]:
        """What has to be known of the samples and the real images to compare a number with others."""
        known: dict[str, Any] = {
            "data": self.data.name,
            "data_digest": self.data.hash,
            **self.data.resize_protocol,
            "shape": list(self.data.rows["image"].shape[1:]),
            "fake": self.counts[0],
            "real": len(self.real),
            "conditions": self._conditions,
            "ema": self.ema and self.module.generator_ema is not None,
            "truncation": getattr(getattr(self.module.game, "prior", None), "truncation", None),
            "seed": self.seed,
            "images_seen": self.module.images_seen,
        }
        if with_baseline:
            reference, held_out = self.baseline
            known["calibration"] = f"{len(held_out)} held-out real images beside {len(reference)}"
        return {**known, "extractor": self.extractor.protocol()} if extractor else known

    @property
    def _conditions(self) -> str | None:
        if self.module.game.condition is None:
            return None
        return "of the model" if self.condition_rows is None else "of the data"

    @property
    def device(self) -> torch.device:
        return self.module.device

    @cached_property
    def fake(self) -> ImageSet:
        """Samples for latents of the seed, the same for any number of processes, each of which draws its share; but for
        the places of holes that chance makes (`Masked`)."""
        rank, world = distributed.rank_and_world_size()
        if self.counts[0] < world:
            raise UserError(f"fake={self.counts[0]}: fewer samples than the {world} processes that draw them")
        rows = self.condition_rows
        request = seeded_inputs(self.module.game, self.counts[0], self.seed, with_condition=rows is None)
        label = request.get("label")
        if rows is not None:
            request["row"] = rows  # what is known of it is read when its turn comes: pictures are many
            label = self.data.rows["label"][rows] if self.module.game.condition.key == "label" else None  # type: ignore[union-attr]
        mine = {name: values.tensor_split(world)[rank] for name, values in request.items()}
        pieces, sound = [], True
        for start in range(0, len(next(iter(mine.values()))), AT_ONCE):
            piece = {name: values[start : start + AT_ONCE] for name, values in mine.items()}
            piece = {name: values.to(self.device) for name, values in self._answered(piece).items()}
            images = self.module.sample(piece, self.ema)
            sound = sound and bool(torch.isfinite(images).all())
            pieces.append(self.data.stored(images))
        if not distributed.all_true(sound, self.device):  # raised by all processes or by none
            raise UserError("the generator draws values that are no numbers (NaN)")
        pixels = torch.cat(pieces)
        seen = _gathered(self._seen(pixels))
        pixels = distributed.all_gather(pixels.to(self.device)).cpu() if world > 1 else pixels
        return ImageSet(seen, pixels, label)

    @cached_property
    def condition_rows(self) -> Tensor | None:
        """Of which real images the samples' conditions are, [fake]: all equally often, in an order by the seed, so that
        what is rare among them is as rare among samples. None without a condition, or where the data lack it: then the
        generator asks for what it knows.
        """
        condition, rows = self.module.game.condition, self.data.rows
        if condition is None or condition.key not in self.data.keys:
            return None
        known = torch.arange(len(rows["image"]))
        if condition.key == "label":
            known = known[rows["label"] >= 0]
        if not len(known):
            return None
        chance = torch.Generator().manual_seed(derive_seed(self.seed, "told"))
        rounds = -(-self.counts[0] // len(known))
        return torch.cat([known[torch.randperm(len(known), generator=chance)] for _ in range(rounds)])[: self.counts[0]]

    def _answered(self, request: Batch) -> Batch:
        """The request, with the conditions of its rows."""
        if "row" not in request:
            return request
        key = self.module.game.condition.key  # type: ignore[union-attr]
        rows = request["row"]
        there = {key: self.data.rows[key][rows]} if key in self.data.rows and key != "input" else self.data.batch(rows)
        return {name: values for name, values in request.items() if name != "row"} | {key: there[key]}

    @cached_property
    def rows(self) -> Tensor:
        """Which real images are looked at, in order."""
        return shuffled(len(self.data.rows["image"]), self.counts[1]).sort().values

    @cached_property
    def real(self) -> ImageSet:
        """Real images; their features are kept on disk."""
        images, rows = self.data.rows["image"], self.rows
        pixels = images if len(rows) == len(images) else images[rows]
        label = self.data.rows["label"][rows] if "label" in self.data.rows else None
        return ImageSet(self._kept(pixels), pixels, label)

    def _kept(self, pixels: Tensor) -> Features:
        """Features of real images, from disk if all processes find them there; else each process looks at its share."""
        if self.missing_features_reason:
            return self._seen(pixels)
        key = (self.data.digest, self.extractor.protocol(), len(pixels))
        name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
        place = self.data.cache.expanduser() / "features" / f"{name}.npz"
        if not distributed.all_true(place.is_file(), self.device):
            rank, world = distributed.rank_and_world_size()
            seen = _gathered(self._seen(pixels.tensor_split(world)[rank]))
            if rank == 0:
                _keep(place, seen)
            return seen
        with np.load(place) as found:
            parts = {name: torch.from_numpy(found[name]).to(self.device) for name in found.files}
        return Features(parts["features"], parts.get("logits"))

    @cached_property
    def baseline(self) -> tuple[ImageSet, ImageSet]:
        """The real images without some, and those in place of samples: as many as there are samples, but at most half,
        and none that a measure has reserved."""
        free = [i for i, row in enumerate(self.rows.tolist()) if row not in self.reserved]
        count = min(self.counts[0], len(self.rows) // 2, len(free))
        held_out = torch.tensor(free, dtype=torch.long)[shuffled(len(free), count)]
        rest = torch.ones(len(self.rows), dtype=torch.bool)
        rest[held_out] = False
        return self.real[torch.nonzero(rest).flatten()], self.real[held_out]

    @cached_property
    def test(self) -> ImageDataModule | None:
        """The set's test split, if it has one besides what the run was trained on."""
        return self._test() if self._test else None

    def validation_and_test(self) -> tuple[ImageSet, ImageSet, str]:
        """Real images to choose by and to test on, and where the latter are from. With a test split: those of the
        training split that the run did not see, or its last sixth, as in MNIST's usual 50,000 + 10,000. Without: two
        random sixths of the real images.

        Raises:
            UserError: too few of them.
        """
        images = self.data.rows["image"]
        sixth = len(images) // 6
        if sixth < 2:
            raise UserError(
                f"{len(images)} real images are too few to keep a sixth of them to test on: 12 are the least"
            )
        if self.test is not None:
            data, rows = self._unseen() if self._unseen else (self.data, torch.empty(0))
            if len(rows):
                return self._plain(data, rows), self._plain(self.test), "test"
            rows = torch.arange(len(images) - sixth, len(images))
            self.reserved |= set(rows.tolist())
            return self._plain(self.data, rows), self._plain(self.test), "test"
        order = shuffled(len(images)).flip(0)  # `rows` are the first of them
        self.reserved |= set(order[: 2 * sixth].tolist())
        validation, test = (self._plain(self.data, order[start : start + sixth]) for start in (0, sixth))
        return validation, test, "none: a random sixth of the real images themselves"

    def training_and_test(self) -> tuple[ImageSet, ImageSet, str]:
        """Real images to learn from and to test on, all that there are, and where the latter are from."""
        _, test, split = self.validation_and_test()
        if self.test is not None:
            return self._plain(self.data), test, split
        rest = torch.ones(len(self.data.rows["image"]), dtype=torch.bool)
        rest[sorted(self.reserved)] = False
        return self._plain(self.data, torch.nonzero(rest).flatten()), test, split

    def _plain(self, data: ImageDataModule, rows: Tensor | None = None) -> ImageSet:
        """Images without features."""
        part = {name: values if rows is None else values[rows] for name, values in data.rows.items()}
        return ImageSet(Features(torch.empty(len(part["image"]), 0), None), part["image"], part.get("label"))

    def _seen(self, pixels: Tensor) -> Features:
        if self.missing_features_reason:
            return Features(torch.zeros(len(pixels), 0, device=self.device), None)
        found = [self.extractor(piece) for piece in pixels.split(AT_ONCE)]
        logits = [piece.logits for piece in found if piece.logits is not None]
        return Features(torch.cat([piece.features for piece in found]), torch.cat(logits) if logits else None)


def _gathered(seen: Features) -> Features:
    """Those of all processes."""
    logits = None if seen.logits is None else distributed.all_gather(seen.logits)
    return Features(distributed.all_gather(seen.features), logits)


def _keep(place: Path, seen: Features) -> None:
    """To disk; one that takes nothing is told of."""
    parts: dict[str, Any] = {"features": seen.features} | ({} if seen.logits is None else {"logits": seen.logits})
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as part:
            np.savez(part, **{name: values.cpu().numpy() for name, values in parts.items()})
    except OSError as error:
        log.warning("features of real images are not kept: %s: %s", place.parent, error.strerror)
