"""From rows and tensors to the compiled function, and the scratch memory that it works in."""

# Axes: B image, V view, S side.

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.numba.resample import count_taps, whole_vectors
from hvs_data.kernels.render.numba.store import BFLOAT16, FLOAT16, FLOAT32, UINT8
from hvs_data.kernels.render.numba.view import render_image
from hvs_data.kernels.render.request import check_canvas
from hvs_data.types import ViewParams

_ALIGNMENT = 32  # bytes
_KINDS = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16, torch.uint8: UINT8}


@dataclass(frozen=True)
class Job:
    """Rows and canvas in the form that the compiled function takes; made once a batch (or group of images).

    Attributes:
        rows: row arrays, first axes [B, V].
        look: what all views share.
        target: the canvas.
        size: S.
        bicubic: the filter.
    """

    rows: tuple[Any, ...]
    look: tuple[Any, ...]
    target: tuple[Any, ...]
    offset_BV: NDArray[np.int64]
    size: int
    bicubic: bool

    @staticmethod
    def make(params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> Job:
        """Prepare to render rows [B, V] into images ``first_image`` to ``first_image + B - 1`` of a canvas of V views.

        Args:
            normalize: apply the recipe's mean and standard deviation; else values are 0-1 (0-255 for uint8).

        Raises:
            HvsError: rows that do not fit the canvas, an unknown interpolation, or normalised uint8.
        """
        check_canvas(params, canvas, normalize, first_image)
        size, spec = canvas.size, params.spec
        slot_size_V = np.array(params.size, dtype=np.float64)
        zoom_V = size / slot_size_V
        # the product is exact, and so is the decision between two radii; it would not be with zoom_V
        radius_V = np.floor(spec.blur_kernel // 2 * size / slot_size_V + 0.5).clip(min=1).clip(max=size - 1).astype(np.int64)
        factor_BV4 = torch.stack([params.brightness, params.contrast, params.saturation, params.hue], dim=-1)
        rows = (
            *_arrays(params.box, params.flip, factor_BV4, params.order, params.gray),
            params.blur_sigma.numpy().astype(np.float64) * zoom_V,
            radius_V,
            *_arrays(params.solarize),
        )
        unit = 255.0 if canvas.flat.dtype == torch.uint8 else 1.0
        std = np.array(spec.std) if normalize else np.full(3, 1 / unit)
        mean = np.array(spec.mean) if normalize else np.zeros(3)
        kind = _KINDS[canvas.flat.dtype]
        look = (np.float32(spec.solarize_threshold), (1 / std).astype(np.float32), (-mean / std).astype(np.float32), kind)
        flat = canvas.flat.view(torch.uint16) if kind in (FLOAT16, BFLOAT16) else canvas.flat
        view_stride, image_stride, channel_stride, row_stride, pixel_stride = canvas.pixels.stride()
        image_B1 = np.arange(first_image, first_image + params.batch_size, dtype=np.int64)[:, None]
        offset_BV = image_B1 * image_stride + np.arange(params.num_views, dtype=np.int64) * view_stride
        phase = flat.data_ptr() % _ALIGNMENT // flat.itemsize
        target = (flat.numpy(), channel_stride, row_stride, pixel_stride, phase)
        return Job(rows, look, target, offset_BV, size, spec.interpolation == "bicubic")


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(tensor.numpy()) for tensor in tensors]


class Scratch(threading.local):
    """Working memory of one thread, kept between images and grown when an image or size needs more."""

    def __init__(self) -> None:
        self._size = self._width = self._weights = -1

    def arrays(self, size: int, width: int, taps: int) -> tuple[NDArray[Any], ...]:
        """Zero-filled arrays for views of this size from boxes of at most this width and these taps, in the order of view.py's ``work``."""
        pitch = whole_vectors(size)
        if pitch > self._size:
            planes, line = np.zeros(3 * pitch * pitch, np.float32), np.zeros(pitch, np.float32)
            weight, before, after = np.zeros(pitch, np.float32), np.zeros(pitch, np.int64), np.zeros(pitch, np.int64)
            padded, blurred = np.zeros(3 * pitch, np.float32), np.zeros(pitch, np.float32)
            self._planes = planes
            self._blur = weight, before, after, padded, blurred, line
            self._first = np.zeros(pitch, np.int64), np.zeros(pitch, np.int64)
            self._size = pitch
        if width > self._width:
            self._rows = np.zeros(8 * whole_vectors(3 * width), np.float32), np.zeros(8 * whole_vectors(3 * width), np.float32)
            self._width = width
        if pitch * taps > self._weights:
            self._weight = np.zeros(pitch * taps, np.float32), np.zeros(pitch * taps, np.float32)
            self._weights = pitch * taps
        (first_y, first_x), (weight_y, weight_x) = self._first, self._weight
        return self._planes, *self._rows, first_y, weight_y, first_x, weight_x, *self._blur


_scratch = Scratch()


def render_one(image: Tensor, position: int, job: Job) -> None:
    """Render all views of one image, on the calling thread, without the GIL.

    Args:
        image: uint8 [H, W, 3] on the CPU, contiguous.
        position: its place in the job's rows.

    Raises:
        HvsError: a box that leaves the image; views before it have been rendered.
    """
    height, width, _ = image.shape
    scratch = _scratch.arrays(job.size, width, count_taps(max(height, width), job.size, job.bicubic))
    done = render_image(image.numpy(), position, job.rows, job.size, job.bicubic, job.look, job.target, job.offset_BV[position], scratch)
    if done < job.offset_BV.shape[1]:
        box = tuple(job.rows[0][position, done].tolist())
        raise HvsError(
            f"boxes (top, left, height, width) must hold pixels of their image only, got {box} for view {done} of an image of "
            f"{height} x {width}; sample the rows with the sizes of these images"
        )
