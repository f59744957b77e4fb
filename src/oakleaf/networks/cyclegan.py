"""Networks for both ways between two domains."""

from collections.abc import Callable

from torch import nn

from oakleaf.config.types import Count


class Translators(nn.Module):
    """Zhu 2017's G and F, arXiv:1703.10593, section 3: `there` from inputs to images, `back` from images to inputs.

    network: (inputs, channels) -> one of them. inputs, channels: of the two domains.
    """

    def __init__(self, network: Callable[..., nn.Module], inputs: Count, channels: Count) -> None:
        super().__init__()
        self.there, self.back = network(inputs=inputs, channels=channels), network(inputs=channels, channels=inputs)


class Critics(nn.Module):
    """Zhu 2017's D_Y and D_X: `there` judges images, `back` inputs. network: channels -> one of them."""

    def __init__(self, network: Callable[..., nn.Module], inputs: Count, channels: Count) -> None:
        super().__init__()
        self.there, self.back = network(channels=channels), network(channels=inputs)
