"""Memory, cores and the first batch of one loader, taken in a process of its own: nothing else is counted, and nothing is warm.

Started by ``measure``; reads a contestant and the paths from standard input, writes one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

SECONDS_BETWEEN_SAMPLES = 0.05


def measure(contestant: Any, paths: Sequence[str]) -> dict[str, float]:
    """Run one epoch in a new process.

    Returns:
        ``peak_mib``: the most resident memory of the loader's processes at one time, beyond what the process held before the loader
        was made; pages that processes share count once, and so do batches in shared memory. ``base_mib``: what it held before.
        ``first_batch_cold_s``: from making the loader to its first batch, in a process that has imported everything and rendered
        nothing. ``cores_used``: processor time of all threads and worker processes over wall-clock time.

    Raises:
        RuntimeError: the process failed.
    """
    request = json.dumps({"contestant": contestant.as_json(), "paths": list(paths)})
    done = subprocess.run([sys.executable, __file__], input=request, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the footprint of {contestant} could not be taken:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


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


def run(request: dict[str, Any]) -> dict[str, float]:
    """Measure in this process; see :func:`measure`."""
    from contestants import Contestant
    from timing import run_epoch

    contestant = Contestant(**request["contestant"])
    _import_all(contestant)
    watch = MemoryWatch()
    base = watch.now()
    start, busy = time.perf_counter(), watch.processor_seconds()
    with watch:
        loader = contestant.build(request["paths"])
        made = time.perf_counter() - start
        epoch = run_epoch(loader, contestant.shapes)
        # workers that stay alive are counted here; their processor time is lost once they end
        busy = watch.processor_seconds() - busy
    wall = time.perf_counter() - start
    return {
        "peak_mib": (watch.peak - base) / 2**20,
        "base_mib": base / 2**20,
        "first_batch_cold_s": made + epoch.first,
        "cores_used": busy / wall,
    }


def _import_all(contestant: Any) -> None:
    """Importing is not what is measured."""
    import hvs_data as hvs

    for name in hvs.__all__:
        getattr(hvs, name)
    if contestant.loader == "torchvision":
        import torchvision.transforms  # noqa: F401
    elif contestant.loader.startswith("albumentations"):
        import peers

        peers.albumentations_view(contestant.recipe.roles[0], contestant.recipe)


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
