"""The time that counted instructions would take at the best: the largest of what each unit of a GPU would need alone.

Nothing waits in this model: latencies, launches, an uneven end and the instruction cache are left out, so that a GPU takes longer.
"""

from __future__ import annotations

from harness.gpu_code.architectures import LANES, PARTITIONS, Architecture
from harness.gpu_code.counting import INTEGER, Counts


def nanoseconds(counts: Counts, memory_bytes: float, architecture: Architecture) -> dict[str, float]:
    """For each unit how long a whole GPU would be busy with it.

    Args:
        memory_bytes: that are read from and written to the GPU's memory.
    """
    kinds = counts.by_kind

    def warps(kind: str) -> float:
        return kinds.get(kind, 0.0)

    cycles = {
        "issue": counts.issued / PARTITIONS,
        "L1": counts.wavefronts,
        "float": (warps("float") + 2 * warps("float pair")) * LANES / architecture.floats,
        "integer": warps(INTEGER) * LANES / architecture.integers,
        "double": warps("double") * LANES / architecture.doubles,
        "convert": warps("convert") * LANES / architecture.conversions,
    }
    busy = {unit: its / (architecture.multiprocessors * architecture.gigahertz) for unit, its in cycles.items()}
    return busy | {"memory": 1e9 * memory_bytes / architecture.copied}
