"""How many instructions of which kind a launch takes, from a sample of its programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.gpu_code import listing
from harness.gpu_code.emulator import execute
from harness.gpu_code.launches import Launch
from harness.gpu_code.listing import Instruction
from harness.gpu_code.memory import Memory
from harness.gpu_code.state import State

# Kinds of instructions, by the units that execute them; what is not named is a whole number's, a comparison or a choice.
KINDS = {
    "float": {"FADD", "FMUL", "FFMA", "FADD2", "FMUL2", "FFMA2"},
    "integer multiply": {"IMAD"},
    "double": {"DADD", "DMUL", "DFMA", "DSETP"},
    "convert": {"I2F", "F2I", "F2F", "MUFU", "FRND"},
    "tensor": {"HMMA", "IMMA", "QMMA", "HGMMA"},
    "global load": {"LDG"},
    "global store": {"STG"},
    "shared": {"LDS", "STS", "LDSM", "STSM", "SHFL", "LDGSTS", "ATOMS"},
    "constant": {"LDC", "LDCU"},
    "barrier": {"BAR", "BSSY", "BSYNC", "WARPSYNC", "BREAK", "DEPBAR"},
    "branch": {"BRA", "BRX", "BRXU", "CALL", "RET", "EXIT"},
    "other": {"NOP", "S2R", "S2UR", "CS2R", "R2UR"},
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


def kind_of(instruction: Instruction) -> str:
    if instruction.uniform:
        return "constant" if instruction.name == "LDC" else "uniform"
    return KIND_OF.get(instruction.name, "integer, compare, select")


@dataclass(frozen=True)
class Counts:
    """What one launch takes, in all, estimated from a sample.

    Attributes:
        by_kind: instructions that warps issue.
        wavefronts: passes through the L1 cache and shared memory.
        lines: instructions by line of the source.
    """

    by_kind: dict[str, float]
    wavefronts: float
    products: float
    lines: dict[tuple[str, int], float]

    @property
    def issued(self) -> float:
        return sum(self.by_kind.values())


def sampled(grid: Sequence[int], most: int | None, seed: int) -> np.ndarray:
    """Programs, one at random of each of so many equal parts of the grid; all of them where there are no more."""
    count = int(np.prod(grid))
    if most is None or count <= most:
        return np.arange(count)
    bounds = np.linspace(0, count, most + 1).astype(np.int64)
    return np.random.default_rng(seed).integers(bounds[:-1], bounds[1:])


def count(launch: Launch, tensors: Sequence[Tensor], most: int | None, seed: int = 0) -> Counts:
    """Execute a sample of a launch's programs.

    Args:
        tensors: memory that it reaches beside its arguments'.
        most: programs that are executed; None for all.
    """
    code = listing.read(launch.cubin)
    memory = Memory([*tensors, *(value for kind, value in launch.arguments if kind.startswith("*"))])
    programs = sampled(launch.grid, most, seed)
    state = State(launch, code, memory, programs)
    execute(state)
    factor = int(np.prod(launch.grid)) / len(programs)
    by_kind: dict[str, float] = {}
    lines: dict[tuple[str, int], float] = {}
    products = 0.0
    for instruction, issued in zip(code.instructions, state.issued * factor, strict=True):
        kind = kind_of(instruction)
        by_kind[kind] = by_kind.get(kind, 0.0) + issued
        lines[instruction.line] = lines.get(instruction.line, 0.0) + issued
    return Counts(by_kind, float(state.wavefronts.sum()) * factor, products, lines)
