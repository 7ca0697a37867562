"""What each instruction does, for all lanes that execute it; the names are nvdisasm's, without the U of uniform ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.listing import STEP, Instruction, Operand
from harness.gpu_code.state import LANES, State, UnknownCodeError, number_of

Array = NDArray[Any]
Does = Callable[[State, Instruction, Array], None]
KNOWN: dict[str, Does] = {}


def does(*names: str) -> Callable[[Does], Does]:
    def note(function: Does) -> Does:
        KNOWN.update(dict.fromkeys(names, function))
        return function

    return note


def _split(operands: tuple[Operand, ...]) -> tuple[Operand, list[Operand], list[Operand], list[Operand]]:
    """Result, predicates that are written, sources, predicates that are read."""
    first, *rest = operands
    begin = 0
    while begin < len(rest) and rest[begin].kind == "predicate":
        begin += 1
    end = len(rest)
    while end > begin and rest[end - 1].kind == "predicate":
        end -= 1
    return first, rest[:begin], rest[begin:end], rest[end:]


# --- whole numbers -----------------------------------------------------------------------------------------------------


@does("MOV")
def mov(m: State, i: Instruction, lanes: Array) -> None:
    m.put(i.operands[0], lanes, np.broadcast_to(m.unsigned(i.operands[1], lanes), len(lanes)))


@does("R2UR")
def to_uniform(m: State, i: Instruction, lanes: Array) -> None:
    operands = [operand for operand in i.operands if operand.kind == "register"]
    value = m.unsigned(operands[1], lanes)
    warps, first = np.unique(m.warp_of[lanes], return_index=True)
    rows = (warps[:, None] * LANES + np.arange(LANES)).ravel()
    m.put(operands[0], rows, np.repeat(value[first], LANES))


@does("IADD3", "IADD", "VIADD")
def iadd(m: State, i: Instruction, lanes: Array) -> None:
    result, carries, sources, carried = _split(i.operands)
    if "64" in i.modifiers:
        m.put_wide(result, lanes, sum(np.broadcast_to(m.wide(source, lanes), len(lanes)) for source in sources))
        return
    total = np.zeros(len(lanes), np.uint64)
    for source in sources:
        total += m.carried(source, lanes)
    if "X" in i.modifiers:
        for carry in carried:
            total += m.true(carry, lanes)
    for number, carry in enumerate(carries):
        m.put_true(carry, lanes, total >> np.uint64(32) > number)
    m.put(result, lanes, total.astype(np.uint32))


@does("IMAD")
def imad(m: State, i: Instruction, lanes: Array) -> None:
    result, carries, (a, b, *rest), carried = _split(i.operands)
    if "MOV" in i.modifiers or "IADD" in i.modifiers or not {"WIDE", "HI"} & set(i.modifiers):
        value = m.unsigned(a, lanes) * m.unsigned(b, lanes) + m.unsigned(rest[0], lanes)
        if "X" in i.modifiers:
            value = value + m.true(carried[0], lanes)
        m.put(result, lanes, np.broadcast_to(value, len(lanes)).astype(np.uint32))
        return
    if "U32" in i.modifiers:
        product = np.asarray(m.unsigned(a, lanes)).astype(np.uint64) * np.asarray(m.unsigned(b, lanes)).astype(np.uint64)
    else:
        product = (np.asarray(m.signed(a, lanes)).astype(np.int64) * np.asarray(m.signed(b, lanes)).astype(np.int64)).view(np.uint64)
    total = np.broadcast_to(product + m.wide(rest[0], lanes), len(lanes))
    if "X" in i.modifiers:
        total = total + m.true(carried[0], lanes).astype(np.uint64)
    for carry in carries:
        m.put_true(carry, lanes, total < product)
    if "HI" in i.modifiers:
        m.put(result, lanes, (total >> np.uint64(32)).astype(np.uint32))
    else:
        m.put_wide(result, lanes, np.ascontiguousarray(total))


@does("LEA")
def lea(m: State, i: Instruction, lanes: Array) -> None:
    result, carries, sources, carried = _split(i.operands)
    a, b, *middle, shift = sources
    low, by = np.asarray(m.unsigned(a, lanes)).astype(np.uint64), np.uint64(int(shift.text, 0))
    if "HI" in i.modifiers:
        if "SX32" in i.modifiers:
            whole = np.asarray(m.signed(a, lanes)).astype(np.int64).view(np.uint64)
        else:
            whole = low | (np.asarray(m.unsigned(middle[0], lanes)).astype(np.uint64) << np.uint64(32))
        moved = (whole << by) >> np.uint64(32)
    else:
        moved = (low << by) & np.uint64(0xFFFFFFFF)
    total = np.broadcast_to(moved + m.carried(b, lanes), len(lanes))
    if "X" in i.modifiers:
        total = total + m.true(carried[0], lanes)
    for carry in carries:
        m.put_true(carry, lanes, total >> np.uint64(32) > 0)
    m.put(result, lanes, total.astype(np.uint32))


@does("SHF")
def shift(m: State, i: Instruction, lanes: Array) -> None:
    result, low, by, high = i.operands
    a, c = (np.asarray(m.unsigned(part, lanes)).astype(np.uint64) for part in (low, high))
    count = np.asarray(m.unsigned(by, lanes)).astype(np.uint64)
    count = (
        count & np.uint64(31)
        if "W" in i.modifiers
        else np.minimum(count, 63 if {"U64", "S64"} & set(i.modifiers) else 32).astype(np.uint64)
    )
    whole = a | (c << np.uint64(32))
    if "L" in i.modifiers:
        moved = whole << count
    elif {"S32", "S64"} & set(i.modifiers):
        moved = (whole.view(np.int64) >> count.view(np.int64)).view(np.uint64)
    else:
        moved = whole >> count
    moved = moved >> np.uint64(32) if "HI" in i.modifiers else moved
    m.put(result, lanes, np.broadcast_to(moved, len(lanes)).astype(np.uint32))


@does("LOP3")
def lop3(m: State, i: Instruction, lanes: Array) -> None:
    operands = list(i.operands)
    flag = operands.pop(0) if operands[0].kind == "predicate" else None
    result, a, b, c, table = operands[:5]
    value = _table(int(table.text, 0), *(m.unsigned(part, lanes) for part in (a, b, c)))
    value = np.broadcast_to(value, len(lanes))
    if flag is not None:
        m.put_true(flag, lanes, value != 0)
    m.put(result, lanes, value.astype(np.uint32))


def _table(table: int, a: Any, b: Any, c: Any) -> Any:
    """Any function of three bits, as its table of eight."""
    result = a & ~a
    for row in range(8):
        if table >> row & 1:
            result = result | ((a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c))
    return result


@does("PLOP3")
def plop3(m: State, i: Instruction, lanes: Array) -> None:
    first, second, a, b, c, one, other = i.operands
    values = [m.true(part, lanes) for part in (a, b, c)]
    m.put_true(first, lanes, _table(int(one.text, 0), *values))
    m.put_true(second, lanes, _table(int(other.text, 0), *values))


@does("SEL")
def sel(m: State, i: Instruction, lanes: Array) -> None:
    result, a, b, which = i.operands
    m.put(result, lanes, np.where(m.true(which, lanes), m.unsigned(a, lanes), m.unsigned(b, lanes)).astype(np.uint32))


@does("IABS")
def iabs(m: State, i: Instruction, lanes: Array) -> None:
    m.put(i.operands[0], lanes, abs(m.signed(i.operands[1], lanes)))


@does("VIMNMX", "IMNMX", "VIMNMX3", "VIADDMNMX")
def imnmx(m: State, i: Instruction, lanes: Array) -> None:
    result, _, sources, (smallest, *_) = _split(i.operands)
    read = m.unsigned if "U32" in i.modifiers else m.signed
    values = [read(source, lanes) for source in sources]
    if i.name == "VIADDMNMX":
        values = [values[0] + values[1], values[2]]
    low, high = (np.minimum.reduce(np.broadcast_arrays(*values)), np.maximum.reduce(np.broadcast_arrays(*values)))
    m.put(result, lanes, np.where(m.true(smallest, lanes), low, high))


@does("PRMT")
def prmt(m: State, i: Instruction, lanes: Array) -> None:
    result, a, select, b = i.operands
    low, high = (np.asarray(m.unsigned(part, lanes)).astype(np.uint64) for part in (a, b))
    pool, choice = low | (high << np.uint64(32)), np.asarray(m.unsigned(select, lanes)).astype(np.uint64)
    value = np.zeros(len(lanes), np.uint64)
    for position in range(4):
        nibble = (choice >> np.uint64(4 * position)) & np.uint64(15)
        byte = (pool >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        byte = np.where(nibble & np.uint64(8), np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0)), byte)
        value = value | (byte << np.uint64(8 * position))
    m.put(result, lanes, value.astype(np.uint32))


@does("SGXT")
def sgxt(m: State, i: Instruction, lanes: Array) -> None:
    result, a, bits = i.operands
    count = 32 - int(bits.text, 0)
    value = np.asarray(m.unsigned(a, lanes)) << np.uint32(count)
    m.put(result, lanes, value >> np.uint32(count) if "U32" in i.modifiers else value.view(np.int32) >> np.int32(count))


_COMPARE = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
}  # fmt: skip
_JOIN = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}


def _set_both(m: State, i: Instruction, lanes: Array, value: Array) -> None:
    """Results of a comparison: it and its opposite, each joined with a predicate."""
    join = next(_JOIN[name] for name in i.modifiers if name in _JOIN)
    other = m.true(i.operands[4], lanes)
    m.put_true(i.operands[0], lanes, join(value, other))
    m.put_true(i.operands[1], lanes, join(~value, other))


@does("ISETP")
def isetp(m: State, i: Instruction, lanes: Array) -> None:
    read = m.unsigned if "U32" in i.modifiers else m.signed
    a, b = np.broadcast_arrays(read(i.operands[2], lanes), read(i.operands[3], lanes))
    kind = i.modifiers[0]
    if "EX" in i.modifiers:  # the upper half of 64 bits; the lower one's result is given
        low = m.true(i.operands[5], lanes)
        strict = {"GE": "GT", "LE": "LT"}.get(kind, kind)
        value = (a != b) | low if kind == "NE" else (a == b) & low if kind == "EQ" else _COMPARE[strict](a, b) | ((a == b) & low)
    else:
        value = _COMPARE[kind](a, b)
    _set_both(m, i, lanes, np.broadcast_to(value, len(lanes)))


# --- floating numbers --------------------------------------------------------------------------------------------------


@does("FADD", "FMUL", "FFMA", "FADD2", "FMUL2", "FFMA2")
def float_arithmetic(m: State, i: Instruction, lanes: Array) -> None:
    result, *sources = i.operands
    # all is read before anything is written
    halves = [[_packed(m, source, lanes, half) for source in sources] for half in range(2 if i.name.endswith("2") else 1)]
    for half, (a, b, *c) in enumerate(halves):
        if i.name.startswith("FADD"):
            value = a + b
        elif i.name.startswith("FMUL"):
            value = a * b
        else:  # the product of two float32 is exact in float64
            value = (a.astype(np.float64) * b + c[0]).astype(np.float32)
        if "SAT" in i.modifiers:
            value = np.clip(value, np.float32(0), np.float32(1))
        m.put(result, lanes, np.broadcast_to(value, len(lanes)).astype(np.float32), half)


def _packed(m: State, source: Operand, lanes: Array, half: int) -> Array:
    if source.kind == "register" and source.selected.startswith("F32x2") and source.index >= 0:
        step = half if source.selected.endswith("HI_LO") else 1 - half
        source = Operand(source.kind, source.index + step, negative=source.negative, absolute=source.absolute)
    return m.float(source, lanes)


@does("HFMA2")
def half_constant(m: State, i: Instruction, lanes: Array) -> None:
    result, a, b, *numbers = i.operands
    if a.index >= 0 or b.index >= 0 or any(number.kind != "number" for number in numbers):
        raise UnknownCodeError("arithmetic of half precision")
    high, low = (int(np.float16(float(number.text)).view(np.uint16)) for number in numbers)
    m.put(result, lanes, np.full(len(lanes), high << 16 | low, np.uint32))


@does("FMNMX", "FMNMX3")
def fmnmx(m: State, i: Instruction, lanes: Array) -> None:
    result, _, sources, (smallest, *_) = _split(i.operands)
    values = np.broadcast_arrays(*(m.float(source, lanes) for source in sources))
    value = np.where(m.true(smallest, lanes), np.fmin.reduce(values), np.fmax.reduce(values))
    m.put(result, lanes, value.astype(np.float32))


@does("FSEL")
def fsel(m: State, i: Instruction, lanes: Array) -> None:
    result, a, b, which = i.operands
    m.put(result, lanes, np.where(m.true(which, lanes), m.float(a, lanes), m.float(b, lanes)).astype(np.float32))


def _float_compare(kind: str, a: Array, b: Array) -> Array:
    if kind in ("NUM", "NAN"):
        unordered = np.isnan(a) | np.isnan(b)
        return unordered if kind == "NAN" else ~unordered
    if kind in ("MAX", "MIN"):
        return a > b if kind == "MAX" else a < b
    value = _COMPARE[kind[:2]](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    return value | unordered if kind.endswith("U") else value & ~unordered


@does("FSETP")
def fsetp(m: State, i: Instruction, lanes: Array) -> None:
    a, b = np.broadcast_arrays(m.float(i.operands[2], lanes), m.float(i.operands[3], lanes))
    _set_both(m, i, lanes, np.broadcast_to(_float_compare(i.modifiers[0], a, b), len(lanes)))


@does("DSETP")
def dsetp(m: State, i: Instruction, lanes: Array) -> None:
    a, b = np.broadcast_arrays(m.double(i.operands[2], lanes), m.double(i.operands[3], lanes))
    value = np.broadcast_to(_float_compare(i.modifiers[0], a, b), len(lanes))
    if i.modifiers[0] in ("MAX", "MIN"):  # the second result tells that b is no number
        m.put_true(i.operands[0], lanes, value | np.isnan(b))
        m.put_true(i.operands[1], lanes, np.broadcast_to(np.isnan(b), len(lanes)))
    else:
        _set_both(m, i, lanes, value)


@does("DADD", "DMUL", "DFMA")
def double_arithmetic(m: State, i: Instruction, lanes: Array) -> None:
    result, *sources = i.operands
    a, b, *c = (m.double(source, lanes) for source in sources)
    value = a + b if i.name == "DADD" else a * b if i.name == "DMUL" else _fused(a, b, c[0])
    m.put_wide(result, lanes, np.ascontiguousarray(np.broadcast_to(value, len(lanes))))


def _fused(a: Array, b: Array, c: Array) -> Array:
    return (np.asarray(a).astype(np.longdouble) * b + c).astype(np.float64)


@does("MUFU")
def mufu(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    kind = i.modifiers[0]
    if kind == "RCP64H":
        if source.kind == "number":
            value = np.full(len(lanes), number_of(source.text))
        else:  # the upper half of a float64
            value = (np.asarray(m.unsigned(source, lanes)).astype(np.uint64) << np.uint64(32)).view(np.float64)
        m.put(result, lanes, np.broadcast_to((1 / value).view(np.uint64) >> np.uint64(32), len(lanes)).astype(np.uint32))
        return
    value = m.float(source, lanes).astype(np.float64)
    known = {"RCP": lambda x: 1 / x, "RSQ": lambda x: 1 / np.sqrt(x), "SQRT": np.sqrt, "EX2": np.exp2, "LG2": np.log2}
    m.put(result, lanes, known[kind](value).astype(np.float32))


@does("FCHK")
def fchk(m: State, i: Instruction, lanes: Array) -> None:
    """Whether a quotient must be computed the slow way, as its exponents are extreme; of 0, too."""
    _, a, b = i.operands
    above, below = (np.frexp(np.asarray(m.float(part, lanes)).astype(np.float64))[1] - 1 for part in (a, b))
    value = np.asarray(m.float(a, lanes)), np.asarray(m.float(b, lanes))
    special = ~np.isfinite(value[0]) | ~np.isfinite(value[1]) | (value[0] == 0) | (value[1] == 0)
    slow = special | (above < -126 + 24) | (below < -126) | (below > 125) | (above - below > 126) | (above - below < -125)
    m.put_true(i.operands[0], lanes, slow)


# --- conversions -------------------------------------------------------------------------------------------------------


def _part(value: Array, selected: str) -> Array:
    """The half (H0, H1) or byte (B0 to B3) of a register."""
    if selected[:1] not in ("H", "B"):
        return value
    bits = 16 if selected[0] == "H" else 8
    return (value >> np.uint32(bits * int(selected[1]))) & np.uint32(2**bits - 1)


@does("I2F", "I2FP")
def to_float(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    kinds = set(i.modifiers)
    value = _part(np.asarray(m.unsigned(source, lanes)), source.selected)
    if "U16" in kinds:
        value = value & np.uint32(0xFFFF)
    elif "U8" in kinds:
        value = value & np.uint32(0xFF)
    elif "S16" in kinds:
        value = value.astype(np.uint16).view(np.int16)
    elif "S8" in kinds:
        value = value.astype(np.uint8).view(np.int8)
    elif "U32" not in kinds:
        value = value.view(np.int32)
    if "F64" in kinds:
        m.put_wide(result, lanes, np.broadcast_to(value.astype(np.float64), len(lanes)).copy())
    else:
        m.put(result, lanes, np.broadcast_to(value.astype(np.float32), len(lanes)))


@does("F2I")
def to_int(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    value = m.double(source, lanes) if "F64" in i.modifiers else m.float(source, lanes).astype(np.float64)
    rounded = (
        np.trunc(value)
        if "TRUNC" in i.modifiers
        else np.floor(value)
        if "FLOOR" in i.modifiers
        else np.ceil(value)
        if "CEIL" in i.modifiers
        else np.rint(value)
    )
    low, high = (0, 2**32 - 1) if "U32" in i.modifiers else (-(2**31), 2**31 - 1)
    whole = np.clip(np.nan_to_num(rounded), low, high).astype(np.int64)
    m.put(result, lanes, np.broadcast_to(whole, len(lanes)).astype(np.uint32))


@does("F2F")
def between_floats(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    to, of = i.modifiers[-2:]
    if (to, of) == ("F32", "F64"):
        m.put(result, lanes, m.double(source, lanes).astype(np.float32))
    elif (to, of) == ("F64", "F32"):
        m.put_wide(result, lanes, m.float(source, lanes).astype(np.float64))
    else:
        raise UnknownCodeError(i.text)


@does("F2FP")
def pack(m: State, i: Instruction, lanes: Array) -> None:
    result, high, low = i.operands[0], *i.operands[-2:]
    halves = []
    for part in (high, low):
        value = np.broadcast_to(m.float(part, lanes), len(lanes))
        if "BF16" in i.modifiers:
            bits = value.view(np.uint32).astype(np.uint64)
            halves.append((bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16))
        else:
            halves.append(value.astype(np.float16).view(np.uint16).astype(np.uint64))
    m.put(result, lanes, (halves[0] << np.uint64(16) | halves[1]).astype(np.uint32))


# --- memory ------------------------------------------------------------------------------------------------------------

_SIZES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def _size(i: Instruction) -> int:
    return next((size for name, size in _SIZES.items() if name in i.modifiers), 4)


@does("LDC")
def load_constant(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    for word in range(max(_size(i) // 4, 1)):
        value = m.constant(source, lanes, 4 * word)
        if _size(i) < 4:
            raise UnknownCodeError(i.text)
        m.put(result, lanes, np.broadcast_to(value, len(lanes)), word)


@does("LDCU")
def load_uniform_constant(m: State, i: Instruction, lanes: Array) -> None:
    load_constant(m, i, lanes)


@does("LDG")
def load_global(m: State, i: Instruction, lanes: Array) -> None:
    result, source = (
        next(part for part in i.operands if part.kind == "register"),
        next(part for part in i.operands if part.kind == "memory"),
    )
    address, size = m.address(source, lanes), _size(i)
    m.touch(i, lanes, address, size)
    for word in range(max(size // 4, 1)):
        value = m.memory.load(address + 4 * word, min(size, 4))
        m.put(result, lanes, _extended(value, i), word)


def _extended(value: Array, i: Instruction) -> Array:
    if "S8" in i.modifiers:
        return value.astype(np.uint8).view(np.int8).astype(np.int32)
    return value.astype(np.uint16).view(np.int16).astype(np.int32) if "S16" in i.modifiers else value


@does("STG")
def store_global(m: State, i: Instruction, lanes: Array) -> None:
    target, source = i.operands[-2:]
    address, size = m.address(target, lanes), _size(i)
    m.touch(i, lanes, address, size)
    for word in range(max(size // 4, 1)):
        part = source if word == 0 or source.index < 0 else Operand("register", source.index + word)
        m.memory.store(address + 4 * word, min(size, 4), np.broadcast_to(m.bits(part, lanes), len(lanes)))


def _shared(m: State, lanes: Array, address: Array, size: int) -> tuple[Array, Array]:
    if (address < 0).any() or (address + size > m.shared.shape[1]).any():
        raise UnknownCodeError(f"shared memory at {int(address.max())} of {m.shared.shape[1]} bytes")
    kind = min(size, 4)
    return m.shared.view(f"u{kind}"), m.slot[lanes]


@does("LDS")
def load_shared(m: State, i: Instruction, lanes: Array) -> None:
    result, source = i.operands
    address, size = m.address(source, lanes), _size(i)
    m.touch_shared(i, lanes, address, size)
    data, slot = _shared(m, lanes, address, size)
    for word in range(max(size // 4, 1)):
        m.put(result, lanes, _extended(data[slot, (address + 4 * word) // min(size, 4)].astype(np.uint32), i), word)


@does("STS")
def store_shared(m: State, i: Instruction, lanes: Array) -> None:
    target, source = i.operands
    address, size = m.address(target, lanes), _size(i)
    m.touch_shared(i, lanes, address, size)
    data, slot = _shared(m, lanes, address, size)
    for word in range(max(size // 4, 1)):
        part = source if word == 0 or source.index < 0 else Operand("register", source.index + word)
        data[slot, (address + 4 * word) // min(size, 4)] = m.bits(part, lanes)


@does("LDSM", "STSM")
def matrices(m: State, i: Instruction, lanes: Array) -> None:
    """Matrices of 8 x 8 elements of 16 bits: lane 8 n + r names row r of matrix n; each lane holds two elements of each matrix."""
    memory = next(part for part in i.operands if part.kind == "memory")
    register = next(part for part in i.operands if part.kind == "register")
    if len(lanes) % LANES or (np.diff(lanes.reshape(-1, LANES), axis=1) != 1).any():
        raise UnknownCodeError("a matrix of some of a warp's lanes")
    count = int(i.modifiers[-1]) if i.modifiers[-1] in ("2", "4") else 1
    rows = m.address(memory, lanes).reshape(-1, LANES)
    slots, lane = m.slot[lanes].reshape(-1, LANES), np.arange(LANES)
    data = m.shared.view(np.uint16)
    for matrix in range(count):
        for half in range(2):
            row, column = lane // 4, lane % 4 * 2 + half
            if "MT88" in i.modifiers:
                row, column = column, row
            at = rows[:, 8 * matrix + row] // 2 + column
            if i.name == "LDSM":
                value = data[slots, at].astype(np.uint32).ravel() << np.uint32(16 * half)
                old = m.registers[register.index + matrix][lanes] if half else np.uint32(0)
                m.put(register, lanes, (value | old).astype(np.uint32), matrix)
            else:
                value = (m.registers[register.index + matrix][lanes] >> np.uint32(16 * half)).astype(np.uint16)
                data[slots, at] = value.reshape(-1, LANES)
    m.wavefronts[i.address // STEP] += count * (len(lanes) // LANES)


@does("SHFL")
def shuffle(m: State, i: Instruction, lanes: Array) -> None:
    inside, result, source, by, limits = i.operands
    lane, by_, clamp = lanes % LANES, m.unsigned(by, lanes).astype(np.int64), np.asarray(m.unsigned(limits, lanes)).astype(np.int64)
    last, segment = clamp & 31, (clamp >> 8) & 31
    low, high = lane & segment, (lane & segment) | (last & ~segment)
    kind = i.modifiers[0]
    other = {"BFLY": lane ^ by_, "UP": lane - by_, "DOWN": lane + by_, "IDX": (by_ & ~segment) | low}[kind]
    fine = other >= high if kind == "UP" else other <= high
    other = np.where(fine, other, lane)
    m.put_true(inside, lanes, fine)
    register = Operand("register", source.index)
    m.put(result, lanes, m.bits(register, lanes - lane + other))


# --- where a lane is ---------------------------------------------------------------------------------------------------


@does("S2R", "S2UR", "CS2R")
def special(m: State, i: Instruction, lanes: Array) -> None:
    result, name = i.operands[0], i.operands[-1].text
    if name == "SRZ":
        m.put(result, lanes, np.zeros(len(lanes), np.uint32))
        if "32" not in i.modifiers:
            m.put(result, lanes, np.zeros(len(lanes), np.uint32), 1)
        return
    grid = (*m.launch.grid, 1, 1)[:3]
    program = m.program[lanes]
    values = {
        "SR_TID.X": m.thread[lanes], "SR_TID.Y": 0, "SR_TID.Z": 0, "SR_CgaCtaId": 0, "SR_LANEID": lanes % LANES,
        "SR_CTAID.X": program % grid[0], "SR_CTAID.Y": program // grid[0] % grid[1], "SR_CTAID.Z": program // (grid[0] * grid[1]),
    }  # fmt: skip
    m.put(result, lanes, np.broadcast_to(values[name], len(lanes)).astype(np.uint32))


@does("NOP", "WARPSYNC", "DEPBAR", "ERRBAR", "MEMBAR", "ACQBULK", "PREEXIT")
def nothing(m: State, i: Instruction, lanes: Array) -> None:
    pass


@does("BSSY")
def begin_together(m: State, i: Instruction, lanes: Array) -> None:
    rows = m.whole_warps(lanes)
    m.members[i.operands[0].index][rows] = False
    m.members[i.operands[0].index][lanes] = True


@does("BSYNC")
def jump_meet(m: State, i: Instruction, lanes: Array) -> None:
    m.meet(i.operands[0].index, lanes)


@does("BREAK")
def jump_break(m: State, i: Instruction, lanes: Array) -> None:
    m.members[i.operands[-1].index][lanes] = False


@does("BAR")
def jump_meet_all(m: State, i: Instruction, lanes: Array) -> None:
    m.meet_all(lanes)


@does("EXIT")
def jump_exit(m: State, i: Instruction, lanes: Array) -> None:
    m.alive[lanes] = False


@does("BRA", "CALL")
def jump_to(m: State, i: Instruction, lanes: Array) -> None:
    for condition in i.operands:
        if condition.kind == "predicate":
            lanes = lanes[m.true(condition, lanes)]
    m.counter[lanes] = i.target


@does("BRX", "BRXU", "RET")
def jump_where(m: State, i: Instruction, lanes: Array) -> None:
    """BRX counts from the next instruction on, RET from the function's begin."""
    where = m.unsigned(i.operands[0], lanes).view(np.int32)
    if i.name.startswith("BRX"):
        where = where + np.int32(i.address + STEP) + np.int32(int(i.operands[1].text, 0))
    m.counter[lanes] = where
