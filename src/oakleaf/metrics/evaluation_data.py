"""The data of one evaluation: samples and real images with their features, computed once for all metrics."""

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
from oakleaf.runtime.cache import cache_path
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import seeded_inputs

log = logging.getLogger(__name__)

BATCH_SIZE = 256  # images that are generated, or passed through a network, at once


class EvaluationData:
    """Samples of one model and real images, with their features.

    All metrics of an evaluation share one instance. Samples, real images and features are cached properties: each is
    computed when a metric first uses it, and never if no metric does.

    Args:
        module: the model.
        data: the real images.
        extractor: the feature extractor.
        fake: the number of samples.
        real: the maximal number of real images, a fixed random selection from the set.
        ema: generate with the EMA weights, if the model has them.
        seed: seed of the samples.
        test: returns the data module of the test split, called when a metric needs it; None if the set has no test
            split.
        not_trained_on: returns a data module and the indices of those of its images [N] that belong to the training
            split but were not trained on; None if the run was trained on all of the split.

    Attributes:
        reserved: row indices of real images that a metric chooses or tests by; the baseline does not use them.
        missing_features_reason: why there are no features; empty if there are.
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
        not_trained_on: Callable[[], tuple[ImageDataModule, Tensor]] | None = None,
    ) -> None:
        self.module, self.data, self.extractor, self._test, self._not_trained_on = (
            module,
            data,
            extractor,
            test,
            not_trained_on,
        )
        self.fake_count, self.real_count, self.ema, self.seed = fake, real, ema, seed
        self.reserved: set[int] = set()
        self.missing_features_reason = "no metric of this evaluation uses an extractor"

    def prepare(self) -> None:
        """Prepare the extractor; if that fails, keep the reason, and leave the images without features."""
        try:
            if self.extractor.prepared_for != (self.data.digest, str(self.device)):
                self.extractor.prepare(self.data, self.device)
                self.extractor.prepared_for = self.data.digest, str(self.device)
            self.missing_features_reason = ""
        except UserError as error:
            self.missing_features_reason = str(error)

    def require_features(self) -> None:
        """Check that the samples and the real images have finite features.

        Raises:
            UserError: the extractor could not be prepared, or some features are NaN or infinite.
        """
        if self.missing_features_reason:
            raise UserError(self.missing_features_reason)
        for name, images in (("samples", self.fake), ("real images", self.real)):
            if bad := int((~torch.isfinite(images.features)).any(1).sum()):
                raise UserError(f"features are not finite (NaN or infinite) for {bad:,} of {len(images):,} {name}")

    @property
    def is_training_data(self) -> bool:
        """Whether the model was trained on these real images; True if the checkpoint does not record the data."""
        return self.module.trained_on in ("", self.data.hash)

    def protocol(self, with_extractor: bool, with_baseline: bool) -> dict[str, Any]:
        """Return what is needed to compare numbers: properties of the samples and the real images.

        Args:
            with_extractor: include the extractor's protocol.
            with_baseline: include the sizes of the two sets of the baseline.
        """
        protocol: dict[str, Any] = {
            "data": self.data.name,
            "data_digest": self.data.hash,
            **self.data.resize_protocol,
            "shape": [self.data.channels, *self.data.size],
            "fake": self.fake_count,
            "real": len(self.real),
            "conditions": self._conditions,
            "ema": self.ema and self.module.generator_ema is not None,
            "truncation": getattr(getattr(self.module.game, "prior", None), "truncation", None),
            "seed": self.seed,
            "images_seen": self.module.images_seen,
        }
        if with_baseline:
            reference, held_out = self.baseline
            protocol["baseline"] = f"{len(held_out)} held-out real images against {len(reference)}"
        return {**protocol, "extractor": self.extractor.protocol()} if with_extractor else protocol

    @property
    def _conditions(self) -> str | None:
        """Where the samples' conditions are from."""
        if self.module.game.condition is None:
            return None
        return "of the model" if self.condition_rows is None else "of the data"

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.module.device

    @cached_property
    def fake(self) -> ImageSet:
        """The samples for the seed; with several processes each generates a part.

        The latents do not depend on the number of processes. The one exception is `Masked` inputs with holes in random
        places, which each process draws for itself.
        """
        rank, world = distributed.rank_and_world_size()
        if self.fake_count < world:
            raise UserError(f"fake={self.fake_count}: fewer samples than the {world} processes that draw them")
        rows = self.condition_rows
        inputs = seeded_inputs(self.module.game, self.fake_count, self.seed, with_condition=rows is None)
        label = inputs.get("label")
        if rows is not None:
            inputs["row"] = rows  # the conditions are read batch by batch: input images are large
            conditioned_on_labels = self.module.game.condition.key == "label"  # type: ignore[union-attr]
            label = self.data.column("label", rows) if conditioned_on_labels else None
        local = {name: values.tensor_split(world)[rank] for name, values in inputs.items()}
        pixels = self._generate(local)
        features = _all_gather_features(self._extract(pixels))
        pixels = distributed.all_gather(pixels.to(self.device)).cpu() if world > 1 else pixels
        return ImageSet(features, pixels, label)

    def _generate(self, inputs: Batch) -> Tensor:
        """Generate one image for each row of the inputs, and return them as stored, [N, C, H, W]."""
        batches, finite = [], True
        for start in range(0, len(next(iter(inputs.values()))), BATCH_SIZE):
            batch = self._with_conditions({name: values[start : start + BATCH_SIZE] for name, values in inputs.items()})
            images = self.module.sample({name: values.to(self.device) for name, values in batch.items()}, self.ema)
            finite = finite and bool(torch.isfinite(images).all())
            batches.append(self.data.stored(images))
        if not distributed.all_true(finite, self.device):  # raised by all processes or by none
            raise UserError("the generator's output is not finite (NaN or infinite)")
        return torch.cat(batches)

    @cached_property
    def condition_rows(self) -> Tensor | None:
        """The row indices of the real images whose conditions the samples get, [fake].

        Each real image is used equally often, in an order that depends on the seed, so a condition is as rare among the
        samples as among the data. None if the model has no condition, or if the data do not have it: then the
        condition's own distribution is sampled.
        """
        condition = self.module.game.condition
        if condition is None or condition.key not in ("image", *self.data.keys):
            return None
        available = torch.arange(self.data.count)
        if condition.key == "label":
            available = available[self.data.column("label") >= 0]
        if not len(available):
            return None
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "told"))
        repeats = -(-self.fake_count // len(available))
        orders = [available[torch.randperm(len(available), generator=generator)] for _ in range(repeats)]
        return torch.cat(orders)[: self.fake_count]

    def _with_conditions(self, inputs: Batch) -> Batch:
        """Replace the row indices in the inputs by the conditions of these rows."""
        if "row" not in inputs:
            return inputs
        key = self.module.game.condition.key  # type: ignore[union-attr]
        rows = inputs["row"]
        pictures = key in ("input", "image") or key not in self.data.columns
        values = self.data.batch(rows)[key] if pictures else self.data.column(key, rows)
        return {name: own for name, own in inputs.items() if name != "row"} | {key: values}

    @cached_property
    def rows(self) -> Tensor:
        """The row indices of the real images that are used, ascending, [at most `real`]."""
        return shuffled(self.data.count, self.real_count).sort().values

    @cached_property
    def real(self) -> ImageSet:
        """The real images; their features are cached on disk."""
        rows = self.rows
        pixels = self.data.images(None if len(rows) == self.data.count else rows)
        label = self.data.column("label", rows) if "label" in self.data.columns else None
        return ImageSet(self._cached_features(pixels), pixels, label)

    def _cached_features(self, pixels: Tensor) -> Features:
        """Read features of real images from the cache, or compute and save them.

        The cache is used if all processes find the file; otherwise each process computes a part.
        """
        if self.missing_features_reason:
            return self._extract(pixels)
        key = (self.data.digest, self.extractor.protocol(), len(pixels))
        file = cache_path(self.data.cache, "features", key, ".npz")
        if not distributed.all_true(file.is_file(), self.device):
            rank, world = distributed.rank_and_world_size()
            features = _all_gather_features(self._extract(pixels.tensor_split(world)[rank]))
            if rank == 0:
                _save_features(file, features)
            return features
        with np.load(file) as content:
            arrays = {name: torch.from_numpy(content[name]).to(self.device) for name in content.files}
        return Features(arrays["features"], arrays.get("logits"))

    @cached_property
    def baseline(self) -> tuple[ImageSet, ImageSet]:
        """The two sets of the real-data baseline: the reference images, and held-out ones in place of the samples.

        As many images are held out as there are samples, but at most half of the real images, and none that is
        `reserved`.
        """
        free = [i for i, row in enumerate(self.rows.tolist()) if row not in self.reserved]
        count = min(self.fake_count, len(self.rows) // 2, len(free))
        held_out = torch.tensor(free, dtype=torch.long)[shuffled(len(free), count)]
        reference = torch.ones(len(self.rows), dtype=torch.bool)
        reference[held_out] = False
        return self.real[torch.nonzero(reference).flatten()], self.real[held_out]

    @cached_property
    def test(self) -> ImageDataModule | None:
        """The data module of the test split, or None."""
        return self._test() if self._test else None

    def validation_and_test(self) -> tuple[ImageSet, ImageSet, str]:
        """Select real images for choosing hyperparameters and for testing; neither set has features.

        With a test split, the validation images are those of the training split that were not trained on, or else its
        last sixth (MNIST's usual 50,000 + 10,000). Without one, both sets are random sixths of the real images. Sixths
        of the real images become `reserved`.

        Returns:
            The validation images, the test images, and the source of the test images for the protocol.

        Raises:
            UserError: there are fewer than 12 real images.
        """
        count = self.data.count
        sixth = count // 6
        if sixth < 2:
            raise UserError(
                f"{count} real images are too few to hold out a sixth of them for testing: at least 12 are needed"
            )
        if self.test is not None:
            data, rows = self._not_trained_on() if self._not_trained_on else (self.data, torch.empty(0))
            if len(rows):
                return self._without_features(data, rows), self._without_features(self.test), "test"
            rows = torch.arange(count - sixth, count)
            self.reserved |= set(rows.tolist())
            return self._without_features(self.data, rows), self._without_features(self.test), "test"
        order = shuffled(count).flip(0)  # `rows` are taken from the other end of this order
        self.reserved |= set(order[: 2 * sixth].tolist())
        validation, test = (self._without_features(self.data, order[i : i + sixth]) for i in (0, sixth))
        return validation, test, "none: a random sixth of the real images"

    def training_and_test(self) -> tuple[ImageSet, ImageSet, str]:
        """Select real images for training a classifier and for testing it; neither set has features.

        Returns:
            All training images (without a test split: those that are not `reserved`), the test images, and the source
            of the test images for the protocol.

        Raises:
            UserError: there are fewer than 12 real images.
        """
        _, test, split = self.validation_and_test()
        if self.test is not None:
            return self._without_features(self.data), test, split
        training = torch.ones(self.data.count, dtype=torch.bool)
        training[sorted(self.reserved)] = False
        return self._without_features(self.data, torch.nonzero(training).flatten()), test, split

    def _without_features(self, data: ImageDataModule, rows: Tensor | None = None) -> ImageSet:
        """The images of these rows (None: all) as a set without features."""
        pixels = data.images(rows)
        label = data.column("label", rows) if "label" in data.columns else None
        return ImageSet(Features(torch.empty(len(pixels), 0), None), pixels, label)

    def _extract(self, pixels: Tensor) -> Features:
        """Apply the extractor batch by batch; features [N, 0] if there is none."""
        if self.missing_features_reason:
            return Features(torch.zeros(len(pixels), 0, device=self.device), None)
        batches = [self.extractor(batch) for batch in pixels.split(BATCH_SIZE)]
        logits = [batch.logits for batch in batches if batch.logits is not None]
        return Features(torch.cat([batch.features for batch in batches]), torch.cat(logits) if logits else None)


def _all_gather_features(features: Features) -> Features:
    """Concatenate the features of all processes."""
    logits = None if features.logits is None else distributed.all_gather(features.logits)
    return Features(distributed.all_gather(features.features), logits)


def _save_features(file: Path, features: Features) -> None:
    """Write features to disk; if that fails, log a warning."""
    arrays: dict[str, Any] = {"features": features.features}
    if features.logits is not None:
        arrays["logits"] = features.logits
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part:
            np.savez(part, **{name: values.cpu().numpy() for name, values in arrays.items()})
    except OSError as error:
        log.warning("features of real images are not cached: %s: %s", file.parent, error.strerror)
