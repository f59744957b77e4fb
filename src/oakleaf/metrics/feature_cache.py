"""Features of real images on disk, which all metrics, baselines and jobs of a sweep share."""

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oakleaf.metrics.image_set import Features
from oakleaf.runtime import distributed
from oakleaf.runtime.cache import cache_path
from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

CHUNK = 1024  # images in a file

Extract = Callable[[Tensor], Features]  # from rows [B] of the real images to their features


class FeatureCache:
    """Features of real images in chunks of a fixed random order, one file each.

    Evaluations that use more or fewer images of the same set share the files, because they take them from the same
    order. Missing chunks are computed by all processes, each of which computes a part.

    Args:
        cache: `data.cache`.
        key: identifies the images and the extractor with its weights.
        order: rows of the real images in the order by which they are cached, [N]; always the same for N images.
        device: where the features are put.
    """

    def __init__(self, cache: Path, key: tuple[Any, ...], order: Tensor, device: torch.device) -> None:
        self.cache, self.key, self.order, self.device = cache, key, order, device

    def __call__(self, start: int, stop: int, extract: Extract) -> Features:
        """Return the features of the images `order[start:stop]`, which are computed where no file has them."""
        chunks = list(range(start // CHUNK, -(-stop // CHUNK)))
        known = self._read(chunks)
        if missing := [chunk for chunk in chunks if chunk not in known]:
            known |= self._compute(missing, extract)
        first = start - chunks[0] * CHUNK if chunks else 0
        return concatenate([known[chunk] for chunk in chunks]).select(slice(first, first + stop - start))

    def _read(self, chunks: list[int]) -> dict[int, Features]:
        """The chunks that every process finds on disk."""
        known = {chunk: features for chunk in chunks if (features := self._read_file(self._file(chunk))) is not None}
        if not chunks:
            return known
        found = torch.tensor([chunk in known for chunk in chunks], device=self.device)
        by_all = distributed.all_gather(found).view(-1, len(chunks)).all(0).tolist()
        return {chunk: known[chunk] for chunk, everywhere in zip(chunks, by_all) if everywhere}

    def _compute(self, missing: list[int], extract: Extract) -> dict[int, Features]:
        """Compute chunks, each process a part of all rows, and save them."""
        rank, world = distributed.rank_and_world_size()
        parts = [self.order[chunk * CHUNK : (chunk + 1) * CHUNK] for chunk in missing]
        features = all_gather_features(extract(torch.cat(parts).tensor_split(world)[rank]))
        computed, start = {}, 0
        for chunk, part in zip(missing, parts):
            computed[chunk] = features.select(slice(start, start + len(part)))
            start += len(part)
        if rank == 0:
            self._save(computed)
        return computed

    def _file(self, chunk: int) -> Path:
        return cache_path(self.cache, "features", (2, *self.key, len(self.order), chunk), ".npz")

    def _read_file(self, file: Path) -> Features | None:
        try:
            with np.load(file) as content:
                arrays = {name: torch.from_numpy(content[name]).to(self.device) for name in content.files}
            return Features(arrays["features"], arrays.get("logits"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing or damaged
            return None

    def _save(self, computed: dict[int, Features]) -> None:
        """Write chunks to disk; if that fails, log a warning."""
        try:
            for chunk, features in computed.items():
                file = self._file(chunk)
                file.parent.mkdir(parents=True, exist_ok=True)
                arrays = {
                    name: values.cpu().numpy() for name, values in features._asdict().items() if values is not None
                }
                with atomic_write(file) as part:
                    np.savez(part, **arrays)
        except OSError as error:
            log.warning("features of real images are not cached: %s: %s", self.cache, error.strerror)


def all_gather_features(features: Features) -> Features:
    """Concatenate the features of all processes."""
    logits = None if features.logits is None else distributed.all_gather(features.logits)
    return Features(distributed.all_gather(features.features), logits)


def concatenate(parts: list[Features]) -> Features:
    """Concatenate features of several batches; the list has one element or more."""
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(torch.cat([part.features for part in parts]), torch.cat(logits) if logits else None)
