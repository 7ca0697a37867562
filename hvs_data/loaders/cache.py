"""Decoded images that a loader keeps in memory, up to a number of bytes."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from numpy.typing import NDArray

from hvs_data.arguments.values import whole_number
from hvs_data.errors import HvsError
from hvs_data.loaders.forks import ForkSafeLock

DEFAULT_BYTES = 2**32
# What an image takes beside its pixels, counted generously: the array, its block of the heap, and its place in the dictionary.
OVERHEAD = 512

logger = logging.getLogger("hvs_data")


class Kept(NamedTuple):
    """An image [H, W, C] as it was decoded, and its label."""

    pixels: NDArray[Any]
    label: int


class ImageCache:
    """Images by their index in the source. May be used from several threads at once.

    What is kept stays until the cache goes: which images those are depends on the order of reading, what they look like does not.

    Args:
        limit: bytes that all images together may take, ``OVERHEAD`` for each included.

    Attributes:
        nbytes: that they take now.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.nbytes = 0
        self._kept: dict[int, Kept] = {}
        self._told = False
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, index: int) -> Kept | None:
        return self._kept.get(index)

    def keep(self, index: int, pixels: NDArray[Any], label: int) -> None:
        """Keep an image if there is room for it: itself, or a copy where its memory is part of something else's."""
        size = pixels.nbytes + OVERHEAD
        with self._lock:
            if index in self._kept:
                return
            if self.nbytes + size <= self.limit:
                alone = pixels.flags.owndata and pixels.flags.writeable
                self._kept[index] = Kept(pixels if alone else pixels.copy(), label)
                self.nbytes += size
                return
            told, self._told = self._told, True
        if not told:
            logger.warning(
                "the %d images kept in memory take %d of cache_bytes=%d; those that do not fit are decoded whenever they are needed",
                *(len(self), self.nbytes, self.limit),
            )


def chosen_cache(cache: str | None, cache_bytes: int | None, *, scaled_decode: bool, decode_on: str) -> ImageCache | None:
    """The cache that a loader's arguments ask for; None for none.

    Raises:
        HvsError: another word, no number of bytes, or a way of decoding whose pixels would depend on whether an image was kept.
    """
    if cache not in (None, "memory"):
        raise HvsError(f'cache must be "memory", which keeps decoded images, or None, which keeps none, got {cache!r}')
    limit = DEFAULT_BYTES if cache_bytes is None else whole_number(cache_bytes)
    if limit is None or limit < 1:
        raise HvsError(
            f"cache_bytes must be a whole number of at least 1, got {cache_bytes!r}; it is what decoded images may take together"
        )
    if cache is None:
        if cache_bytes is not None:
            raise HvsError(f'expected cache="memory" with cache_bytes={cache_bytes!r}, got no cache; pass both, or leave cache_bytes out')
        return None
    if scaled_decode or decode_on != "cpu":
        raise HvsError(
            f'cache="memory" keeps images as the CPU decodes them in full, got scaled_decode={scaled_decode}, decode_on={decode_on!r}; '
            "leave these out, or cache"
        )
    return ImageCache(limit)
