"""What a case's launches come to, a view: the numbers that results keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.gpu_code import cubin
from harness.gpu_code.architectures import Architecture
from harness.gpu_code.cases import CANVAS, IMAGES, Case, Rendering, rendering
from harness.gpu_code.counting import Counts, count
from harness.gpu_code.launches import Launch
from harness.gpu_code.model import nanoseconds
from harness.measuring.schema import Table, number, text

KERNEL = {
    "kernel": text,
    "registers": number(1),
    "spilled_bytes": number(0),
    "shared_bytes": number(0),
    "warps_held": number(1),
    "instructions": number(0),
    "by_kind": Table(number(0)),
    "wavefronts": number(0),
    "memory_bytes": number(0),
    "ns": Table(number(0)),
    "bound_by": text,
}
FIGURES = {
    "crop_bytes": number(0),
    "output_bytes": number(0),
    "scratch_bytes": number(0),
    "bound_ns": number(0),
    "ns": number(0),
    "kernels": [KERNEL],
}


@dataclass(frozen=True)
class Sample:
    """Of what figures are taken.

    Attributes:
        sizes: height and width of the images.
        programs: of a launch that are executed; of the first one all, as the others find their way by what it writes.
        seed: of rows and programs.
    """

    sizes: Sequence[tuple[int, int]]
    programs: int
    seed: int = 0


def counted(made: Rendering, sample: Sample) -> list[Counts]:
    """What each launch takes."""
    limits = [None, *(sample.programs for _ in made.launches[1:])]
    return [count(launch, made.memory, most, sample.seed) for launch, most in zip(made.launches, limits, strict=True)]


def figures(case: Case, architecture: Architecture, sample: Sample) -> tuple[dict[str, Any], list[Counts]]:
    """Figures of a view, in the form ``FIGURES``, and the counts that they are of."""
    made = rendering(case, sample.sizes, architecture.capability, sample.seed)
    counts = counted(made, sample)
    kernels, scratch = [], 0.0
    written: dict[str, float] = {}
    for launch, its in zip(made.launches, counts, strict=True):
        # what launches leave each other comes from memory once, however often programs read it
        left = sum(min(size, written[name]) for name, size in its.read.items() if name in written)
        scratch += left + sum(size for name, size in its.written.items() if name != CANVAS)
        passed = left + sum(its.written.values()) + (made.crop_bytes * made.views if IMAGES in its.read else 0)
        kernels.append(_kernel(launch, its, passed, made.views, architecture))
        written |= {name: max(size, written.get(name, 0.0)) for name, size in its.written.items()}
    return {
        "crop_bytes": round(made.crop_bytes),
        "output_bytes": round(made.output_bytes),
        "scratch_bytes": round(scratch / made.views),
        "bound_ns": round(1e9 * (made.crop_bytes + made.output_bytes) / architecture.copied, 1),
        "ns": round(sum(kernel["ns"][kernel["bound_by"]] for kernel in kernels), 1),
        "kernels": kernels,
    }, counts


def _kernel(launch: Launch, counts: Counts, memory_bytes: float, views: int, architecture: Architecture) -> dict[str, Any]:
    code = cubin.read(launch.cubin)
    ns = {unit: round(its / views, 1) for unit, its in nanoseconds(counts, memory_bytes, architecture).items()}
    return {
        "kernel": launch.kernel,
        "registers": code.registers,
        "spilled_bytes": code.spilled,
        "shared_bytes": launch.shared,
        "warps_held": architecture.warps(code.registers, launch.shared, launch.warps),
        "instructions": round(counts.issued / views),
        "by_kind": {kind: round(its / views) for kind, its in sorted(counts.by_kind.items())},
        "wavefronts": round(counts.wavefronts / views),
        "memory_bytes": round(memory_bytes / views),
        "ns": ns,
        "bound_by": max(ns, key=lambda unit: ns[unit]),
    }


def instructions(figures: Mapping[str, Any]) -> dict[str, int]:
    """Those of a view, by kernel."""
    return {kernel["kernel"]: kernel["instructions"] for kernel in figures["kernels"]}
