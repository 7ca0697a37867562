"""A vision transformer's forward with part of its patches: what its blocks are given, tokens and their positions alike."""

# Axes: N image of a forward, L token, D feature, P patch, H W sides of the grid of patches, K kept token.

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.modules.transformers import VisionTransformer
from hvs_data.objectives.parts import describe

# Two irrational steps whose multiples spread evenly over the unit square (Roberts 2018, "The unreasonable effectiveness of quasirandom
# sequences": 1/x and 1/x^2 with x^3 = x + 1), in whole numbers of 2^-32 so that every device orders the patches alike.
_STEPS = (3242174889, 2447445414)


def kept_patches(height: int, width: int, share: float, device: torch.device) -> Tensor:
    """Places of the kept patches in a grid [H, W], evenly spread: int64 [K] in rising order, K = share H W, rounded, at least 1.

    Ordered by a low-discrepancy lattice, every leading part of which covers the grid evenly.
    """
    place_P = torch.arange(height * width, device=device)
    value_P = (place_P // width * _STEPS[0] + place_P % width * _STEPS[1]) % 2**32
    kept = max(1, math.floor(height * width * share + 0.5))
    return value_P.argsort(stable=True)[:kept].sort().values


@dataclass(frozen=True)
class _Kept:
    """Which tokens of one forward stay.

    Attributes:
        tokens, patches: how many there were.
        token_K, patch_K: int64, those that stay, among all tokens and among the patches.
    """

    tokens: int
    patches: int
    token_K: Tensor
    patch_K: Tensor

    def of_positions(self, block: nn.Module, positions: Tensor) -> Tensor:
        """The rows of a tensor [..., L or P, D] that belong to the tokens that stay."""
        rows = positions.shape[-2] if positions.ndim > 1 and positions.dtype != torch.bool else None
        if rows == self.patches:
            return positions.index_select(-2, self.patch_K)
        if rows == self.tokens:
            return positions.index_select(-2, self.token_K)
        raise SelectionError(
            f"keep_tokens expected tensors beside the tokens of {type_name(block)} to hold positions [..., tokens, D], as rotary ones do, "
            f"of {self.tokens} tokens or {self.patches} patches, got {describe(positions)}; such transformers cannot drop tokens here: "
            "keep_tokens=None"
        )


class KeptTokens:
    """The hooks of one transformer. The first block is given the kept tokens, and every block their positions.

    Args:
        share: of the patches.
        prefix: tokens before the patches, which stay.
    """

    def __init__(self, share: float, prefix: int):
        self._share = share
        self._prefix = prefix
        # of the forward in the making: the grids of the views that were embedded, and what stays of them
        self._grids: list[tuple[int, int]] = []
        self._kept: list[_Kept] = []

    @contextmanager
    def applied(self, transformer: VisionTransformer) -> Iterator[None]:
        """Inside, a forward of the transformer goes on with part of its tokens. The hooks go with the context."""
        first, *later = transformer.blocks
        with ExitStack() as stack:
            stack.callback(self._forget)
            if transformer.patches is not None:
                stack.callback(transformer.patches.register_forward_hook(self._note_grid).remove)
            stack.callback(first.register_forward_pre_hook(self._drop_tokens, with_kwargs=True).remove)
            for block in later:
                stack.callback(block.register_forward_pre_hook(self._at_later_block, with_kwargs=True).remove)
            yield

    def _forget(self) -> None:
        self._grids, self._kept = [], []

    def _note_grid(self, convolution: nn.Module, args: tuple[Any, ...], patches_NDHW: Tensor) -> None:
        self._grids.append((patches_NDHW.shape[-2], patches_NDHW.shape[-1]))

    def _drop_tokens(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = args[0] if args else None
        several = isinstance(given, list)  # the official DINOv3 code passes views of several sizes side by side
        views = given if isinstance(given, list) else [given]
        if not views or not all(isinstance(tokens, Tensor) and tokens.ndim == 3 for tokens in views):
            raise SelectionError(
                f"keep_tokens expected tokens [N, L, D] as the first argument of {type_name(block)}, got {describe(given)}"
            )
        grids = self._grids[-len(views) :] if len(self._grids) >= len(views) else [None] * len(views)
        self._kept = [self._kept_of(block, tokens, grid) for tokens, grid in zip(views, grids, strict=True)]
        self._grids = []
        tokens = [view.index_select(1, kept.token_K) for view, kept in zip(views, self._kept, strict=True)]
        return self._drop_positions(block, (tokens if several else tokens[0], *args[1:]), kwargs)

    def _at_later_block(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        expected = [len(kept.token_K) for kept in self._kept]
        views = args[0] if args and isinstance(args[0], list) else args[:1]
        arrived = [view.shape[1] for view in views if isinstance(view, Tensor) and view.ndim > 1]
        if arrived != expected:
            raise SelectionError(
                f"keep_tokens expected {expected} tokens in every block, got {arrived} in {type_name(block)}; transformers that pool "
                "tokens by their places in the grid, such as Hiera, cannot drop any: keep_tokens=None"
            )
        return self._drop_positions(block, args, kwargs)

    def _drop_positions(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        several = bool(args) and isinstance(args[0], list)

        def dropped(value: Any) -> Any:
            if several and isinstance(value, (tuple, list)) and len(value) == len(self._kept):
                return [_mapped(item, block, kept) for item, kept in zip(value, self._kept, strict=True)]
            return _mapped(value, block, self._kept[0])

        return (*args[:1], *map(dropped, args[1:])), {name: dropped(value) for name, value in kwargs.items()}

    def _kept_of(self, block: nn.Module, tokens: Tensor, grid: tuple[int, int] | None) -> _Kept:
        patches = tokens.shape[1] - self._prefix
        side = math.isqrt(max(patches, 0))
        height, width = (side, side) if grid is None or grid[0] * grid[1] != patches else grid
        if patches < 1 or height * width != patches:
            raise SelectionError(
                f"keep_tokens expected {self._prefix} tokens and then a square grid of patches in {type_name(block)}, got "
                f"{tokens.shape[1]} tokens; a model that drops patches itself needs dropout=False; else give the number of other tokens "
                "with keep_tokens=KeepTokens(share, blocks=, prefix=), or square views"
            )
        patch_K = kept_patches(height, width, self._share, tokens.device)
        before = torch.arange(self._prefix, device=tokens.device)
        return _Kept(tokens.shape[1], patches, torch.cat([before, patch_K + self._prefix]), patch_K)


def _mapped(value: Any, block: nn.Module, kept: _Kept) -> Any:
    """A block's argument with the positions of the tokens that stay."""
    if isinstance(value, Tensor):
        return kept.of_positions(block, value)
    if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
        return type(value)(_mapped(item, block, kept) for item in value)
    return value
