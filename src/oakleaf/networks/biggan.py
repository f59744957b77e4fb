"""BigGAN and BigGAN-deep: residual networks with a shared class embedding and z at every resolution.

Reference: Brock 2018, arXiv:1809.11096, appendix B, tables 4 to 9 and figures 15 and 16; 32 px and what the paper
leaves open: the authors' PyTorch code.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from oakleaf.config.types import NonNegativeInt, PositiveInt, Size, height_width
from oakleaf.errors import UserError
from oakleaf.networks.layers import ConditionalNorm, apply_spectral_norm, dcgan_stages
from oakleaf.networks.residual import (
    DownBlock,
    UpBlock,
    attended,
    attention_layers,
    doubled,
    projected_score,
)
from oakleaf.round import CriticOutput

# multiples of `width` by the number of doublings: the first map and then each block (G), each block (D)
GENERATOR = {1: (4, 4), 2: (4, 4, 4), 3: (4, 4, 4, 4), 4: (16, 16, 8, 4, 2), 5: (16, 16, 8, 4, 2, 1)}
GENERATOR |= {6: (16, 16, 8, 8, 4, 2, 1), 7: (16, 16, 8, 8, 4, 2, 1, 1)}
DISCRIMINATOR = {1: (4, 4, 4), 2: (4, 4, 4, 4), 3: (4, 4, 4, 4), 4: (1, 2, 4, 8, 16), 5: (1, 2, 4, 8, 16, 16)}
DISCRIMINATOR |= {6: (1, 2, 4, 8, 8, 16, 16), 7: (1, 1, 2, 4, 8, 8, 16, 16)}
EPS = 1e-6  # of the spectral normalisation: the authors' script for ImageNet


def multiples(table: dict[int, tuple[int, ...]], size: Size) -> tuple[int, ...]:
    """Return a table's row for an image size.

    Raises:
        UserError: there is none.
    """
    stages = dcgan_stages(size, least=1)[0]
    if stages not in table:
        raise UserError(f"data.size={size}: BigGAN's tables end at 512 pixels")
    return table[stages]


@torch.no_grad()
def init_orthogonal_(network: nn.Module) -> None:
    """Initialise convolutions and linear layers with orthogonal weights, in place; biases with 0.

    Reference: Brock 2018, arXiv:1809.11096, section 3; Saxe 2013, arXiv:1312.6120.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class DeepUpBlock(nn.Module):
    """A bottleneck block of BigGAN-deep's G: norm, ReLU and c1, c3, c3, c1, with a quarter of the channels between.

    The shortcut keeps the first channels of the input.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, at most `inputs`.
        doubles: whether the map is doubled.
        condition: width of the condition of each normalisation.

    Reference: Brock 2018, arXiv:1809.11096, figure 16b.
    """

    def __init__(self, inputs: int, outputs: int, doubles: bool, condition: int) -> None:
        super().__init__()
        hidden = max(1, inputs // 4)
        widths = [inputs, hidden, hidden, hidden]
        self.outputs, self.doubles = outputs, doubles
        self.norms = nn.ModuleList([ConditionalNorm("batch", w, condition, bias=False) for w in widths])
        kernels = [(inputs, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, outputs, 1)]
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, k, padding=k // 2) for i, o, k in kernels])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] and conditions y [B, condition] to [B, outputs, h, w] or [.., 2h, 2w]."""
        h = x
        for number, (norm, convolution) in enumerate(zip(self.norms, self.convolutions)):
            h = relu(norm(h, y))
            h = convolution(doubled(h) if number == 1 and self.doubles else h)
        x = x[:, : self.outputs]
        return h + (doubled(x) if self.doubles else x)


class DeepDownBlock(nn.Module):
    """A bottleneck block of BigGAN-deep's D: ReLU and c1, c3, c3, c1, with pooling before the last one.

    The shortcut keeps the channels of the input and appends those that are missing by a 1 x 1 convolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, at least `inputs`.
        halves: whether the map is halved.

    Reference: Brock 2018, arXiv:1809.11096, figure 16c.
    """

    def __init__(self, inputs: int, outputs: int, halves: bool) -> None:
        super().__init__()
        hidden = max(1, outputs // 4)
        self.halves = halves
        kernels = [(inputs, hidden, 1), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, outputs, 1)]
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, k, padding=k // 2) for i, o, k in kernels])
        self.shortcut = nn.Conv2d(inputs, outputs - inputs, 1) if outputs > inputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h, w] or [B, outputs, h / 2, w / 2]."""
        h = x
        for convolution in list(self.convolutions)[:-1]:
            h = convolution(relu(h))
        h = relu(h)
        if self.halves:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        h = self.convolutions[-1](h)
        return h + (x if self.shortcut is None else torch.cat([x, self.shortcut(x)], 1))


class Generator(nn.Module):
    """Generate images: z and the class at every resolution, as conditions of the normalisations.

    z is divided into one part for the first linear layer and one for each resolution; the first part has the remainder.
    Each resolution's part and the shared embedding of the class give gain and bias of its normalisations. With `deep`,
    all of z and the embedding are the condition of every block.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels, up to 512.
        width: channels of a map are multiples of it: table 4 to 9 of the paper.
        shared: length of the shared embedding of the condition.
        classes: width of the condition y; 0: no condition.
        attention: side of the map, in pixels, that self-attention is applied to; null: none.
        deep: whether the blocks are those of BigGAN-deep, two for each resolution.

    Raises:
        UserError: no map has the side `attention`; the images are too large; z is too short.

    Reference: Brock 2018, arXiv:1809.11096, section 3 and appendix B.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 96,
        shared: PositiveInt = 128,
        classes: NonNegativeInt = 0,
        attention: Size | None = None,
        deep: bool = False,
    ) -> None:
        super().__init__()
        widths, base = [width * m for m in multiples(GENERATOR, size)], dcgan_stages(size, least=1)[1]
        count = len(widths) - 1
        if latent <= count and not deep:
            raise UserError(f"model.game.prior.dim={latent}: z is divided into {count + 1} parts; use at least as many")
        part = latent // (count + 1)
        self.embedding = nn.Linear(classes, shared, bias=False) if classes else None
        embedded = shared if classes else 0
        self.parts = [0] if deep else [latent - count * part, *[part] * count]
        self.deep, self.base_shape = deep, (widths[0], *base)
        self.first = nn.Linear(latent + embedded if deep else self.parts[0], widths[0] * base[0] * base[1])
        condition = embedded + (latent if deep else part)
        self.blocks = nn.ModuleList([_up_blocks(i, o, condition, deep) for i, o in pairwise(widths)])
        self.attention = attention_layers(attention, [(base[0] << k, o) for k, o in enumerate(widths)])
        self.norm, self.image = nn.BatchNorm2d(widths[-1]), nn.Conv2d(widths[-1], channels, 3, padding=1)
        init_orthogonal_(self)
        shared_embedding, self.embedding = self.embedding, None  # which spectral normalisation leaves as it is
        apply_spectral_norm(self, EPS)
        self.embedding = shared_embedding

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        embedded = [] if self.embedding is None else [self.embedding(y)]
        if self.deep:
            everything = torch.cat([*embedded, z], 1)
            first, conditions = everything, [everything] * len(self.blocks)
        else:
            first, *parts = z.split(self.parts, 1)
            conditions = [torch.cat([*embedded, part], 1) for part in parts]
        x = attended(self.attention, 0, self.first(first).unflatten(1, self.base_shape))
        for number, (blocks, condition) in enumerate(zip(self.blocks, conditions), 1):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            x = attended(self.attention, number, x)
        return self.image(relu(self.norm(x))).tanh()


def _up_blocks(inputs: int, outputs: int, condition: int, deep: bool) -> nn.ModuleList:
    if deep:
        first = DeepUpBlock(inputs, inputs, doubles=False, condition=condition)
        return nn.ModuleList([first, DeepUpBlock(inputs, outputs, doubles=True, condition=condition)])
    return nn.ModuleList([UpBlock(inputs, outputs, "batch", condition, bias=False)])


class Discriminator(nn.Module):
    """Score images: residual blocks, the sum over all places, one logit and the projection of the condition.

    Args:
        channels: channels of an image.
        size: image size in pixels, up to 512.
        width: channels of a map are multiples of it: tables 4 to 9 of the paper.
        classes: width of the condition y, which is projected onto the features; 0: no condition.
        attention: side of the map, in pixels, that self-attention is applied to; null: none.
        deep: whether the blocks are those of BigGAN-deep, two for each resolution.

    Raises:
        UserError: no map has the side `attention`; the images are too large.

    Reference: Brock 2018, arXiv:1809.11096, appendix B.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 96,
        classes: NonNegativeInt = 0,
        attention: Size | None = None,
        deep: bool = False,
    ) -> None:
        super().__init__()
        widths, stages = [width * m for m in multiples(DISCRIMINATOR, size)], dcgan_stages(size, least=1)[0]
        side = height_width(size)[0]
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1) if deep else nn.Identity()
        pairs = list(pairwise(widths if deep else [channels, *widths]))
        constant = 2 if stages == 3 and not deep else len(pairs) - min(stages, len(pairs))
        blocks, maps = [], []
        for k, (i, o) in enumerate(pairs):
            halves = k < len(pairs) - constant
            blocks.append(_down_blocks(i, o, halves, k == 0, deep))
            side //= 1 + halves
            maps.append((side, o))
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention_layers(attention, maps)
        self.score = nn.Linear(widths[-1], 1)
        self.projection = nn.Linear(classes, widths[-1], bias=False) if classes else None
        init_orthogonal_(self)
        apply_spectral_norm(self, EPS)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        x = self.first(x)
        for number, blocks in enumerate(self.blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
            x = attended(self.attention, number, x)
        features = relu(x).sum((2, 3))
        return CriticOutput(projected_score(features, y, self.score, self.projection), features=features)


def _down_blocks(inputs: int, outputs: int, halves: bool, first: bool, deep: bool) -> nn.ModuleList:
    if deep:
        return nn.ModuleList([DeepDownBlock(inputs, outputs, halves), DeepDownBlock(outputs, outputs, halves=False)])
    return nn.ModuleList([DownBlock(inputs, outputs, halves, first)])
