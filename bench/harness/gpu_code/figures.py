"""What a case's launches come to, a view: the numbers that results keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.gpu_code import listing
from harness.gpu_code.architectures import Architecture
from harness.gpu_code.cases import Case, rendering
from harness.gpu_code.counting import Counts, count
from harness.gpu_code.launches import Launch
from harness.gpu_code.model import nanoseconds
from harness.measuring.schema import Table, number, text

KERNEL = {
    "kernel": text,
    "registers": number(1),
    "stack_bytes": number(0),
    "shared_bytes": number(0),
    "warps_held": number(1),
    "instructions": number(0),
    "by_kind": Table(number(0)),
    "wavefronts": number(0),
    "ns": Table(number(0)),
    "bound_by": text,
}
FIGURES = {"crop_bytes": number(0), "output_bytes": number(0), "bound_ns": number(0), "ns": number(0), "kernels": [KERNEL]}


@dataclass(frozen=True)
class Sample:
    """Of what the figures are taken: sizes of the images, and programs of a launch that are executed."""

    sizes: Sequence[tuple[int, int]]
    programs: int
    seed: int = 0


def figures(case: Case, architecture: Architecture, sample: Sample) -> tuple[dict[str, Any], list[Counts]]:
    """Figures of a view, in the form ``FIGURES``, and the counts of each launch of the batch."""
    made = rendering(case, sample.sizes, architecture.number, sample.seed)
    counted = []
    for position, launch in enumerate(made.launches):
        # what the first launch writes, the others find their way by
        programs = sample.programs if position else None
        counted.append(count(launch, made.memory, programs, sample.seed))
    kernels = [_kernel(launch, counts, architecture, made.views) for launch, counts in zip(made.launches, counted, strict=True)]
    return {
        "crop_bytes": round(made.crop_bytes),
        "output_bytes": round(made.output_bytes),
        "bound_ns": _rounded(1e9 * (made.crop_bytes + made.output_bytes) / architecture.copied),
        "ns": _rounded(sum(kernel["ns"][kernel["bound_by"]] for kernel in kernels)),
        "kernels": kernels,
    }, counted


def _kernel(launch: Launch, counts: Counts, architecture: Architecture, views: int) -> dict[str, Any]:
    code = listing.read(launch.cubin)
    ns = {unit: _rounded(its / views) for unit, its in nanoseconds(counts, architecture).items()}
    return {
        "kernel": launch.kernel,
        "registers": code.registers,
        "stack_bytes": code.stack,
        "shared_bytes": launch.shared,
        "warps_held": architecture.warps(code.registers, launch.shared, launch.warps),
        "instructions": round(counts.issued / views),
        "by_kind": {kind: round(its / views) for kind, its in sorted(counts.by_kind.items(), key=lambda item: -item[1])},
        "wavefronts": round(counts.wavefronts / views),
        "ns": ns,
        "bound_by": max(ns, key=lambda unit: ns[unit]),
    }


def _rounded(value: float) -> float:
    return round(float(value), 1)
