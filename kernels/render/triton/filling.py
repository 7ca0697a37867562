"""The tables of a batch's rows, filled in one compiled loop: NumPy's calls would take longer than the device takes to render."""

# mypy: disable-error-code="no-untyped-def"
# Axes: B image, V view, N = B V row (one view), M row of a kind, R radius of a blur.

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import exact_jit
from hvs_data.kernels.render.triton import tables
from hvs_data.kernels.render.triton.taps import count_band_rows, count_taps

# Taps beyond four standard deviations hold less than 6.4e-5 of an axis' weight: .033 of a 0-255 level at the worst, both axes together.
CUTOFF = 4.0
NO_WEIGHT = 1e-9

_ADDRESS, _OUT, _BAND, _ACROSS = (column.value for column in (tables.ADDRESS, tables.OUT, tables.BAND, tables.ACROSS))
_STEP, _SIDE, _TAPS, _BAND_ROWS, _FLIP = (column.value for column in (tables.STEP, tables.SIDE, tables.TAPS, tables.BAND_ROWS, tables.FLIP))
_BEFORE, _AFTER, _BLURRED, _IS_GRAY, _SOLARIZE = (
    column.value for column in (tables.BEFORE, tables.AFTER, tables.BLURRED, tables.IS_GRAY, tables.SOLARIZE)
)
_CONTRAST, _HUE, _GRAY, _BITS = tables.CONTRAST.value, tables.HUE.value, tables.GRAY.value, tables.OPERATION_BITS.value
_TIMES = tables.TIMES_FACTOR.value


@exact_jit
def fill_rows(
    address_B, step_B, box_BV4, flip_BV, brightness_BV, contrast_BV, saturation_BV, hue_BV, order_BV4, gray_BV, solarize_BV, sides_2,
    bicubic, tile_y, first_image, strides_2, unit, place, whole, factor, contrast,
):  # fmt: skip
    """Fill place, whole, factor and contrast as Tables has them, the column BLURRED with 0.

    Args:
        address_B, step_B: of each image's first byte, and bytes from one of its rows to the next.
        sides_2: height and width of a view.
        strides_2: elements from one view, and from one image, of the canvas to the next; multiples of ``unit``.

    Returns:
        Elements of memory that the weights of all taps take, and the number of rows with a contrast.
    """
    images, views = box_BV4.shape[:2]
    tiles, bands, across, contrasts = -(-sides_2[0] // tile_y), 0, 0, 0
    for image in range(images):
        for view in range(views):
            row, box = image * views + view, box_BV4[image, view]
            place[row, _ADDRESS] = address_B[image] + box[0] * step_B[image] + box[1] * 3
            place[row, _OUT] = (view * strides_2[0] + (first_image + image) * strides_2[1]) // unit
            place[row, _BAND], place[row, _ACROSS] = bands, across
            whole[row, _STEP] = step_B[image]
            for axis in range(2):
                whole[row, _SIDE + axis] = box[2 + axis]
                whole[row, _TAPS + axis] = count_taps(box[2 + axis], sides_2[axis], bicubic)
            whole[row, _BAND_ROWS] = count_band_rows(box[2], sides_2[0], bicubic, tile_y)
            bands += whole[row, _BAND_ROWS] * tiles
            across += whole[row, _TAPS + 1] * sides_2[1]
            whole[row, _FLIP], whole[row, _BLURRED] = flip_BV[image, view], 0
            whole[row, _IS_GRAY], whole[row, _SOLARIZE] = gray_BV[image, view], solarize_BV[image, view]
            hue = hue_BV[image, view]
            factor[row, 0], factor[row, 1] = brightness_BV[image, view], contrast_BV[image, view]
            # whole turns change nothing, and the difference is exact
            factor[row, 2], factor[row, 3] = saturation_BV[image, view], np.float32(6) * (hue - np.rint(hue))
            before, after = _operations(factor[row, :3], hue, order_BV4[image, view], gray_BV[image, view])
            whole[row, _BEFORE], whole[row, _AFTER] = before, after
            if after:
                contrast[contrasts] = row
                contrasts += 1
    # vertical weights of all rows come first, so that each begins at a whole tile
    for row in range(images * views):
        place[row, _ACROSS] += bands * tile_y
    return bands * tile_y + across, contrasts


@exact_jit
def count_bytes(box_BV4, sigma_BV, sides_2, bicubic, tile_y, tile_x):
    """Memory beside images and canvas that each image's views take while they are rendered: int64 [B]."""
    height, width = sides_2
    tiles = -(-height // tile_y)
    bytes_B = np.zeros(box_BV4.shape[0], np.int64)
    for image in range(box_BV4.shape[0]):
        for view in range(box_BV4.shape[1]):
            box = box_BV4[image, view]
            bands = count_band_rows(box[2], height, bicubic, tile_y) * tiles * tile_y
            weights = bands + count_taps(box[3], width, bicubic) * width
            # scratch of 16 bits in three channels, two of a view with a blur; weights, first taps and the tiles' sums of 32
            scratch = 12 if sigma_BV[image, view] > 0 else 6
            bytes_B[image] += scratch * height * width + 4 * (weights + height + width + tiles * -(-width // tile_x))
    return bytes_B


@exact_jit
def _operations(factor_3, hue, order_4, gray):
    """A row's operations before its contrast, and from there on, packed; without those that change nothing."""
    before = after = before_bits = after_bits = 0
    behind = False
    for position in range(5):
        operation = order_4[position] + 1 if position < 4 else _GRAY
        if position == 4:
            wanted = gray
        elif operation == _HUE:
            wanted = hue != 0
        else:
            wanted = factor_3[operation - 1] != 1
        if not wanted:
            continue
        behind = behind or operation == _CONTRAST
        if behind:
            after |= operation << after_bits
            after_bits += _BITS
        else:
            before |= operation << before_bits
            before_bits += _BITS
    return before, after


@exact_jit
def fill_weights(sigma_BV, scale_V, radius_V, blurred, radius, weight_MR, whole):
    """Fill blurred, radius and blur_weight as Tables has them, and the column BLURRED of ``whole`` with 1 where a row has a blur.

    Args:
        scale_V: by which the views' blur grows.
        radius_V: most taps on either side.

    Returns:
        The number of rows with a blur.
    """
    count, value_R = 0, np.empty(weight_MR.shape[1])
    for image in range(sigma_BV.shape[0]):
        for view in range(sigma_BV.shape[1]):
            sigma = np.float64(sigma_BV[image, view]) * scale_V[view]
            if not sigma > 0:
                continue
            # compared as floating numbers: a huge sigma is none that an integer holds
            most = int(min(np.float64(radius_V[view]), math.ceil(min(CUTOFF * sigma, 1e6))))
            value_R[0] = total = 1.0
            for distance in range(1, most + 1):
                # of a tiny sigma it underflows to 0
                value_R[distance] = math.exp(-0.5 * (distance / sigma) ** 2)
                total += 2 * value_R[distance]
            # weights fall with the distance, so these are the last ones
            used = most
            while used and np.float32(value_R[used] / total) < np.float32(NO_WEIGHT):
                used -= 1
            if used:
                weights = weight_MR[count]
                weights[:] = 0
                for distance in range(used + 1):
                    weight = np.float32(value_R[distance] / total) * np.float32(_TIMES)
                    weights[used - distance] = weights[used + distance] = weight
                row = image * sigma_BV.shape[1] + view
                blurred[count], radius[count], whole[row, _BLURRED] = row, used, 1
                count += 1
    return count
