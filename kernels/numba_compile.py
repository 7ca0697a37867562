"""How every function of these folders is compiled by Numba, and when what was compiled earlier may be used again."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import cache, partial
from pathlib import Path

import numba
from llvmlite.binding import get_host_cpu_features
from numba.core import config
from numba.core.caching import FunctionCache

logger = logging.getLogger("hvs_data")


def _lanes() -> int:
    if given := os.environ.get(LANES_VARIABLE):
        if given not in ("8", "16"):
            raise ValueError(f"{LANES_VARIABLE} must be 8 or 16, got {given!r}; leave it out for what suits this processor")
        return int(given)
    # processors that know these instructions keep their clocks up under long vectors
    return 16 if _compiles_for("avx512vbmi2") else 8


def _compiles_for(feature: str) -> bool:
    """Whether Numba uses these instructions: where the processor has them, unless ``NUMBA_CPU_FEATURES`` says otherwise."""
    if config.CPU_FEATURES is not None:
        return f"+{feature}" in config.CPU_FEATURES.split(",")
    return bool(get_host_cpu_features().get(feature))


# Floats of a vector, in operations that are written for vectors. Sums do not depend on it.
LANES_VARIABLE = "HVS_DATA_VECTOR_LANES"
LANES = _lanes()

_njit = partial(numba.njit, nogil=True, error_model="numpy")
# Finite inputs are a precondition, so NaN and infinity need no care; `contract` lets a product and a sum become one
# instruction. Reassociation stays off: sums keep their order, so results do not depend on how a loop was unrolled.
_PIXELS = {"contract", "nsz", "nnan", "ninf", "arcp"}


@cache
def _digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in (Path(__file__), *sorted(folder.glob("*.py"))))).hexdigest()


class _FolderCache(FunctionCache):
    """Machine code on disk that belongs to the sources of a whole folder.

    Numba's own cache knows the file of a function only, and not those of the functions that were compiled into it: after an upgrade
    that leaves the caller's file as it was, it would go on with the callee of the old version.
    """

    def __init__(self, function):
        super().__init__(function)
        self._sources = _digest(Path(function.__code__.co_filename).parent)

    def _index_key(self, sig, codegen):
        return (*super()._index_key(sig, codegen), self._sources, LANES)


def jit(function):
    """Compile on first use, once for each machine and version: other processes load the result. For arithmetic on pixels."""
    return _cached(function, _njit(function, fastmath=_PIXELS))


def exact_jit(function):
    """As :func:`jit`, with every operation rounded as NumPy rounds it."""
    return _cached(function, _njit(function))


def _cached(function, compiled):
    try:
        compiled._cache = _FolderCache(function)
    except RuntimeError:
        # neither the package's folder nor the user's cache folder can be written
        _warn_of_compiling_again()
    return compiled


@cache
def _warn_of_compiling_again() -> None:
    logger.warning("found no folder to keep the compiled renderer in, so every process compiles it anew; set NUMBA_CACHE_DIR to one")
