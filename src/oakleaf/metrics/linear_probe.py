"""How well a linear classifier of a network's feature maps predicts the classes of real images."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, cross_entropy, unfold

from oakleaf.builder.load import build_from_stored
from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.games import Generation
from oakleaf.gan import GAN
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import NO_TEST_LABELS
from oakleaf.metrics.evaluation_data import BATCH_SIZE, EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled_rows
from oakleaf.metrics.neighbours import flat, shuffled
from oakleaf.networks.kmeans import kmeans

Kind = Literal["svm", "logistic"]
HELD_OUT = 5  # each fifth training image is held out, to choose the weight of the regularisation
PATCH = 6  # side of the patches of the k-means features, in pixels
PATCHES = 20_000  # patches that are clustered
NORMALISATION, WHITENING = 10.0, 0.1  # added to variances of patches in 0 to 255, and of normalised patches


class LinearProbe(Metric):
    """The accuracy on real test images of a linear classifier of a network's feature maps.

    The output of each activation function of the network is max-pooled to at most 4 x 4 places, all are joined and
    standardised, and an L2-SVM (one class against the rest, squared hinge loss) or a logistic regression is fitted to
    real training images. The weight of its regularisation is chosen on a held-out fifth of them.

    The same classifier is fitted to the same network with the random weights that a run begins with, to pixels, and to
    k-means features of as many images. The metric uses no samples, so it does not depend on their quality.

    Args:
        network: its name in the game.
        classifier: svm or logistic.
        training: training images at most.
        side: places in each direction that maps are pooled to.
        decays: weights of the squared norm, one of which is chosen.
        centroids: of the k-means features; there are four times as many features.

    Reference: Radford 2015, arXiv:1511.06434, section 5.1; Coates 2011, AISTATS, for the k-means features.
    """

    better = {
        "linear_probe": "higher",
        "linear_probe_random": "",
        "linear_probe_pixels": "",
        "linear_probe_kmeans": "",
    }
    uses_extractor = False
    uses_samples = False
    has_baseline = False
    has_errors = False

    def __init__(
        self,
        network: str = "discriminator",
        classifier: Kind = "svm",
        training: PositiveInt = 10_000,
        side: PositiveInt = 4,
        decays: tuple[PositiveFloat, ...] = (1e-3, 1e-2, 1e-1),
        centroids: PositiveInt = 200,
    ) -> None:
        self.network, self.classifier, self.most, self.side = network, classifier, training, side
        self.decays, self.centroids = tuple(decays), centroids

    def prepare(self, evaluation: EvaluationData) -> None:
        training, test, self.split = evaluation.training_and_test()
        rows, labels = labelled_rows(training, NO_TEST_LABELS)
        chosen = shuffled(len(rows), self.most)
        test_rows, self.test_labels = labelled_rows(test, NO_TEST_LABELS)
        self.labels, self.training = labels[chosen], training.pixels[rows[chosen]]
        self.test = test.pixels[test_rows]
        module, untrained = evaluation.module, build_from_stored(evaluation.module.recipe)
        self.features: dict[str, Callable[[Tensor], Tensor]] = {
            "linear_probe": lambda pixels: self._maps(module, pixels, evaluation.ema),
            "linear_probe_random": lambda pixels: self._maps(untrained.to(module.device).eval(), pixels, False),
            "linear_probe_pixels": lambda pixels: flat(from_bytes(pixels)),
            "linear_probe_kmeans": KMeansFeatures(self.training, self.centroids),
        }

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        found = {}
        for name, features in self.features.items():
            training, test = features(self.training).float(), features(self.test).float()
            mean, sd = training.mean(0), training.std(0).clamp(min=1e-6)
            predicted = probe((training - mean) / sd, self.labels, (test - mean) / sd, self.classifier, self.decays)
            found[name] = float((predicted == self.test_labels).float().mean())
        return found

    @torch.no_grad()
    def _maps(self, module: GAN, pixels: Tensor, ema: bool) -> Tensor:
        """The pooled maps of the network [N, f], on the CPU."""
        with module.ema_scope(ema) as game:
            network: Any = getattr(game, self.network, None)
            if not isinstance(network, nn.Module):
                raise UserError(f"network={self.network}: there is no such network; there are {', '.join(game.roles)}")
            is_critic = self.network == "discriminator" and type(game).play is Generation.play
            parts = []
            for batch in pixels.split(BATCH_SIZE):
                x = from_bytes(batch).to(module.device)
                inputs = game.sample_inputs(len(x), module.device) if is_critic else {}
                run: Any = game.conditioned_critic(inputs, network) if is_critic else network  # type: ignore[operator]
                parts.append(pooled_maps(network, run, x, self.side).cpu())
        return torch.cat(parts)

    def protocol(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "classifier": self.classifier,
            "training": len(self.training),
            "test": len(self.test),
            "test_split": self.split,
            "side": self.side,
            "centroids": self.centroids,
        }


def pooled_maps(network: nn.Module, run: Callable[[Tensor], Any], x: Tensor, side: int) -> Tensor:
    """Return the maps behind the activation functions of a network, max-pooled to at most `side` x `side`, [B, f].

    Args:
        network: the network.
        run: runs it on images; the network itself, unless it needs a condition.
        x: images [B, C, H, W].
        side: places in each direction.

    Raises:
        UserError: the network has no such maps, or cannot be run on images alone.
    """
    found: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            size = (min(side, output.shape[2]), min(side, output.shape[3]))
            found.append(adaptive_max_pool2d(output.float(), size).flatten(1))

    layers = [layer for layer in network.modules() if type(layer).__module__ == "torch.nn.modules.activation"]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        run(x)
    except TypeError as error:
        raise UserError("needs a network of images alone, and this one takes something else, too") from error
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UserError("needs a network with feature maps, and this one has none: a convolutional discriminator")
    return torch.cat(found, 1)


def probe(training: Tensor, labels: Tensor, test: Tensor, kind: Kind, decays: tuple[float, ...]) -> Tensor:
    """Return the classes [M] of test features [M, f] by a linear classifier of training features [N, f].

    Args:
        training: standardised features.
        labels: their classes [N].
        test: features.
        kind: svm or logistic.
        decays: weights of the squared norm; the one with the best accuracy on each fifth training row is taken.
    """
    held_out = torch.arange(len(training)) % HELD_OUT == 0
    classes = int(labels.max()) + 1
    scores = []
    for decay in decays if len(decays) > 1 else ():
        weight, bias = linear_classifier(training[~held_out], labels[~held_out], classes, kind, decay)
        predicted = (training[held_out] @ weight.T + bias).argmax(1)
        scores.append(float((predicted == labels[held_out]).float().mean()))
    best = decays[max(range(len(scores)), key=scores.__getitem__)] if scores else decays[0]
    weight, bias = linear_classifier(training, labels, classes, kind, best)
    return (test @ weight.T + bias).argmax(1)


def linear_classifier(
    x: Tensor, labels: Tensor, classes: int, kind: Kind = "svm", decay: float = 1e-2, steps: int = 150
) -> tuple[Tensor, Tensor]:
    """Fit a linear classifier by L-BFGS: the mean loss plus decay / 2 |W|^2.

    The loss of the SVM is sum_k max(0, 1 - s_k f_k(x))^2, where s_k is 1 for the image's class and -1 for all others
    (Tang 2013, arXiv:1306.0239, eq. (5)); that of the logistic regression is the cross-entropy in nats.

    Args:
        x: [N, f].
        labels: [N].
        classes: K.
        kind: svm or logistic.
        decay: weight of the squared norm, without the bias.
        steps: iterations at most.

    Returns:
        W [K, f] and the bias [K].
    """
    weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    sign = 2 * nn.functional.one_hot(labels, classes).to(x.dtype) - 1
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=10, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = x @ weight.T + bias
        if kind == "svm":
            loss = (1 - sign * scores).clamp(min=0).square().sum(1).mean()
        else:
            loss = cross_entropy(scores, labels)
        loss = loss + 0.5 * decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


class KMeansFeatures:
    """Features by k-means of whitened patches, with the triangle activation, summed over the quadrants of an image.

    Args:
        pixels: stored images [N, C, H, W], from which patches are drawn.
        centroids: number of clusters K.

    Reference: Coates 2011, AISTATS, sections 3.1 to 3.3.
    """

    def __init__(self, pixels: Tensor, centroids: int) -> None:
        generator = torch.Generator().manual_seed(0)
        side = min(PATCH, *pixels.shape[2:])
        self.side = side
        each = max(1, PATCHES // len(pixels))
        parts = []
        for batch in pixels.split(BATCH_SIZE):
            patches = unfold(_levels(batch), side).transpose(1, 2)  # [B, places, C side side]
            places = torch.randint(patches.shape[1], (len(batch), each), generator=generator)
            parts.append(patches[torch.arange(len(batch))[:, None], places].flatten(0, 1))
        patches = _normalised(torch.cat(parts)[:PATCHES])
        self.mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - self.mean).T))
        self.whitening = vectors @ torch.diag((values.clamp(min=0) + WHITENING).rsqrt()) @ vectors.T
        white = (patches - self.mean) @ self.whitening
        cluster = kmeans(white, centroids, generator=generator)
        count = int(cluster.max()) + 1
        total = torch.zeros(count, white.shape[1]).index_add_(0, cluster, white)
        self.centres = total / torch.bincount(cluster, minlength=count)[:, None]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features of stored images [N, C, H, W], [N, 4 K]."""
        return torch.cat([self._features(batch) for batch in pixels.split(BATCH_SIZE // 8)])

    def _features(self, pixels: Tensor) -> Tensor:
        patches = _normalised(unfold(_levels(pixels), self.side).transpose(1, 2))
        distance = torch.cdist((patches - self.mean) @ self.whitening, self.centres)
        activation = (distance.mean(2, keepdim=True) - distance).clamp(min=0)  # [B, places, K]
        height = pixels.shape[2] - self.side + 1
        maps = activation.transpose(1, 2).unflatten(2, (height, -1))
        return adaptive_avg_pool2d(maps, (min(2, height), min(2, maps.shape[3]))).flatten(1)


def _levels(pixels: Tensor) -> Tensor:
    return (from_bytes(pixels) + 1) * 127.5


def _normalised(patches: Tensor) -> Tensor:
    """Patches [..., p] with mean 0 and variance 1, but for a small constant."""
    centred = patches - patches.mean(-1, keepdim=True)
    return centred / (centred.var(-1, keepdim=True) + NORMALISATION).sqrt()
