"""A small vision transformer with the heads and the multi-crop wrapper of DINO and iBOT, which the repositories bring along."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Pixels [N, 3, S, S] -> the class token [N, D], or all tokens [N, 1 + P, D]; with masks [N, G, G] if they are modelled."""

    def __init__(self, img_size=224, patch_size=16, dim=192, depth=4, heads=3, return_all_tokens=False, masked_im_modeling=False):
        super().__init__()
        self.embed_dim, self.patch_size, self.grid = dim, patch_size, img_size // patch_size
        self.return_all_tokens, self.masked_im_modeling = return_all_tokens, masked_im_modeling
        self.patch_embed = nn.Conv2d(3, dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid**2, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        if masked_im_modeling:
            self.masked_embed = nn.Parameter(torch.zeros(1, dim))

    def positions(self, patches):
        if patches == self.grid**2:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        resized = F.interpolate(grid, size=(math.isqrt(patches),) * 2, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([self.pos_embed[:, :1], resized], dim=1)

    def forward(self, x, mask=None):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.masked_im_modeling:
            assert mask is not None, "masked_im_modeling is on: every view needs a mask"
            x = torch.where(mask.flatten(1)[..., None], self.masked_embed.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(x.shape[1])
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x if self.return_all_tokens else x[:, 0]


class DINOHead(nn.Module):
    def __init__(self, in_dim, out_dim, hidden_dim=256, bottleneck_dim=64):
        super().__init__()
        hidden = nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU()
        self.mlp = nn.Sequential(*hidden, nn.Linear(hidden_dim, bottleneck_dim))
        self.last_layer = prototypes(bottleneck_dim, out_dim)

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


class iBOTHead(DINOHead):  # noqa: N801, as the repository names it
    """Tokens [N, 1 + P, D] -> logits of the class token and of the patches, with prototypes of their own."""

    def __init__(self, in_dim, out_dim, patch_out_dim, hidden_dim=256, bottleneck_dim=64):
        super().__init__(in_dim, out_dim, hidden_dim, bottleneck_dim)
        self.last_layer2 = prototypes(bottleneck_dim, patch_out_dim)

    def forward(self, x):
        x = F.normalize(self.mlp(x), dim=-1)
        return self.last_layer(x[:, 0]), self.last_layer2(x[:, 1:])


def prototypes(bottleneck_dim, out_dim):
    """A linear layer whose rows stay at length 1."""
    layer = weight_norm(nn.Linear(bottleneck_dim, out_dim, bias=False))
    layer.parametrizations.weight.original0.data.fill_(1)
    layer.parametrizations.weight.original0.requires_grad = False
    return layer


class MultiCropWrapper(nn.Module):
    """A list of crops through the backbone, one forward for each run of crops of one size, and all outputs through the head."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x, mask=None):
        if not isinstance(x, list):
            x, mask = [x], None if mask is None else [mask]
        sizes = [crop.shape[-1] for crop in x]
        starts = [number for number, size in enumerate(sizes) if number == 0 or size != sizes[number - 1]]
        outputs = []
        for start, end in zip(starts, [*starts[1:], len(x)], strict=True):
            masks = {} if mask is None else {"mask": torch.cat(mask[start:end])}
            outputs.append(self.backbone(torch.cat(x[start:end]), **masks))
        return self.head(torch.cat(outputs))
