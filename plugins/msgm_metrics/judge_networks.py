"""Networks of classifiers: a small one for tiny images, a residual one for the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

TINY = 16  # px: up to here the small network sees as much as the residual one
FULL_RESOLUTION = 32  # px: up to here the residual one starts at full resolution


class Network(nn.Module):
    """Features, dropout and a linear layer, of [0, 1] images."""

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """What the linear layer sees, ``[N, F]``."""
        found: Tensor = self.body(2 * x - 1)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of [0, 1] images ``[N, C, H, W]``."""
        logits: Tensor = self.head(self.dropout(self.features(x)))
        return logits


def small(channels: int, width: int, outputs: int) -> Network:
    """Three convolutions with batch normalisation and two poolings: ``8 width`` features."""
    sizes = (channels, width, 2 * width, 2 * width)
    blocks: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)] if i < 2 else []
    return Network(
        nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten()), 8 * width, outputs
    )


def resnet(
    shape: tuple[int, ...], width: int, blocks: Sequence[int], embedding: int, outputs: int
) -> Network:
    """timm's ResNet-D of basic blocks with widths 1, 2, 4 and 4 times ``width``.

    The stem has three 3x3 convolutions (He et al. 2019, section 4.2), the first of stride 1 up
    to 32 px and of stride 2 above, and nothing is pooled behind it. A linear layer leaves
    ``embedding`` features, few enough for a covariance of full rank from a thousand images.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Channels of the first stage.
        blocks: Basic blocks of each of the four stages; (2, 2, 2, 2) is ResNet-18.
        embedding: Number of features.
        outputs: Number of logits.
    """
    from timm.models.resnet import BasicBlock, ResNet  # takes seconds

    body = ResNet(
        BasicBlock,
        tuple(blocks),
        num_classes=embedding,
        in_chans=shape[0],
        stem_type="deep",
        stem_width=width // 2,
        channels=(width, 2 * width, 4 * width, 4 * width),
    )
    if max(shape[1:]) <= FULL_RESOLUTION:
        body.conv1[0].stride = (1, 1)
    body.maxpool = nn.Identity()
    return Network(body, embedding, outputs)
