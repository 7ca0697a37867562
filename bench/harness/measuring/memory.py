"""Peak memory of this process and its children."""

from __future__ import annotations

import threading
from typing import Any

SECONDS_BETWEEN_SAMPLES = 0.05


class MemoryWatch:
    """Samples the memory of this process and its children from a thread."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._gone = (psutil.NoSuchProcess, psutil.AccessDenied)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = self.now()

    def now(self) -> int:
        """Bytes resident now; a page that n processes share counts 1/n in each of them."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except self._gone:
                continue
        return total

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self.now())

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_SAMPLES):
            self.peak = max(self.peak, self.now())

    def processor_seconds(self) -> float:
        """User and system time of this process and its living children."""
        total = 0.0
        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except self._gone:
                continue
            total += times.user + times.system
        return total
