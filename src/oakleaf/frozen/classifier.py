"""A small recognition network that is trained once for a data set and cached: features that need no download."""

import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from tqdm import tqdm

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.frozen.tasks import Task
from oakleaf.image_grid import from_bytes
from oakleaf.runtime import distributed
from oakleaf.runtime.cache import cache_path, hash_weights, save
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

BATCH_SIZE = 512  # images that are classified at once


@dataclass(frozen=True)
class Training:
    """How the classifier is trained: Adam with a one-cycle learning rate, on randomly shifted batches.

    Attributes:
        images: the number of images to train on, repeats included.
        epochs: the maximal number of passes over the training images.
        batch: the batch size.
        lr: the peak of the learning rate.
        width: channels of the first convolution.
        features: units of the hidden layer, whose activations are the features.
        side: in pixels; the first convolution reduces larger images to this.
        mirror: whether each image is mirrored with probability 1/2; right for faces, wrong for digits.
    """

    images: PositiveInt = 400_000
    epochs: PositiveInt = 60
    batch: PositiveInt = 128
    lr: PositiveFloat = 2e-3
    width: PositiveInt = 32
    features: PositiveInt = 128
    side: PositiveInt = 32
    mirror: bool = False


class Network(nn.Module):
    """A convolutional classifier with one hidden layer.

    Strided 3 x 3 convolutions with BatchNorm reduce the image to a map of 4 to 7 px.

    Args:
        channels: C of the images.
        size: (H, W) of the images.
        head: the layer from features to logits; None for features alone.
        training: the widths of the layers.
        rectified: whether the features go through a ReLU.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], head: nn.Module | None, training: Training, rectified: bool = True
    ) -> None:
        super().__init__()
        stride = max(1, -(-max(size) // training.side))
        layers, width, side = [_convolution(channels, training.width, stride)], training.width, -(-max(size) // stride)
        while side > 7:
            layers.append(_convolution(width, min(2 * width, 4 * training.width), 2))
            width, side = min(2 * width, 4 * training.width), -(-side // 2)
        self.maps = nn.Sequential(*layers)
        with torch.no_grad():
            flat = self.maps.eval()(torch.zeros(1, channels, *size)).numel()
        self.train()
        hidden = [nn.Linear(flat, training.features), nn.BatchNorm1d(training.features)]
        self.hidden = nn.Sequential(*hidden, *([nn.ReLU()] if rectified else []))
        self.outputs = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features [B, d] and logits [B, K] (None without a head) of images [B, C, H, W] in [-1, 1]."""
        features = self.hidden(self.maps(x).flatten(1))
        return features, None if self.outputs is None else self.outputs(features)


def network_for(pixels: Tensor, task: Task, training: Training) -> Network:
    """Build an untrained network for images [N, C, H, W] and a task."""
    size = (pixels.shape[2], pixels.shape[3])
    return Network(pixels.shape[1], size, task.build_head(training.features), training, task.rectified)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, 3 if stride < 3 else stride + 1, stride, 1 if stride < 3 else stride // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def scaled(pixels: Tensor, device: Any) -> Tensor:
    """Move stored images [N, C, H, W] to a device and scale them to [-1, 1], float32; points keep their values."""
    return from_bytes(pixels.to(device)).float()


def train_classifier(
    pixels: Tensor, task: Task, training: Training, device: Any = "cpu", rows: Tensor | None = None, seed: int = 0
) -> Network:
    """Train a new classifier; the global random number generators keep their state.

    Args:
        pixels: images [N, C, H, W] as stored.
        task: what to predict.
        training: the network's widths and the training's length.
        device: where to train.
        rows: the indices of the images to train on [M]; None: all.
        seed: seed of the weights and the batches.

    Returns:
        The trained network, in eval mode.

    Raises:
        UserError: the batch size is 1, for which batch normalisation has no variance.
    """
    if training.batch < 2:
        raise UserError(f"training.batch={training.batch}: batch normalisation needs at least 2 images")
    rows = torch.arange(len(pixels)) if rows is None else rows
    iterations = max(1, min(training.images, training.epochs * len(rows)) // training.batch)
    cuda = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(derive_seed(seed, "classifier"))
        network = network_for(pixels, task, training).to(memory_format=torch.channels_last).to(device)
        batches = _shuffled_batches(len(rows), training.batch)

        def loss() -> Tensor:
            batch = rows[next(batches)]
            x, target = task.make_batch(_augmented(scaled(pixels[batch], device), training.mirror), batch)
            return task.loss(network(x.contiguous(memory_format=torch.channels_last))[1], target)

        minimise(loss, network, iterations, training.lr, "classifier", weight_decay=1e-5)
    return network.eval().requires_grad_(False)


def minimise(
    loss: Callable[[], Tensor],
    network: nn.Module,
    iterations: int,
    lr: float,
    description: str,
    weight_decay: float = 0.0,
) -> None:
    """Minimise a loss by Adam with a one-cycle learning rate.

    Args:
        loss: draws a batch and returns its loss, a scalar.
        network: the network whose parameters are trained.
        iterations: the number of batches.
        lr: the peak of the learning rate.
        description: label of the progress bar.
        weight_decay: Adam's L2 penalty.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, iterations)
    with torch.enable_grad():
        interval = 0.5 if sys.stderr.isatty() else 20.0  # seconds; without a terminal each report is a line
        for _ in tqdm(range(iterations), f"training the {description}", leave=False, delay=5, mininterval=interval):
            value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()


def _shuffled_batches(count: int, batch: int) -> Iterator[Tensor]:
    """Row indices of batches without end, from one random permutation after the other."""
    order = torch.randperm(count)
    while True:
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(count)])
        yield order[:batch]
        order = order[batch:]


def _augmented(x: Tensor, mirror: bool) -> Tensor:
    """Shift the whole batch, and mirror each image with probability 1/2 if `mirror` is true."""
    x = _random_shift(x)
    if not mirror:
        return x
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)


def _random_shift(x: Tensor) -> Tensor:
    """Shift the whole batch by at most a sixteenth of its sides, and repeat its edges."""
    margins = [x.shape[3] // 16, x.shape[2] // 16]
    dx, dy = (int(torch.randint(2 * margin + 1, ())) for margin in margins)
    padded = pad(x, (margins[0], margins[0], margins[1], margins[1]), mode="replicate") if max(margins) else x
    return padded[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]


@torch.no_grad()
def predict(network: Network, pixels: Tensor, device: Any = "cpu") -> Tensor:
    """Return the logits [N, K] of images [N, C, H, W] as stored."""
    batches = (
        scaled(batch, device).contiguous(memory_format=torch.channels_last) for batch in pixels.split(BATCH_SIZE)
    )
    return torch.cat([network(batch)[1] for batch in batches])


@torch.no_grad()
def accuracy(network: Network, pixels: Tensor, task: Task, rows: Tensor, device: Any = "cpu") -> float:
    """Return the share of correct predictions on some rows [M] of images [N, C, H, W] as stored."""
    correct = []
    for batch in rows.split(BATCH_SIZE):
        x, target = task.make_batch(scaled(pixels[batch], device), batch)
        correct.append(task.correct(network(x)[1], target) * len(batch))
    return float(torch.stack(correct).sum() / len(rows))


class CachedClassifier(NamedTuple):
    """A classifier from the cache.

    Attributes:
        network: in eval mode.
        accuracy: its share of correct predictions on the images that were held out; None if none of them has a target.
        hash: of its weights.
    """

    network: Network
    accuracy: float | None
    hash: str


@dataclass
class ClassifierJob:
    """The training of a classifier for a data set, and the file in the cache that keeps its result.

    Args:
        pixels: images [N, C, H, W] as stored.
        task: what to predict.
        training: the network's widths and the training's length.
        key: identifies the images.
        cache: `data.cache`.
        device: where to train, and the device of the result.
        rows: the images to train on [M]; None: a random nine tenths.
        held_out: the images of the accuracy; None: all that are not trained on.
        seed: of the weights and the batches.
    """

    pixels: Tensor
    task: Task
    training: Training
    key: str
    cache: Path
    device: Any
    rows: Tensor | None = None
    held_out: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        usable = self.task.rows(len(self.pixels))
        fitting = nine_tenths(usable) if self.rows is None else usable[torch.isin(usable, self.rows)]
        others = usable[~torch.isin(usable, fitting)]
        self.fitting = fitting
        self.others = others if self.held_out is None else others[torch.isin(others, self.held_out)]

    @property
    def file(self) -> Path:
        """The path of the file in the cache."""
        digests = [None if values is None else _hash(values) for values in (self.task.targets(), self.fitting)]
        about = (self.task.kind, self.task.outputs, self.task.settings, *digests, astuple(self.training), self.seed)
        return cache_path(self.cache, "classifiers", (3, self.key, *about))

    def train(self) -> None:
        """Train the classifier and save it, unless the file exists.

        Raises:
            UserError: there are too few images, or the file cannot be written.
        """
        file, fitting, others = self.file, self.fitting, self.others
        if file.is_file():
            return
        if len(fitting) < 2:
            usable = len(fitting) + len(others)
            raise UserError(f"{usable} images are too few to train a classifier and hold out others: extractor=pixels")
        kind, count = self.task.kind, f"{len(fitting):,}"
        log.info("training a classifier of %s on %s images, once; it is saved in %s", kind, count, file.parent)
        network = train_classifier(self.pixels, self.task, self.training, self.device, fitting, self.seed)
        share = accuracy(network, self.pixels, self.task, others, self.device) if len(others) else None
        save({"weights": network.state_dict(), "accuracy": share}, file, "classifier")

    def load(self) -> CachedClassifier:
        """Read the classifier from the file."""
        content = torch.load(self.file, map_location="cpu", weights_only=True)
        network = network_for(self.pixels, self.task, self.training)
        network.load_state_dict(content["weights"])
        network = network.to(memory_format=torch.channels_last).to(self.device).eval().requires_grad_(False)
        return CachedClassifier(network, content["accuracy"], hash_weights(network))


def cached_classifier(
    pixels: Tensor,
    task: Task,
    training: Training,
    key: str,
    cache: Path,
    device: Any,
    rows: Tensor | None = None,
    seed: int = 0,
) -> CachedClassifier:
    """Load the classifier for a data set from the cache; train it if it is not there.

    With several processes the first one trains, and the others wait for its file. The arguments are those of
    `ClassifierJob`.

    Raises:
        UserError: there are too few images, or the file cannot be written.
    """
    job = ClassifierJob(pixels, task, training, key, cache, device, rows, seed=seed)
    distributed.run_on_rank_zero(job.train)
    return job.load()


def nine_tenths(rows: Tensor) -> Tensor:
    """Return nine tenths of row numbers [M] in a random order, which is the same in each run."""
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return order[max(1, len(order) // 10) :]


def _hash(values: Tensor) -> str:
    return hashlib.blake2b(values.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
