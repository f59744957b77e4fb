"""One network for each level of a pyramid of images."""

from collections.abc import Callable

from torch import nn

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, height_width, rounded


class Levels(nn.Module):
    """`levels[0]` is for images of the full size, each further level for half that; the last is the coarsest one's.

    depth: how often an image is halved. base: channels, size -> the network of the coarsest level; detail: the same for
    each other level. With `classes`, the width of the condition y, both are given that as well.
    """

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
        *finer, coarsest = sizes(size, depth)
        condition = {"classes": classes} if classes else {}
        details = [detail(channels=channels, size=size, **condition) for size in finer]
        self.levels = nn.ModuleList([*details, base(channels=channels, size=coarsest, **condition)])


def sizes(size: Size, depth: int) -> list[tuple[int, int]]:
    """Of each level's images, (H, W), the finest first.

    Raises:
        UserError: a side that can't be halved so often.
    """
    height, width = height_width(size)
    if height % 2**depth or width % 2**depth:
        deepest = max(k for k in range(depth) if height % 2**k == width % 2**k == 0)
        raise UserError(
            f"data.size={size}: a pyramid halves it {depth} times, so each side must be a multiple of {2**depth}"
            + f"; nearest: {rounded(size, 2**depth, 2**depth)}"
            + (f"; or model.game.generator.depth={deepest}" if deepest else "")
        )
    return [(height >> k, width >> k) for k in range(depth + 1)]
