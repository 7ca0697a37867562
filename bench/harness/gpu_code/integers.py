"""Instructions on whole numbers, bits and predicates."""

# Axes: L lane.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.listing import UNIFORM_PREDICATES, Instruction, Operand
from harness.gpu_code.machine import LANES, Machine
from harness.gpu_code.semantics import Lanes, Table, parts

Array = NDArray[Any]
INTEGERS = Table()
_32 = np.uint64(32)


@INTEGERS.of("MOV")
def mov(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.put(i.operands[0], lanes, m.unsigned(i.operands[1], lanes))


@INTEGERS.of("R2UR")
def to_uniform(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """What the first lane holds becomes the warp's."""
    result, source = (operand for operand in i.operands if operand.kind == "register")
    _, first = np.unique(m.warp[lanes], return_index=True)
    m.put(result, m.whole_warps(lanes), np.repeat(m.unsigned(source, lanes)[first], LANES))


@INTEGERS.of("IADD3", "IADD", "VIADD")
def add(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, carries, sources, carried = parts(i.operands)
    if "64" in i.modifiers:
        m.put_wide(result, lanes, sum((m.wide(source, lanes) for source in sources), np.zeros(len(lanes), np.uint64)))
        return
    total_L = sum((m.summand(source, lanes) for source in sources), np.zeros(len(lanes), np.uint64))
    if "X" in i.modifiers:
        total_L = sum((m.true(carry, lanes) for carry in carried), total_L)
    for number, carry in enumerate(carries):
        m.put_true(carry, lanes, total_L >> _32 > number)
    m.put(result, lanes, total_L.astype(np.uint32))


@INTEGERS.of("IMAD")
def multiply_add(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, carries, (a, b, c), carried = parts(i.operands)
    kinds = set(i.modifiers)
    carry_L = m.true(carried[0], lanes) if "X" in kinds else np.zeros(len(lanes), bool)
    if not {"WIDE", "HI"} & kinds:
        m.put(result, lanes, m.unsigned(a, lanes) * m.unsigned(b, lanes) + m.unsigned(c, lanes) + carry_L)
        return
    if "U32" in kinds:
        product_L = m.unsigned(a, lanes).astype(np.uint64) * m.unsigned(b, lanes)
    else:
        product_L = (m.signed(a, lanes).astype(np.int64) * m.signed(b, lanes)).view(np.uint64)
    total_L = product_L + m.wide(c, lanes) + carry_L
    for carry in carries:
        m.put_true(carry, lanes, total_L < product_L)
    if "HI" in kinds:
        m.put(result, lanes, (total_L >> _32).astype(np.uint32))
    else:
        m.put_wide(result, lanes, total_L)


@INTEGERS.of("LEA")
def shift_add(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """A sum with a number shifted to the left; HI: with the upper 32 of its 64 bits."""
    result, carries, (a, b, *upper, by), carried = parts(i.operands)
    if "SX32" in i.modifiers:
        whole_L = m.signed(a, lanes).astype(np.int64).view(np.uint64)
    else:
        whole_L = m.unsigned(a, lanes).astype(np.uint64)
    if upper:
        whole_L = whole_L | (m.unsigned(upper[0], lanes).astype(np.uint64) << _32)
    moved_L = whole_L << m.unsigned(by, lanes).astype(np.uint64)
    moved_L = moved_L >> _32 if "HI" in i.modifiers else moved_L & np.uint64(2**32 - 1)
    total_L = moved_L + m.summand(b, lanes)
    if "X" in i.modifiers:
        total_L = total_L + m.true(carried[0], lanes)
    for carry in carries:
        m.put_true(carry, lanes, total_L >> _32 > 0)
    m.put(result, lanes, total_L.astype(np.uint32))


@INTEGERS.of("SHF")
def shift(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """32 of 64 bits that are shifted: the lower ones, HI: the upper ones."""
    result, low, by, high = i.operands
    kinds = set(i.modifiers)
    whole_L = m.unsigned(low, lanes) | (m.unsigned(high, lanes).astype(np.uint64) << _32)
    most = np.uint64(63 if {"U64", "S64"} & kinds else 32)
    by_L = m.unsigned(by, lanes).astype(np.uint64)
    by_L = by_L & np.uint64(31) if "W" in kinds else np.minimum(by_L, most)
    if "L" in kinds:
        moved_L = whole_L << by_L
    elif {"S32", "S64"} & kinds:
        moved_L = (whole_L.view(np.int64) >> by_L.view(np.int64)).view(np.uint64)
    else:
        moved_L = whole_L >> by_L
    m.put(result, lanes, (moved_L >> _32 if "HI" in kinds else moved_L).astype(np.uint32))


def by_table(table: int, a: Array, b: Array, c: Array) -> Array:
    """Any function of three bits, from the eight bits that it gives."""
    result = np.zeros_like(a)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result


@INTEGERS.of("LOP3")
def logic(m: Machine, i: Instruction, lanes: Lanes) -> None:
    *flag, result, a, b, c, table = (operand for operand in i.operands[:-1])
    value_L = by_table(int(table.text, 0), *(m.unsigned(part, lanes) for part in (a, b, c)))
    for predicate in flag:
        m.put_true(predicate, lanes, value_L != 0)
    m.put(result, lanes, value_L)


@INTEGERS.of("PLOP3")
def predicate_logic(m: Machine, i: Instruction, lanes: Lanes) -> None:
    first, second, a, b, c, *tables = i.operands
    values = [m.true(part, lanes) for part in (a, b, c)]
    for result, table in zip((first, second), tables, strict=True):
        m.put_true(result, lanes, by_table(int(table.text, 0), *values))


@INTEGERS.of("R2P")
def to_predicates(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Bits of a register, or of a byte (B1 to B3) of it, to the predicates whose bits are set in a mask."""
    _, source, mask = i.operands
    first = 8 * int(source.selected[1]) if source.selected else 0
    value_L = m.unsigned(source, lanes)
    for number in range(UNIFORM_PREDICATES):
        if int(mask.text, 0) >> number & 1:
            m.put_true(Operand("predicate", number), lanes, value_L >> np.uint32(first + number) & np.uint32(1) != 0)


@INTEGERS.of("P2R")
def from_predicates(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """A register with those bits that are set in a mask, of its lowest byte or the one named, taken from the predicates."""
    result, _, source, mask = i.operands
    first = next((8 * int(kind[1]) for kind in i.modifiers if kind in ("B1", "B2", "B3")), 0)
    value_L = m.unsigned(source, lanes)
    for number in range(UNIFORM_PREDICATES):
        if int(mask.text, 0) >> number & 1:
            bit = np.uint32(1 << first + number)
            value_L = np.where(m.true(Operand("predicate", number), lanes), value_L | bit, value_L & ~bit)
    m.put(result, lanes, value_L)


@INTEGERS.of("SEL")
def select(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, a, b, which = i.operands
    m.put(result, lanes, np.where(m.true(which, lanes), m.unsigned(a, lanes), m.unsigned(b, lanes)))


@INTEGERS.of("IABS")
def absolute(m: Machine, i: Instruction, lanes: Lanes) -> None:
    m.put(i.operands[0], lanes, abs(m.signed(i.operands[1], lanes)))


@INTEGERS.of("VIMNMX", "IMNMX", "VIMNMX3", "VIADDMNMX")
def least_or_most(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """VIADDMNMX: of a sum and a third number."""
    result, _, sources, (is_least, *_) = parts(i.operands)
    read = m.unsigned if "U32" in i.modifiers else m.signed
    values = [read(source, lanes) for source in sources]
    if i.name == "VIADDMNMX":
        values = [values[0] + values[1], values[2]]
    m.put(result, lanes, np.where(m.true(is_least, lanes), np.minimum.reduce(values), np.maximum.reduce(values)))


@INTEGERS.of("PRMT")
def permute(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Four of eight bytes, each as it is or its sign eight times over."""
    result, low, choice, high = i.operands
    pool_L = m.unsigned(low, lanes) | (m.unsigned(high, lanes).astype(np.uint64) << _32)
    choice_L = m.unsigned(choice, lanes).astype(np.uint64)
    value_L = np.zeros(len(lanes), np.uint64)
    for position in range(4):
        which_L = choice_L >> np.uint64(4 * position)
        byte_L = (pool_L >> ((which_L & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        byte_L = np.where(which_L & np.uint64(8), (byte_L >> np.uint64(7)) * np.uint64(255), byte_L)
        value_L |= byte_L << np.uint64(8 * position)
    m.put(result, lanes, value_L.astype(np.uint32))


@INTEGERS.of("SGXT")
def extend(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """The lowest bits, extended by zeros or by their sign."""
    result, source, bits = i.operands
    by = 32 - int(bits.text, 0)
    high_L = m.unsigned(source, lanes) << np.uint32(by)
    m.put(result, lanes, high_L >> np.uint32(by) if "U32" in i.modifiers else high_L.view(np.int32) >> np.int32(by))


COMPARISONS = {"EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal}
_JOINS = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}


def put_comparison(m: Machine, i: Instruction, lanes: Lanes, value_L: Array) -> None:
    """A comparison has two results: it and its opposite, each joined with a predicate."""
    join = next(_JOINS[kind] for kind in i.modifiers if kind in _JOINS)
    with_L = m.true(i.operands[4], lanes)
    m.put_true(i.operands[0], lanes, join(value_L, with_L))
    m.put_true(i.operands[1], lanes, join(~value_L, with_L))


@INTEGERS.of("ISETP")
def compare(m: Machine, i: Instruction, lanes: Lanes) -> None:
    read = m.unsigned if "U32" in i.modifiers else m.signed
    a_L, b_L = read(i.operands[2], lanes), read(i.operands[3], lanes)
    kind = i.modifiers[0]
    value_L = COMPARISONS[kind](a_L, b_L)
    if "EX" in i.modifiers:
        # the upper halves of 64 bits: where these are equal, what came of the lower ones decides
        value_L = np.where(a_L == b_L, m.true(i.operands[5], lanes), value_L)
    put_comparison(m, i, lanes, value_L)
