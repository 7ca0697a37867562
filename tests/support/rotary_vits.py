"""A vision transformer with rotary positions in small, laid out as the official DINOv3 code does: views of several sizes side by side."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from small_vits import PATCH, WIDTH


def rotated(x, sin, cos):
    """Tokens [N, L, D] of which the last P are turned by their positions [P, D]."""
    before, patches = x[:, : -len(sin)], x[:, -len(sin) :]
    first, second = patches.chunk(2, dim=-1)
    return torch.cat([before, patches * cos + torch.cat([-second, first], dim=-1) * sin], dim=1)


class RotaryBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def one(self, x, rope):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return x + self.proj(F.scaled_dot_product_attention(rotated(q, *rope), rotated(k, *rope), v))

    def forward(self, x, rope):
        return [self.one(*both) for both in zip(x, rope, strict=True)] if isinstance(x, list) else self.one(x, rope)


class RotaryTransformer(nn.Module):
    """Class and storage tokens, then patches; a list of views or one of them -> their tokens."""

    def __init__(self, depth=3):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.storage_tokens = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.blocks = nn.ModuleList(RotaryBlock() for _ in range(depth))

    def positions(self, height, width):
        """sin and cos of the angles of every patch: [P, D] each."""
        places = torch.cartesian_prod(torch.arange(height) / height, torch.arange(width) / width).to(self.cls_token.dtype)
        angles = 2 * math.pi * torch.cat([places * 2**level for level in range(WIDTH // 4)], dim=1).repeat(1, 2)
        return angles.sin(), angles.cos()

    def forward(self, views):
        several = views if isinstance(views, list) else [views]
        tokens, rope = [], []
        for view in several:
            patches = self.patch_embed.proj(view)
            before = torch.cat([self.cls_token, self.storage_tokens], dim=1).expand(len(view), -1, -1)
            tokens.append(torch.cat([before, patches.flatten(2).transpose(1, 2)], dim=1))
            rope.append(self.positions(*patches.shape[2:]))
        x, rope = (tokens, rope) if isinstance(views, list) else (tokens[0], rope[0])
        for block in self.blocks:
            x = block(x, rope)
        return x
