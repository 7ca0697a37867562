"""Runs Python as a processor with fewer instructions would: what computes is told not to use more.

    python tests/machines/held_down.py avx2 -m pytest tests/kernels
    python tests/machines/held_down.py x86-64 bench/loader_cpu.py --data FOLDER

``avx2``: AVX2 and FMA, as AMD's Zen 1 to 3 and Intel's Haswell have them. ``x86-64``: the least that an x86 processor has, as far as each
library has code for it. Torch's own loops, oneDNN, MKL, OpenBLAS, NumPy, Numba's compiler and libjpeg-turbo each listen to a variable.
"""

from __future__ import annotations

import os
import sys

# Tells the benches, whose results name the machine.
LEVEL_VARIABLE = "HVS_DATA_HELD_DOWN_TO"
VARIABLES = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "JSIMD_FORCEAVX2": "1",
    },
    "x86-64": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Prescott",
        "NUMBA_CPU_NAME": "x86-64",
        "JSIMD_FORCESSE2": "1",
    },
}
# What each level has, in LLVM's names, and in NumPy's for what it may use beyond its baseline.
_LLVM = {"x86-64": {"64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2"}}
_LLVM["avx2"] = _LLVM["x86-64"] | set("avx avx2 bmi bmi2 cx16 f16c fma lzcnt movbe popcnt sahf sse3 sse4.1 sse4.2 ssse3 xsave".split())
_NUMPY = {"x86-64": set(), "avx2": set("SSE3 SSSE3 SSE41 POPCNT SSE42 AVX F16C FMA3 AVX2 X86_V2 X86_V3".split())}


def variables(level: str) -> dict[str, str]:
    """What the environment of a process must hold, beside what it holds already."""
    import numpy as np
    from llvmlite.binding import get_host_cpu_features

    umath = np._core._multiarray_umath if hasattr(np, "_core") else np.core._multiarray_umath
    # NumPy warns of features that the processor lacks
    disabled = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name) and name not in _NUMPY[level]]
    compiled = [f"{'+' if has and name in _LLVM[level] else '-'}{name}" for name, has in sorted(get_host_cpu_features().items())]
    return {
        **VARIABLES[level],
        LEVEL_VARIABLE: level,
        "NPY_DISABLE_CPU_FEATURES": " ".join(disabled),
        "NUMBA_CPU_FEATURES": ",".join(compiled),
    }


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in VARIABLES:
        raise SystemExit(f"expected a level ({' or '.join(VARIABLES)}) and what python is to run, got {sys.argv[1:]}\n\n{__doc__}")
    os.execve(sys.executable, [sys.executable, *sys.argv[2:]], {**os.environ, **variables(sys.argv[1])})


if __name__ == "__main__":
    main()
