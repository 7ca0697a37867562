"""Instructions that read and write memory: global, shared and constant, and other lanes' registers."""

# Axes: L lane, W warp.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.listing import STEP, Instruction, Operand
from harness.gpu_code.machine import LANES, Machine, UnknownCodeError
from harness.gpu_code.memory import MemoryFaultError
from harness.gpu_code.semantics import Lanes, Table

Array = NDArray[Any]
ACCESSES = Table()
_SIZES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def _size(i: Instruction) -> int:
    return next((_SIZES[kind] for kind in i.modifiers if kind in _SIZES), 4)


def _words(size: int) -> range:
    return range(max(size // 4, 1))


def _extended(i: Instruction, value_L: Array) -> Array:
    """What is loaded of 8 or 16 bits, as 32."""
    if "S8" in i.modifiers:
        return value_L.astype(np.uint8).view(np.int8).astype(np.int32)
    return value_L.astype(np.uint16).view(np.int16).astype(np.int32) if "S16" in i.modifiers else value_L


def _of_kind(i: Instruction, kind: str) -> Operand:
    return next(operand for operand in i.operands if operand.kind == kind)


@ACCESSES.of("LDC", "LDCU")
def load_constant(m: Machine, i: Instruction, lanes: Lanes) -> None:
    size = _size(i)
    if size < 4:
        raise UnknownCodeError("expected constants of 32 bits or more, got smaller ones")
    for word in _words(size):
        m.put(i.operands[0], lanes, m.bits(i.operands[1], lanes, word), word)


@ACCESSES.of("LDG")
def load_global(m: Machine, i: Instruction, lanes: Lanes) -> None:
    address_L, size = m.address(_of_kind(i, "memory"), lanes), _size(i)
    m.touch(i, lanes, address_L, size, written=False)
    for word in _words(size):
        m.put(_of_kind(i, "register"), lanes, _extended(i, m.memory.load(address_L + 4 * word, min(size, 4))), word)


@ACCESSES.of("STG")
def store_global(m: Machine, i: Instruction, lanes: Lanes) -> None:
    address_L, size = m.address(_of_kind(i, "memory"), lanes), _size(i)
    m.touch(i, lanes, address_L, size, written=True)
    for word in _words(size):
        m.memory.store(address_L + 4 * word, min(size, 4), m.bits(i.operands[-1], lanes, word))


def _shared(m: Machine, address_L: Array, size: int) -> tuple[Array, Array]:
    """Shared memory of all programs, [P, numbers], and which number is meant."""
    unit = min(size, 4)
    if (address_L < 0).any() or (address_L + size > m.shared.shape[1]).any() or (address_L % unit).any():
        raise MemoryFaultError(f"expected an access within {m.shared.shape[1]} bytes of shared memory, got one elsewhere")
    return m.shared.view(f"u{unit}"), address_L // unit


@ACCESSES.of("LDS")
def load_shared(m: Machine, i: Instruction, lanes: Lanes) -> None:
    address_L, size = m.address(i.operands[1], lanes), _size(i)
    m.touch_shared(i, lanes, address_L, size)
    data, at_L = _shared(m, address_L, size)
    for word in _words(size):
        m.put(i.operands[0], lanes, _extended(i, data[m.slot[lanes], at_L + word].astype(np.uint32)), word)


@ACCESSES.of("STS")
def store_shared(m: Machine, i: Instruction, lanes: Lanes) -> None:
    address_L, size = m.address(i.operands[0], lanes), _size(i)
    m.touch_shared(i, lanes, address_L, size)
    data, at_L = _shared(m, address_L, size)
    for word in _words(size):
        data[m.slot[lanes], at_L + word] = m.bits(i.operands[1], lanes, word)


@ACCESSES.of("LDSM", "STSM")
def matrices(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Matrices of 8 x 8 numbers of 16 bits: lane 8 n + r says where row r of matrix n lies, and each lane holds two numbers of each one."""
    memory, register = _of_kind(i, "memory"), _of_kind(i, "register")
    count = int(i.modifiers[-1]) if i.modifiers[-1] in ("2", "4") else 1
    if len(m.whole_warps(lanes)) != len(lanes):
        raise UnknownCodeError("expected whole warps at a matrix, got some of their lanes")
    data, row_WL = _shared(m, m.address(memory, lanes), 2)
    row_WL, slot_WL, lane = row_WL.reshape(-1, LANES), m.slot[lanes].reshape(-1, LANES), np.arange(LANES)
    values = [m.bits(register, lanes, matrix) for matrix in range(count)]
    for matrix, value_L in enumerate(values):
        for half in range(2):
            row, column = lane // 4, lane % 4 * 2 + half
            row, column = (column, row) if "MT88" in i.modifiers else (row, column)
            at_WL, bits = row_WL[:, 8 * matrix + row] + column, np.uint32(16 * half)
            if i.name == "STSM":
                data[slot_WL, at_WL] = (value_L >> bits).astype(np.uint16).reshape(-1, LANES)
            else:
                value_L[:] = (value_L & ~(np.uint32(0xFFFF) << bits)) | (data[slot_WL, at_WL].ravel().astype(np.uint32) << bits)
        if i.name == "LDSM":
            m.put(register, lanes, value_L, matrix)
    m.wavefronts[i.address // STEP] += count * len(row_WL)


@ACCESSES.of("SHFL")
def shuffle(m: Machine, i: Instruction, lanes: Lanes) -> None:
    """Another lane's register; a lane's own where the other lies outside the part of the warp that is meant."""
    inside, result, source, by, limits = i.operands
    lane_L = lanes % LANES
    by_L, limits_L = (m.unsigned(part, lanes).astype(np.int64) for part in (by, limits))
    part_L = (limits_L >> 8) & 31
    first_L, last_L = lane_L & part_L, (lane_L & part_L) | (limits_L & 31 & ~part_L)
    kind = i.modifiers[0]
    other_L = {"BFLY": lane_L ^ by_L, "UP": lane_L - by_L, "DOWN": lane_L + by_L, "IDX": (by_L & ~part_L) | first_L}[kind]
    inside_L = other_L >= last_L if kind == "UP" else other_L <= last_L
    m.put_true(inside, lanes, inside_L)
    m.put(result, lanes, m.bits(source, lanes - lane_L + np.where(inside_L, other_L, lane_L)))
