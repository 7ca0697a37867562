"""What is public of GPUs, for the model: multiprocessors, clocks, lanes of each unit, memory.

Sources: NVIDIA's white papers of A100 and H100, its data sheets of A100 80 GB, H200 SXM and B200, and of the CUDA programming guide the
arithmetic throughputs and the technical specifications by compute capability. What they do not say is said below.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

LANES = 32
PARTITIONS = 4  # of a multiprocessor, each of which issues one instruction of a warp a cycle
REGISTERS, UNIT = 16384, 256  # of a partition, and how many a warp is given at a time
WARPS, PROGRAMS = 64, 32  # that a multiprocessor holds at most
RESERVED = 1024  # bytes of shared memory that each program takes beside its own


@dataclass(frozen=True)
class Architecture:
    """One GPU.

    Attributes:
        capability: compute capability without its point.
        multiprocessors, gigahertz: of the whole, at its boost clock; B200's is what servers report, no data sheet names it.
        copied: bytes a second that a large copy reads and writes; assumed, some nine tenths of the data sheet's bandwidth.
        shared: bytes of shared memory of a multiprocessor.
        floats, doubles, integers, conversions: lanes of float32 and float64 arithmetic, of whole numbers with comparisons and choices, and
            of conversions between floating and whole numbers, of a multiprocessor; integer multiply-adds count as float32.
    """

    name: str
    capability: int
    multiprocessors: int
    gigahertz: float
    copied: float
    shared: int
    floats: int
    doubles: int
    integers: int = 64
    conversions: int = 16

    def assumed(self) -> dict[str, float]:
        """All numbers, by name."""
        return {name: value for name, value in asdict(self).items() if name != "name"}

    def warps(self, registers: int, shared: int, program_warps: int) -> int:
        """Warps of a kernel that a multiprocessor holds at a time.

        Args:
            registers: of a thread.
            shared: bytes of a program.
            program_warps: of a program.
        """
        of_a_warp = -(-registers * LANES // UNIT) * UNIT
        by_registers = REGISTERS // of_a_warp * PARTITIONS // program_warps
        by_shared = self.shared // (shared + RESERVED)
        return min(by_registers, by_shared, PROGRAMS, WARPS // program_warps) * program_warps


A100 = Architecture("A100", 80, 108, 1.41, 1.8e12, 164 * 1024, 64, 32)
H200 = Architecture("H200", 90, 132, 1.755, 4.3e12, 228 * 1024, 128, 64)
B200 = Architecture("B200", 100, 148, 1.85, 7.2e12, 228 * 1024, 128, 64)
ARCHITECTURES = (H200, A100, B200)
