"""Whether what was translated from labels, or into labels, has the classes where they belong."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from oakleaf.config.types import PositiveInt
from oakleaf.data.images import Images
from oakleaf.errors import UserError
from oakleaf.metrics.classifier import scaled, store, weights_hash
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.reconstruction import UNTRANSLATED
from oakleaf.networks.unet import UNet
from oakleaf.runtime import distributed
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

AT_ONCE = 16
Pairs = tuple[Tensor, Tensor]  # photographs [N, C, H, W] and label maps [N, 3, H, W], as stored


class Segmentation(Metric):
    """Share of pixels whose class is right; its mean over the classes; and the mean over them of intersection over
    union, on the test split. Isola 2016, arXiv:1611.07004, section 4.1 ("FCN-score"; Long 2015, arXiv:1411.4038,
    section 5, for the three numbers).

    Which side holds the classes as colours, the data say (`source.mixes`). Where labels are translated into images, a
    segmenter reads the images; where images are translated into labels, the nearest colour of the palette is the class.
    The segmenter, a U-Net, learned on the real images of the training split, flipped by chance, and is kept. The real
    line: the segmenter on real images.

    palette: colours of the classes, K x 3 in 0 to 255. width, images: of the segmenter, and how many it sees.
    """

    better = {"pixel_accuracy": "higher", "class_accuracy": "higher", "class_iou": "higher"}
    uses_extractor = False
    of_samples = False

    def __init__(self, palette: list[list[int]], width: PositiveInt = 32, images: PositiveInt = 24000) -> None:
        self.palette = torch.tensor(palette)
        if self.palette.dim() != 2 or self.palette.shape[1] != 3:
            raise UserError("metric.segmentation.palette: a list of colours is expected, [[red, green, blue], ...]")
        self.width, self.images = width, images

    def prepare(self, evaluation: EvaluationData) -> None:
        train, test = evaluation.data, evaluation.test
        if (
            not isinstance(train, Images)
            or not train.input_images
            or train.decoded_images.source.mixes == train.input_images.source.mixes
        ):
            raise UserError(
                "needs pairs of which one side holds classes as colours (data.source.classes): data=facades"
            )
        if not evaluation.module.game.translates:
            raise UserError(UNTRANSLATED)
        if test is None:
            raise UserError("needs a test split, and these data have none (data.source.split)")
        self.into_labels = not train.decoded_images.source.mixes
        photographs, labels = self._pairs(train)
        self.segmenter = self._kept((photographs, labels), train, evaluation.device)
        self.photographs, labels = self._pairs(test)
        self.truth = self.classes(labels)
        made = []
        for rows in torch.arange(len(labels)).split(AT_ONCE):
            asked = {"input": test.batch(rows)["input"].to(evaluation.device)}
            torch.manual_seed(derive_seed(evaluation.seed, "segmentation", int(rows[0])))
            made.append(test.stored(evaluation.module.sample(asked, evaluation.ema)))
        self.made = torch.cat(made)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self._scores(self.classes(self.made) if self.into_labels else self.read(self.made))

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return self._scores(self.read(self.photographs))

    def protocol(self) -> dict[str, Any]:
        known = {"segmenter": weights_hash(self.segmenter), "width": self.width, "images": self.images}
        return {**known, "into_labels": self.into_labels, "test": len(self.truth), "calibration": "real images, read"}

    def classes(self, colours: Tensor) -> Tensor:
        """The class of the nearest colour, [N, 3, H, W] -> [N, H, W]."""
        pieces = [
            (piece[:, None].int() - self.palette[:, :, None, None]).square().sum(2).argmin(1)
            for piece in colours.split(AT_ONCE)
        ]
        return torch.cat(pieces)

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """What the segmenter sees, [N, C, H, W] -> [N, H, W]."""
        there = next(self.segmenter.parameters()).device
        return torch.cat([self.segmenter(scaled(piece, there)).argmax(1).cpu() for piece in images.split(AT_ONCE)])

    def _pairs(self, data: Any) -> Pairs:
        image, other = data.rows["image"], data.rows["input"]
        return (other, image) if self.into_labels else (image, other)

    def _scores(self, said: Tensor) -> dict[str, float]:
        count = len(self.palette)
        confusion = (
            torch.bincount((self.truth * count + said).flatten(), minlength=count**2).view(count, count).double()
        )
        right, there, claimed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        known = there > 0
        return {
            "pixel_accuracy": float(right.sum() / there.sum()),
            "class_accuracy": float((right / there)[known].mean()),
            "class_iou": float((right / (there + claimed - right))[known].mean()),
        }

    def _kept(self, pairs: Pairs, data: Images, device: torch.device) -> nn.Module:
        """The segmenter, from the cache or learned now."""
        input_digest = str(data.input_images and data.input_images.digest)
        key = (1, data.digest, input_digest, self.palette.tolist(), self.width, self.images)
        name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
        file: Path = data.cache.expanduser() / "segmenters" / f"{name}.pt"
        network = segmenter(pairs[0].shape[1], len(self.palette), data.size, self.width).to(device)

        def learned() -> None:
            if file.is_file():
                return
            log.info("a segmenter learns from %s images, once; kept in %s", f"{len(pairs[0]):,}", file.parent)
            self._learn(network, pairs, device)
            store(network.state_dict(), file, "segmenter")

        distributed.run_on_rank_zero(learned)
        network.load_state_dict(torch.load(file, map_location=device, weights_only=True))
        return network.eval().requires_grad_(False)

    def _learn(self, network: nn.Module, pairs: Pairs, device: torch.device) -> None:
        photographs, labels = pairs[0], self.classes(pairs[1])
        iterations = max(1, self.images // AT_ONCE)
        cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda), torch.enable_grad():
            torch.manual_seed(derive_seed(0, "segmenter"))
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
            course = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, iterations)
            for _ in tqdm(range(iterations), "segmenter", leave=False, disable=None):
                rows = torch.randint(len(photographs), (AT_ONCE,))
                x, y = scaled(photographs[rows], device), labels[rows].to(device)
                if torch.rand(()) < 0.5:
                    x, y = x.flip(3), y.flip(2)
                loss = cross_entropy(network(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                course.step()


def segmenter(channels: int, classes: int, size: Any, width: int) -> nn.Module:
    """A U-Net without noise whose image is logits, [B, classes, H, W]."""
    network = UNet(channels, classes, size, width, dropout=0.0)
    network.image = nn.Sequential(*list(network.image)[:-1])  # type: ignore[arg-type]
    return network
