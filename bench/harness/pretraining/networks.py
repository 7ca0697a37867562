"""The networks that the benches train: ResNets, a vision transformer, and their heads."""

# Axes: N image of a forward, C channel, S side, F feature, T token, D embedding, K prototype.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.pretraining.layers import Convolution, NormReLU


def resnet18(width: int = 64, stem_stride: int = 1) -> nn.Sequential:
    """ResNet-18 (He et al. 2016, arXiv 1512.03385) with the 3 x 3 stem without pooling that is usual for small images.

    Args:
        width: channels of the first of the four stages, each of which doubles them; 64 is the published network.
        stem_stride: 1, or 2 for a quarter of the work.

    Returns:
        [N, 3, S, S] -> features [N, 8 * width].
    """
    layers: list[nn.Module] = [Convolution(3, width, kernel=3, stride=stem_stride), NormReLU(width)]
    channels = width
    for stage in range(4):
        wider, stride = width * 2**stage, 1 if stage == 0 else 2
        layers += [BasicBlock(channels, wider, stride), BasicBlock(wider, wider)]
        channels = wider
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return encoder


class BasicBlock(nn.Module):
    """Two convolutions beside a short cut: [N, C, S, S] -> [N, D, S / stride, S / stride]. The parts bear torchvision's names."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = Convolution(channels, out_channels, 3, stride), NormReLU(out_channels)
        self.conv2, self.bn2 = Convolution(out_channels, out_channels, 3), NormReLU(out_channels)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(Convolution(channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))

    def forward(self, input: Tensor) -> Tensor:
        shortcut = input if self.downsample is None else self.downsample(input)
        return self.bn2(self.conv2(self.bn1(self.conv1(input))), shortcut)


def resnet(published: bool, width: int, stem_stride: int) -> tuple[nn.Module, int]:
    """An encoder, ResNet-50 as it is published or :func:`resnet18`, and the number of its features."""
    if not published:
        return resnet18(width, stem_stride), 8 * width
    from torchvision.models import resnet50

    encoder = resnet50(zero_init_residual=True)
    encoder.fc = nn.Identity()
    return encoder, 2048


def projector(features: int, dimensions: int) -> nn.Sequential:
    """Two layers, as SimCLR's on small images: [N, F] -> [N, D]."""
    return nn.Sequential(
        nn.Linear(features, features, bias=False), nn.BatchNorm1d(features), nn.ReLU(), nn.Linear(features, dimensions)
    )  # fmt: skip


class VisionTransformer(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) for views of any side that is a multiple of a patch.

    The parts bear the names that timm and DINO's code give them. The positions of other sides are interpolated from those of ``size``.

    Args:
        size: side of the views whose positions are learnt.
        patch_size: side of a patch, in pixels.
        width, depth, heads: of the tokens, the blocks and their attention.
    """

    def __init__(self, size: int, patch_size: int, width: int, depth: int, heads: int):
        super().__init__()
        self.patch_size = patch_size
        self.grid = size // patch_size
        self.patch_embed = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for weight in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> the class token [N, F]."""
        return self.norm(self._tokens(self._patches(pixels), pixels.shape[-1])[:, 0])

    def _patches(self, pixels: Tensor) -> Tensor:
        return self.patch_embed(pixels).flatten(2).transpose(1, 2)

    def _tokens(self, patches_NTF: Tensor, size: int) -> Tensor:
        tokens_NTF = torch.cat([self.cls_token.expand(len(patches_NTF), -1, -1), patches_NTF], dim=1) + self._positions(size)
        for block in self.blocks:
            tokens_NTF = block(tokens_NTF)
        return tokens_NTF

    def _positions(self, size: int) -> Tensor:
        grid = size // self.patch_size
        if grid == self.grid:
            return self.pos_embed
        learnt = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        scaled = F.interpolate(learnt.float(), size=(grid, grid), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], scaled.flatten(2).transpose(1, 2).to(learnt.dtype)], dim=1)


class MaskedVisionTransformer(VisionTransformer):
    """The same with patches that are hidden, and with patch tokens beside the class token."""

    def __init__(self, size: int, patch_size: int, width: int, depth: int, heads: int):
        super().__init__(size, patch_size, width, depth, heads)
        self.mask_token = nn.Parameter(torch.zeros(width))

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """[N, 3, S, S], bool [N, P] or of the grid's shape -> class token [N, F], patch tokens [N, P, F]."""
        patches_NPF = self._patches(pixels)
        if mask is not None:
            patches_NPF = torch.where(mask.flatten(1)[:, :, None], self.mask_token.to(patches_NPF.dtype), patches_NPF)
        tokens_NTF = self.norm(self._tokens(patches_NPF, pixels.shape[-1]))
        return tokens_NTF[:, 0], tokens_NTF[:, 1:]


class ClassToken(nn.Module):
    """The class token of a masked transformer's output: [N, 3, S, S] -> [N, F]."""

    def __init__(self, backbone: MaskedVisionTransformer):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone(pixels)[0]


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a short cut: tokens [N, T, F] -> [N, T, F]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.proj(mixed)
        return tokens + self.mlp(self.norm2(tokens))


class PrototypeHead(nn.Module):
    """DINO's head (Caron et al. 2021, arXiv 2104.14294): a perceptron, a unit vector, and its products with unit prototypes."""

    def __init__(self, features: int, prototypes: int, hidden: int = 512, bottleneck: int = 128):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> logits [N, K]."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))
