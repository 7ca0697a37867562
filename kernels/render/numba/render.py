"""From rows and tensors to the compiled function, and the scratch memory that it works in."""

# Axes: B image, V view.

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.numba_compile import LANES
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.erasing import eraser
from hvs_data.kernels.render.numba.chained import most_chained
from hvs_data.kernels.render.numba.resample import MAX_TILE_WIDTH, block_rows, count_taps, tile_floats, whole_vectors
from hvs_data.kernels.render.numba.store import BFLOAT16, FLOAT16, FLOAT32, UINT8
from hvs_data.kernels.render.numba.view import render_image
from hvs_data.kernels.render.request import check_canvas
from hvs_data.kernels.render.turning import after_mirror
from hvs_data.types.rows import RenderSpec, ViewParams

_ALIGNMENT = 32  # bytes
_LINE = 16  # floats of a line of the cache
_KINDS = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16, torch.uint8: UINT8}


@dataclass(frozen=True)
class Job:
    """Rows and canvas in the form that the compiled function takes; made once a batch (or group of images).

    Attributes:
        rows: row arrays, first axes [B, V].
        look: what all views share.
        target: the canvas.
        place_BV3: where each view goes in it.
        sides: height and width of the views.
        bicubic: the filter.
        resizes: whether any box lies in a resized image.
        erase: erases what an image's rows say, once its views are rendered.
        spec: of the rows.
    """

    rows: tuple[Any, ...]
    look: tuple[Any, ...]
    target: tuple[Any, ...]
    place_BV3: NDArray[np.int64]
    sides: tuple[int, int]
    bicubic: bool
    resizes: bool
    erase: Callable[[int], None]
    spec: RenderSpec

    @staticmethod
    def make(params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> Job:
        """Prepare to render rows [B, V] into images ``first_image`` to ``first_image + B - 1`` of a canvas of V views.

        Args:
            normalize: apply the recipe's mean and standard deviation; else values are 0-1 (0-255 for uint8).

        Raises:
            HvsError: rows that do not fit the canvas, an unknown interpolation, or normalised uint8.
        """
        check_canvas(params, canvas, normalize, first_image)
        sides, spec = height_width(canvas.size), params.spec
        slot_height_V = np.array(params.heights, dtype=np.float64)
        zoom_V = sides[0] / slot_height_V
        # the product is exact, and so is the decision between two radii; it would not be with zoom_V
        radius_V = np.floor(spec.blur_kernel // 2 * sides[0] / slot_height_V + 0.5).clip(min=1).clip(max=min(sides) - 1).astype(np.int64)
        factor_BV4 = torch.stack([params.brightness, params.contrast, params.saturation, params.hue], dim=-1)
        rows = (
            *_arrays(params.box, params.flip, factor_BV4, params.order, params.gray),
            params.blur_sigma.numpy().astype(np.float64) * zoom_V,
            radius_V,
            *_arrays(params.solarize, torch.full_like(params.flip, 8, dtype=torch.uint8) if params.posterize is None else params.posterize),
            *_arrays(torch.zeros_like(params.box[..., :2]) if params.resized is None else params.resized),
        )
        unit = 255.0 if canvas.flat.dtype == torch.uint8 else 1.0
        std = np.array(spec.std) if normalize else np.full(spec.channels, 1 / unit)
        mean = np.array(spec.mean) if normalize else np.zeros(spec.channels)
        kind = _KINDS[canvas.flat.dtype]
        look = (np.float32(spec.solarize_threshold), (1 / std).astype(np.float32), (-mean / std).astype(np.float32), kind)
        flat = canvas.flat.view(torch.uint16) if kind in (FLOAT16, BFLOAT16) else canvas.flat
        phase = flat.data_ptr() % _ALIGNMENT // flat.itemsize
        target = (flat.numpy(), canvas.pixels.stride(2), phase)
        erase = eraser(params, canvas, normalize=normalize, first_image=first_image)
        places, bicubic = _places(params, canvas, first_image), spec.interpolation == "bicubic"
        return Job(rows, look, target, places, sides, bicubic, params.resized is not None, erase, spec)


def _places(params: ViewParams, canvas: Canvas, first_image: int) -> NDArray[np.int64]:
    """int64 [B, V, 3]: where each view's first pixel goes, and the strides from row to row and from pixel to pixel, which turn it."""
    view_stride, image_stride, _, row_stride, pixel_stride = canvas.pixels.stride()
    image_B1 = np.arange(first_image, first_image + params.batch_size, dtype=np.int64)[:, None]
    place_BV3 = np.empty((params.batch_size, params.num_views, 3), np.int64)
    place_BV3[..., 0] = image_B1 * image_stride + np.arange(params.num_views, dtype=np.int64) * view_stride
    place_BV3[..., 1:] = row_stride, pixel_stride
    left = after_mirror(params)
    if left is not None:
        flip_BV, turn_BV = left
        last_y, last_x = (side - 1 for side in height_width(canvas.size))
        # of a view turned by 0, 1, 2 and 3 quarters; by 1 and 3 only of a square
        first_4 = np.array([0, row_stride * last_y, row_stride * last_y + pixel_stride * last_x, pixel_stride * last_x])
        step_42 = np.array(
            [(row_stride, pixel_stride), (pixel_stride, -row_stride), (-row_stride, -pixel_stride), (-pixel_stride, row_stride)]
        )
        place_BV3[..., 0] += first_4[turn_BV]
        place_BV3[..., 1:] = step_42[turn_BV]
        place_BV3[flip_BV] = place_BV3[flip_BV] * (1, -1, 1) + place_BV3[flip_BV][:, 1:2] * (last_y, 0, 0)
    return place_BV3


@lru_cache(maxsize=64)
def _levels(spec: RenderSpec, dtype: torch.dtype) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """How values of this type get onto the 0-1 scale, see resample.py."""
    if dtype == torch.uint8 and spec.value_range is None:
        return None
    low_C, high_C = np.array(spec.ranges(dtype)).T
    repeats = -(-MAX_TILE_WIDTH // spec.channels) + 1
    return np.tile(low_C, repeats).astype(np.float32), np.tile(1 / (high_C - low_C), repeats).astype(np.float32)


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(tensor.numpy()) for tensor in tensors]


def _zeros(count: int) -> NDArray[np.float32]:
    """Zeros from a line of the cache on: vectors that lie across two lines take twice as long."""
    memory = np.zeros(count + _LINE, np.float32)
    start = -memory.ctypes.data // memory.itemsize % _LINE
    return memory[start : start + count]


class Scratch(threading.local):
    """Working memory of one thread, kept between images and grown when an image or size needs more."""

    def __init__(self) -> None:
        self._side = self._plane = self._width = self._tile = self._weights = self._channels = 0
        self._arrays: tuple[NDArray[Any], ...] = ()

    def arrays(
        self, sides: tuple[int, int], height: int, width: int, channels: int, bicubic: bool, chained: tuple[int, int] = (0, 0)
    ) -> tuple[NDArray[Any], ...]:
        """Finite numbers, for views of these sides from boxes of at most this height and width, in the order of view.py's ``work``.

        Args:
            chained: taps and rows that boxes in resized images take at most.
        """
        whole_y, whole_x = whole_vectors(sides[0]), whole_vectors(sides[1])
        taps_y, taps_x = (max(count_taps(box, side, bicubic), chained[0]) for box, side in ((height, sides[0]), (width, sides[1])))
        side, plane, width = max(whole_y, whole_x), channels * whole_y * whole_x, channels * width
        rows = max(block_rows(height, sides[0], taps_y), chained[1])
        tile, weights = tile_floats(rows), max(whole_y * taps_y, whole_x * taps_x)
        wanted = side, plane, width, tile, weights, channels
        held = self._side, self._plane, self._width, self._tile, self._weights, self._channels
        if any(one > other for one, other in zip(wanted, held, strict=True)):
            self._side, self._plane, self._width, self._tile, self._weights, self._channels = map(max, wanted, held)
            self._arrays = self._made()
        return self._arrays

    def _made(self) -> tuple[NDArray[Any], ...]:
        side = self._side

        def places() -> NDArray[np.int64]:
            return np.zeros(side, np.int64)

        resize = _zeros(self._tile), _zeros(LANES * MAX_TILE_WIDTH), _zeros(LANES * whole_vectors(self._width))
        taps = places(), _zeros(self._weights), places(), _zeros(self._weights)
        blur = _zeros(side), places(), places(), _zeros(3 * side)
        lines, pixels = _zeros(self._channels * side), _zeros(3 * side)
        return _zeros(self._plane), *resize, *taps, *blur, lines, pixels


_scratch = Scratch()


def render_one(image: Tensor, position: int, job: Job) -> None:
    """Render all views of one image, on the calling thread, without the GIL.

    Args:
        image: uint8, uint16 or float32 [H, W, C] on the CPU, contiguous.
        position: its place in the job's rows.

    Raises:
        HvsError: an image of other channels than the rows' recipe, or a box that leaves it; views before it have been rendered.
    """
    height, width, channels = image.shape
    if channels != job.spec.channels:
        raise HvsError(f"expected images of {job.spec.channels} channels, as the rows' recipe has, got one of {channels}; convert it first")
    chained = (0, 0)
    if job.resizes:
        chained = most_chained(height, width, job.rows[0][position], job.rows[-1][position], *job.sides, job.bicubic)
    scratch = _scratch.arrays(job.sides, height, width, channels, job.bicubic, chained)
    done = render_image(
        image.numpy(), position, job.rows, *job.sides, job.bicubic, job.look, job.target, job.place_BV3, scratch,
        None if channels == 3 else channels, _levels(job.spec, image.dtype),
    )  # fmt: skip
    if done < job.place_BV3.shape[1]:
        box = tuple(job.rows[0][position, done].tolist())
        raise HvsError(
            f"boxes (top, left, height, width) must hold pixels of their image only, got {box} for view {done} of an image of "
            f"{height} x {width}; sample the rows with the sizes of these images"
        )
    job.erase(position)
