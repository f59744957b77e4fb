"""Whether translated images have the right classes in the right places; serves `data=facades` only."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oakleaf.config.types import PositiveInt
from oakleaf.data.images import Images
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import minimise, scaled
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.reconstruction import NO_TRANSLATOR, translate_test_images
from oakleaf.networks.unet import UNet
from oakleaf.runtime import distributed
from oakleaf.runtime.cache import cache_path, hash_weights, save
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

BATCH_SIZE = 16  # images that are translated, segmented or trained on at once
Pairs = tuple[Tensor, Tensor]  # photographs [N, C, H, W] and label maps [N, 3, H, W], as stored


class Segmentation(Metric):
    """Pixel accuracy, mean class accuracy and mean intersection over union of translated test images.

    One side of each pair is a label map, in which each class is a colour; `source.mixes` is False for that side. If
    labels are translated into photographs, a segmentation network predicts the classes of the translated photographs.
    If photographs are translated into labels, the class is that of the nearest colour of the palette. The network is a
    U-Net, trained once on the real pairs of the training split, randomly mirrored, and cached. The real-data baseline
    is this network on the real photographs.

    It detects classes that are missing or in wrong places. It cannot detect unrealistic photographs that the network
    still segments correctly.

    Args:
        palette: the colours of the classes, K x 3, from 0 to 255.
        width: channels of the U-Net's first layer.
        images: the number of images that the U-Net is trained on, repeats included.

    Reference: Isola 2016, arXiv:1611.07004, section 4.1 ("FCN-score"); Long 2015, arXiv:1411.4038, section 5, for the
    three numbers.
    """

    better = {"pixel_accuracy": "higher", "class_accuracy": "higher", "class_iou": "higher"}
    uses_extractor = False
    uses_samples = False
    baseline_is = "the segmentation of the real photographs"

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
            raise UserError("needs pairs in which one side is a label map (data.source.classes): data=facades")
        if not evaluation.module.game.translates:
            raise UserError(NO_TRANSLATOR)
        if evaluation.is_test:
            raise UserError(
                "segmentation takes the test images by itself, and the training images too: leave out split="
            )
        if test is None:
            raise UserError("needs a test split, and these data have none (data.source.split)")
        self.into_labels = not train.decoded_images.source.mixes
        self.segmenter = self._cached_segmenter(self._pairs(train), train, evaluation.device)
        self.photographs, label_maps = self._pairs(test)
        self.truth = self.classes(label_maps)
        translations = translate_test_images(evaluation, len(label_maps), BATCH_SIZE, "segmentation")
        self.translated = torch.cat([images for _, images in translations])

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self._scores(self.classes(self.translated) if self.into_labels else self.segment(self.translated))

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return self._scores(self.segment(self.photographs))

    def protocol(self) -> dict[str, Any]:
        network = {"segmenter": hash_weights(self.segmenter), "width": self.width, "images": self.images}
        return {**network, "into_labels": self.into_labels, "test": len(self.truth)}

    def classes(self, colours: Tensor) -> Tensor:
        """Return the classes [N, H, W] of the palette's colours nearest to those of label maps [N, 3, H, W]."""
        batches = [
            (batch[:, None].int() - self.palette[:, :, None, None]).square().sum(2).argmin(1)
            for batch in colours.split(BATCH_SIZE)
        ]
        return torch.cat(batches)

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """Return the classes [N, H, W] that the network predicts for stored photographs [N, C, H, W]."""
        device = next(self.segmenter.parameters()).device
        batches = images.split(BATCH_SIZE)
        return torch.cat([self.segmenter(scaled(batch, device)).argmax(1).cpu() for batch in batches])

    def _pairs(self, data: Any) -> Pairs:
        image, given = data.images(), data.column("input")
        return (given, image) if self.into_labels else (image, given)

    def _scores(self, predicted: Tensor) -> dict[str, float]:
        count = len(self.palette)
        index = (self.truth * count + predicted).flatten()
        confusion = torch.bincount(index, minlength=count**2).view(count, count).double()
        correct, actual, claimed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        occurs = actual > 0
        return {
            "pixel_accuracy": float(correct.sum() / actual.sum()),
            "class_accuracy": float((correct / actual)[occurs].mean()),
            "class_iou": float((correct / (actual + claimed - correct))[occurs].mean()),
        }

    def _cached_segmenter(self, pairs: Pairs, data: Images, device: torch.device) -> nn.Module:
        """Load the segmentation network from the cache; train it if it is not there."""
        key = (
            1,
            data.digest,
            str(data.input_images and data.input_images.digest),
            self.palette.tolist(),
            self.width,
            self.images,
        )
        file: Path = cache_path(data.cache, "segmenters", key)
        network = build_segmenter(pairs[0].shape[1], len(self.palette), data.size, self.width).to(device)

        def train_and_save() -> None:
            if file.is_file():
                return
            count = f"{len(pairs[0]):,}"
            log.info("training a segmentation network on %s images, once; it is saved in %s", count, file.parent)
            self._train(network, pairs, device)
            save(network.state_dict(), file, "segmentation network")

        distributed.run_on_rank_zero(train_and_save)
        network.load_state_dict(torch.load(file, map_location=device, weights_only=True))
        return network.eval().requires_grad_(False)

    def _train(self, network: nn.Module, pairs: Pairs, device: torch.device) -> None:
        photographs, labels = pairs[0], self.classes(pairs[1])

        def loss() -> Tensor:
            rows = torch.randint(len(photographs), (BATCH_SIZE,))
            x, y = scaled(photographs[rows], device), labels[rows].to(device)
            if torch.rand(()) < 0.5:
                x, y = x.flip(3), y.flip(2)
            return cross_entropy(network(x), y)

        cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(derive_seed(0, "segmenter"))
            minimise(loss, network, max(1, self.images // BATCH_SIZE), 1e-3, "segmentation network")


def build_segmenter(channels: int, classes: int, size: Any, width: int) -> nn.Module:
    """Build a U-Net without dropout whose output is logits, [B, classes, H, W].

    Args:
        channels: C of the photographs.
        classes: the number of classes.
        size: (H, W) of the photographs.
        width: channels of the first layer.
    """
    network = UNet(channels, classes, size, width, dropout=0.0)
    network.image = nn.Sequential(*list(network.image)[:-1])  # type: ignore[arg-type]
    return network
