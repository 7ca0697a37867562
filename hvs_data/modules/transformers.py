"""Vision transformers among a user's modules: their first block, and the tokens that come before the patches."""

# Axes: N image of a forward, L token, D feature.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError

# Where transformers keep their blocks: timm and the official DINO, iBOT and DINOv2; torchvision; Hugging Face.
STACKS = ("blocks", "encoder.layers", "encoder.layer", "layers", "layer")
PATCH_EMBEDDINGS = ("patch_embed", "conv_proj", "embeddings")
# Their tokens before the patches: parameters [1, tokens, D] of the transformer, or of its embeddings at Hugging Face.
_PREFIXES = ("cls_token", "class_token", "dist_token", "distillation_token", "reg_token", "register_tokens", "storage_tokens")


def first_blocks(modules: Iterable[nn.Module]) -> list[tuple[nn.Module, int]]:
    """Of every vision transformer among the modules, its first block and the number of tokens before the patches."""
    found: dict[int, tuple[nn.Module, int]] = {}
    for module in modules:
        if any(isinstance(getattr(module, name, None), nn.Module) for name in PATCH_EMBEDDINGS):
            block = _first_block(module)
            if block is not None:
                _refuse_relative_positions(module, block)
                found.setdefault(id(block), (block, _prefix_of(module)))
    return list(found.values())


def _first_block(transformer: nn.Module) -> nn.Module | None:
    for path in STACKS:
        stack: Any = transformer
        for name in path.split("."):
            stack = getattr(stack, name, None)
        if isinstance(stack, (nn.ModuleList, nn.Sequential)) and len(stack):
            return stack[0]
    return None


def _refuse_relative_positions(transformer: nn.Module, block: nn.Module) -> None:
    if any("rel_pos" in name or "relative_position" in name for name, _ in [*block.named_parameters(), *block.named_buffers()]):
        raise SelectionError(
            f"keep_tokens expected positions to be added to the tokens before the blocks, got {type_name(transformer)}, whose attention "
            "holds a bias for every two places of the whole grid; such transformers cannot drop tokens here"
        )


def _prefix_of(transformer: nn.Module) -> int:
    named = getattr(transformer, "num_prefix_tokens", None)
    if isinstance(named, int):
        return named
    owners = [transformer, getattr(transformer, "embeddings", None)]
    tokens = [getattr(owner, name, None) for owner in owners for name in _PREFIXES]
    return sum(token.shape[1] for token in tokens if isinstance(token, Tensor) and token.ndim == 3)
