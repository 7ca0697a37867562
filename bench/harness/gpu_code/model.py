"""The time that counted instructions would take at the best: the largest of what each unit of a multiprocessor would need alone."""

from __future__ import annotations

from harness.gpu_code.architectures import PARTITIONS, Architecture
from harness.gpu_code.counting import Counts

# Warps whose instructions of a kind a multiprocessor does in a cycle.
CONVERTED = 0.5
WHOLE_NUMBERS = 2.0
MULTIPLIED = 2.0


def nanoseconds(counts: Counts, architecture: Architecture) -> dict[str, float]:
    """For each unit how long a whole GPU would be busy with what was counted."""
    kinds = counts.by_kind

    def cycles(rate: float, *names: str) -> float:
        return sum(kinds.get(name, 0.0) for name in names) / rate

    busy = {
        "issue": counts.issued / PARTITIONS,
        "L1": counts.wavefronts,
        "conversions": cycles(CONVERTED, "convert"),
        "integers and choices": cycles(WHOLE_NUMBERS, "integer, compare, select"),
        "floats": cycles(architecture.float_warps, "float") + cycles(MULTIPLIED * 2, "integer multiply"),
        "doubles": cycles(architecture.double_warps, "double"),
        "tensor": counts.products / architecture.products,
    }
    return {name: its / (architecture.multiprocessors * architecture.gigahertz) for name, its in busy.items()}
