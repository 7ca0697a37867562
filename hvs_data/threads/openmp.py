"""Torch's threads beside the loader's on one CPU: they are made to sleep, not spin, while they wait.

The threads of an OpenMP team wait for the next tensor operation by spinning for some milliseconds, on cores that a loader's threads could
use. GNU's runtime leaves that where it counts more threads than CPUs (its manual, "GOMP_SPINCOUNT"), but of the loader's threads it knows
nothing. So while a loader works, as many idle threads of its own kind are made known to it as it takes. Whoever has set
``OMP_WAIT_POLICY=ACTIVE`` or ``GOMP_SPINCOUNT`` has decided otherwise.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Mapping
from functools import cache

import torch

logger = logging.getLogger("hvs_data")


def let_openmp_count(threads: int) -> None:
    """Make OpenMP's runtime know that the threads of a loader want CPUs, too, for as long as the calling thread lives.

    Args:
        threads: of the loader. Torch's own are counted by the runtime itself.
    """
    runtime = _runtime()
    if runtime is None or torch.get_num_threads() == 1 or _decided(os.environ):
        return
    missing = missing_threads(threads, torch.get_num_threads(), runtime.omp_get_num_procs())
    if missing:
        # A team of the calling thread and so many others, which stays with it. What the team calls has no effect.
        nothing = ctypes.cast(runtime.omp_get_level, ctypes.c_void_p)
        runtime.GOMP_parallel(nothing, None, ctypes.c_uint(missing + 1), ctypes.c_uint(0))


def missing_threads(loader: int, torch_threads: int, cpus: int) -> int:
    """Threads that the runtime must count beside torch's to see that there are more than CPUs; 0 where there are not."""
    return max(1, cpus + 1 - torch_threads) if loader + torch_threads > cpus else 0


def _decided(environment: Mapping[str, str]) -> bool:
    return environment.get("OMP_WAIT_POLICY", "").strip().upper() == "ACTIVE" or "GOMP_SPINCOUNT" in environment


@cache
def _runtime() -> ctypes.CDLL | None:
    """The OpenMP runtime that torch calls; None where it has none that can be found."""
    try:
        runtime = ctypes.CDLL(None)
        runtime.GOMP_parallel, runtime.omp_get_level, runtime.omp_get_num_procs  # noqa: B018
    except (AttributeError, OSError, TypeError):
        if torch.get_num_threads() > 1:
            logger.info(ADVICE)
        return None
    return runtime


ADVICE = (
    "torch's threads may spin while they wait, on the cores of this loader's threads; if training is slow, start Python with "
    "OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0, or set them in os.environ before the first import of torch"
)
