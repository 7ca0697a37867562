"""Vision transformers among a user's modules: their blocks, the tokens that come before the patches, and what tells their grid."""

# Axes: N image of a forward, L token, D feature, H W sides of a grid of patches.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError

# Where transformers keep their blocks: timm and the official DINO to DINOv3; torchvision; Hugging Face, its DINOv3.
STACKS = ("blocks", "encoder.layers", "encoder.layer", "layers", "layer", "model.layer")
PATCH_EMBEDDINGS = ("patch_embed", "conv_proj", "embeddings")
# Their tokens before the patches: parameters [1, tokens, D] or [D] of the transformer, or of its embeddings at Hugging Face.
_PREFIXES = (
    "cls_token",
    "class_token",
    "class_embedding",
    "dist_token",
    "distillation_token",
    "reg_token",
    "register_tokens",
    "storage_tokens",
)


@dataclass(frozen=True)
class VisionTransformer:
    """What is known of a vision transformer.

    Attributes:
        blocks: in the order in which tokens pass them; the first one takes tokens [N, L, D] as its first argument.
        prefix: how many tokens come before the patches.
        patches: the convolution that makes patches of pixels, [N, D, H, W]; None where there is none.
    """

    blocks: tuple[nn.Module, ...]
    prefix: int
    patches: nn.Module | None


def vision_transformers(modules: Iterable[nn.Module]) -> list[VisionTransformer]:
    """Every vision transformer among the modules.

    Raises:
        SelectionError: one whose attention knows the places of the whole grid.
    """
    found: dict[int, VisionTransformer] = {}
    for module in modules:
        embedding = _embedding_of(module)
        blocks = () if embedding is None else _blocks_of(module)
        if embedding is not None and blocks:
            _refuse_relative_positions(module, blocks[0])
            found.setdefault(id(blocks[0]), VisionTransformer(blocks, _prefix_of(module), _last_convolution(embedding)))
    return list(found.values())


def named_transformers(blocks: Sequence[nn.Module], prefix: int, modules: Sequence[nn.Module]) -> list[VisionTransformer]:
    """Transformers of which the first blocks are named; what comes after each is what its list or sequence holds.

    Args:
        blocks: the first block of each.
        prefix: tokens before the patches.
        modules: all that there are, outer ones first.
    """
    return [VisionTransformer(_from(block, modules), prefix, _patches_before(block, modules)) for block in blocks]


def _embedding_of(transformer: nn.Module) -> nn.Module | None:
    """What embeds its patches, not words."""
    for name in PATCH_EMBEDDINGS:
        embedding = getattr(transformer, name, None)
        if isinstance(embedding, nn.Module):
            of_words = any(isinstance(module, nn.Embedding) for module in embedding.modules()) and _last_convolution(embedding) is None
            return None if of_words else embedding
    return None


def _last_convolution(embedding: nn.Module) -> nn.Module | None:
    return next((module for module in reversed(list(embedding.modules())) if isinstance(module, nn.Conv2d)), None)


def _blocks_of(transformer: nn.Module) -> tuple[nn.Module, ...]:
    for path in STACKS:
        stack: Any = transformer
        for name in path.split("."):
            stack = getattr(stack, name, None)
        if isinstance(stack, (nn.ModuleList, nn.Sequential)) and len(stack):
            return tuple(stack)
    return ()


def _from(block: nn.Module, modules: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    for module in modules:
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and any(inner is block for inner in module):
            stack = list(module)
            return tuple(stack[next(place for place, inner in enumerate(stack) if inner is block) :])
    return (block,)


def _patches_before(block: nn.Module, modules: Sequence[nn.Module]) -> nn.Module | None:
    """The convolution of the innermost module that holds both a patch embedding and the block."""
    owners = [module for module in modules if _embedding_of(module) is not None and any(inner is block for inner in module.modules())]
    embedding = _embedding_of(owners[-1]) if owners else None
    return None if embedding is None else _last_convolution(embedding)


def _refuse_relative_positions(transformer: nn.Module, block: nn.Module) -> None:
    if any("rel_pos" in name or "relative_position" in name for name, _ in [*block.named_parameters(), *block.named_buffers()]):
        raise SelectionError(
            f"keep_tokens expected positions that belong to single tokens, got {type_name(transformer)}, whose attention "
            "holds a bias for every two places of the whole grid; such transformers cannot drop tokens here"
        )


def _prefix_of(transformer: nn.Module) -> int:
    named = getattr(transformer, "num_prefix_tokens", None)
    if isinstance(named, int):
        return named
    owners = [transformer, getattr(transformer, "embeddings", None)]
    tokens = [getattr(owner, name, None) for owner in owners for name in _PREFIXES]
    return sum(token.shape[1] if token.ndim == 3 else 1 for token in tokens if isinstance(token, Tensor) and token.ndim in (1, 3))
