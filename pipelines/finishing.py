"""What few recipes draw, done by PyTorch behind engines that lack it: turns, vertical flips, posterize."""

# Axes: G image of a group, V view, N view of any image, C channel, H W pixels.

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hvs_data.kernels.render.turning import after_mirror
from hvs_data.pipelines.storing import on_device
from hvs_data.types.rows import ViewParams


def is_finished(params: ViewParams) -> bool:
    """Whether rows draw none of this."""
    return params.turn is None and params.vertical_flip is None and params.posterize is None


def finish_views(x_VGCHW: Tensor, params: ViewParams) -> None:
    """Turn, flip vertically and posterize views in place, which have had every other operation before the normalisation.

    No other operation knows where up is, so that turns and flips may come last.

    Args:
        x_VGCHW: float32, values 0-1, on any device, which is not waited for.
        params: rows [G, V].
    """
    _turn(x_VGCHW, params)
    _posterize(x_VGCHW, params)


def _turn(x_VGCHW: Tensor, params: ViewParams) -> None:
    left = after_mirror(params)
    if left is None:
        return
    flip_VG, turn_VG = (value_GV.T for value_GV in left)
    for flip, turn in ((flip, turn) for flip in (False, True) for turn in range(4) if flip or turn):
        place_2N = np.argwhere((flip_VG == flip) & (turn_VG == turn)).T
        if place_2N.size:
            v_N, g_N = on_device(torch.from_numpy(np.ascontiguousarray(place_2N)), x_VGCHW.device)
            x_NCHW = x_VGCHW[v_N, g_N]
            x_VGCHW[v_N, g_N] = (x_NCHW.flip(-2) if flip else x_NCHW).rot90(turn, (-2, -1))


def _posterize(x_VGCHW: Tensor, params: ViewParams) -> None:
    if params.posterize is None:
        return
    bits_VG = params.posterize.T.contiguous()
    levels_VG111 = on_device(2.0 ** bits_VG.float(), x_VGCHW.device)[:, :, None, None, None]
    posterized = (x_VGCHW * levels_VG111).floor_().clamp_min_(0).minimum(levels_VG111 - 1).div_(levels_VG111)
    torch.where(levels_VG111 < 256, posterized, x_VGCHW, out=x_VGCHW)
