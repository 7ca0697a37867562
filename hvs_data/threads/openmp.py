"""Torch's threads beside the loader's on one CPU: they are made to sleep, not spin, while they wait.

The threads of an OpenMP team wait for the next tensor operation by spinning for some milliseconds, on cores that a loader's threads could
use. GNU's runtime, which torch's wheels for Linux bring, leaves that where it counts more threads than CPUs (GOMP_SPINCOUNT in its
manual), but of the loader's threads it knows nothing. So while a loader works, idle threads of the runtime's own kind make up for them.
Intel's and LLVM's runtimes spin whatever they count, and the log says what to do. ``OMP_WAIT_POLICY=ACTIVE``, ``GOMP_SPINCOUNT`` or
``KMP_BLOCKTIME`` in the environment are a decision of the user, which is left alone.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Mapping
from functools import cache

import torch

from hvs_data.threads.share import usable_cpus

logger = logging.getLogger("hvs_data")


def let_openmp_count(threads: int) -> None:
    """Make OpenMP's runtime know that the threads of a loader want CPUs, too, for as long as the calling thread lives.

    Args:
        threads: of the loader. Torch's own are counted by the runtime itself.
    """
    if torch.get_num_threads() == 1 or _decided(os.environ):
        return
    runtime = _gnu_runtime()
    cpus = len(usable_cpus()) if runtime is None else runtime.omp_get_num_procs()
    missing = missing_threads(threads, torch.get_num_threads(), cpus)
    if missing and runtime is None:
        _advise()
    elif missing and runtime is not None:
        # A team of the calling thread and so many others, which stays with it. What the team calls has no effect.
        nothing = ctypes.cast(runtime.omp_get_level, ctypes.c_void_p)
        runtime.GOMP_parallel(nothing, None, ctypes.c_uint(missing + 1), ctypes.c_uint(0))


def missing_threads(loader: int, torch_threads: int, cpus: int) -> int:
    """Threads that the runtime must count beside torch's to see that there are more than CPUs; 0 where there are not."""
    return max(1, cpus + 1 - torch_threads) if loader + torch_threads > cpus else 0


def _decided(environment: Mapping[str, str]) -> bool:
    active = environment.get("OMP_WAIT_POLICY", "").strip().upper() == "ACTIVE"
    return active or "GOMP_SPINCOUNT" in environment or "KMP_BLOCKTIME" in environment


@cache
def _gnu_runtime() -> ctypes.CDLL | None:
    """GNU's OpenMP runtime, if it is the one that torch calls."""
    try:
        runtime = ctypes.CDLL(None)
        needed = [runtime.GOMP_parallel, runtime.omp_get_level, runtime.omp_get_num_procs]
    except (AttributeError, OSError, TypeError):
        return None
    # Intel's and LLVM's runtimes have GNU's names, too, and spin whatever they count
    return runtime if all(needed) and not hasattr(runtime, "kmp_set_blocktime") else None


@cache
def _advise() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:
        logger.warning(
            "torch's threads spin while they wait, on cores that the loader's threads want; start Python with KMP_BLOCKTIME=0 (or set it "
            "in os.environ before torch is imported), which makes them sleep; KMP_BLOCKTIME=200 keeps things as they are, without this line"
        )
