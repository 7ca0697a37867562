"""Rows in one compiled loop, which leaves the interpreter to other threads: NumPy's calls cost more than what they compute."""

# Axes: B image, V view slot.

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hvs_data.drawing.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, TWO_TO_MINUS_32, WEYL_0, WEYL_1, split_64
from hvs_data.kernels.numba_compile import exact_jit
from hvs_data.kernels.rows.slots import (
    CENTER,
    CROP,
    CROP_TRIES,
    EFFECTS,
    ERASE,
    ERASE_SWITCH,
    ERASE_TRIES,
    FACTORS,
    KEY,
    MORE_SWITCHES,
    OPTIONAL_SWITCHES,
    RANDOM_RESIZED,
    SWITCHES,
    Drawn,
    Slots,
    drawn,
    empty_rows,
    empty_switches,
    resized_sizes,
    resizes,
)

_ORDERS = np.array(list(permutations(range(4))), dtype=np.uint8)
_PLAIN_ORDER = np.arange(4, dtype=np.uint8)

# 64-bit words throughout: Numba makes a float of a uint64 and a plain integer
_M0, _M1, _W0, _W1 = (np.uint64(number) for number in (MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1))
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_PURPOSE_SHIFT = np.uint64(24)
_LOW_31 = np.uint64(0x7FFFFFFF)
_NUM_ORDERS = np.uint64(len(_ORDERS))


def draw_rows(slots: Slots, seed: int, epoch: int, index: NDArray[np.int64], height: NDArray[np.int64], width: NDArray[np.int64]) -> Drawn:
    """As :func:`hvs_data.kernels.rows.reference.draw_rows`, whose numbers these are."""
    rows = empty_rows(len(index), len(slots))
    low, high = (np.uint64(word) for word in split_64(seed))
    _draw(slots, low, high, np.uint64(epoch), index, height, width, *rows.values())
    if resizes(slots):
        rows["resized"] = resized_sizes(slots, height, width)
        _draw_resized(slots, low, high, np.uint64(epoch), index, rows["resized"], rows["box"])
    if any(drawn(slots, name) for name in OPTIONAL_SWITCHES):
        more = empty_switches(len(index), len(slots))
        _draw_more_switches(slots, low, high, np.uint64(epoch), index, *more.values())
        rows |= {name: value for name, value in more.items() if drawn(slots, name)}
    if drawn(slots, "erase"):
        rows["erase"] = np.zeros((len(index), len(slots), 4), np.int32)
        _draw_erased(slots, low, high, np.uint64(epoch), index, rows["erase"])
    return rows


@exact_jit
def _philox(c0, c1, c2, c3, key_0, key_1):
    """Four words, see hvs_data/drawing/philox.py."""
    for _ in range(ROUNDS):
        product_0, product_1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (product_1 >> _SHIFT) ^ c1 ^ key_0, product_1 & _LOW, (product_0 >> _SHIFT) ^ c3 ^ key_1, product_0 & _LOW
        key_0, key_1 = (key_0 + _W0) & _LOW, (key_1 + _W1) & _LOW
    return c0, c1, c2, c3


@exact_jit
def _unit(word):
    return (np.float64(word) + 0.5) * TWO_TO_MINUS_32


@exact_jit
def _between(lo, hi, unit):
    return lo + (hi - lo) * unit


@exact_jit
def _place(word, room):
    """A whole number from 0 to ``room``."""
    return np.int64((word * np.uint64(room + 1)) >> _SHIFT)


@exact_jit
def _central_box(slot, height, width, box):
    shape = width / height
    box_height, box_width = height, width
    if shape < slot.ratio_lo:
        box_height = np.int64(np.rint(width / slot.ratio_lo))
    if shape > slot.ratio_hi:
        box_width = np.int64(np.rint(height * slot.ratio_hi))
    box_height, box_width = min(max(box_height, 1), height), min(max(box_width, 1), width)
    box[0], box[1], box[2], box[3] = (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@exact_jit
def _draw_box(slot, image_low, image_high, epoch, key_0, key_1, height, width, box):
    for number in range(CROP_TRIES):
        purpose = np.uint64(CROP + number) << _PURPOSE_SHIFT
        w0, w1, w2, w3 = _philox(image_low, image_high, epoch, purpose | slot.id, key_0, key_1)
        area = height * width * _between(slot.scale_lo, slot.scale_hi, _unit(w0))
        aspect = math.exp(_between(slot.log_ratio_lo, slot.log_ratio_hi, _unit(w1)))
        box_width = np.int64(np.rint(math.sqrt(area * aspect)))
        box_height = np.int64(np.rint(math.sqrt(area / aspect)))
        if 0 < box_width <= width and 0 < box_height <= height:
            box[0], box[1], box[2], box[3] = _place(w2, height - box_height), _place(w3, width - box_width), box_height, box_width
            return
    _central_box(slot, height, width, box)


@exact_jit
def _draw(
    slots, key_0, key_1, epoch, index_B, height_B, width_B,
    box, order, brightness, contrast, saturation, hue, blur_sigma, gray, flip, solarize, key,
):  # fmt: skip
    """Fill rows [B, V]."""
    for b in range(len(index_B)):
        image = np.uint64(index_B[b])
        low, high = image & _LOW, image >> _SHIFT
        for v in range(len(slots)):
            slot = slots[v]
            _draw_box(slot, low, high, epoch, key_0, key_1, height_B[b], width_B[b], box[b, v])
            s0, s1, s2, s3 = _philox(low, high, epoch, (np.uint64(SWITCHES) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            f0, f1, f2, f3 = _philox(low, high, epoch, (np.uint64(FACTORS) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            e0, e1, e2, _ = _philox(low, high, epoch, (np.uint64(EFFECTS) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            brightness[b, v] = contrast[b, v] = saturation[b, v] = 1.0
            hue[b, v] = blur_sigma[b, v] = 0.0
            order[b, v] = _PLAIN_ORDER
            if _unit(s0) < slot.jitter_p:
                order[b, v] = _ORDERS[(s1 * _NUM_ORDERS) >> _SHIFT]
                brightness[b, v] = _between(slot.brightness_lo, slot.brightness_hi, _unit(f0))
                contrast[b, v] = _between(slot.contrast_lo, slot.contrast_hi, _unit(f1))
                saturation[b, v] = _between(slot.saturation_lo, slot.saturation_hi, _unit(f2))
                hue[b, v] = _between(slot.hue_lo, slot.hue_hi, _unit(f3))
            if _unit(e0) < slot.blur_p:
                blur_sigma[b, v] = _between(slot.sigma_lo, slot.sigma_hi, _unit(e1))
            gray[b, v] = _unit(s2) < slot.gray_p
            flip[b, v] = _unit(s3) < slot.flip_p
            solarize[b, v] = _unit(e2) < slot.solarize_p
            k0, k1, _, _ = _philox(low, high, epoch, (np.uint64(KEY) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            key[b, v] = np.int64(k0 | ((k1 & _LOW_31) << _SHIFT))


@exact_jit
def _random_start(word, length, view, padding):
    padding += max(view - length - 2 * padding, 0)
    return _place(word, length + 2 * padding - view) - padding


@exact_jit
def _center_start(length, view):
    return -((view - length) // 2) if view > length else np.int64(np.rint((length - view) / 2))


@exact_jit
def _draw_resized(slots, key_0, key_1, epoch, index_B, resized, box):
    """Boxes of the slots whose boxes lie in a resized image, which may be as large as the image is."""
    for b in range(len(index_B)):
        image = np.uint64(index_B[b])
        low, high = image & _LOW, image >> _SHIFT
        for v in range(len(slots)):
            slot, height, width = slots[v], np.int64(resized[b, v, 0]), np.int64(resized[b, v, 1])
            if height == 0:
                continue
            if slot.crop == RANDOM_RESIZED:
                _draw_box(slot, low, high, epoch, key_0, key_1, height, width, box[b, v])
                continue
            box[b, v, 2], box[b, v, 3] = slot.view_height, slot.view_width
            if slot.crop == CENTER:
                box[b, v, 0], box[b, v, 1] = _center_start(height, slot.view_height), _center_start(width, slot.view_width)
                continue
            _, _, w2, w3 = _philox(low, high, epoch, (np.uint64(CROP) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            box[b, v, 0] = _random_start(w2, height, slot.view_height, slot.padding)
            box[b, v, 1] = _random_start(w3, width, slot.view_width, slot.padding)


@exact_jit
def _draw_more_switches(slots, key_0, key_1, epoch, index_B, vertical_flip, turn, posterize):
    """Fill rows [B, V] of the operations that few recipes have."""
    for b in range(len(index_B)):
        image = np.uint64(index_B[b])
        low, high = image & _LOW, image >> _SHIFT
        for v in range(len(slots)):
            slot = slots[v]
            w0, w1, w2, w3 = _philox(low, high, epoch, (np.uint64(MORE_SWITCHES) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            vertical_flip[b, v] = _unit(w0) < slot.vertical_flip_p
            turn[b, v] = 0
            if _unit(w1) < slot.turn_p:
                turn[b, v] = slot.turn_bits >> (np.uint64(2) * ((w2 * slot.turns) >> _SHIFT)) & np.uint64(3)
            posterize[b, v] = slot.posterize_bits if _unit(w3) < slot.posterize_p else np.uint64(8)


@exact_jit
def _draw_erased(slots, key_0, key_1, epoch, index_B, erase):
    """Write the box of every view of which something is erased."""
    for b in range(len(index_B)):
        image = np.uint64(index_B[b])
        low, high = image & _LOW, image >> _SHIFT
        for v in range(len(slots)):
            slot = slots[v]
            switch, _, _, _ = _philox(low, high, epoch, (np.uint64(ERASE_SWITCH) << _PURPOSE_SHIFT) | slot.id, key_0, key_1)
            if _unit(switch) >= slot.erase_p:
                continue
            for number in range(ERASE_TRIES):
                purpose = np.uint64(ERASE + number) << _PURPOSE_SHIFT
                w0, w1, w2, w3 = _philox(low, high, epoch, purpose | slot.id, key_0, key_1)
                area = slot.view_height * slot.view_width * _between(slot.erase_scale_lo, slot.erase_scale_hi, _unit(w0))
                aspect = math.exp(_between(slot.erase_log_ratio_lo, slot.erase_log_ratio_hi, _unit(w1)))
                height, width = np.int64(np.rint(math.sqrt(area * aspect))), np.int64(np.rint(math.sqrt(area / aspect)))
                if height < slot.view_height and width < slot.view_width:
                    if min(height, width) > 0:
                        box = erase[b, v]
                        box[0], box[1] = _place(w2, slot.view_height - height), _place(w3, slot.view_width - width)
                        box[2], box[3] = height, width
                    break
