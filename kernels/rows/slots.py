"""The distribution of each view slot, and the memory for what is drawn from it: what every sampler of rows works on."""

# Axes: B image, V view slot.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CROP_TRIES = 10
ERASE_TRIES = 10

# What a block of four random words is for. The numbers are part of the rows' definition and never change.
SWITCHES, FACTORS, EFFECTS, KEY, MORE_SWITCHES, ERASE_SWITCH, DROP, CROP, ERASE = 0, 1, 2, 3, 4, 5, 6, 16, 32

_RANGES = ("scale", "log_ratio", "ratio", "brightness", "contrast", "saturation", "hue", "sigma", "erase_scale", "erase_log_ratio")
_PROBABILITIES = ("jitter", "gray", "flip", "blur", "solarize", "vertical_flip", "turn", "posterize", "erase")

# One record a slot. `id`: the place of its role in the recipe in the upper 16 bits, its number within the role in the lower ones. Of every
# range the least value and the largest one; the probability of every switch. Quarter turns that are drawn from: how many, and the turns,
# two bits each, the first one lowest. Bits that posterizing keeps. The view's height and width in pixels; those to which the image is
# resized first, 0 and 0 for none, or the shorter side and 0; which crop it is, and the padding around the image of a random one.
SLOT = np.dtype(
    [
        ("id", np.uint64),
        *((f"{name}_{end}", np.float64) for name in _RANGES for end in ("lo", "hi")),
        *((f"{name}_p", np.float64) for name in _PROBABILITIES),
        *((name, np.uint64) for name in ("turns", "turn_bits", "posterize_bits")),
        *((name, np.int64) for name in ("view_height", "view_width", "resize_height", "resize_width", "crop", "padding")),
    ]
)

# What is cut out of the image, or of the resized image: a box of a random size and shape, one of the view's size in a random place, or
# one of the view's size in the centre.
RANDOM_RESIZED, RANDOM, CENTER = 0, 1, 2

Slots = NDArray[Any]  # records SLOT [V]
Drawn = dict[str, NDArray[Any]]


def empty_rows(images: int, views: int) -> Drawn:
    """Memory for rows [B, V], by the names that they have in ViewParams."""
    shape = (images, views)
    floats = ("brightness", "contrast", "saturation", "hue", "blur_sigma")
    return {
        "box": np.empty((*shape, 4), np.int32),
        "order": np.empty((*shape, 4), np.uint8),
        **{name: np.empty(shape, np.float32) for name in floats},
        **{name: np.empty(shape, np.bool_) for name in ("gray", "flip", "solarize")},
        "key": np.empty(shape, np.int64),
    }


# What stands in rows only where a slot draws it, and its type.
OPTIONAL_SWITCHES: dict[str, type] = {"vertical_flip": np.bool_, "turn": np.uint8, "posterize": np.uint8}


def drawn(slots: Slots, name: str) -> bool:
    """Whether any slot draws what has a probability of this name."""
    return bool((slots[f"{name}_p"] > 0).any())


def empty_switches(images: int, views: int) -> Drawn:
    """Memory for all of these, [B, V]."""
    return {name: np.empty((images, views), dtype) for name, dtype in OPTIONAL_SWITCHES.items()}


def resized_sizes(slots: Slots, height_B: NDArray[np.int64], width_B: NDArray[np.int64]) -> NDArray[np.int32]:
    """To which height and width images are resized before anything is cut out of them, as torchvision's Resize has it.

    The longer side is rounded down. Boxes of the view's own size may leave the image, so that those of an image that is not resized are in
    an image "resized" to the size it has.

    Returns:
        int32 [B, V, 2]; zeros where the box is one of the image itself.
    """
    height_B1, width_B1 = height_B[:, None], width_B[:, None]
    first_V, second_V = slots["resize_height"], slots["resize_width"]
    shorter_B1 = np.minimum(height_B1, width_B1)
    by_shorter = [(first_V * side_B1 / shorter_B1).astype(np.int64) for side_B1 in (height_B1, width_B1)]
    own = [np.where(slots["crop"] == RANDOM_RESIZED, 0, side_B1) for side_B1 in (height_B1, width_B1)]
    sizes = [
        np.select([second_V > 0, first_V > 0], [given_V, shorter], otherwise)
        for given_V, shorter, otherwise in zip((first_V, second_V), by_shorter, own, strict=True)
    ]
    return np.stack(sizes, axis=-1).clip(max=2**31 - 1).astype(np.int32)


def resizes(slots: Slots) -> bool:
    """Whether any slot has such sizes."""
    return bool(((slots["resize_height"] > 0) | (slots["crop"] != RANDOM_RESIZED)).any())
