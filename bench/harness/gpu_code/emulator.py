"""Executes machine code of many programs side by side, and counts how often a warp issues each instruction.

Every lane (thread) has its own program counter. The lanes with the lowest one go first, and what they execute they execute together, so
that programs that take the same way cost as much as one. Lanes of a warp that part meet again where the code says so (BSSY, BSYNC).
"""

from __future__ import annotations

import numpy as np

from harness.gpu_code.accesses import ACCESSES
from harness.gpu_code.control import CONTROL, TURNS
from harness.gpu_code.floats import FLOATS
from harness.gpu_code.integers import INTEGERS
from harness.gpu_code.listing import STEP, Instruction
from harness.gpu_code.machine import Machine, UnknownCodeError
from harness.gpu_code.semantics import Lanes

KNOWN = {**INTEGERS, **FLOATS, **ACCESSES, **CONTROL, **TURNS}
NEVER = np.iinfo(np.int32).max


def execute(machine: Machine) -> None:
    """Execute all lanes to their end.

    Raises:
        UnknownCodeError: an instruction of which nothing says what it does, or lanes that wait for each other for ever.
        MemoryFaultError: an access outside the memory that was given.
    """
    with np.errstate(all="ignore"):
        while True:
            ready = np.where(machine.alive & (machine.waiting < 0), machine.counter, NEVER)
            here = int(ready.min())
            if here == NEVER:
                break
            others = ready[ready > here]
            _straight_on(machine, np.flatnonzero(ready == here), here, int(others.min()) if len(others) else NEVER)
    if machine.alive.any():
        raise UnknownCodeError(f"{machine.code.kernel}: expected all lanes to end, some wait for others for ever")


def _straight_on(machine: Machine, lanes: Lanes, here: int, until: int) -> None:
    """Execute until others stand at the next instruction, or the way may turn."""
    warps = len(np.unique(machine.warp[lanes]))
    while True:
        instruction = machine.code.instructions[here // STEP]
        machine.issued[here // STEP] += warps
        acting = lanes if instruction.guard is None else lanes[machine.true(instruction.guard, lanes)]
        here += STEP
        stops = instruction.name in TURNS or here >= until
        if stops:
            machine.counter[lanes] = here
        if len(acting):
            _step(machine, instruction, acting)
        if stops:
            return


def _step(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    try:
        if instruction.name not in KNOWN:
            raise UnknownCodeError("expected an instruction that the emulator knows; say in this folder what this one does")
        of_warp = instruction.uniform and instruction.name not in TURNS
        KNOWN[instruction.name](machine, instruction, machine.whole_warps(lanes) if of_warp else lanes)
    except Exception as error:
        file, line = instruction.line
        error.add_note(f"{machine.code.kernel}, {file} line {line}, at {instruction.address:#x}: {instruction.text}")
        raise
