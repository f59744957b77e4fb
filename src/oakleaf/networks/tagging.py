"""Perceptrons that tag pictures: from a picture's features and noise to the vector of a word. Mirza & Osindero 2014,
arXiv:1411.1784, section 4.2.
"""

from math import prod

import torch
from torch import Tensor, nn

from oakleaf.networks.layers import Maxout, Size, he_weights, height_width
from oakleaf.numbers import Count, Share
from oakleaf.round import Verdict


class Generator(nn.Module):
    """z and y are each rectified, then together go through one linear map."""

    def __init__(
        self,
        latent: Count,
        told: Count,
        channels: Count,
        size: Size,
        noise_units: Count = 500,
        told_units: Count = 2000,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        self.noise = nn.Sequential(nn.Linear(latent, noise_units), nn.ReLU())
        self.told = nn.Sequential(nn.Dropout(dropout), nn.Linear(told, told_units), nn.ReLU(), nn.Dropout(dropout))
        self.joint = nn.Linear(noise_units + told_units, prod(self.shape))
        he_weights(self, 0.0)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, latent], y [B, told] -> [B, C, H, W], of any size"""
        return self.joint(torch.cat([self.noise(z), self.told(y)], 1)).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """x and y are each rectified, then together through maxout (Goodfellow 2013, arXiv:1302.4389), then one logit."""

    def __init__(
        self,
        told: Count,
        channels: Count,
        size: Size,
        word_units: Count = 500,
        told_units: Count = 1200,
        joint_units: Count = 1000,
        pieces: Count = 3,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.word = nn.Sequential(nn.Linear(channels * prod(height_width(size)), word_units), nn.ReLU())
        self.told = nn.Sequential(nn.Dropout(dropout), nn.Linear(told, told_units), nn.ReLU(), nn.Dropout(dropout))
        self.joint = nn.Sequential(
            Maxout(word_units + told_units, joint_units, pieces), nn.Dropout(dropout), nn.Linear(joint_units, 1)
        )
        he_weights(self, 0.0)

    def forward(self, x: Tensor, y: Tensor) -> Verdict:
        """x [B, C, H, W], y [B, told] -> score [B]"""
        inner = torch.cat([self.word(x.flatten(1)), self.told(y)], 1)
        return Verdict(self.joint(inner).squeeze(1).float())
