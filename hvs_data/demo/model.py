"""The demo's model: SimSiam on a ResNet that two cores can train."""

# Axes: N image of a forward, C channel, S side, F feature, D embedding.

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.errors import MissingDependencyError


class SimSiam(nn.Module):
    """SimSiam (Chen & He 2021, arXiv 2011.10566) on a narrow ResNet-10.

    Args:
        width: channels of the encoder's first stage; each of the four stages doubles them.
        dimensions: D, length of projections and predictions.
    """

    def __init__(self, width: int = 32, dimensions: int = 512):
        super().__init__()
        self.encoder = small_resnet(width)
        self.projector = nn.Sequential(
            nn.Linear(8 * width, dimensions, bias=False),
            nn.BatchNorm1d(dimensions),
            nn.ReLU(),
            nn.Linear(dimensions, dimensions, bias=False),
            nn.BatchNorm1d(dimensions, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Linear(dimensions, dimensions // 4, bias=False),
            nn.BatchNorm1d(dimensions // 4),
            nn.ReLU(),
            nn.Linear(dimensions // 4, dimensions),
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> prediction and projection (p, z), each [N, D]; no gradient flows through z."""
        z = self.projector(self.encoder(pixels))
        return self.predictor(z), z.detach()


def simsiam_loss(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    """The published loss of a batch of pairs, ``-1/2 [cos(p1, z2) + cos(p2, z1)]``: a scalar from -1, full agreement, to 1.

    Args:
        model: maps [N, 3, S, S] to (p, z).
        x1, x2: the pairs' first and second views, each [N, 3, S, S].
    """
    (p1, z1), (p2, z2) = model(x1), model(x2)
    return -(F.cosine_similarity(p1, z2).mean() + F.cosine_similarity(p2, z1).mean()) / 2


def small_resnet(width: int) -> nn.Sequential:
    """Four stages of one residual block each, with a stem for small images: [N, 3, S, S] -> features [N, 8 * width].

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    try:
        from torchvision.models.resnet import BasicBlock
    except ImportError:
        raise MissingDependencyError("torchvision", "demo", "the demo's model") from None
    layers = [_convolution(3, width, kernel=3, stride=2), nn.ReLU(), BasicBlock(width, width)]
    for channels in (width, 2 * width, 4 * width):
        shortcut = _convolution(channels, 2 * channels, kernel=1, stride=2)
        layers.append(BasicBlock(channels, 2 * channels, stride=2, downsample=shortcut))
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return encoder


def _convolution(channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(out_channels)
    )  # fmt: skip
