"""All views of one image: the compiled function that a worker thread calls once an image."""

# Axes: V view, S side, K taps.

from __future__ import annotations

import numpy as np

from hvs_data.kernels.render.numba.blur import blur_row, fill_weights
from hvs_data.kernels.render.numba.color import CONTRAST, clamp_row, color_row, gray_row, gray_sum, is_identity
from hvs_data.kernels.render.numba.compile import jit
from hvs_data.kernels.render.numba.resample import count_taps, fill_taps, horizontal_row, vertical_row
from hvs_data.kernels.render.numba.store import finish_row, store_row

_TO_UNIT = np.float32(1 / 255)


@jit
def _rows_of(planes, channel, y, size):
    start = (channel * size + y) * size
    return planes[start : start + size]


@jit
def _contrast_position(order, factors):
    """Where in the order a contrast operation stands that changes something; 4 if there is none."""
    for position in range(4):
        if order[position] == CONTRAST and not is_identity(CONTRAST, factors[CONTRAST]):
            return position
    return 4


@jit
def render_image(
    image, b, box_BV4, flip_BV, factor_BV4, order_BV4, gray_BV, sigma_BV, radius_V, solarize_BV,
    size, bicubic, threshold, scale_C, bias_C, kind,
    out, offset_V, channel_stride, row_stride, pixel_stride,
    planes, plane_bits, row, first_y, weight_y, first_x, weight_x, blur_weight, padded, finished,
):  # fmt: skip
    """Render every view of one image.

    Args:
        image: uint8 [H, W, 3], C-contiguous.
        b: the image's place in the row arrays.
        box_BV4: int32; flip_BV, gray_BV, solarize_BV: bool; order_BV4: uint8; as in ViewParams.
        factor_BV4: float32, brightness, contrast, saturation, hue.
        sigma_BV: float64, blur in rendered pixels, 0 = none. radius_V: int64, largest blur radius, below ``size``.
        size: S. bicubic: the filter. threshold: float32, of solarize, on the 0-1 scale.
        scale_C, bias_C: float32 [3], applied last: value * scale + bias.
        kind: number format of ``out``, see store.py.
        out: one-dimensional; offset_V: int64, where each view starts; the strides are in elements.
        planes .. finished: scratch, see Scratch in render.py. Its contents must be finite numbers.

    Returns:
        how many views were rendered: all, or those before the first one whose box leaves the image.
    """
    views = box_BV4.shape[1]
    for v in range(views):
        top, left, height, width = box_BV4[b, v, 0], box_BV4[b, v, 1], box_BV4[b, v, 2], box_BV4[b, v, 3]
        # memory beside the image is nobody's business; int64, as sums of int32 may not be an int32
        bottom, right = np.int64(top) + height, np.int64(left) + width
        if min(top, left) < 0 or min(height, width) < 1 or bottom > image.shape[0] or right > image.shape[1]:
            return v
        taps_y, taps_x = count_taps(height, size, bicubic), count_taps(width, size, bicubic)
        fill_taps(height, size, bicubic, False, taps_y, first_y, weight_y)
        fill_taps(width, size, bicubic, flip_BV[b, v], taps_x, first_x, weight_x)
        order, factors = order_BV4[b, v], factor_BV4[b, v]
        contrast = _contrast_position(order, factors)
        radius = fill_weights(sigma_BV[b, v], radius_V[v], blur_weight) if sigma_BV[b, v] > 0 else 0
        # One sweep over the rows is enough unless an operation needs all of them first: contrast or blur.
        total = 0.0
        for y in range(size):
            red, green, blue = _rows_of(planes, 0, y, size), _rows_of(planes, 1, y, size), _rows_of(planes, 2, y, size)
            vertical_row(image, top, left, height, width, int(first_y[y]), weight_y[y * taps_y : (y + 1) * taps_y], taps_y, row)
            horizontal_row(row, first_x, weight_x, taps_x, size, red, green, blue)
            clamp_row(red, _TO_UNIT)
            clamp_row(green, _TO_UNIT)
            clamp_row(blue, _TO_UNIT)
            color_row(red, green, blue, order, factors, 0, contrast, np.float32(0))
            if contrast < 4:
                total += gray_sum(red, green, blue)
            elif gray_BV[b, v]:
                gray_row(red, green, blue)
        mean = np.float32(total / (size * size))
        for y in range(size):
            if contrast < 4:
                red, green, blue = _rows_of(planes, 0, y, size), _rows_of(planes, 1, y, size), _rows_of(planes, 2, y, size)
                color_row(red, green, blue, order, factors, contrast, 4, mean)
                if gray_BV[b, v]:
                    gray_row(red, green, blue)
            if radius == 0:
                for c in range(3):
                    start = (c * size + y) * size
                    finish_row(planes[start : start + size], solarize_BV[b, v], threshold, scale_C[c], bias_C[c])
                    to = offset_V[v] + c * channel_stride + y * row_stride
                    store_row(planes[start : start + size], plane_bits[start : start + size], kind, out, to, pixel_stride)
        if radius > 0:
            line, bits = finished[:size], finished.view(np.uint32)[:size]
            for c in range(3):
                plane = planes[c * size * size : (c + 1) * size * size]
                for y in range(size):
                    blur_row(plane, y, size, blur_weight, radius, padded, line)
                    finish_row(line, solarize_BV[b, v], threshold, scale_C[c], bias_C[c])
                    store_row(line, bits, kind, out, offset_V[v] + c * channel_stride + y * row_stride, pixel_stride)
    return views
