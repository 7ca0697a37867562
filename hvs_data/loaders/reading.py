"""Reading a sample from storage that fails now and then."""

from __future__ import annotations

from typing import NamedTuple

from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
from hvs_data.loaders.counters import Counters
from hvs_data.sources.base import Sample, Source
from hvs_data.sources.map_dataset import PLAIN_COLLECTIONS, MapSource
from hvs_data.sources.retry import Retries


def draws_nothing(source: Source) -> bool:
    """Whether reading from a source is all code of this package, and none of the user's."""
    if isinstance(source, MapSource):
        return type(source.dataset) in PLAIN_COLLECTIONS
    inner = [*getattr(source, "parts", ()), *([source.source] if hasattr(source, "source") else ())]
    return type(source).__module__.startswith("hvs_data.sources.") and all(map(draws_nothing, inner))


class Reading(NamedTuple):
    """A sample, and whether random numbers were drawn for it, so that it is another one in other epochs."""

    sample: Sample
    drew: bool


def read_with_retries(source: Source, index: int, retries: Retries, counters: Counters, identity: tuple[int, ...] | None = None) -> Reading:
    """A sample of a source; a read that fails for a reason that may pass is begun again a few times, and counted.

    Args:
        identity: what the random numbers belong to that reading draws, the same ones at every attempt; None where it draws none.

    Raises:
        OSError, HvsError: of the last attempt.
    """
    attempts = 0

    def read() -> Reading:
        nonlocal attempts
        attempts += 1
        if identity is None:
            return Reading(source.read(index), False)
        numbers = Numbers(identity)
        with drawing(numbers):
            sample = source.read(index)
        return Reading(sample, numbers.drawn)

    try:
        return retries.call(read)
    finally:
        if attempts > 1:
            counters.add(retries=attempts - 1)
