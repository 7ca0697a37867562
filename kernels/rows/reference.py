"""Rows in plain NumPy, all views of all images at once."""

# Axes: B image, V view slot, K some views, T try of the crop.

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvs_data.drawing.philox import philox_4x32, split_64, to_integer, to_unit
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
    RANDOM,
    SWITCHES,
    Drawn,
    Slots,
    drawn,
    resized_sizes,
    resizes,
)

_PERMUTATIONS = np.array(list(permutations(range(4))), dtype=np.uint8)


def draw_rows(slots: Slots, seed: int, epoch: int, index: NDArray[np.int64], height: NDArray[np.int64], width: NDArray[np.int64]) -> Drawn:
    """Draw the rows of a batch of images.

    Args:
        slots: V records.
        seed: below 2**64; epoch: below 2**32.
        index: int64 [B], each image's index in its source, at least 0.
        height, width: int64 [B], in pixels, from 1 to 2**31 - 1.

    Returns:
        As :func:`hvs_data.kernels.rows.slots.empty_rows`, filled; and what of the optional rows any slot draws.
    """
    words = _Words(slots["id"], seed, epoch, index)
    resized = {"resized": resized_sizes(slots, height, width)} if resizes(slots) else {}
    switch, factor, effect = to_unit(words(SWITCHES)), to_unit(words(FACTORS)), to_unit(words(EFFECTS))
    jittered_BV = switch[..., 0] < slots["jitter_p"]
    order = _PERMUTATIONS[to_integer(words(SWITCHES)[..., 1], len(_PERMUTATIONS))]
    order[~jittered_BV] = np.arange(4, dtype=np.uint8)

    def between(name: str, unit_BV: NDArray[np.float64], where_BV: NDArray[np.bool_], otherwise: float) -> NDArray[np.float32]:
        lo_V, hi_V = slots[f"{name}_lo"], slots[f"{name}_hi"]
        return np.where(where_BV, lo_V + (hi_V - lo_V) * unit_BV, otherwise).astype(np.float32)

    return {
        "box": _boxes(words, slots, height, width, **resized),
        "order": order,
        "brightness": between("brightness", factor[..., 0], jittered_BV, 1.0),
        "contrast": between("contrast", factor[..., 1], jittered_BV, 1.0),
        "saturation": between("saturation", factor[..., 2], jittered_BV, 1.0),
        "hue": between("hue", factor[..., 3], jittered_BV, 0.0),
        "gray": switch[..., 2] < slots["gray_p"],
        "flip": switch[..., 3] < slots["flip_p"],
        "blur_sigma": between("sigma", effect[..., 1], effect[..., 0] < slots["blur_p"], 0.0),
        "solarize": effect[..., 2] < slots["solarize_p"],
        "key": words(KEY)[..., 0].astype(np.int64) | ((words(KEY)[..., 1].astype(np.int64) & 0x7FFFFFFF) << 32),
        **{name: value for name, value in _more_switches(words(MORE_SWITCHES), slots).items() if drawn(slots, name)},
        **resized,
        **({"erase": _erased(words, slots)} if drawn(slots, "erase") else {}),
    }


def _more_switches(words_BV4: NDArray[np.uint32], slots: Slots) -> Drawn:
    unit_BV4 = to_unit(words_BV4)
    which_BV = to_integer(words_BV4[..., 2], slots["turns"]).astype(np.uint64)
    turn_BV = slots["turn_bits"] >> (np.uint64(2) * which_BV) & np.uint64(3)
    return {
        "vertical_flip": unit_BV4[..., 0] < slots["vertical_flip_p"],
        "turn": np.where(unit_BV4[..., 1] < slots["turn_p"], turn_BV, 0).astype(np.uint8),
        "posterize": np.where(unit_BV4[..., 3] < slots["posterize_p"], slots["posterize_bits"], 8).astype(np.uint8),
    }


class _Words:
    """The random words of a batch: ``words(purpose)`` is uint32 [B, V, 4]."""

    def __init__(self, id_V: NDArray[np.uint64], seed: int, epoch: int, index_B: NDArray[np.int64]):
        self._id_V = id_V
        self._key = split_64(seed)
        self._epoch = epoch
        self._index_B1 = index_B[:, None].astype(np.uint64)

    def __call__(self, purpose: int) -> NDArray[np.uint32]:
        return self._draw(self._index_B1, self._id_V[None, :], purpose)

    def tries(self, rejected_BV: NDArray[np.bool_]) -> NDArray[np.uint32]:
        """Crop tries 1 to 9 of the K views whose first try was rejected: uint32 [K, T, 4]."""
        image, slot = np.nonzero(rejected_BV)
        return self._draw(self._index_B1[image], self._id_V[slot][:, None], CROP + np.arange(1, CROP_TRIES))

    def erase_tries(self) -> NDArray[np.uint32]:
        """uint32 [B, V, T, 4]."""
        return self._draw(self._index_B1[:, :, None], self._id_V[None, :, None], ERASE + np.arange(ERASE_TRIES))

    def _draw(self, index: NDArray[np.uint64], slot: NDArray[np.uint64], purpose: Any) -> NDArray[np.uint32]:
        # counter = (index low, index high, epoch, purpose:8 | role:8 | number within the role:16)
        low, high = index & np.uint64(0xFFFFFFFF), index >> np.uint64(32)
        return philox_4x32((low, high, self._epoch, (np.asarray(purpose).astype(np.uint64) << np.uint64(24)) | slot), self._key)


def _boxes(
    words: _Words, slots: Slots, height_B: NDArray[np.int64], width_B: NDArray[np.int64], resized: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """Random resized crop as torchvision's: ten tries, the first that fits, else the largest centred box of a legal shape.

    Args:
        resized: int32 [B, V, 2], the sizes of what boxes are cut out of, where these are not the images (0).

    Returns:
        int32 [B, V, 4].
    """
    height_BV, width_BV = (np.broadcast_to(side[:, None], (side.size, len(slots))) for side in (height_B, width_B))
    if resized is not None:
        height_BV, width_BV = (np.where(resized[..., side] > 0, resized[..., side], own) for side, own in ((0, height_BV), (1, width_BV)))
    box, fits = _crop(words(CROP), slots, height_BV, width_BV)
    rejected = ~fits
    if rejected.any():
        slots_K = slots[np.nonzero(rejected)[1]]
        height_K, width_K = height_BV[rejected], width_BV[rejected]
        box_KT, fits_KT = _crop(words.tries(rejected), slots_K[:, None], height_K[:, None], width_K[:, None])
        first_K = fits_KT.argmax(axis=1)
        fallback_K = _central_box(slots_K, height_K, width_K)
        box[rejected] = np.where(fits_KT.any(axis=1, keepdims=True), box_KT[np.arange(first_K.size), first_K], fallback_K)
    if resized is not None:
        random, center = (slots["crop"] == kind for kind in (RANDOM, CENTER))
        box = np.where(random[:, None], _random_box(words(CROP), slots, height_BV, width_BV), box)
        box = np.where(center[:, None], _center_box(slots, height_BV, width_BV), box)
    return box.astype(np.int32)


def _random_box(words: NDArray[np.uint32], slots: Slots, height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """A box of the view's size in a random place of the padded image, as torchvision's RandomCrop, with ``pad_if_needed``."""

    def start(word: NDArray[np.uint32], length: NDArray[np.int64], view: NDArray[np.int64]) -> NDArray[np.int64]:
        padding = slots["padding"] + np.maximum(view - length - 2 * slots["padding"], 0)
        return to_integer(word, length + 2 * padding - view + 1) - padding

    view_height, view_width = (np.broadcast_to(slots[name], height.shape) for name in ("view_height", "view_width"))
    top, left = start(words[..., 2], height, view_height), start(words[..., 3], width, view_width)
    return np.stack([top, left, view_height, view_width], axis=-1)


def _center_box(slots: Slots, height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """A box of the view's size in the centre, as torchvision's CenterCrop: it rounds half to even, and halves of what it pads down."""

    def start(length: NDArray[np.int64], view: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(view > length, -((view - length) // 2), np.rint((length - view) / 2).astype(np.int64))

    view_height, view_width = (np.broadcast_to(slots[name], height.shape) for name in ("view_height", "view_width"))
    return np.stack([start(height, view_height), start(width, view_width), view_height, view_width], axis=-1)


def _crop(
    words: NDArray[np.uint32], slots: Slots, height: NDArray[np.int64], width: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One try: boxes [..., 4] and whether they fit, from words [..., 4]."""
    unit = to_unit(words)
    area = height * width * (slots["scale_lo"] + (slots["scale_hi"] - slots["scale_lo"]) * unit[..., 0])
    aspect = np.exp(slots["log_ratio_lo"] + (slots["log_ratio_hi"] - slots["log_ratio_lo"]) * unit[..., 1])
    box_width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    box_height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    top = to_integer(words[..., 2], np.where(fits, height - box_height + 1, 1))
    left = to_integer(words[..., 3], np.where(fits, width - box_width + 1, 1))
    return np.stack([top, left, box_height, box_width], axis=-1), fits


def _central_box(slots: Slots, height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fallback: the whole image, or what of it has the nearest legal shape, centred. At least one pixel each way."""
    shape = width / height
    too_tall, too_wide = shape < slots["ratio_lo"], shape > slots["ratio_hi"]
    box_height = np.where(too_tall, np.rint(width / slots["ratio_lo"]), height).astype(np.int64)
    box_width = np.where(too_wide, np.rint(height * slots["ratio_hi"]), width).astype(np.int64)
    box_height, box_width = np.clip(box_height, 1, height), np.clip(box_width, 1, width)
    return np.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width], axis=-1)


def _erased(words: _Words, slots: Slots) -> NDArray[np.int32]:
    """The part of each view that is erased, as torchvision's RandomErasing: ten tries, the first that fits, else nothing.

    Returns:
        int32 [B, V, 4], in pixels of the view; zeros where nothing is erased.
    """
    words_BVT4 = words.erase_tries()
    unit, slots_V1 = to_unit(words_BVT4), slots[:, None]
    height, width = slots_V1["view_height"], slots_V1["view_width"]
    area = height * width * (slots_V1["erase_scale_lo"] + (slots_V1["erase_scale_hi"] - slots_V1["erase_scale_lo"]) * unit[..., 0])
    log_lo, log_hi = slots_V1["erase_log_ratio_lo"], slots_V1["erase_log_ratio_hi"]
    aspect = np.exp(log_lo + (log_hi - log_lo) * unit[..., 1])
    erased_height = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    erased_width = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (erased_height < height) & (erased_width < width)
    top = to_integer(words_BVT4[..., 2], np.where(fits, height - erased_height + 1, 1))
    left = to_integer(words_BVT4[..., 3], np.where(fits, width - erased_width + 1, 1))
    box_BVT4 = np.stack([top, left, erased_height, erased_width], axis=-1)
    box_BV4 = np.take_along_axis(box_BVT4, fits.argmax(axis=-1)[..., None, None], axis=2)[:, :, 0]
    switched = to_unit(words(ERASE_SWITCH)[..., 0]) < slots["erase_p"]
    happens = switched & fits.any(axis=-1) & (box_BV4[..., 2:] > 0).all(axis=-1)
    return np.where(happens[..., None], box_BV4, 0).astype(np.int32)
