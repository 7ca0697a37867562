"""All views of one image: the compiled function that a worker thread calls once an image."""

# Axes: V view, C channel, Y X pixels of a view, K taps.

from __future__ import annotations

import numpy as np

from hvs_data.kernels.numba_compile import LANES, jit
from hvs_data.kernels.render.numba.blur import blur_row, fill_weights
from hvs_data.kernels.render.numba.chained import fill_chained, reach
from hvs_data.kernels.render.numba.color import CONTRAST, color_pixels, gray_pixels, gray_sum, is_identity, shade_pixels, value_sum
from hvs_data.kernels.render.numba.resample import channel_count, fill_taps, resize_rows, whole_vectors
from hvs_data.kernels.render.numba.store import FLOAT32, finish_row, posterize_row, solarize_row, store_row
from hvs_data.kernels.render.numba.vector import PIECE, advanced, interleave, pointer_to, prefer_long_vectors, stream_row

_TO_UNIT = 1 / 255


@jit
def _contrast_position(order, factors):
    """Where in the order a contrast operation stands that changes something; 4 if there is none."""
    for position in range(4):
        if order[position] == CONTRAST and not is_identity(CONTRAST, factors[CONTRAST]):
            return position
    return 4


@jit
def _channels(planes, start, plane):
    """Red, green and blue from a place on."""
    return advanced(planes, start), advanced(planes, start + plane), advanced(planes, start + 2 * plane)


@jit
def _put_row(channels, size, solarize, posterize, look, pixels, out, to, channel_stride, pixel_stride, streamed):
    """Solarize, posterize, normalise and store a row; ``channels``, the pointers to its red, green and blue values, are written over."""
    threshold, scale_C, bias_C, kind = look
    if solarize:
        for row in channels:
            solarize_row(row, size, threshold)
    if posterize < 8:
        for row in channels:
            posterize_row(row, size, posterize)
    if channel_stride == 1 and pixel_stride == 3:
        red, green, blue = channels
        for x in range(0, size, LANES):
            interleave(red, green, blue, x, scale_C, bias_C, pixels, 3 * x)
        if kind == FLOAT32 and streamed:
            stream_row(pixels, 3 * size, np.float32(1), np.float32(0), out, to)
        else:
            store_row(pixels, 3 * size, kind, out, to, 1)
        return
    for c in range(3):
        at = to + c * channel_stride
        if kind == FLOAT32 and streamed:
            stream_row(channels[c], size, scale_C[c], bias_C[c], out, at)
        else:
            finish_row(channels[c], size, scale_C[c], bias_C[c])
            store_row(channels[c], size, kind, out, at, pixel_stride)


# Of the following, one branch is compiled: for None, which stands for red, green and blue, or for a number of channels.


@jit
def _put(
    planes, start, plane, channels, size, solarize, posterize, look, pixels, out, to, channel_stride, pixel_stride, streamed
):  # fmt: skip
    """As :func:`_put_row`, of all channels of a row that begins at ``start``."""
    if channels is None:
        _put_row(
            _channels(planes, start, plane), size, solarize, posterize, look, pixels, out, to, channel_stride, pixel_stride, streamed
        )  # fmt: skip
    else:
        threshold, scale_C, bias_C, kind = look
        for c in range(channels):
            row, at = advanced(planes, start + c * plane), to + c * channel_stride
            if solarize:
                solarize_row(row, size, threshold)
            if posterize < 8:
                posterize_row(row, size, posterize)
            if kind == FLOAT32 and streamed and pixel_stride == 1:
                stream_row(row, size, scale_C[c], bias_C[c], out, at)
            else:
                finish_row(row, size, scale_C[c], bias_C[c])
                store_row(row, size, kind, out, at, pixel_stride)


@jit
def _color(planes, start, plane, channels, count, order, factors, first, last, mean):
    if channels is None:
        red, green, blue = _channels(planes, start, plane)
        color_pixels(red, green, blue, count, order, factors, first, last, mean)
    else:
        for c in range(channels):
            shade_pixels(advanced(planes, start + c * plane), count, order, factors, first, last, mean)


@jit
def _gray_sum(planes, start, plane, channels, rows, size, pitch):
    """Sum of the pixels' grey values; of other channels, of their means."""
    if channels is None:
        red, green, blue = _channels(planes, start, plane)
        return gray_sum(red, green, blue, rows, size, pitch)
    else:  # noqa: RET505
        total = 0.0
        for c in range(channels):
            total += value_sum(advanced(planes, start + c * plane), rows, size, pitch)
        return total / channels


@jit
def _make_gray(planes, start, plane, channels, count):
    if channels is None:
        red, green, blue = _channels(planes, start, plane)
        gray_pixels(red, green, blue, count)


@jit
def _byte_scale(levels):
    """What bytes without levels are multiplied by."""
    if levels is None:
        return _TO_UNIT
    else:  # noqa: RET505
        return 1.0


@jit
def _addresses(levels):
    if levels is None:
        return None
    else:  # noqa: RET505
        low, factor = levels
        return pointer_to(low), pointer_to(factor)


@jit
def _render_view(
    image, step, start, height, width, chain, flip, factors, order, gray, sigma, max_radius, solarize, posterize, size_y, size_x, bicubic,
    look, target, offset, work, channels, levels,
):  # fmt: skip
    """Render one view.

    Arguments as of :func:`render_image`, of this view; where its box starts in the one-dimensional image; and, of a box in a resized image,
    ``chain``: for either axis the image's pixels, those after resizing, start and length of the box, and first and last + 1 of the pixels
    that it is made of, which take the place of the box's own. The number of resized ones is 0 for other boxes.
    """
    prefer_long_vectors()
    out, channel_stride, row_stride, pixel_stride, phase = target
    planes, tile, rows, columns, first_y, weight_y, first_x, weight_x, blur_weight, before, after, padded, lines, pixels = work
    pitch = whole_vectors(size_x)
    plane = whole_vectors(size_y) * pitch
    (source_y, resized_y, box_y, length_y, begin_y, end_y), (source_x, resized_x, box_x, length_x, begin_x, end_x) = chain
    if resized_y > 0:
        taps_y = fill_chained(
            source_y, resized_y, box_y, length_y, begin_y, end_y, size_y, bicubic, False, _byte_scale(levels), 1, first_y, weight_y
        )  # fmt: skip
        taps_x = fill_chained(
            source_x, resized_x, box_x, length_x, begin_x, end_x, size_x, bicubic, flip, 1.0, PIECE, first_x, weight_x
        )  # fmt: skip
    else:
        taps_y = fill_taps(height, size_y, bicubic, False, _byte_scale(levels), 1, first_y, weight_y)
        taps_x = fill_taps(width, size_x, bicubic, flip, 1.0, PIECE, first_x, weight_x)
    contrast = _contrast_position(order, factors)
    radius = fill_weights(sigma, max_radius, blur_weight) if sigma > 0 else 0
    # vectors of a row that may be written past the caches: whole ones, each at a multiple of 32 bytes
    in_a_row = pixel_stride == 1 or (pixel_stride == 3 and channel_stride == 1)
    streamed = in_a_row and size_x % PIECE == 0 and (phase + offset) % PIECE == 0
    # One sweep is enough unless an operation needs all rows first: contrast or blur. It stays in one place, which stays in the cache.
    one_sweep = contrast == 4 and radius == 0
    total = 0.0
    for y in range(0, size_y, LANES):
        to = 0 if one_sweep else y * pitch
        valid = min(LANES, size_y - y)
        resize_rows(
            image, step, start, width, y, size_y, size_x, taps_y, first_y, weight_y, taps_x, first_x, weight_x, tile, rows, columns,
            planes, to, pitch, plane, channels, levels,
        )  # fmt: skip
        _color(planes, to, plane, channels, valid * pitch, order, factors, 0, contrast, np.float32(0))
        if contrast < 4:
            total += _gray_sum(planes, to, plane, channels, valid, size_x, pitch)
        elif gray:
            _make_gray(planes, to, plane, channels, valid * pitch)
        if one_sweep:
            for j in range(valid):
                _put(
                    planes, to + j * pitch, plane, channels, size_x, solarize, posterize, look, pixels, out, offset + (y + j) * row_stride,
                    channel_stride, pixel_stride, streamed,
                )  # fmt: skip
    if contrast < 4:
        mean = np.float32(total / (size_y * size_x))
        for y in range(0, size_y, LANES):
            valid = min(LANES, size_y - y)
            _color(planes, y * pitch, plane, channels, valid * pitch, order, factors, contrast, 4, mean)
            if gray:
                _make_gray(planes, y * pitch, plane, channels, valid * pitch)
            if radius == 0:
                for j in range(valid):
                    _put(
                        planes, (y + j) * pitch, plane, channels, size_x, solarize, posterize, look, pixels, out,
                        offset + (y + j) * row_stride, channel_stride, pixel_stride, streamed,
                    )  # fmt: skip
    if radius > 0:
        for y in range(size_y):
            for c in range(channel_count(channels)):
                line = advanced(lines, c * pitch)
                if c == 0 or not gray:
                    blur_row(planes, c * plane, y, size_y, size_x, pitch, blur_weight, radius, before, after, padded, line)
                else:
                    for x in range(pitch):
                        line[x] = lines[x]
            _put(
                lines, 0, pitch, channels, size_x, solarize, posterize, look, pixels, out, offset + y * row_stride, channel_stride,
                pixel_stride, streamed,
            )  # fmt: skip


@jit
def render_image(image, b, rows, size_y, size_x, bicubic, look, target, place_BV3, work, channels, levels):
    """Render every view of one image.

    Args:
        image: uint8, uint16 or float32 [H, W, C], C-contiguous.
        b: the image's place in the row arrays.
        rows: box int32 [B, V, 4]; flip, gray and solarize bool [B, V]; factors float32 [B, V, 4], of brightness, contrast, saturation, hue;
            order uint8 [B, V, 4]; as in ViewParams. Sigma float64 [B, V], blur in rendered pixels, 0 = none; and int64 [V], the largest
            blur radius, below both sizes. Solarize; posterize uint8 [B, V]; resized int32 [B, V, 2].
        size_y, size_x: Y and X.
        bicubic: the filter.
        look: float32, solarize's threshold on the 0-1 scale; scale and bias, float32 [C] each, applied last: value * scale + bias;
            and the number format of the output, see store.py.
        target: the one-dimensional output; its stride from channel to channel; and how many elements its first one lies behind a multiple
            of 32 bytes. Both count elements, as do the following.
        place_BV3: int64, where each view's first pixel goes in the output, and the strides from row to row and from pixel to pixel, which
            mirror and turn the view.
        work: see Scratch in render.py. Its contents must be finite numbers.
        channels, levels: see resample.py.

    Returns:
        how many views were rendered: all, or those before the first one whose box leaves the image.
    """
    box_BV4, flip_BV, factor_BV4, order_BV4, gray_BV, sigma_BV, radius_V, solarize_BV, posterize_BV, resized_BV2 = rows
    views, count = box_BV4.shape[1], channel_count(channels)
    step = image.shape[1] * count
    out, channel_stride, phase = target
    planes, tile, block, columns, first_y, weight_y, first_x, weight_x, blur_weight, before, after, padded, lines, pixels = work
    addresses = (
        pointer_to(planes), pointer_to(tile), pointer_to(block), pointer_to(columns), pointer_to(first_y), pointer_to(weight_y),
        pointer_to(first_x), pointer_to(weight_x), pointer_to(blur_weight), pointer_to(before), pointer_to(after), pointer_to(padded),
        pointer_to(lines), pointer_to(pixels),
    )  # fmt: skip
    threshold, scale_C, bias_C, kind = look
    finish = (threshold, pointer_to(scale_C), pointer_to(bias_C), kind)
    for v in range(views):
        # int64, as sums of int32 may not be an int32
        box = box_BV4[b, v]
        top, left, height, width = np.int64(box[0]), np.int64(box[1]), np.int64(box[2]), np.int64(box[3])
        resized_y, resized_x = np.int64(resized_BV2[b, v, 0]), np.int64(resized_BV2[b, v, 1])
        if min(height, width) < 1:
            return v
        box_y, length_y, box_x, length_x = top, height, left, width
        if resized_y > 0:
            top, bottom = reach(image.shape[0], resized_y, top, height, bicubic)
            left, right = reach(image.shape[1], resized_x, left, width, bicubic)
            height, width = bottom - top, right - left
        # memory beside the image is nobody's business
        if min(top, left) < 0 or top + height > image.shape[0] or left + width > image.shape[1]:
            return v
        down = image.shape[0], resized_y, box_y, length_y, top, top + height
        across = image.shape[1], resized_x, box_x, length_x, left, left + width
        offset, row_stride, pixel_stride = place_BV3[b, v]
        to = (pointer_to(out), channel_stride, row_stride, pixel_stride, phase)
        _render_view(
            pointer_to(image), step, top * step + left * count, height, width, (down, across),
            flip_BV[b, v], pointer_to(factor_BV4[b, v]), pointer_to(order_BV4[b, v]), gray_BV[b, v], sigma_BV[b, v], radius_V[v],
            solarize_BV[b, v], posterize_BV[b, v], size_y, size_x, bicubic, finish, to, offset, addresses, channels,
            _addresses(levels),
        )  # fmt: skip
    return views
