"""Launches of Triton kernels, compiled as they would be for a GPU that is not there, and kept instead of run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Argument:
    """What a kernel takes: its name, its type as Triton names it ("*fp32", "i32"), and its value, of a pointer a tensor."""

    name: str
    type: str
    value: Any

    def as_bytes(self) -> bytes:
        """As it lies in constant memory.

        Raises:
            TypeError: another type than pointers, whole numbers of 32 and 64 bits and float32.
        """
        if self.type.startswith("*"):
            return int(self.value.data_ptr()).to_bytes(8, "little")
        if self.type in ("i32", "u32", "i64", "u64"):
            bits = int(self.type[1:])
            return int(self.value % 2**bits).to_bytes(bits // 8, "little")
        if self.type == "fp32":
            return np.float32(self.value).tobytes()
        raise TypeError(f"expected a pointer, i32, u32, i64, u64 or fp32, got {self.type} for {self.name}")


@dataclass(frozen=True)
class Launch:
    """One launch that was asked for.

    Attributes:
        kernel: its name.
        grid: programs along each axis.
        arguments: those that the machine code takes, in their order.
        cubin: the machine code.
        warps: of a program.
        shared: bytes of shared memory of a program.
    """

    kernel: str
    grid: tuple[int, ...]
    arguments: tuple[Argument, ...]
    cubin: bytes
    warps: int
    shared: int

    @property
    def programs(self) -> int:
        return math.prod(self.grid)


class _Absent:
    """Stands for the driver of a GPU that is not there; devices are numbered by their compute capability."""

    def __init__(self, architecture: int):
        self._architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._architecture, 32)

    def get_current_device(self) -> int:
        return self._architecture

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def recorded(architecture: int) -> Iterator[list[Launch]]:
    """Within it, a launch on CPU tensors is compiled for an architecture (80, 90, 100), with all that Triton specialises it on, and
    appended to the list instead of run."""
    launches: list[Launch] = []
    run, driver = JITFunction.run, triton.runtime.driver._active

    def record(kernel: Any, *arguments: Any, grid: tuple[int, ...], warmup: bool, **options: Any) -> None:
        compiled = run(kernel, *arguments, grid=grid, warmup=True, **options)
        values = {**dict(zip(kernel.arg_names, arguments, strict=False)), **options}
        types, metadata = compiled.src.signature, compiled.metadata
        taken = tuple(Argument(name, types[name], values[name]) for name in kernel.arg_names if types[name] != "constexpr")
        launches.append(Launch(kernel.__name__, tuple(grid), taken, compiled.asm["cubin"], metadata.num_warps, metadata.shared))

    triton.runtime.driver.set_active(_Absent(architecture))
    JITFunction.run = record
    try:
        yield launches
    finally:
        JITFunction.run = run
        triton.runtime.driver._active = driver
