"""Multilayer perceptrons that tag images: from the features of an image and noise to the vector of a word.

The "image" that G generates and D scores is the word's vector [B, C, H, W], the condition y is the image's features.

Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.2.
"""

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from oakleaf.config.types import PositiveInt
from oakleaf.networks.layers import Maxout, Size, height_width, init_he_
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate word vectors from z and image features y: a ReLU layer of each, then one joint linear layer.

    Args:
        latent: length of the latent vector z.
        condition_width: width of the condition y.
        channels: channels of a word vector.
        size: size of a word vector, H and W.
        noise_units: units of the layer of z.
        condition_units: units of the layer of y.
        unit: whether vectors are scaled to length 1. Tags that are found by the cosine do not depend on the length.

    Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.2.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        noise_units: PositiveInt = 500,
        condition_units: PositiveInt = 2000,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.unit = (channels, *height_width(size)), unit
        self.noise = nn.Sequential(nn.Linear(latent, noise_units), nn.ReLU())
        self.condition_net = nn.Sequential(nn.Linear(condition_width, condition_units), nn.ReLU())
        self.joint = nn.Linear(noise_units + condition_units, prod(self.shape))
        init_he_(self, 0.0)
        with torch.no_grad():
            self.joint.weight.div_(prod(self.shape) ** 0.5)  # so that initial lengths are near 1, as those of words

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate word vectors.

        Args:
            z: latents [B, latent].
            y: image features [B, condition_width].

        Returns:
            Vectors [B, C, H, W], not bounded.
        """
        vectors = self.joint(torch.cat([self.noise(z), self.condition_net(y)], 1))
        return (normalize(vectors.float(), dim=1) if self.unit else vectors).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Score word vectors x given image features y: a ReLU layer of each, a maxout layer and one logit.

    Args:
        condition_width: width of the condition y.
        channels: channels of a word vector.
        size: size of a word vector, H and W.
        word_units: units of the layer of x.
        condition_units: units of the layer of y.
        joint_units: units of the maxout layer.
        pieces: linear functions for each maxout unit.
        joins: how y enters. "maxout": the layers of x and of y both lead to the maxout layer. "product": the layer of x
            alone leads there; y is mapped to a vector whose inner product with x is added to the logit.

    Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.2; maxout: Goodfellow 2013, arXiv:1302.4389; product:
    Miyato & Koyama 2018, arXiv:1802.05637, eq. (3).
    """

    per_sample = True

    def __init__(
        self,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        word_units: PositiveInt = 500,
        condition_units: PositiveInt = 1200,
        joint_units: PositiveInt = 1000,
        pieces: PositiveInt = 3,
        joins: Literal["maxout", "product"] = "maxout",
    ) -> None:
        super().__init__()
        values = channels * prod(height_width(size))
        self.word = nn.Sequential(nn.Linear(values, word_units), nn.ReLU())
        self.condition_net = nn.Sequential(nn.Linear(condition_width, condition_units), nn.ReLU())
        inputs = word_units + (condition_units if joins == "maxout" else 0)
        self.joint, self.score = Maxout(inputs, joint_units, pieces), nn.Linear(joint_units, 1)
        self.projection = nn.Linear(condition_units, values) if joins == "product" else None
        init_he_(self, 0.0)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """Score word vectors.

        Args:
            x: vectors [B, C, H, W].
            y: image features [B, condition_width].

        Returns:
            Scores [B] and features [B, joint_units], the inputs of the last layer.
        """
        x = x.flatten(1)
        word, condition = self.word(x), self.condition_net(y)
        features = self.joint(word if self.projection else torch.cat([word, condition], 1))
        score = self.score(features).squeeze(1)
        if self.projection:
            score = score + (x * self.projection(condition)).sum(1) / condition.shape[1] ** 0.5
        return CriticOutput(score.float(), features=features)
