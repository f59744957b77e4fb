"""Perceptrons that tag pictures: from a picture's features and noise to the vector of a word. Mirza & Osindero 2014,
arXiv:1411.1784, section 4.2.
"""

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from oakleaf.config.types import PositiveInt
from oakleaf.networks.layers import Maxout, Size, he_weights, height_width
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """z and y are each rectified, then together go through one linear map.

    unit: bring vectors to length 1, which is all that tags by cosine see of them.
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
        he_weights(self, 0.0)
        with torch.no_grad():
            self.joint.weight.div_(prod(self.shape) ** 0.5)  # so that lengths begin near 1, those of words

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, latent], y [B, condition_width] -> [B, C, H, W], of any size"""
        vectors = self.joint(torch.cat([self.noise(z), self.condition_net(y)], 1))
        return (normalize(vectors.float(), dim=1) if self.unit else vectors).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """x and y are each rectified. joins = maxout: together they go through maxout (Goodfellow 2013,
    arXiv:1302.4389) and one linear map. joins = product: only x goes there; y is mapped to a vector whose product with
    x is added (Miyato & Koyama 2018, arXiv:1802.05637, eq. (3)).
    """

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
        numbers = channels * prod(height_width(size))
        self.word = nn.Sequential(nn.Linear(numbers, word_units), nn.ReLU())
        self.condition_net = nn.Sequential(nn.Linear(condition_width, condition_units), nn.ReLU())
        inner = word_units + (condition_units if joins == "maxout" else 0)
        self.joint, self.score = Maxout(inner, joint_units, pieces), nn.Linear(joint_units, 1)
        self.match = nn.Linear(condition_units, numbers) if joins == "product" else None
        he_weights(self, 0.0)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """x [B, C, H, W], y [B, condition_width] -> score [B], features [B, joint_units]: what the last map sees"""
        x = x.flatten(1)
        word, condition = self.word(x), self.condition_net(y)
        features = self.joint(word if self.match else torch.cat([word, condition], 1))
        score = self.score(features).squeeze(1)
        if self.match:
            score = score + (x * self.match(condition)).sum(1) / condition.shape[1] ** 0.5
        return CriticOutput(score.float(), features=features)
