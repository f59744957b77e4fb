"""Labelled figures of samples: what the images are conditioned on, and which system has generated them."""

import math
from collections.abc import Mapping, Sequence

import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from oakleaf.figures.grid import Layout, Panel, draw_grid
from oakleaf.figures.plane import Background, draw_plane, plane_points
from oakleaf.figures.text import class_labels
from oakleaf.gan import GAN
from oakleaf.image_grid import are_points
from oakleaf.losses.objectives import discriminator_probability

BACKGROUND = 65  # points in each direction at which the discriminator is evaluated
EXTREME = 0.02  # share of the raw scores at each end that have the colour of the end
TRANSLATION = ("input", "output")


def sample_title(module: GAN) -> str:
    """Return which system has generated the samples and on which data, such as "dcgan on digits"."""
    stored = OmegaConf.create({group: module.recipe.get(group) or {} for group in ("model", "data")})
    # a name may refer to another value
    names = [OmegaConf.select(stored, f"{group}.name") for group in ("model", "data")]
    return " on ".join(str(name) for name in names if name)


def images_seen(module: GAN) -> str:
    """Return the module's counter as text, such as "12,800 images"."""
    return f"{module.images_seen:,} images"


def condition_labels(module: GAN, inputs: Mapping[str, Tensor], drawn: bool = True) -> list[str]:
    """Return what each sample is conditioned on as text; [] if there is no condition, or none that is a text.

    Args:
        module: the generator's module.
        inputs: the inputs of the generator, [B, ...] by name.
        drawn: whether the text will be drawn: a name of a class that no font here has is then replaced by its number.
    """
    condition = module.game.condition
    if condition is None or condition.key not in inputs:
        return []
    return condition.labels(inputs, class_labels(module.classes) if drawn else module.classes)


def sample_panel(module: GAN, inputs: Mapping[str, Tensor], columns: int | None = None) -> Panel:
    """Return how independent samples are arranged.

    Where the condition can be shown as an image, it stands to the left of each sample. Where there are few classes,
    each has its own column. Otherwise the class or the text is written below each sample, unless all are the same.

    Args:
        module: the generator's module.
        inputs: what the samples are generated from, [B, ...] by name.
        columns: samples in a row; None: as many as the classes, or as make the grid about square.
    """
    if module.game.condition and module.game.condition.preview(inputs) is not None:
        return Panel(columns=columns and 2 * columns, column_names=TRANSLATION, group=2)
    labels = condition_labels(module, inputs)
    classes = _repeated(labels)
    if columns is None and 1 < classes <= math.sqrt(2 * len(labels)):
        return Panel(columns=classes, column_names=labels[:classes])
    return Panel(columns=columns, captions=labels if classes > 1 else ())


def _repeated(labels: Sequence[str]) -> int:
    """Return after how many labels they repeat, each being different from the others up to there; 0 without labels."""
    count = len(dict.fromkeys(labels))
    return count if all(label == labels[i % count] for i, label in enumerate(labels)) else len(labels)


def draw_samples(
    module: GAN,
    images: Tensor,
    panels: Sequence[Panel] = (Panel(),),
    title: str = "",
    note: str = "",
    modes: Tensor | None = None,
    captions: bool = True,
    most: int | None = None,
) -> Image.Image:
    """Draw samples of any kind as one picture.

    Images are arranged in a grid, points of the plane are drawn where they lie, with the discriminator's output as
    background, and longer vectors [B, d, 1, 1] become the rows of one image, in which 0 is grey and three standard
    deviations are black and white.

    Args:
        module: the module that has generated them.
        images: the samples as they are arranged, [B, C, H, W].
        panels: headings and columns of the grid.
        title: text above the picture.
        note: text in the title's line, on the right.
        modes: means of the true modes of points in the plane, [K, 2]; None: none are drawn.
        captions: whether headings, axes and background are drawn.
        most: only the first so many images or vectors are drawn; all points of the plane are.
    """
    if not are_points(images):
        return draw_grid(images[:most], Layout(panels, title, note), captions)
    if images.shape[1] == 2:
        background = critic_background(module) if captions else None
        return draw_plane(images, modes, background, title, note, captions)
    vectors = images[:most].float().flatten(1)
    pixels = vectors[None, None] / (3 * vectors.square().mean().sqrt() + 1e-8)
    return draw_grid(pixels, Layout((Panel(heading="a row for each sample"),), title, note), captions)


@torch.no_grad()
def critic_background(module: GAN) -> Background | None:
    """Return the discriminator's output on the plane: D(x) where the loss defines it, else the raw score.

    Returns:
        The values; None if the discriminator scores no single points: there is none, or it is given more than a point
        (a condition, a latent, several points at once).
    """
    with module.ema_scope() as game:
        points = plane_points(BACKGROUND).to(next(game.parameters()))
        critics = [name for name, role in game.roles.items() if role == "critic" and name not in game.further]
        if game.condition is not None or len(critics) != 1:
            return None
        rounds = game.play({"image": points})
        if len(rounds) != 1 or rounds[0].real.shape != points.shape:
            return None
        score = rounds[0].on_real.score.float()
        probability = discriminator_probability(game.loss.objective, score)
    if score.numel() != len(points):
        return None
    if probability is not None:
        return Background(probability.view(BACKGROUND, BACKGROUND).cpu(), "D(x)", 0.0, 1.0)
    low, high = score.flatten().quantile(torch.tensor([EXTREME, 1 - EXTREME], device=score.device)).tolist()
    return Background(score.view(BACKGROUND, BACKGROUND).cpu(), "score", low, high)
