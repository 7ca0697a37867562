"""From rows to the tables that kernels read, and these to the device: one piece of page-locked memory, filled by one compiled call and
copied once, without waiting."""

# Axes: B image, V view, N = B V row (one view), M row of a kind, R radius of a blur.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import height_width
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton import tables
from hvs_data.kernels.render.triton.filling import fill_rows, fill_weights
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import ViewParams

ALIGNMENT = 16  # bytes, of every table
# The fields of rows that are read, as ``fill_rows`` takes them.
_READ = ("box", "flip", "brightness", "contrast", "saturation", "hue", "order", "gray", "solarize")

Array = NDArray[Any]


@dataclass(frozen=True)
class Tables:
    """What is known of N rows before a pixel is read.

    Attributes:
        arrays: by name, all in ``packed``. place int64 [N, PLACES], whole int32 [N, WHOLES] and factor float32 [N, FACTORS], see
            tables.py; contrast int32 [M], the rows that have one; blurred int32 [M], radius int32 [M] and blur_weight float32
            [M, 2 R + 4], of those with a blur: weights of distances -radius to radius, multiplied by TIMES_FACTOR, and then nothing but 0.
        packed: uint8, the memory that holds them; page-locked for a CUDA device.
        weights: elements of memory that the weights of all taps take.
    """

    arrays: Mapping[str, Array]
    packed: Tensor
    weights: int

    @property
    def rows(self) -> int:
        return len(self.arrays["place"])


def tables_of(
    images: Sequence[Tensor],
    params: ViewParams,
    canvas: Canvas,
    first_image: int,
    tile_y: int,
    device: torch.device | None = None,
    *,
    whole_lists: bool = False,
) -> Tables:
    """Tables of rows [B, V] that go into images ``first_image`` to ``first_image + B - 1`` of a canvas; on the host, nothing is launched.

    Args:
        images: B uint8 tensors [H, W, 3], contiguous. Their memory is named by its address, and must stay as it is until it was read.
        tile_y: output rows of a tile of the resize.
        device: where they will go; None for the CPU.
        whole_lists: lists of rows are N long, filled up with -1, so that tables of as many rows lie in memory alike.
    """
    (height, width), rows = height_width(canvas.size), params.batch_size * params.num_views
    slot_height_V = np.array(params.heights, dtype=np.int64)
    # the product is exact, and so is the decision between two radii
    radius_V = np.floor(params.spec.blur_kernel // 2 * height / slot_height_V + 0.5).clip(min=1).clip(max=min(height, width) - 1)
    most_taps = 2 * int(radius_V.max(initial=0)) + 4
    # torch's pool of page-locked memory gives it out again only after the copy
    packed, arrays = _packed(_shapes(rows, most_taps), pinned=device is not None and device.type == "cuda")
    address_B = np.fromiter((image.data_ptr() for image in images), np.int64, len(images))
    width_B = images.width.numpy() if isinstance(images, ImageBatch) else np.array([image.shape[1] for image in images])
    bicubic = params.spec.interpolation == "bicubic"
    weights, contrasts = fill_rows(
        address_B, 3 * width_B, *(getattr(params, name).numpy() for name in _READ), np.array([height, width]), bicubic, tile_y, first_image,
        np.array(canvas.pixels.stride()[:2]), unit_of(canvas), *(arrays[name] for name in ("place", "whole", "factor", "contrast")),
    )  # fmt: skip
    blurs = fill_weights(
        params.blur_sigma.numpy(), height / slot_height_V, radius_V.astype(np.int64),
        *(arrays[name] for name in ("blurred", "radius", "blur_weight", "whole")),
    )  # fmt: skip
    arrays["contrast"][contrasts:], arrays["blurred"][blurs:] = -1, -1
    counted = {} if whole_lists else {"contrast": contrasts, "blurred": blurs, "radius": blurs, "blur_weight": blurs}
    return Tables({name: array[: counted.get(name, rows)] for name, array in arrays.items()}, packed, weights)


def unit_of(canvas: Canvas) -> int:
    """Elements, up to 16, that the places of all views in a canvas are multiples of: where views are aligned, kernels are told so."""
    return math.gcd(16, *canvas.pixels.stride()[:2])


def to_device(made: Tables, device: torch.device, memory: Tensor | None = None) -> dict[str, Tensor]:
    """The arrays on a device, views of one piece of memory, which is new unless it is given; copied on the current stream, without
    waiting."""
    moved = made.packed.to(device, non_blocking=True) if memory is None else memory.copy_(made.packed, non_blocking=True)
    start = made.packed.data_ptr()

    def at(array: Array) -> Tensor:
        offset = array.__array_interface__["data"][0] - start
        return moved[offset : offset + array.nbytes].view(torch.from_numpy(array[:0]).dtype).view(array.shape)

    return {name: at(array) for name, array in made.arrays.items()}


def _shapes(rows: int, most_taps: int) -> dict[str, tuple[type, tuple[int, ...]]]:
    return {
        "place": (np.int64, (rows, tables.PLACES.value)),
        "whole": (np.int32, (rows, tables.WHOLES.value)),
        "factor": (np.float32, (rows, tables.FACTORS.value)),
        "contrast": (np.int32, (rows,)),
        "blurred": (np.int32, (rows,)),
        "radius": (np.int32, (rows,)),
        "blur_weight": (np.float32, (rows, most_taps)),
    }


def _packed(shapes: Mapping[str, tuple[type, tuple[int, ...]]], pinned: bool) -> tuple[Tensor, dict[str, Array]]:
    """Memory for arrays, each aligned, and the arrays in it."""
    sizes = {name: math.prod(shape) * np.dtype(dtype).itemsize for name, (dtype, shape) in shapes.items()}
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // ALIGNMENT) * ALIGNMENT
    packed = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
    memory = packed.numpy()
    return packed, {
        name: memory[starts[name] : starts[name] + sizes[name]].view(dtype).reshape(shape) for name, (dtype, shape) in shapes.items()
    }
