"""Random numbers of many views at once, each view's from its own key."""

# Axes: N view, K number of a view.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.drawing.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1
from hvs_data.errors import HvsError

_LOW = 0xFFFFFFFF


def uniform(keys: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Numbers for every view, which depend on its key and on nothing else: for stages that work on many views at once.

    Args:
        keys: int64 [N], from 0 to 2**63 - 1: what a stage's parameter ``keys`` is given.
        count: K, how many numbers each view gets.
        stream: from 0 to 2**32 - 1; each is another series of numbers, for several draws in one stage.

    Returns:
        float32 [N, K], uniform over [0, 1), on the device of ``keys``, computed there. The first numbers are the same for any K.

    Raises:
        HvsError: keys of another kind, or numbers out of their range.
    """
    if not isinstance(keys, Tensor) or keys.dtype != torch.int64 or keys.ndim != 1:
        arrived = f"{keys.dtype} {tuple(keys.shape)}" if isinstance(keys, Tensor) else type(keys).__name__
        raise HvsError(f"expected keys of dtype int64 and shape [N], as a stage's parameter keys holds them, got {arrived}")
    if count < 0 or not 0 <= stream < 2**32:
        raise HvsError(f"expected count of at least 0 and a stream from 0 to 2**32 - 1, got count={count} and stream={stream}")
    block_1K = torch.arange(-(-count // 4), device=keys.device)[None, :]
    c0, c1 = block_1K.expand(len(keys), -1), torch.full_like(block_1K, stream)
    c2 = c3 = torch.zeros_like(block_1K)
    key_0, key_1 = (keys & _LOW)[:, None], (keys >> 32)[:, None]
    for _ in range(ROUNDS):  # philox_4x32 in int64, whose products wrap and keep all 64 bits
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = _high(product_1) ^ c1 ^ key_0, product_1 & _LOW, _high(product_0) ^ c3 ^ key_1, product_0 & _LOW
        key_0, key_1 = (key_0 + WEYL_0) & _LOW, (key_1 + WEYL_1) & _LOW
    words_NK = torch.stack([c0, c1, c2, c3], dim=-1).flatten(1)[:, :count]
    return (words_NK >> 8).to(torch.float32) * 2.0**-24


def _high(product: Tensor) -> Tensor:
    return (product >> 32) & _LOW
