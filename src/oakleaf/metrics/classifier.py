"""A small classifier, trained where it is needed and kept: features without a download."""

import hashlib
import logging
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from tqdm import tqdm

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.metrics.classifier_targets import Task
from oakleaf.runtime import distributed
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

AT_ONCE = 512  # images read together
FINEST = 32  # px; the stem brings larger images down to this


@dataclass(frozen=True)
class Training:
    """How the classifier learns: `images` images, but at most `epochs` passes, with random shifts in batches of
    `batch`, Adam with one cycle up to the rate `lr`. width: channels of its first map; features: units before the
    classes."""

    images: PositiveInt = 400_000
    epochs: PositiveInt = 60
    batch: PositiveInt = 128
    lr: PositiveFloat = 2e-3
    width: PositiveInt = 32
    features: PositiveInt = 128


class Network(nn.Module):
    """Strided 3 x 3 convolutions with BatchNorm down to a map of 4 to 7 px, one hidden layer, `outputs` logits."""

    def __init__(self, channels: int, size: tuple[int, int], outputs: int, training: Training) -> None:
        super().__init__()
        stride = max(1, -(-max(size) // FINEST))
        layers, width, side = [_conv(channels, training.width, stride)], training.width, -(-max(size) // stride)
        while side > 7:
            layers.append(_conv(width, min(2 * width, 4 * training.width), 2))
            width, side = min(2 * width, 4 * training.width), -(-side // 2)
        self.maps = nn.Sequential(*layers)
        with torch.no_grad():
            flat = self.maps.eval()(torch.zeros(1, channels, *size)).numel()
        self.train()
        self.hidden = nn.Sequential(nn.Linear(flat, training.features), nn.BatchNorm1d(training.features), nn.ReLU())
        self.outputs = nn.Linear(training.features, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] in [-1, 1] -> features [B, d], logits [B, K]"""
        features = self.hidden(self.maps(x).flatten(1))
        return features, self.outputs(features)


def _conv(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3 if stride < 3 else stride + 1, stride, 1 if stride < 3 else stride // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def scaled(pixels: Tensor, device: Any) -> Tensor:
    """Stored images as a network sees them, in [-1, 1]."""
    x = pixels.to(device)
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()


def learn(
    pixels: Tensor, task: Task, training: Training, device: Any = "cpu", rows: Tensor | None = None, seed: int = 0
) -> Network:
    """A network that has learned the task from images [N, C, H, W] as stored, or from those rows of them, in eval mode.
    Global random numbers are left as they were.

    Raises:
        UserError: batches of one image, which have no variance.
    """
    if training.batch < 2:
        raise UserError(f"training.batch={training.batch}: batch normalisation needs 2 images at least")
    rows = torch.arange(len(pixels)) if rows is None else rows
    cuda = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, "classifier"))
        size = (pixels.shape[2], pixels.shape[3])
        network = (
            Network(pixels.shape[1], size, task.outputs, training).to(memory_format=torch.channels_last).to(device)
        )
        iterations = max(1, min(training.images, training.epochs * len(rows)) // training.batch)
        optimizer = torch.optim.Adam(network.parameters(), lr=training.lr, weight_decay=1e-5)
        course = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.lr, iterations)
        for hand in tqdm(
            _hands(len(rows), training.batch, iterations), "classifier", iterations, leave=False, disable=None
        ):
            x, answer = task.pose(_shifted(scaled(pixels[rows[hand]], device)), rows[hand])
            loss = task.loss(network(x.contiguous(memory_format=torch.channels_last))[1], answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            course.step()
    return network.eval().requires_grad_(False)


def _hands(count: int, batch: int, iterations: int) -> Any:
    """Rows, dealt from one shuffle after the other."""
    order = torch.randperm(count)
    for _ in range(iterations):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(count)])
        yield order[:batch]
        order = order[batch:]


def _shifted(x: Tensor) -> Tensor:
    """The whole batch moved by up to a sixteenth of its sides, edges repeated."""
    margins = [x.shape[3] // 16, x.shape[2] // 16]
    dx, dy = (int(torch.randint(2 * margin + 1, ())) for margin in margins)
    wide = pad(x, (margins[0], margins[0], margins[1], margins[1]), mode="replicate") if max(margins) else x
    return wide[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]


@torch.no_grad()
def reading(network: Network, pixels: Tensor, device: Any = "cpu") -> Tensor:
    """Logits [N, K] for images as stored."""
    pieces = pixels.split(AT_ONCE)
    return torch.cat(
        [network(scaled(piece, device).contiguous(memory_format=torch.channels_last))[1] for piece in pieces]
    )


@torch.no_grad()
def accuracy(network: Network, pixels: Tensor, task: Task, rows: Tensor, device: Any = "cpu") -> float:
    right = []
    for some in rows.split(AT_ONCE):
        x, answer = task.pose(scaled(pixels[some], device), some)
        right.append(task.right(network(x)[1], answer) * len(some))
    return float(torch.stack(right).sum() / len(rows))


def kept(
    pixels: Tensor, task: Task, training: Training, key: str, folder: Path, device: Any
) -> tuple[Network, float, str]:
    """The network for `key`, from the cache if it is there, else learned now from nine tenths of the rows; its accuracy
    on the others; and its hash."""
    answers = task.known()
    said = None if answers is None else hashlib.blake2b(answers.numpy().tobytes(), digest_size=16).hexdigest()
    atomic_write = (2, key, task.kind, task.outputs, said, astuple(training))
    name = hashlib.blake2b(repr(atomic_write).encode(), digest_size=16).hexdigest()
    file = folder.expanduser() / "classifiers" / f"{name}.pt"
    distributed.run_on_rank_zero(lambda: None if file.is_file() else _teach(pixels, task, training, file, device))
    content = torch.load(file, map_location="cpu", weights_only=True)
    network = Network(pixels.shape[1], (pixels.shape[2], pixels.shape[3]), task.outputs, training)
    network.load_state_dict(content["weights"])
    network = network.to(memory_format=torch.channels_last).to(device).eval().requires_grad_(False)
    return network, content["accuracy"], weights_hash(network)


def weights_hash(network: nn.Module) -> str:
    """Eight digits that tell its weights from others."""
    total = hashlib.blake2b(digest_size=4)
    for weight in network.state_dict().values():
        total.update(weight.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _teach(pixels: Tensor, task: Task, training: Training, file: Path, device: Any) -> None:
    rows = task.rows(len(pixels))
    if len(rows) < 2:
        raise UserError("of a single image no classifier can learn: extractor=pixels")
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    out = max(1, len(order) // 10)
    log.info("a classifier learns %s from %s images, once; kept in %s", task.kind, f"{len(order) - out:,}", file.parent)
    network = learn(pixels, task, training, device, order[out:])
    right = accuracy(network, pixels, task, order[:out], device)
    store({"weights": network.state_dict(), "accuracy": right}, file, "classifier")


def store(content: dict[str, Any], file: Path, what: str) -> None:
    """To disk beside its place, then renamed there.

    Raises:
        UserError: the disk takes nothing.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part:
            torch.save(content, part)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
        raise UserError(f"{file.parent}: the {what} can't be kept ({error}); choose another data.cache") from error
