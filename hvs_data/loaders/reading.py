"""Reading a sample from storage that fails now and then."""

from __future__ import annotations

from hvs_data.loaders.counters import Counters
from hvs_data.sources.base import Sample, Source
from hvs_data.sources.retry import Retries


def read_with_retries(source: Source, index: int, retries: Retries, counters: Counters) -> Sample:
    """A sample of a source; a read that fails for a reason that may pass is begun again a few times, and counted.

    Raises:
        OSError, HvsError: of the last attempt.
    """
    attempts = 0

    def read() -> Sample:
        nonlocal attempts
        attempts += 1
        return source.read(index)

    try:
        return retries.call(read)
    finally:
        if attempts > 1:
            counters.add(retries=attempts - 1)
