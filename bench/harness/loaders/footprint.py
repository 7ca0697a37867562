"""Memory, cores and the first batch of one loader, taken in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import hvs_data as hvs
from harness.loaders import peers
from harness.loaders.contestants import Contestant
from harness.measuring.memory import MemoryWatch
from harness.measuring.processes import in_a_process
from harness.measuring.timing import run_epoch


def footprint(contestant: Contestant, paths: Sequence[str]) -> dict[str, float]:
    """Run one epoch in a new process.

    Returns:
        ``peak_mib``: the most resident memory of the loader's processes at one time, beyond what the process held before the loader
        was made; pages that processes share count once, and so do batches in shared memory. ``base_mib``: what it held before.
        ``first_batch_cold_s``: from making the loader to its first batch, in a process that has imported everything and rendered
        nothing. ``cores_used``: processor time of all threads and worker processes over wall-clock time.

    Raises:
        RuntimeError: the process failed.
    """
    return in_a_process(run, {"contestant": contestant.as_json(), "paths": list(paths)})


def run(request: dict[str, Any]) -> dict[str, float]:
    """Measure in this process; see :func:`footprint`."""
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


def _import_all(contestant: Contestant) -> None:
    """Importing is not what is measured."""
    for name in hvs.__all__:
        getattr(hvs, name)
    if contestant.loader == "torchvision":
        import torchvision.transforms  # noqa: F401
    elif contestant.loader.startswith("albumentations"):
        peers.albumentations_view(contestant.recipe.roles[0], contestant.recipe)
