"""One network for each level of an image pyramid."""

from collections.abc import Callable

from torch import nn

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, height_width, nearest_size


class LevelNetworks(nn.Module):
    """Hold the networks of all levels of a pyramid, the finest level first.

    `levels[0]` is for images of the full size, each further level for half of that size; the last one is for the
    coarsest images. `oakleaf.games.Pyramid` calls the networks.

    Args:
        channels: channels of an image.
        size: size of the full image in pixels.
        depth: number of halvings.
        base: creates the network of the coarsest level from `channels` and `size`.
        detail: creates the network of a finer level from `channels` and `size`.
        classes: width of the condition y, which `base` and `detail` then receive as `classes`; 0: no condition.

    Raises:
        UserError: a side is not divisible by 2^depth.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        depth: PositiveInt,
        base: Callable[..., nn.Module],
        detail: Callable[..., nn.Module],
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.depth, self.classes = depth, classes
        *finer, coarsest = level_sizes(size, depth)
        condition = {"classes": classes} if classes else {}
        details = [detail(channels=channels, size=size, **condition) for size in finer]
        self.levels = nn.ModuleList([*details, base(channels=channels, size=coarsest, **condition)])


def level_sizes(size: Size, depth: int) -> list[tuple[int, int]]:
    """List the image sizes of all levels of a pyramid, the finest first.

    Args:
        size: size of the full image in pixels.
        depth: number of halvings.

    Returns:
        (H, W) of each level, `depth` + 1 sizes.

    Raises:
        UserError: a side is not divisible by 2^depth.
    """
    height, width = height_width(size)
    if height % 2**depth or width % 2**depth:
        deepest = max(k for k in range(depth) if height % 2**k == width % 2**k == 0)
        raise UserError(
            f"data.size={size}: a pyramid halves it {depth} times, so each side must be a multiple of {2**depth}"
            + f"; nearest: {nearest_size(size, 2**depth, 2**depth)}"
            + (f"; or model.game.generator.depth={deepest}" if deepest else "")
        )
    return [(height >> k, width >> k) for k in range(depth + 1)]
