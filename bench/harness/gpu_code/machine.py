"""What programs that are executed side by side hold: registers, predicates, memory and barriers; and what they took."""

# Axes: L lane that executes an instruction, of all programs' lanes one after another; W warp; P program.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gpu_code.cubin import Code
from harness.gpu_code.launches import Launch
from harness.gpu_code.listing import STEP, UNIFORM, UNIFORM_PREDICATES, Instruction, Operand
from harness.gpu_code.memory import ALLOCATION, Memory, distinct

Array = NDArray[Any]
LANES = 32
TRUE = 7  # the predicate that always holds, of either kind
RESERVED = 1024  # bytes of shared memory before the program's own
LINE, SECTOR = 128, 32  # bytes
PROGRAM_BARRIER = 16  # after those of a warp's lanes
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class UnknownCodeError(Exception):
    """An instruction, an operand or an argument that the emulator does not know."""


class Machine:
    """State of the chosen programs of a launch, and counts.

    Attributes:
        thread, program, slot, warp: of each lane: its number in the program, the program's in the grid and among those chosen, its warp's.
        counter, alive, waiting: of each lane: address of its next instruction; whether it has not ended; the barrier that it waits at,
            or -1.
        shared: bytes [P, ...] of each program's shared memory.
        issued: warps that issued each instruction, by its position.
        wavefronts: passes through the L1 cache or shared memory that each took.
        read, written: by allocation, sets of 32 bytes that programs read and wrote: keys of a program and a place.
    """

    def __init__(self, launch: Launch, code: Code, memory: Memory, programs: Sequence[int]):
        self.launch, self.code, self.memory = launch, code, memory
        threads = launch.warps * LANES
        lanes = threads * len(programs)
        self.thread = np.tile(np.arange(threads, dtype=np.uint32), len(programs))
        self.program = np.repeat(np.array(programs, np.uint32), threads)
        self.slot = np.repeat(np.arange(len(programs)), threads)
        self.warp = np.arange(lanes) // LANES
        self.counter = np.zeros(lanes, np.int32)
        self.alive = np.ones(lanes, bool)
        self.waiting = np.full(lanes, -1, np.int8)
        self.shared = np.zeros((len(programs), RESERVED + -(-launch.shared // 16) * 16), np.uint8)
        self.registers = np.zeros((2 * UNIFORM, lanes), np.uint32)
        self._predicates = np.zeros((2 * UNIFORM_PREDICATES, lanes), bool)
        self._members = np.zeros((PROGRAM_BARRIER, lanes), bool)
        self._banks = _banks(launch, code)
        self.issued, self.wavefronts = (np.zeros(len(code.instructions), np.int64) for _ in range(2))
        self.read: list[Array] = []
        self.written: list[Array] = []

    def whole_warps(self, lanes: Array) -> Array:
        """All lanes of the warps that these lanes are of."""
        if len(lanes) == len(self.warp):
            return lanes
        return (np.unique(self.warp[lanes])[:, None] * LANES + np.arange(LANES)).ravel()

    # --- operands ------------------------------------------------------------------------------------------------------

    def bits(self, operand: Operand, lanes: Array, word: int = 0) -> Array:
        """32 bits of an operand, without its sign: uint32 [L]. word: which one, of an operand of several."""
        if operand.kind == "register":
            return self.registers[operand.index + word][lanes] if operand.index >= 0 else np.zeros(len(lanes), np.uint32)
        if operand.kind == "constant":
            return self._constant(operand, lanes, 4 * word)
        if operand.kind == "number":
            return np.full(len(lanes), (integer_of(operand.text) >> 32 * word) % 2**32, np.uint32)
        raise UnknownCodeError(f"expected a register, a constant or a number, got {operand.text or operand.kind}")

    def unsigned(self, operand: Operand, lanes: Array) -> Array:
        value_L = self.bits(operand, lanes)
        value_L = ~value_L if operand.inverted else value_L
        return -value_L if operand.negative else value_L

    def signed(self, operand: Operand, lanes: Array) -> Array:
        value_L = self.unsigned(operand, lanes).view(np.int32)
        return abs(value_L) if operand.absolute else value_L

    def summand(self, operand: Operand, lanes: Array) -> Array:
        """An operand of a sum in 64 bits, a negative one such that the sum carries where the hardware's does."""
        value_L = self.bits(operand, lanes)
        value_L = (~value_L if operand.inverted else value_L).astype(np.uint64)
        return np.uint64(2**32) - value_L if operand.negative else value_L

    def wide(self, operand: Operand, lanes: Array) -> Array:
        """64 bits, of two registers side by side: uint64 [L]."""
        value_L = self.bits(operand, lanes) | (self.bits(operand, lanes, 1).astype(np.uint64) << _HALF)
        return -value_L if operand.negative else value_L

    def float(self, operand: Operand, lanes: Array, word: int = 0) -> Array:
        if operand.kind == "number":
            return np.full(len(lanes), number_of(operand.text), np.float32)
        return _with_sign(self.bits(operand, lanes, word).view(np.float32), operand)

    def double(self, operand: Operand, lanes: Array) -> Array:
        if operand.kind == "number":
            return np.full(len(lanes), number_of(operand.text))
        value_L = self.bits(operand, lanes) | (self.bits(operand, lanes, 1).astype(np.uint64) << _HALF)
        return _with_sign(value_L.view(np.float64), operand)

    def true(self, operand: Operand, lanes: Array) -> Array:
        if operand.index % UNIFORM_PREDICATES == TRUE:
            return np.full(len(lanes), not operand.inverted)
        return self._predicates[operand.index][lanes] ^ operand.inverted

    def address(self, operand: Operand, lanes: Array) -> Array:
        """Sum of an address' registers and offset: int64 [L]."""
        total_L = np.full(len(lanes), operand.offset, np.int64)
        for index, is_wide, factor in operand.parts:
            value_L = self.registers[index][lanes].astype(np.int64)
            if is_wide:
                value_L |= self.registers[index + 1][lanes].astype(np.int64) << 32
            total_L += factor * value_L
        return total_L

    def _constant(self, operand: Operand, lanes: Array, more: int) -> Array:
        bank = self._banks[operand.index]
        return bank.view(np.uint32)[(self.address(operand, lanes) + more) // 4]

    # --- results -------------------------------------------------------------------------------------------------------

    def put(self, operand: Operand, lanes: Array, value_L: Array, word: int = 0) -> None:
        """Write 32 bits of each lane to a register, or to the one so many behind it."""
        if operand.index >= 0:
            self.registers[operand.index + word][lanes] = value_L.view(np.uint32) if value_L.dtype.itemsize == 4 else value_L

    def put_wide(self, operand: Operand, lanes: Array, value_L: Array) -> None:
        """Write 64 bits of each lane to two registers side by side."""
        bits_L = value_L.view(np.uint64)
        self.put(operand, lanes, (bits_L & _LOW).astype(np.uint32))
        self.put(operand, lanes, (bits_L >> _HALF).astype(np.uint32), 1)

    def put_true(self, operand: Operand, lanes: Array, value_L: Array) -> None:
        if operand.index % UNIFORM_PREDICATES != TRUE:
            self._predicates[operand.index][lanes] = value_L

    # --- barriers ------------------------------------------------------------------------------------------------------

    def expect(self, barrier: int, lanes: Array) -> None:
        """These lanes of their warps are to meet at a barrier."""
        self._members[barrier][self.whole_warps(lanes)] = False
        self._members[barrier][lanes] = True

    def excuse(self, barrier: int, lanes: Array) -> None:
        """These lanes will not come."""
        self._members[barrier][lanes] = False
        self._release(barrier, lanes)

    def meet(self, barrier: int, lanes: Array) -> None:
        """Lanes arrive at a barrier, and go on once all that their warp expects did."""
        self.waiting[lanes] = barrier
        self._release(barrier, lanes)

    def _release(self, barrier: int, lanes: Array) -> None:
        rows = self.whole_warps(lanes).reshape(-1, LANES)
        missing = (self._members[barrier][rows] & self.alive[rows] & (self.waiting[rows] != barrier)).any(axis=1)
        free = rows[~missing].ravel()
        self.waiting[free[self.waiting[free] == barrier]] = -1

    def end(self, lanes: Array) -> None:
        """Lanes end, and nobody waits for them."""
        self.alive[lanes] = False
        waiting = np.unique(self.waiting[self.whole_warps(lanes)])
        for barrier in waiting[(waiting >= 0) & (waiting < PROGRAM_BARRIER)]:
            self._release(barrier, lanes)
        self._release_programs()

    def meet_program(self, lanes: Array) -> None:
        """Lanes arrive at the barrier of their program, and go on once all that have not ended did."""
        self.waiting[lanes] = PROGRAM_BARRIER
        self._release_programs()

    def _release_programs(self) -> None:
        late = self.alive & (self.waiting != PROGRAM_BARRIER)
        missing_P = np.bincount(self.slot[late], minlength=len(self.shared)) > 0
        self.waiting[(self.waiting == PROGRAM_BARRIER) & ~missing_P[self.slot]] = -1

    # --- what an access takes ------------------------------------------------------------------------------------------

    def touch(self, instruction: Instruction, lanes: Array, address_L: Array, size: int, *, written: bool) -> None:
        """Note an access to global memory: a pass through the L1 cache for each line that 128 bytes' worth of lanes touch."""
        place_L = self.memory.placed(address_L)
        self.wavefronts[instruction.address // STEP] += distinct(place_L // LINE, self._group(lanes, size))
        keys = np.unique((place_L // SECTOR) * len(self.shared) + self.slot[lanes])
        (self.written if written else self.read).append(keys)

    def touch_shared(self, instruction: Instruction, lanes: Array, address_L: Array, size: int) -> None:
        """Note an access to shared memory: as many passes as different words of one bank that 128 bytes' worth of lanes touch."""
        words = np.unique(self._group(lanes, size) * 2**20 + address_L // 4)
        conflicts = np.bincount(words // 2**20 * LANES + words % LANES)
        conflicts = np.pad(conflicts, (0, -len(conflicts) % LANES)).reshape(-1, LANES)
        self.wavefronts[instruction.address // STEP] += int(conflicts.max(axis=1).sum())

    def _group(self, lanes: Array, size: int) -> Array:
        """Number of the lanes that are served together, where each reads so many bytes."""
        return lanes // (LANES * 4 // max(size, 4))

    def traffic(self, *, written: bool) -> dict[str, int]:
        """Bytes that programs read, or wrote, of each allocation: of the same program each 32 bytes once."""
        noted = self.written if written else self.read
        if not noted:
            return {}
        sectors = np.unique(np.concatenate(noted)) // len(self.shared)
        numbers, counts = np.unique(sectors >> (ALLOCATION - 5), return_counts=True)
        return {self.memory.names[number]: SECTOR * int(count) for number, count in zip(numbers, counts, strict=True)}


def _banks(launch: Launch, code: Code) -> dict[int, NDArray[np.uint8]]:
    """Constant memory, with the arguments where the code looks for them."""
    banks = {number: np.frombuffer(data + bytes(-len(data) % 4), np.uint8).copy() for number, data in code.banks.items()}
    # behind the arguments are two that Triton adds and that the renderer's kernels do not use
    for offset, argument in zip(code.arguments, launch.arguments, strict=False):
        data = argument.as_bytes()
        banks[0][offset : offset + len(data)] = np.frombuffer(data, np.uint8)
    return banks


def _with_sign(value_L: Array, operand: Operand) -> Array:
    value_L = abs(value_L) if operand.absolute else value_L
    return -value_L if operand.negative else value_L


def number_of(text: str) -> float:
    """A number as nvdisasm writes it."""
    if text.lstrip("+-") in ("INF", "QNAN", "SNAN"):
        value = np.inf if text.endswith("INF") else np.nan
        return -value if text.startswith("-") else value
    if text.lstrip("-").startswith("0x"):
        return float(np.uint32(int(text, 16) % 2**32).view(np.float32))
    return float(text)


def integer_of(text: str) -> int:
    """The bits of a number as nvdisasm writes it: a floating one's are those of float32."""
    try:
        return int(text, 0)
    except ValueError:
        return int(np.float32(number_of(text)).view(np.uint32))
