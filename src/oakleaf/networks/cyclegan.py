"""CycleGAN's pairs of networks: two generators and two discriminators.

Reference: Zhu 2017, arXiv:1703.10593, section 3.
"""

from collections.abc import Callable

from torch import nn

from oakleaf.config.types import PositiveInt


class Translators(nn.Module):
    """Hold the two generators: `to_image` is G (inputs to images), `to_input` is F (images to inputs).

    `oakleaf.games.Unpaired` calls the networks.

    Args:
        network: creates one generator from `inputs` and `channels`.
        inputs: channels of the input domain.
        channels: channels of the image domain.

    Reference: Zhu 2017, arXiv:1703.10593, section 3.
    """

    def __init__(self, network: Callable[..., nn.Module], inputs: PositiveInt, channels: PositiveInt) -> None:
        super().__init__()
        self.to_image = network(inputs=inputs, channels=channels)
        self.to_input = network(inputs=channels, channels=inputs)


class Critics(nn.Module):
    """Hold the two discriminators: `of_images` is D_Y, `of_inputs` is D_X.

    `oakleaf.games.Unpaired` calls the networks.

    Args:
        network: creates one discriminator from `channels`.
        inputs: channels of the input domain.
        channels: channels of the image domain.

    Reference: Zhu 2017, arXiv:1703.10593, section 3.
    """

    per_sample = True

    def __init__(self, network: Callable[..., nn.Module], inputs: PositiveInt, channels: PositiveInt) -> None:
        super().__init__()
        self.of_images = network(channels=channels)
        self.of_inputs = network(channels=inputs)
