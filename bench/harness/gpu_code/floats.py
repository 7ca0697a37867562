"""Instructions on floating numbers, and conversions."""

# Axes: L lane.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.integers import COMPARISONS, put_comparison
from harness.gpu_code.listing import Instruction, Operand
from harness.gpu_code.machine import Machine, UnknownCodeError, number_of
from harness.gpu_code.semantics import Lanes, Table, parts

Array = NDArray[Any]
FLOATS = Table()
_LEAST_NORMAL = np.finfo(np.float32).tiny


def flushed(value_L: Array) -> Array:
    """Float32 with denormal numbers made 0."""
    return np.where(abs(value_L) < _LEAST_NORMAL, np.copysign(np.float32(0), value_L), value_L)


def _sources(m: Machine, i: Instruction, lanes: Lanes, operands: Sequence[Operand], half: int = 0) -> list[Array]:
    """Float32 operands, denormal ones being 0 where the instruction says so (FTZ)."""
    values = [_one_of(m, operand, lanes, half) for operand in operands]
    return [flushed(value_L) for value_L in values] if "FTZ" in i.modifiers else values


@FLOATS.of("FADD", "FMUL", "FFMA", "FADD2", "FMUL2", "FFMA2")
def arithmetic(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Of float32; of two in registers side by side where the name ends in 2."""
    result, *sources = i.operands
    # all is read before anything is written
    halves = [_sources(m, i, lanes, sources, half) for half in range(2 if i.name.endswith("2") else 1)]
    for half, (a_L, b_L, *c_L) in enumerate(halves):
        if i.name.startswith("FADD"):
            value_L = a_L + b_L
        elif i.name.startswith("FMUL"):
            value_L = a_L * b_L
        else:  # float64 holds a product of two float32
            value_L = (a_L.astype(np.float64) * b_L + c_L[0]).astype(np.float32)
        value_L = flushed(value_L) if "FTZ" in i.modifiers else value_L
        m.put(result, lanes, np.clip(value_L, np.float32(0), np.float32(1)) if "SAT" in i.modifiers else value_L, half)


def _one_of(m: Machine, source: Operand, lanes: Lanes, half: int) -> Array:
    if not source.selected.startswith("F32x2"):
        return m.float(source, lanes)
    return m.float(source, lanes, half if source.selected.endswith("HI_LO") else 1 - half)


@FLOATS.of("HFMA2")
def half_constant(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Compilers write constants so: two numbers of half precision, which are the halves of one of 32 bits."""
    result, a, b, *numbers = i.operands
    if a.index >= 0 or b.index >= 0 or any(number.kind != "number" for number in numbers):
        raise UnknownCodeError("expected a constant, got arithmetic of half precision")
    high, low = (int(np.float16(number_of(number.text)).view(np.uint16)) for number in numbers)
    m.put(result, lanes, np.full(len(lanes), high << 16 | low, np.uint32))


@FLOATS.of("FMNMX", "FMNMX3")
def least_or_most(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, _, sources, (is_least, *_) = parts(i.operands)
    values = _sources(m, i, lanes, sources)
    m.put(result, lanes, np.where(m.true(is_least, lanes), np.fmin.reduce(values), np.fmax.reduce(values)))


@FLOATS.of("FSEL")
def select(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, a, b, which = i.operands
    m.put(result, lanes, np.where(m.true(which, lanes), m.float(a, lanes), m.float(b, lanes)))


def compared(kind: str, a_L: Array, b_L: Array) -> Array:
    """A comparison; one whose name ends in U holds where either is no number, too."""
    unordered_L = np.isnan(a_L) | np.isnan(b_L)
    if kind in ("NAN", "NUM"):
        return unordered_L if kind == "NAN" else ~unordered_L
    value_L = COMPARISONS[kind[:2]](a_L, b_L)
    return value_L | unordered_L if kind.endswith("U") else value_L & ~unordered_L


@FLOATS.of("FSETP")
def compare(m: Machine, i: Instruction, lanes: Lanes) -> None:
    put_comparison(m, i, lanes, compared(i.modifiers[0], *_sources(m, i, lanes, i.operands[2:4])))


@FLOATS.of("DSETP")
def compare_doubles(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """MAX and MIN tell which of two numbers to take, and whether the second is none."""
    a_L, b_L = m.double(i.operands[2], lanes), m.double(i.operands[3], lanes)
    kind = i.modifiers[0]
    if kind in ("MAX", "MIN"):
        nan_L = np.isnan(b_L)
        m.put_true(i.operands[0], lanes, (a_L > b_L if kind == "MAX" else a_L < b_L) | nan_L)
        m.put_true(i.operands[1], lanes, nan_L)
    else:
        put_comparison(m, i, lanes, compared(kind, a_L, b_L))


@FLOATS.of("DADD", "DMUL", "DFMA")
def double_arithmetic(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, *sources = i.operands
    a_L, b_L, *c_L = (m.double(source, lanes) for source in sources)
    if i.name == "DFMA":  # longer numbers come near to one rounding, and are float64 where there are none
        value_L = (a_L.astype(np.longdouble) * b_L + c_L[0]).astype(np.float64)
    else:
        value_L = a_L + b_L if i.name == "DADD" else a_L * b_L
    m.put_wide(result, lanes, value_L)


_APPROXIMATED: dict[str, Callable[[Array], Array]] = {
    "RCP": lambda x: 1 / x,
    "RSQ": lambda x: 1 / np.sqrt(x),
    "SQRT": np.sqrt,
    "EX2": np.exp2,
    "LG2": np.log2,
    "SIN": np.sin,
    "COS": np.cos,
}


@FLOATS.of("MUFU")
def approximate(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """What the hardware approximates, here rounded, without denormal numbers; RCP64H: the upper half of a float64's reciprocal, of its
    upper half."""
    result, source = i.operands
    if i.modifiers[0] != "RCP64H":
        value_L = flushed(m.float(source, lanes)).astype(np.float64)
        m.put(result, lanes, flushed(_APPROXIMATED[i.modifiers[0]](value_L).astype(np.float32)))
        return
    if source.kind == "number":
        value_L = m.double(source, lanes)
    else:
        value_L = (m.unsigned(source, lanes).astype(np.uint64) << np.uint64(32)).view(np.float64)
    m.put(result, lanes, ((1 / value_L).view(np.uint64) >> np.uint64(32)).astype(np.uint32))


@FLOATS.of("FCHK")
def needs_slow_division(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Whether a quotient is to be computed the slow way: one of extreme exponents, of 0, or of what is no finite number."""
    result, above, below = i.operands
    a_L, b_L = (m.float(part, lanes).astype(np.float64) for part in (above, below))
    a_exponent_L, b_exponent_L = (np.frexp(value_L)[1] - 1 for value_L in (a_L, b_L))
    special_L = ~np.isfinite(a_L) | ~np.isfinite(b_L) | (a_L == 0) | (b_L == 0)
    extreme_L = (a_exponent_L < -102) | (abs(b_exponent_L) > 125) | (abs(a_exponent_L - b_exponent_L) > 125)
    m.put_true(result, lanes, special_L | extreme_L)


# --- conversions -------------------------------------------------------------------------------------------------------

_WHOLE = {"U8": (np.uint8, np.uint8), "S8": (np.uint8, np.int8), "U16": (np.uint16, np.uint16), "S16": (np.uint16, np.int16)}


@FLOATS.of("I2F", "I2FP")
def to_float(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Of a whole register, or of a half (H0, H1) or byte (B0 to B3) of it."""
    result, source = i.operands
    value_L = m.unsigned(source, lanes)
    if source.selected[:1] in ("H", "B") and source.selected:
        value_L = value_L >> np.uint32((16 if source.selected[0] == "H" else 8) * int(source.selected[1]))
    narrow = next((_WHOLE[kind] for kind in i.modifiers if kind in _WHOLE), None)
    if narrow:
        value_L = value_L.astype(narrow[0]).view(narrow[1])
    elif "U32" not in i.modifiers:
        value_L = value_L.view(np.int32)
    if "F64" in i.modifiers:
        m.put_wide(result, lanes, value_L.astype(np.float64))
    else:
        m.put(result, lanes, value_L.astype(np.float32))


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {"TRUNC": np.trunc, "FLOOR": np.floor, "CEIL": np.ceil}


@FLOATS.of("F2I")
def to_integer(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """The nearest one that there is."""
    result, source = i.operands
    value_L = m.double(source, lanes) if "F64" in i.modifiers else m.float(source, lanes).astype(np.float64)
    rounding = next((_ROUNDINGS[kind] for kind in i.modifiers if kind in _ROUNDINGS), np.rint)
    least, most = (0, 2**32 - 1) if "U32" in i.modifiers else (-(2**31), 2**31 - 1)
    m.put(result, lanes, np.clip(np.nan_to_num(rounding(value_L)), least, most).astype(np.int64).astype(np.uint32))


@FLOATS.of("F2F")
def between_floats(m: Machine, i: Instruction, lanes: Lanes) -> None:
    result, source = i.operands
    if i.modifiers[-2:] == ("F32", "F64"):
        m.put(result, lanes, m.double(source, lanes).astype(np.float32))
    elif i.modifiers[-2:] == ("F64", "F32"):
        m.put_wide(result, lanes, m.float(source, lanes).astype(np.float64))
    else:
        raise UnknownCodeError("expected a conversion between float32 and float64, got another")


def bfloat16_bits(value_L: Array) -> Array:
    """The upper 16 bits of float32, rounded to nearest, ties to even."""
    bits_L = value_L.view(np.uint32)
    return (bits_L + np.uint32(0x7FFF) + ((bits_L >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@FLOATS.of("F2FP")
def pack(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Two float32 to two numbers of 16 bits in one register, the first one above."""
    result, *sources = i.operands
    if "BF16" in i.modifiers:
        high_L, low_L = (bfloat16_bits(m.float(source, lanes)) for source in sources)
    else:
        high_L, low_L = (m.float(source, lanes).astype(np.float16).view(np.uint16).astype(np.uint32) for source in sources)
    m.put(result, lanes, high_L << np.uint32(16) | low_L)
