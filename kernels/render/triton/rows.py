"""From rows to the tables that kernels read, and these to the device: one piece of page-locked memory, one copy, no waiting."""

# Axes: B image, V view, N = B V row (one view), M row of a kind, R radius of a blur.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton import tables
from hvs_data.kernels.render.triton.taps import count_band_rows, count_taps
from hvs_data.types import ViewParams

ALIGNMENT = 16  # bytes, of every table
# Taps beyond four standard deviations hold less than 6.4e-5 of an axis' weight: .033 of a 0-255 level at the worst, both axes together.
CUTOFF = 4.0
NO_WEIGHT = 1e-9

Array = NDArray[Any]


@dataclass(frozen=True)
class Tables:
    """What is known of N rows before a pixel is read.

    Attributes:
        arrays: by name. place int64 [N, PLACES], whole int32 [N, WHOLES] and factor float32 [N, FACTORS], see tables.py; contrast int32
            [M], the rows that have one; blurred int32 [M], radius int32 [M] and blur_weight float32 [M, R + 1], of those with a blur.
        weights: elements of memory that the weights of all taps take.
    """

    arrays: Mapping[str, Array]
    weights: int

    @property
    def rows(self) -> int:
        return len(self.arrays["place"])


def tables_of(images: Sequence[Tensor], params: ViewParams, canvas: Canvas, first_image: int, tile_y: int) -> Tables:
    """Tables of rows [B, V] that go into images ``first_image`` to ``first_image + B - 1`` of a canvas; on the host, nothing is launched.

    Args:
        images: B uint8 tensors [H, W, 3], contiguous. Their memory is named by its address, and must stay as it is until it was read.
        tile_y: output rows of a tile of the resize.
    """
    sides, bicubic = height_width(canvas.size), params.spec.interpolation == "bicubic"
    count = params.batch_size * params.num_views
    box_N4 = params.box.numpy().reshape(count, 4).astype(np.int64)
    image_N = np.repeat(np.arange(params.batch_size), params.num_views)
    view_N = np.tile(np.arange(params.num_views), params.batch_size)
    step_N = np.array([3 * image.shape[1] for image in images], dtype=np.int64)[image_N]
    address_N = np.array([image.data_ptr() for image in images], dtype=np.int64)[image_N]

    place, whole = np.zeros((count, tables.PLACES.value), np.int64), np.zeros((count, tables.WHOLES.value), np.int32)
    place[:, tables.ADDRESS.value] = address_N + box_N4[:, 0] * step_N + box_N4[:, 1] * 3
    view_stride, image_stride = canvas.pixels.stride()[:2]
    place[:, tables.OUT.value] = view_N * view_stride + (first_image + image_N) * image_stride
    side_N2 = box_N4[:, 2:]
    taps_N2 = count_taps(side_N2, np.array(sides), bicubic)
    band_N = count_band_rows(side_N2[:, 0], sides[0], bicubic, tile_y)
    # vertical weights of all rows come first, so that each begins at a whole tile
    band_size_N, across_size_N = band_N * -(-sides[0] // tile_y), taps_N2[:, 1] * sides[1]
    place[:, tables.BAND.value] = _starts(band_size_N)
    place[:, tables.ACROSS.value] = _starts(across_size_N) + band_size_N.sum() * tile_y

    whole[:, tables.STEP.value] = step_N
    whole[:, tables.SIDE.value : tables.SIDE.value + 2] = side_N2
    whole[:, tables.TAPS.value : tables.TAPS.value + 2] = taps_N2
    whole[:, tables.BAND_ROWS.value] = band_N
    whole[:, tables.FLIP.value] = params.flip.numpy().reshape(-1)
    whole[:, tables.BEFORE.value], whole[:, tables.AFTER.value] = _operations(params)
    whole[:, tables.IS_GRAY.value] = params.gray.numpy().reshape(-1)
    whole[:, tables.SOLARIZE.value] = params.solarize.numpy().reshape(-1)
    blurs = _blurs(params, canvas.size)
    whole[blurs["blurred"], tables.BLURRED.value] = 1

    contrast = np.flatnonzero(whole[:, tables.AFTER.value]).astype(np.int32)
    arrays = {"place": place, "whole": whole, "factor": _factors(params), "contrast": contrast, **blurs}
    return Tables(arrays, int(band_size_N.sum() * tile_y + across_size_N.sum()))


def to_device(arrays: Mapping[str, Array], device: torch.device) -> dict[str, Tensor]:
    """The arrays on a device, views of one piece of memory; copied on the current stream, without waiting."""
    starts, end = {}, 0
    for name, array in arrays.items():
        starts[name] = end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    # torch's pool of page-locked memory gives it out again only after the copy
    packed = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for name, array in arrays.items():
        packed[starts[name] : starts[name] + array.nbytes].numpy()[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    moved = packed.to(device, non_blocking=True)
    return {
        name: moved[starts[name] : starts[name] + array.nbytes].view(torch.from_numpy(array[:0]).dtype).view(array.shape)
        for name, array in arrays.items()
    }


def _starts(sizes_N: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(sizes_N) - sizes_N


def _factors(params: ViewParams) -> Array:
    hue = params.hue.numpy()
    # whole turns change nothing
    sectors = np.float32(6) * (hue - np.floor(hue))
    factors = [params.brightness.numpy(), params.contrast.numpy(), params.saturation.numpy(), sectors]
    return np.stack(factors, axis=-1).reshape(-1, tables.FACTORS.value).astype(np.float32)


def _operations(params: ViewParams) -> tuple[Array, Array]:
    """Each row's operations before its contrast, and from there on, int32 [N] each; without those that change nothing."""
    factors = (params.brightness, params.contrast, params.saturation, params.hue)
    changes_N4 = np.stack([f.numpy() != (0 if f is params.hue else 1) for f in factors], axis=-1).reshape(-1, 4)
    order_N4 = params.order.numpy().reshape(-1, 4).astype(np.int64)
    gray_N = params.gray.numpy().reshape(-1)
    lists = np.zeros((2, len(gray_N)), np.int32)
    lengths, row_N = np.zeros_like(lists), np.arange(len(gray_N))
    part_N = np.zeros(len(gray_N), np.int64)  # 1 from the contrast on

    def append(operation_N: Array, wanted_N: Array) -> None:
        lists[part_N, row_N] |= np.where(wanted_N, operation_N << tables.OPERATION_BITS.value * lengths[part_N, row_N], 0).astype(np.int32)
        lengths[part_N, row_N] += wanted_N

    for position in range(4):
        operation_N = order_N4[:, position]
        wanted_N = changes_N4[row_N, operation_N]
        part_N = np.where(wanted_N & (operation_N + 1 == tables.CONTRAST.value), 1, part_N)
        append(operation_N + 1, wanted_N)
    append(np.full(len(gray_N), tables.GRAY.value), gray_N)
    return lists[0], lists[1]


def _blurs(params: ViewParams, size: Size) -> dict[str, Array]:
    """The rows with a blur, its radius, and its weights of distance 0 to R."""
    height, width = height_width(size)
    slot_height_V = np.array(params.heights, dtype=np.float64)
    sigma_N = (params.blur_sigma.numpy().astype(np.float64) * (height / slot_height_V)).reshape(-1)
    # the product is exact, and so is the decision between two radii
    radius_V = np.floor(params.spec.blur_kernel // 2 * height / slot_height_V + 0.5).clip(min=1).clip(max=min(height, width) - 1)
    radius_N = np.broadcast_to(radius_V, params.blur_sigma.shape).reshape(-1)
    blurred = np.flatnonzero(sigma_N > 0)
    sigma_M1 = sigma_N[blurred, None]
    # compared as floating numbers: a huge sigma is none that an integer holds
    radius_M = np.minimum(radius_N[blurred], np.ceil(CUTOFF * sigma_M1[:, 0])).astype(np.int64)
    distance_R = np.arange(radius_M.max(initial=0) + 1)
    with np.errstate(over="ignore"):  # of a tiny sigma, whose weights are 0 anyway
        weight_MR = np.exp(-0.5 * (distance_R / sigma_M1) ** 2) * (distance_R <= radius_M[:, None])
    weight_MR = (weight_MR / (2 * weight_MR.sum(axis=1, keepdims=True) - weight_MR[:, :1])).astype(np.float32)
    # weights fall with the distance, so these are the last ones
    radius_M = (weight_MR[:, 1:] >= NO_WEIGHT).sum(axis=1)
    some = radius_M > 0
    return {
        "blurred": blurred[some].astype(np.int32),
        "radius": radius_M[some].astype(np.int32),
        "blur_weight": np.ascontiguousarray(weight_MR[some]),
    }
