"""What is public of GPUs, for the model: units of a multiprocessor and how many of them, clocks, bandwidths.

Sources: NVIDIA's white papers of A100, H100 and Blackwell, data sheets of A100 80 GB, H200 and B200, and the CUDA programming guide's
tables of arithmetic throughput and of features by compute capability.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

LANES = 32
PARTITIONS = 4  # of a multiprocessor, each of which issues one instruction of a warp a cycle
REGISTERS = 16384  # of a partition, handed to warps 256 at a time
WARPS, PROGRAMS = 64, 32  # that a multiprocessor holds at most
RESERVED = 1024  # bytes of shared memory that each program takes beside its own


@dataclass(frozen=True)
class Architecture:
    """One GPU.

    Attributes:
        number: compute capability without its point.
        multiprocessors, gigahertz: of the whole, at its boost clock.
        copied: bytes a second that a large copy reads and writes; assumed, some nine tenths of the data sheet's.
        shared: bytes of shared memory of a multiprocessor.
        float_warps: warps whose float32 multiply-adds a multiprocessor does in a cycle; of others see ``model.RATES``.
        double_warps: the same of float64.
        products: multiply-adds of 16-bit numbers a cycle and multiprocessor in tensor cores, by instructions of single warps.
    """

    name: str
    number: int
    multiprocessors: int
    gigahertz: float
    copied: float
    shared: int
    float_warps: float
    double_warps: float
    products: int

    def assumed(self) -> dict[str, float]:
        """All numbers, by name."""
        return {name: value for name, value in asdict(self).items() if name != "name"}

    def warps(self, registers: int, shared: int, program_warps: int) -> int:
        """Warps of a kernel that a multiprocessor holds at a time."""
        of_a_warp = -(-registers * LANES // 256) * 256
        by_registers = REGISTERS // of_a_warp * PARTITIONS // program_warps
        by_shared = self.shared // (shared + RESERVED)
        return min(by_registers, by_shared, PROGRAMS, WARPS // program_warps) * program_warps


A100 = Architecture("A100", 80, 108, 1.41, 1.8e12, 164 * 1024, 2.0, 1.0, 1024)
H200 = Architecture("H200", 90, 132, 1.755, 4.3e12, 228 * 1024, 4.0, 2.0, 1024)
B200 = Architecture("B200", 100, 148, 1.85, 7.2e12, 228 * 1024, 4.0, 2.0, 1024)
ARCHITECTURES = {its.number: its for its in (A100, H200, B200)}
