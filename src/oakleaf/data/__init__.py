"""Real images: where they come from, how they are cut to size, kept and dealt."""

from oakleaf.data.images import Images

__all__ = ["Images"]
