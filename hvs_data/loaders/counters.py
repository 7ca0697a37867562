"""What a loader has read so far."""

from __future__ import annotations

from hvs_data.loaders.forks import ForkSafeLock


class Counters:
    """Numbers that many threads add to.

    Attributes:
        read: images read and decoded.
        replaced: positions of an epoch at which another image was taken, since their own cannot be read.
        retries: reads begun again after storage failed.
    """

    def __init__(self) -> None:
        self.read = 0
        self.replaced = 0
        self.retries = 0
        self._lock = ForkSafeLock()

    def add(self, *, read: int = 0, replaced: int = 0, retries: int = 0) -> None:
        with self._lock:
            self.read += read
            self.replaced += replaced
            self.retries += retries
