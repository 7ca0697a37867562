"""Instructions that tell a lane where it is, and where it goes on."""

# Axes: L lane.

from __future__ import annotations

import numpy as np

from harness.gpu_code.listing import STEP, Instruction
from harness.gpu_code.machine import LANES, Machine, UnknownCodeError
from harness.gpu_code.semantics import Lanes, Table

CONTROL = Table()
TURNS = Table()  # after which a lane may stand elsewhere than at the next instruction, or wait


@CONTROL.of("S2R", "S2UR", "CS2R")
def special(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, name = i.operands[0], i.operands[-1].text
    if name == "SRZ":
        for word in range(1 if "32" in i.modifiers else 2):
            m.put(result, lanes, np.zeros(len(lanes), np.uint32), word)
        return
    width, height, *_ = (*m.launch.grid, 1, 1)
    program_L = m.program[lanes]
    known = {
        "SR_TID.X": m.thread[lanes],
        "SR_LANEID": lanes % LANES,
        "SR_CTAID.X": program_L % width,
        "SR_CTAID.Y": program_L // width % height,
        "SR_CTAID.Z": program_L // (width * height),
        "SR_CgaCtaId": np.zeros(len(lanes)),
    }
    if name not in known:
        raise UnknownCodeError(f"expected one of {', '.join(known)}, got {name}")
    m.put(result, lanes, known[name].astype(np.uint32))


@CONTROL.of("NOP", "WARPSYNC")
def nothing(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """For the values; it is counted as all others are."""


@CONTROL.of("BSSY")
def expect(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.expect(i.operands[0].index, lanes)


def under(m: Machine, i: Instruction, lanes: Lanes) -> Lanes:
    """Lanes for which all predicates among the operands hold: what turns may have some beside its guard."""
    for condition in i.operands:
        if condition.kind == "predicate":
            lanes = lanes[m.true(condition, lanes)]
    return lanes


@TURNS.of("BREAK")
def excuse(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.excuse(i.operands[-1].index, under(m, i, lanes))


@TURNS.of("BSYNC")
def meet(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.meet(i.operands[-1].index, under(m, i, lanes))


@TURNS.of("BAR")
def meet_program(m: Machine, i: Instruction, lanes: Lanes) -> None:
    if "SYNC" not in i.modifiers or i.operands[0].text != "0x0":
        raise UnknownCodeError("expected the barrier of a whole program, got another")
    m.meet_program(lanes)


@TURNS.of("EXIT")
def end(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.end(under(m, i, lanes))


@TURNS.of("BRA", "CALL")
def jump(m: Machine, i: Instruction, lanes: Lanes) -> None:
    if i.target is None or any(operand.kind != "predicate" for operand in i.operands):
        raise UnknownCodeError("expected a jump to a label under predicates, got another")
    m.counter[under(m, i, lanes)] = i.target


@TURNS.of("BRX", "BRXU", "RET")
def jump_by_register(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """To an address that BRX counts from the next instruction on, and RET from the function's first."""
    if any(operand.kind == "predicate" for operand in i.operands):
        raise UnknownCodeError("expected a jump without predicates beside its guard, got another")
    to_L = m.unsigned(i.operands[0], lanes).view(np.int32)
    m.counter[lanes] = to_L if i.name == "RET" else to_L + np.int32(i.address + STEP + int(i.operands[1].text, 0))
