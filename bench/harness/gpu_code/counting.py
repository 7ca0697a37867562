"""How many instructions of which kind a launch takes, and what memory, from a sample of its programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.gpu_code import cubin
from harness.gpu_code.emulator import execute
from harness.gpu_code.launches import Launch
from harness.gpu_code.listing import Instruction
from harness.gpu_code.machine import Machine
from harness.gpu_code.memory import Memory

# By the units that execute them. What is not named does whole numbers, comparisons and choices.
KINDS = {
    "float": ("FADD", "FMUL", "FFMA", "IMAD"),
    "float pair": ("FADD2", "FMUL2", "FFMA2"),
    "double": ("DADD", "DMUL", "DFMA", "DSETP"),
    "convert": ("I2F", "F2I", "F2F", "FRND", "MUFU"),
    "load": ("LDG",),
    "store": ("STG",),
    "shared": ("LDS", "STS", "LDSM", "STSM", "SHFL"),
    "barrier": ("BAR", "BSSY", "BSYNC", "BREAK", "WARPSYNC"),
    "branch": ("BRA", "BRX", "BRXU", "CALL", "RET", "EXIT"),
    "constant": ("LDC", "LDCU"),
    "other": ("NOP", "S2R", "S2UR", "CS2R", "R2UR"),
}
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
INTEGER, UNIFORM = "integer", "uniform"


def kind_of(instruction: Instruction) -> str:
    kind = _KIND_OF.get(instruction.name, INTEGER)
    return UNIFORM if instruction.uniform and kind in (INTEGER, "float") else kind


@dataclass(frozen=True)
class Counts:
    """What one launch takes, all its programs together, estimated from a sample.

    Attributes:
        by_kind: instructions that warps issue, by ``KINDS``.
        by_line: the same, by file and line of the source.
        wavefronts: passes through the L1 cache and shared memory.
        read, written: bytes by the argument that names the memory, each program's once.
    """

    by_kind: Mapping[str, float]
    by_line: Mapping[tuple[str, int], float]
    wavefronts: float
    read: Mapping[str, float]
    written: Mapping[str, float]

    @property
    def issued(self) -> float:
        return sum(self.by_kind.values())


def sampled(programs: int, most: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Programs, one at random of each of so many equal parts of all; all of them where that is None or no less."""
    if most is None or programs <= most:
        return np.arange(programs)
    bounds = np.linspace(0, programs, most + 1).astype(np.int64)
    return np.random.default_rng(seed).integers(bounds[:-1], bounds[1:])


def count(launch: Launch, memory: Mapping[str, Tensor], most: int | None = None, seed: int = 0) -> Counts:
    """Execute programs of a launch; what they write is in its tensors afterwards.

    Args:
        memory: what it reaches beside its arguments' memory, by a name.
        most: programs that are executed; None for all.

    Raises:
        UnknownCodeError, MemoryFaultError: as ``execute``.
    """
    code = cubin.read(launch.cubin)
    pointers = {argument.name: argument.value for argument in launch.arguments if argument.type.startswith("*")}
    programs = sampled(launch.programs, most, seed)
    machine = Machine(launch, code, Memory({**memory, **pointers}), programs)
    execute(machine)
    factor = launch.programs / len(programs)
    by_kind: dict[str, float] = {}
    by_line: dict[tuple[str, int], float] = {}
    for instruction, issued in zip(code.instructions, (machine.issued * factor).tolist(), strict=True):
        kind, line = kind_of(instruction), instruction.line
        by_kind[kind] = by_kind.get(kind, 0.0) + issued
        by_line[line] = by_line.get(line, 0.0) + issued
    read, written = ({name: factor * size for name, size in machine.traffic(written=w).items()} for w in (False, True))
    return Counts(by_kind, by_line, float(machine.wavefronts.sum()) * factor, read, written)
