"""The data of one evaluation: samples and real images with their features, computed once for all metrics."""

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.feature_cache import FeatureCache, all_gather_features, concatenate
from oakleaf.metrics.held_out import evaluation_order, fitting_rows, held_out_rows
from oakleaf.metrics.image_set import Features, ImageSet
from oakleaf.metrics.independence import require_independent
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime import distributed
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import seeded_inputs

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
        real: the maximal number of real images to compare with, a fixed random selection from the set.
        ema: generate with the EMA weights, if the model has them.
        seed: seed of the samples.
        test: returns the data module of the test split, called when a metric needs it; None if the set has no test
            split.
        not_trained_on: returns a data module and the indices of those of its images [N] that belong to the training
            split but were not trained on; None if the run was trained on all of the split.
        is_test: whether `data` is the test split of the set that the run was trained on.
        with_baseline: hold out a third of the real images, and compute every number for them too.
        resamples: how many random halves of the samples are used for standard errors; 0: none are computed.

    Attributes:
        reserved: row indices of real images that a metric chooses or tests by; the baseline does not use them.
        missing_features_reason: why there are no features; empty if there are.
        truncation: of the samples; see `oakleaf.sampling.truncation`.
    """

    truncation: float | None = None

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
        is_test: bool = False,
        with_baseline: bool = True,
        resamples: int = 20,
    ) -> None:
        self.module, self.data, self.extractor = module, data, extractor
        self._test, self._not_trained_on, self.is_test = test, not_trained_on, is_test
        if resamples == 1:
            raise UserError("resamples=1: 0, or at least 2, as one half of the samples has no standard deviation")
        self.with_baseline, self.resamples = with_baseline, resamples
        self.fake_count, self.real_count, self.ema, self.seed = fake, real, ema, seed
        self.reserved: set[int] = set()
        self.missing_features_reason = "no metric of this evaluation uses an extractor"

    def truncated(self, truncation: float | None) -> "EvaluationData":
        """Return the same evaluation with other samples; the real images are shared."""
        other = copy(self)
        other.truncation = truncation
        for name in ("fake", "matched"):
            other.__dict__.pop(name, None)
        return other

    def prepare(self) -> None:
        """Prepare the extractor; if that fails, keep the reason, and leave the images without features."""
        try:
            if self.extractor.prepared_for != (self.data.digest, str(self.device)):
                self.extractor.prepare(self.data, self.device, fitting_rows(self.data.count))
                self.extractor.prepared_for = self.data.digest, str(self.device)
            require_independent(self.extractor.provenance(), self.frozen_networks, self.extractor.alternative)
            self.missing_features_reason = ""
        except UserError as error:
            self.missing_features_reason = str(error)

    @property
    def frozen_networks(self) -> Any:
        """The frozen networks that the generator was trained against, by name."""
        return self.module.game.frozen

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

    def protocol(self, with_extractor: bool, fake: int) -> dict[str, Any]:
        """Return what is needed to compare numbers: properties of the samples and the real images.

        Args:
            with_extractor: include the extractor's protocol.
            fake: the number of samples that are compared.
        """
        protocol: dict[str, Any] = {
            "data": self.data.name,
            "data_digest": self.data.hash,
            **self.data.resize_protocol,
            "shape": [self.data.channels, *self.data.size],
            "fake": fake,
            "real": len(self.real),
            "conditions": self._conditions,
            "ema": self.ema and self.module.generator_ema is not None,
            "truncation": self.truncation or getattr(getattr(self.module.game, "prior", None), "truncation", None),
            "seed": self.seed,
            "images_seen": self.module.images_seen,
        }
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
        """The samples for the seed; see `draw`."""
        return self.draw()

    def draw(self) -> ImageSet:
        """Generate the samples for the seed, with the model as it is now; with several processes each does a part.

        The latents do not depend on the number of processes. The one exception is `Masked` inputs with holes in random
        places, which each process draws for itself.
        """
        rank, world = distributed.rank_and_world_size()
        if self.fake_count < world:
            raise UserError(f"fake={self.fake_count}: fewer samples than the {world} processes that draw them")
        rows = self.condition_rows
        inputs = seeded_inputs(self.module.game, self.fake_count, self.seed, rows is None, self.truncation)
        label = inputs.get("label")
        if rows is not None:
            inputs["row"] = rows  # the conditions are read batch by batch: input images are large
            conditioned_on_labels = self.module.game.condition.key == "label"  # type: ignore[union-attr]
            label = self.data.column("label", rows) if conditioned_on_labels else None
        local = {name: values.tensor_split(world)[rank] for name, values in inputs.items()}
        pixels = self._generate(local)
        features = all_gather_features(self._extract(pixels))
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
    def real(self) -> ImageSet:
        """The reference: the real images that samples and held-out images are compared with.

        The first `real` of `evaluation_order`, but none of the held-out third if there is a baseline.
        """
        count = len(fitting_rows(self.data.count)) if self.with_baseline else self.data.count
        return self._real_images(0, min(count, self.real_count))

    @cached_property
    def held_out(self) -> ImageSet:
        """Real images in place of the samples, for the baseline: no extractor was trained on them.

        As many as there are samples, or all of the held-out third that are not `reserved`.
        """
        pool = held_out_rows(self.data.count).tolist()
        free = torch.tensor([i for i, row in enumerate(pool) if row not in self.reserved], dtype=torch.long)
        free = free[: self.fake_count]
        first = self.data.count - len(pool)
        return self._real_images(first, first + int(free[-1]) + 1)[free] if len(free) else self._real_images(0, 0)

    @cached_property
    def matched(self) -> ImageSet:
        """The samples that are compared if there is a baseline: as many as there are held-out images."""
        return self.fake[: len(self.held_out)]

    def _real_images(self, start: int, stop: int) -> ImageSet:
        """The real images `start` to `stop` of `evaluation_order`; their features are cached on disk."""
        order = evaluation_order(self.data.count)
        rows = order[start:stop]
        label = self.data.column("label", rows) if "label" in self.data.columns else None
        if self.missing_features_reason:
            features = Features(torch.zeros(len(rows), 0, device=self.device), None)
            return ImageSet(features, self.data.images, label, rows)
        key = (self.data.digest, self.extractor.protocol())
        cache = FeatureCache(self.data.cache, key, order, self.device)
        return ImageSet(cache(start, stop, self._extract_rows), self.data.images, label, rows)

    def _extract_rows(self, rows: Tensor) -> Features:
        """The features of real images, which are read batch by batch."""
        batches = [self.extractor(images) for images in self.data.iter_images(BATCH_SIZE, rows)]
        return concatenate(batches or [self.extractor(self.data.images(rows))])

    @cached_property
    def test(self) -> ImageDataModule | None:
        """The data module of the test split, or None."""
        if self.is_test:
            return self.data
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
        if self.test is not None and not self.is_test:
            data, rows = self._not_trained_on() if self._not_trained_on else (self.data, torch.empty(0))
            if len(rows):
                return self._without_features(data, rows), self._without_features(self.test), "test"
            rows = torch.arange(count - sixth, count)
            self.reserved |= set(rows.tolist())
            return self._without_features(self.data, rows), self._without_features(self.test), "test"
        order = shuffled(count).flip(0)  # the held-out images are taken from the other end of this order
        self.reserved |= set(order[: 2 * sixth].tolist())
        validation, test = (self._without_features(self.data, order[i : i + sixth]) for i in (0, sixth))
        return validation, test, "a random sixth of test" if self.is_test else "none: a random sixth of the real images"

    def training_and_test(self) -> tuple[ImageSet, ImageSet, str]:
        """Select real images for training a classifier and for testing it; neither set has features.

        Returns:
            All training images (without a test split: those that are not `reserved`), the test images, and the source
            of the test images for the protocol.

        Raises:
            UserError: there are fewer than 12 real images.
        """
        _, test, split = self.validation_and_test()
        if self.test is not None and not self.is_test:
            return self._without_features(self.data), test, split
        training = torch.ones(self.data.count, dtype=torch.bool)
        training[sorted(self.reserved)] = False
        return self._without_features(self.data, torch.nonzero(training).flatten()), test, split

    def _without_features(self, data: ImageDataModule, rows: Tensor | None = None) -> ImageSet:
        """The images of these rows (None: all) as a set without features."""
        pixels: Any = data.images() if rows is None else data.images  # all images are not copied
        rows = torch.arange(data.count) if rows is None else rows
        label = data.column("label", rows) if "label" in data.columns else None
        return ImageSet(Features(torch.empty(len(rows), 0), None), pixels, label, rows)

    def _extract(self, pixels: Tensor) -> Features:
        """Apply the extractor batch by batch; features [N, 0] if there is none."""
        if self.missing_features_reason:
            return Features(torch.zeros(len(pixels), 0, device=self.device), None)
        return concatenate([self.extractor(batch) for batch in pixels.split(BATCH_SIZE)])
