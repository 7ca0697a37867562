"""Launches of Triton kernels, compiled exactly as they would be for a GPU that is not there, and kept instead of run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Launch:
    """One launch that was asked for.

    Attributes:
        kernel: its name.
        grid: programs along each axis.
        arguments: those that the machine code takes, in their order: type as Triton names it ("*fp32", "i32"), and value.
        cubin: the machine code.
        warps: of a program.
        shared: bytes of shared memory of a program.
    """

    kernel: str
    grid: tuple[int, ...]
    arguments: tuple[tuple[str, Any], ...]
    cubin: bytes
    warps: int
    shared: int


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
    """Within it, a launch on CPU tensors is compiled for an architecture (80, 90, 100), with what Triton would specialise it on, and
    appended to the list."""
    launches: list[Launch] = []
    run, active = JITFunction.run, triton.runtime.driver._active

    def record(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled = run(kernel, *arguments, grid=grid, warmup=True, **options)
        values = {**dict(zip(kernel.arg_names, arguments, strict=False)), **options}
        types = compiled.src.signature
        taken = tuple((types[name], values[name]) for name in kernel.arg_names if types[name] != "constexpr")
        metadata = compiled.metadata
        launches.append(Launch(kernel.__name__, tuple(grid), taken, compiled.asm["cubin"], metadata.num_warps, metadata.shared))

    triton.runtime.driver.set_active(_Absent(architecture))
    JITFunction.run = record
    try:
        yield launches
    finally:
        JITFunction.run = run
        triton.runtime.driver._active = active
