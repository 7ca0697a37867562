"""Executes machine code of many programs side by side, and counts how often a warp issues each instruction.

Every lane (thread) has its own program counter. The lanes with the lowest one go first, and what they execute they execute together, so
that programs that take the same way cost as much as one. Lanes of a warp that part meet again where the code says so (BSSY, BSYNC).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.instructions import KNOWN
from harness.gpu_code.listing import STEP, Instruction
from harness.gpu_code.state import State, UnknownCodeError

NEVER = np.iinfo(np.int32).max
# What may go on elsewhere than at the next instruction, or wait.
TURNS = {"BRA", "BRX", "BRXU", "CALL", "RET", "EXIT", "BSYNC", "BREAK", "BAR"}


def execute(state: State) -> None:
    """Execute all lanes to their end.

    Raises:
        UnknownCodeError: an instruction that ``instructions.py`` does not know, or lanes that wait for each other for ever.
        MemoryFaultError: an access outside the memory that was given.
    """
    with np.errstate(all="ignore"):
        while True:
            ready = np.where(state.alive & (state.waiting < 0), state.counter, NEVER)
            here = int(ready.min())
            if here == NEVER:
                break
            lanes = np.flatnonzero(ready == here)
            others = ready[ready > here]
            _straight_on(state, lanes, here, int(others.min()) if len(others) else NEVER)
    if state.alive.any():
        raise UnknownCodeError(f"{state.code.kernel}: lanes wait for each other for ever")


def _straight_on(state: State, lanes: NDArray[np.int64], here: int, until: int) -> None:
    """Execute until others stand at the next instruction, or the way may turn."""
    warps = len(np.unique(state.warp_of[lanes]))
    while True:
        instruction = state.code.instructions[here // STEP]
        state.issued[here // STEP] += warps
        acting = lanes if instruction.guard is None else lanes[state.true(instruction.guard, lanes)]
        here += STEP
        turns = instruction.name in TURNS
        if turns or here >= until:
            state.counter[lanes] = here
        if len(acting):
            _step(state, instruction, state.whole_warps(acting) if instruction.uniform and not turns else acting)
        if turns or here >= until:
            return


def _step(state: State, instruction: Instruction, lanes: NDArray[np.int64]) -> None:
    does, (file, line) = KNOWN.get(instruction.name), instruction.line
    try:
        if does is None:
            raise UnknownCodeError("the emulator does not know this instruction; say in instructions.py what it does")
        does(state, instruction, lanes)
    except Exception as error:
        error.add_note(f"{state.code.kernel}, {file} line {line}, at {instruction.address:#x}: {instruction.text}")
        raise
