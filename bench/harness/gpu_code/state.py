"""What programs that are executed side by side hold: registers, predicates, memory, barriers, and the counts."""

# Axes: L lane, all programs' warps one after another; W warp; P program.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.launches import Launch
from harness.gpu_code.listing import STEP, UNIFORM, UNIFORM_PREDICATES, Code, Instruction, Operand
from harness.gpu_code.memory import Memory, distinct

Array = NDArray[Any]
LANES = 32
SHARED_RESERVED = 1024
NEVER = np.iinfo(np.int32).max
MASK = np.uint64(0xFFFFFFFF)


class UnknownCodeError(Exception):
    """An instruction or operand that the emulator does not know."""


class State:
    """State of the chosen programs of a launch, and the counts.

    Attributes:
        issued: warps that issued each instruction, by position in the code.
        wavefronts: passes through the L1 cache or shared memory that each took.
        sectors: distinct 32 bytes of global memory that each touched, warp by warp.
    """

    def __init__(self, launch: Launch, code: Code, memory: Memory, programs: Sequence[int]):
        self.launch, self.code, self.memory = launch, code, memory
        self.warps = launch.warps * len(programs)
        lanes = self.warps * LANES
        self.thread = np.tile(np.arange(launch.warps * LANES, dtype=np.uint32), len(programs))
        self.program = np.repeat(np.array(programs, np.uint32), launch.warps * LANES)
        self.slot = np.repeat(np.arange(len(programs)), launch.warps * LANES)
        self.warp_of = np.arange(lanes) // LANES
        self.registers = np.zeros((UNIFORM + 128, lanes), np.uint32)
        self.predicates = np.zeros((2 * UNIFORM_PREDICATES, lanes), bool)
        self.members = np.zeros((16, lanes), bool)
        self.counter = np.zeros(lanes, np.int32)
        self.alive = np.ones(lanes, bool)
        self.waiting = np.full(lanes, -1, np.int8)  # number of a convergence barrier, 16 for the program's barrier
        self.shared = np.zeros((len(programs), SHARED_RESERVED + launch.shared + 64), np.uint8)
        count = len(code.instructions)
        self.issued, self.wavefronts, self.sectors = (np.zeros(count, np.int64) for _ in range(3))
        self.bank = {number: bytearray(data) for number, data in code.banks.items()}
        for offset, (kind, value) in zip(code.parameters, launch.arguments, strict=False):
            data = _as_bytes(kind, value)
            self.bank[0][offset : offset + len(data)] = data

    def whole_warps(self, lanes: Array) -> Array:
        """All lanes of the warps that these lanes are of."""
        if len(lanes) == self.warps * LANES:
            return lanes
        warps = np.unique(self.warp_of[lanes])
        return (warps[:, None] * LANES + np.arange(LANES)).ravel()

    # --- operands ------------------------------------------------------------------------------------------------------

    def bits(self, operand: Operand, lanes: Array) -> Array:
        """An operand's 32 bits as they are, without its sign."""
        if operand.kind == "register":
            return np.uint32(0) if operand.index < 0 else self.registers[operand.index][lanes]
        if operand.kind == "constant":
            return self.constant(operand, lanes, 0)
        if operand.kind == "number":
            return np.uint32(_integer(operand.text) & 0xFFFFFFFF)
        raise UnknownCodeError(f"operand {operand}")

    def unsigned(self, operand: Operand, lanes: Array) -> Array:
        value = self.bits(operand, lanes)
        value = ~value if operand.inverted else value
        return (np.uint32(0) - value).astype(np.uint32) if operand.negative else value

    def signed(self, operand: Operand, lanes: Array) -> Array:
        value = np.asarray(self.unsigned(operand, lanes)).view(np.int32)
        return abs(value) if operand.absolute else value

    def carried(self, operand: Operand, lanes: Array) -> Array:
        """An operand of a sum in 64 bits, a negative one such that the sum carries as the hardware's does."""
        value = self.bits(operand, lanes)
        value = (~value if operand.inverted else value).astype(np.uint64)
        return np.uint64(2**32) - value if operand.negative else value

    def float(self, operand: Operand, lanes: Array) -> Array:
        if operand.kind == "number":
            return np.float32(number_of(operand.text))
        value = np.asarray(self.bits(operand, lanes)).view(np.float32)
        value = abs(value) if operand.absolute else value
        return -value if operand.negative else value

    def wide(self, operand: Operand, lanes: Array) -> Array:
        """64 bits, of two registers side by side."""
        if operand.kind == "register":
            if operand.index < 0:
                return np.uint64(0)
            low, high = self.registers[operand.index][lanes], self.registers[operand.index + 1][lanes]
        elif operand.kind == "constant":
            low, high = self.constant(operand, lanes, 0), self.constant(operand, lanes, 4)
        else:
            return np.uint64(_integer(operand.text) & 0xFFFFFFFFFFFFFFFF)
        value = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
        return np.uint64(0) - value if operand.negative else value

    def double(self, operand: Operand, lanes: Array) -> Array:
        if operand.kind == "number":
            return np.float64(number_of(operand.text))
        unsigned = Operand(operand.kind, operand.index, operand.text, operand.offset, operand.parts)
        value = np.asarray(self.wide(unsigned, lanes)).view(np.float64)
        value = abs(value) if operand.absolute else value
        return -value if operand.negative else value

    def true(self, operand: Operand, lanes: Array) -> Array:
        if operand.index % UNIFORM_PREDICATES == 7:
            return np.full(len(lanes), not operand.inverted)
        value = self.predicates[operand.index][lanes]
        return ~value if operand.inverted else value

    def constant(self, operand: Operand, lanes: Array, more: int) -> Array:
        data, offset = self.bank[operand.index], operand.offset + more
        if not operand.parts:
            return np.uint32(int.from_bytes(data[offset : offset + 4], "little"))
        at = sum(self.registers[index][lanes] for index, _ in operand.parts) + np.uint32(offset)
        return np.frombuffer(bytes(data), np.uint32)[at // 4]

    def address(self, operand: Operand, lanes: Array) -> Array:
        """Sum of an address' registers and offset, int64."""
        total = np.full(len(lanes), operand.offset, np.int64)
        for index, is_wide in operand.parts:
            low = self.registers[index][lanes].astype(np.int64)
            total += low + ((self.registers[index + 1][lanes].astype(np.int64) << 32) if is_wide else 0)
        return total

    # --- results -------------------------------------------------------------------------------------------------------

    def put(self, operand: Operand, lanes: Array, value: Array, step: int = 0) -> None:
        if operand.index >= 0:
            value = np.asarray(value)
            self.registers[operand.index + step][lanes] = value.view(np.uint32) if value.dtype.itemsize == 4 else value.astype(np.uint32)

    def put_wide(self, operand: Operand, lanes: Array, value: Array) -> None:
        value = np.asarray(value)
        value = value.view(np.uint64)
        self.put(operand, lanes, (value & MASK).astype(np.uint32))
        self.put(operand, lanes, (value >> np.uint64(32)).astype(np.uint32), 1)

    def put_true(self, operand: Operand, lanes: Array, value: Array) -> None:
        if operand.index % UNIFORM_PREDICATES != 7:
            self.predicates[operand.index][lanes] = value

    # --- barriers ------------------------------------------------------------------------------------------------------

    def meet(self, barrier: int, lanes: Array) -> None:
        """Lanes arrive at a convergence barrier, and go on once all of their warp's members did."""
        self.waiting[lanes] = barrier
        warps = np.unique(self.warp_of[lanes])
        rows = warps[:, None] * LANES + np.arange(LANES)
        missing = (self.members[barrier][rows] & self.alive[rows] & (self.waiting[rows] != barrier)).any(axis=1)
        done = rows[~missing].ravel()
        self.waiting[done[self.waiting[done] == barrier]] = -1

    def meet_all(self, lanes: Array) -> None:
        """Lanes arrive at the barrier of their program."""
        self.waiting[lanes] = 16
        missing = np.bincount(self.slot, self.alive & (self.waiting != 16), len(self.shared)) > 0
        self.waiting[(self.waiting == 16) & ~missing[self.slot]] = -1

    # --- memory --------------------------------------------------------------------------------------------------------

    def touch(self, instruction: Instruction, lanes: Array, address: Array, size: int) -> None:
        """Count what an access to global memory takes of the L1 cache."""
        position, address = instruction.address // STEP, self.memory.placed(address)
        warp, group = self.warp_of[lanes], lanes % LANES // max(LANES * 4 // size, 1) if size > 4 else lanes * 0
        self.wavefronts[position] += distinct(address // 128, warp, group)
        self.sectors[position] += distinct(address // 32, warp)

    def touch_shared(self, instruction: Instruction, lanes: Array, address: Array, size: int) -> None:
        """Count the passes of an access to shared memory: as many as different words of one bank."""
        position = instruction.address // STEP
        phase = self.warp_of[lanes] * 4 + (lanes % LANES // (LANES * 4 // size) if size > 4 else 0)
        words = np.unique(phase * 2**20 + address // 4)
        banks = np.bincount(words // 2**20 * 32 + words % 32)
        self.wavefronts[position] += (
            int(banks[: len(banks) // 32 * 32].reshape(-1, 32).max(axis=1).sum()) if len(banks) >= 32 else int(banks.max())
        )


def _as_bytes(kind: str, value: Any) -> bytes:
    if kind.startswith("*"):
        return int(value.data_ptr()).to_bytes(8, "little")
    if kind == "fp32":
        return np.float32(value).tobytes()
    if kind in ("i32", "u32", "i64", "u64"):
        return (int(value) % 2 ** int(kind[1:])).to_bytes(int(kind[1:]) // 8, "little")
    raise UnknownCodeError(f"an argument of type {kind}")


def _integer(text: str) -> int:
    if "." in text or "e" in text.lower().replace("0x", "") and not text.lstrip("-").startswith("0x") or "INF" in text or "NAN" in text:
        return int(np.float32(number_of(text)).view(np.uint32))
    return int(text, 0)


def number_of(text: str) -> float:
    for name, value in (("INF", np.inf), ("QNAN", np.nan), ("SNAN", np.nan)):
        if text.lstrip("+-") == name:
            return -value if text.startswith("-") else value
    if text.lstrip("-").startswith("0x"):
        return float(np.uint32(int(text, 16) & 0xFFFFFFFF).view(np.float32))
    return float(text)
