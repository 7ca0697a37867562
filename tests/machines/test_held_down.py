"""A process that is held down has no more instructions than its level names, in each of the libraries that compute."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HELD_DOWN = Path(__file__).with_name("held_down.py")
# what LLVM compiles a product and a sum to tells which instructions it may use
LOOK = """
import json, sys
import numba, numpy as np, torch
from hvs_data.kernels.numba_compile import LANES

@numba.njit(fastmath={"contract"})
def multiply_add(a, b, c):
    for i in range(len(a)):
        c[i] += a[i] * b[i]

x = np.ones(64, np.float32)
multiply_add(x, x, x)
code = multiply_add.inspect_asm(multiply_add.signatures[0])
umath = np._core._multiarray_umath if hasattr(np, "_core") else np.core._multiarray_umath
numpy = sorted(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name))
found = {"torch": torch.backends.cpu.get_cpu_capability(), "numpy": numpy, "lanes": LANES}
print(json.dumps({**found, "fma": "vfmadd" in code, "long": "zmm" in code}))
"""

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="holds x86 processors down")


def held_down(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(HELD_DOWN), *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("level", "torch_level", "fma"), [("avx2", "AVX2", True), ("x86-64", "DEFAULT", False)])
def test_no_library_uses_more(level: str, torch_level: str, fma: bool) -> None:
    done = held_down(level, "-c", LOOK)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    own = json.loads(subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=300, check=True).stdout)
    if own["torch"] in ("AVX2", "AVX512"):
        assert found["torch"] == torch_level and found["fma"] is fma
    assert not found["long"] and found["lanes"] == 8
    assert not any("512" in name or name == "X86_V4" for name in found["numpy"])


def test_what_cannot_be_run_is_told() -> None:
    for arguments in ((), ("avx2",), ("sse9", "-c", "1")):
        done = held_down(*arguments)
        assert done.returncode and "expected a level (avx2 or x86-64) and what python is to run" in done.stderr
