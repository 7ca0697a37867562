"""How every function of this folder is compiled, and when what was compiled earlier may be used again."""

from __future__ import annotations

import hashlib
import logging
from functools import cache, partial
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger("hvs_data")

# Finite inputs are a precondition, so NaN and infinity need no care; `contract` lets a product and a sum become one
# instruction. Reassociation stays off: sums keep their order, so results do not depend on how a loop was unrolled.
_njit = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "nnan", "ninf", "arcp"})


def _digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()


_SOURCES = _digest(Path(__file__).parent)


class _FolderCache(FunctionCache):
    """Machine code on disk that belongs to the sources of this whole folder.

    Numba's own cache knows the file of a function only, and not those of the functions that were compiled into it: after an upgrade
    that leaves the caller's file as it was, it would go on with the callee of the old version.
    """

    def _index_key(self, sig, codegen):
        return (*super()._index_key(sig, codegen), _SOURCES)


def jit(function):
    """Compile on first use, once for each machine and version: other processes load the result."""
    compiled = _njit(function)
    try:
        compiled._cache = _FolderCache(function)
    except RuntimeError:
        # neither the package's folder nor the user's cache folder can be written
        _warn_of_compiling_again()
    return compiled


@cache
def _warn_of_compiling_again() -> None:
    logger.warning("found no folder to keep the compiled renderer in, so every process compiles it anew; set NUMBA_CACHE_DIR to one")
