"""How every function of this folder is compiled."""

from __future__ import annotations

from functools import partial

import numba

# Finite inputs are a precondition, so NaN and infinity need no care; `contract` lets a product and a sum become one
# instruction. Reassociation stays off: sums keep their order, so results do not depend on how a loop was unrolled.
jit = partial(numba.njit, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "nnan", "ninf", "arcp"})
