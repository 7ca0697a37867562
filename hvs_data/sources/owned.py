"""What a dataset gave, kept from what the dataset does next."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from torch import Tensor

from hvs_data.threads.pillow import turn_with


def owned(image: Any) -> Any:
    """An image that nobody changes any more, while the dataset that gave it reads on: itself, or a copy.

    Datasets may give the same array, file or Pillow image for every item, with other contents. What is anything else is returned as it is.

    Raises:
        OSError, ...: pixels that a Pillow image still had to read.
    """
    if isinstance(image, np.ndarray):
        return image.copy()
    if isinstance(image, Tensor):
        return image.detach().clone()
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    from PIL.Image import Image

    if not isinstance(image, Image) or (_references_to(image) <= _handed_over() and _reads_its_own_file(image)):
        return image
    with turn_with(image):
        copied = image.copy()
    copied.format = image.format  # which says how 16 bits are meant
    return copied


def _reads_its_own_file(image: Any) -> bool:
    """Whether a Pillow image has its pixels, or is to read them from a file that nobody else reads: it is then decoded in parallel."""
    if not getattr(image, "tile", None):
        return not image.readonly  # else they lie in memory of somebody else's
    if image._exclusive_fp:
        return True
    file = image.fp
    # other files may read from a further one
    return type(file).__name__ == "BytesIO" and _references_to(file) <= _in_one_place() + _held_by(image, file)


def _held_by(image: Any, file: Any) -> int:
    """How often a Pillow image, and the objects that it is made of, refer to a file."""
    times = 0
    for holder in (image, *vars(image).values()):
        for value in getattr(holder, "__dict__", {}).values():
            times += value is file
    return times


# --- counting references -----------------------------------------------------------------------------------------------
# Versions of Python count differently, and while code of torch.compile runs in any thread, every call holds its arguments once more. So
# what is counted of an object that nobody else has is found by counting, each time. More means a holder that is not known, and a copy.


def _references_to(thing: Any) -> int:
    return sys.getrefcount(thing)


def _in_one_place() -> int:
    thing = bytearray()
    return _references_to(thing)


def _handed_over() -> int:
    def receive(thing: Any) -> int:
        return _references_to(thing)

    thing = bytearray()
    return receive(thing)
