"""Vision transformers in small, laid out as the public ones are, and their forwards with tokens removed by hand."""

import math

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, PATCH, GRID = 8, 2, 4  # of 8-pixel views


class Block(nn.Module):
    """Attention and a multilayer perceptron, each after a norm and around a shortcut."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Dropout(0.3), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.proj((q @ k.transpose(1, 2) / math.sqrt(WIDTH)).softmax(-1) @ v)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """As timm and the official DINO code lay it out, with positions that follow the views' size; returns the class token."""

    def __init__(self, registers=0, depth=3):
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + GRID**2, WIDTH))
        if registers:
            self.register_tokens = nn.Parameter(torch.randn(1, registers, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)

    def tokens(self, x):
        x = self.patch_embed(x)
        positions = self.pos_embed
        if x.shape[1] != GRID**2:
            grid = positions[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
            scaled = F.interpolate(grid, size=(math.isqrt(x.shape[1]),) * 2, mode="bicubic").flatten(2).transpose(1, 2)
            positions = torch.cat([positions[:, :1], scaled], dim=1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + positions
        if hasattr(self, "register_tokens"):
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        return x

    def forward(self, x):
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def kept_by_hand(height, share, width=None):
    """The numbers of the patches that stay, in plain Python: the places of a lattice that come first. Without a width, of a square grid."""
    width = height if width is None else width
    steps = 3242174889, 2447445414
    first = sorted(range(height * width), key=lambda place: (place // width * steps[0] + place % width * steps[1]) % 2**32)
    return sorted(first[: max(1, math.floor(share * height * width + 0.5))])


def without_tokens(vit, pixels, share, prefix=1):
    """The forward of a VisionTransformer with patches removed: class token [N, D]."""
    tokens = vit.tokens(pixels)
    side = math.isqrt(tokens.shape[1] - prefix)
    tokens = tokens[:, [*range(prefix), *(prefix + place for place in kept_by_hand(side, share))]]
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens)[:, 0]


class TokensSeen:
    """Counts the tokens that a module is given, in each of its forwards."""

    def __init__(self, module):
        self.tokens = []
        self.handle = module.register_forward_hook(lambda module, args, output: self.tokens.append(output.shape[1]))
