"""What does the GPU renderer's compiled code say before it meets a GPU: registers, spills, instructions and the least time of each kernel?

    python bench/gpu_model.py [--data FOLDER] [--only WORDS] [--lines]

Launches are compiled as they would be for a GPU, and programs of them executed on the CPU, instruction by instruction, and counted.
Needs no GPU. The times are MODELLED: what the counted instructions would take at the best. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.sizes import known_sizes, sizes_below
from harness.gpu_code.architectures import ARCHITECTURES, H200, Architecture
from harness.gpu_code.cases import CASES, Case
from harness.gpu_code.counting import Counts
from harness.gpu_code.figures import FIGURES, Sample, figures, instructions
from harness.measuring import machine, results
from harness.measuring.schema import Table, check_form, flag, number, text
from harness.reporting.tables import table

BENCH = "gpu_model"
KERNELS = ("kernels/render",)  # whose code it is
RESULT = results.RESULTS / f"{BENCH}.json"
CODE = {"commit": text, "uncommitted_changes": flag, "versions": Table(text), "cases": Table(Table(FIGURES))}
FORM = {
    "bench": text,
    "question": text,
    "assumed": Table(Table(number(0))),
    "sample": {"images": number(1), "programs": number(1), "seed": number(0)},
    # what code was before it was changed, and what it is; and a smaller sample's instructions a view, which a test takes again
    "before": CODE,
    "now": CODE,
    "guard": {"images": number(1), "programs": number(1), "seed": number(0), "instructions": Table(Table(number(0)))},
}
GUARDED = ("SimSiam, 224", "DINO global, 224", "DINO local, 96")
GUARD_IMAGES, GUARD_PROGRAMS = 16, 64


def sample_of(sizes: Sequence[tuple[int, int]], images: int, programs: int) -> Sample:
    """So many images, evenly taken of all."""
    return Sample([sizes[position * len(sizes) // images] for position in range(images)], programs)


def guarded(case: Case) -> dict[str, Any]:
    """Figures of a small sample on H200, whose instructions a view a test compares from change to change."""
    return figures(case, H200, sample_of(known_sizes(), GUARD_IMAGES, GUARD_PROGRAMS))[0]


def grown(now: Mapping[str, int], committed: Mapping[str, int], most: float = 0.1) -> list[str]:
    """Where instructions a view, by kernel, are more than a share above those of the committed result, or are of other kernels."""
    if set(now) != set(committed):
        return [f"expected the kernels {sorted(committed)}, got {sorted(now)}"]
    return [
        f"{kernel}: expected at most {1 + most:.2f} x {committed[kernel]} instructions a view, got {its}"
        for kernel, its in now.items()
        if its > (1 + most) * committed[kernel]
    ]


def run(sizes: Sequence[tuple[int, int]], images: int, programs: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """All cases on H200, the usual ones on the others too, in the form ``FORM``.

    Args:
        before: what code was; None where what it is now becomes that.
    """
    sample = sample_of(sizes, images, programs)
    cases: dict[str, dict[str, Any]] = {}
    for gpu in ARCHITECTURES:
        for case in CASES:
            if case.usual or gpu is H200:
                cases.setdefault(case.name, {})[gpu.name], _ = figures(case, gpu, sample)
                print(report(case, gpu, cases[case.name][gpu.name], before), end="\n\n", flush=True)
    now = {
        "commit": results.commit(*KERNELS),
        "uncommitted_changes": results.uncommitted_changes(*KERNELS),
        "versions": machine.versions(("triton",)),
        "cases": cases,
    }
    guard = {"images": GUARD_IMAGES, "programs": GUARD_PROGRAMS, "seed": sample.seed}
    return {
        "bench": BENCH,
        "question": "registers, spills, instructions and modelled time of the GPU renderer's compiled code; nothing is measured",
        "assumed": {gpu.name: gpu.assumed() for gpu in ARCHITECTURES},
        "sample": {"images": images, "programs": programs, "seed": sample.seed},
        "before": before or now,
        "now": now,
        "guard": guard | {"instructions": {case.name: instructions(guarded(case)) for case in CASES if case.name in GUARDED}},
    }


def report(case: Case, gpu: Architecture, its: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """One case in a table, beside what it was before."""
    was = before["cases"].get(case.name, {}).get(gpu.name) if before else None
    old = {kernel["kernel"]: kernel for kernel in was["kernels"]} if was else {}
    names = [kernel["kernel"] for kernel in its["kernels"]]
    gone = [kernel for name, kernel in old.items() if name not in names]
    header = ["kernel", "registers", "warps held", "spilled", "k instructions", "L1 passes", "KB", "ns by unit", "before", "before: ns"]
    rows = [_row(kernel) + _before(old.get(kernel["kernel"])) for kernel in its["kernels"]]
    rows += [[kernel["kernel"], *[""] * (len(header) - 3), *_before(kernel)] for kernel in gone]
    lines = [
        f"{case.name}, {gpu.name}: modelled, a view",
        "",
        table(header, rows),
        "",
        f"sum {its['ns']:.0f} ns" + (f", before {was['ns']:.0f}" if was else "") + f"; {its['bound_ns'] / its['ns']:.1%} of what memory "
        f"would allow if each crop of {its['crop_bytes'] / 1e3:.0f} KB were read and each output of {its['output_bytes'] / 1e3:.0f} KB "
        f"written once, {its['bound_ns']:.0f} ns; between kernels {its['scratch_bytes'] / 1e3:.0f} KB are written and read",
    ]
    return "\n".join(lines)


def _row(kernel: Mapping[str, Any]) -> list[str]:
    times = sorted(kernel["ns"].items(), key=lambda item: -item[1])[:4]
    return [
        kernel["kernel"],
        *(str(kernel[name]) for name in ("registers", "warps_held", "spilled_bytes")),
        *(f"{kernel[name] / 1e3:.1f}" for name in ("instructions", "wavefronts", "memory_bytes")),
        ", ".join(f"{unit} {ns:.0f}" for unit, ns in times),
    ]


def _before(kernel: Mapping[str, Any] | None) -> list[str]:
    return [f"{kernel['instructions'] / 1e3:.1f}", f"{kernel['ns'][kernel['bound_by']]:.0f}"] if kernel else ["", ""]


def costly_lines(kernels: Sequence[Mapping[str, Any]], counts: Sequence[Counts], most: int = 15) -> str:
    """Lines of the source that take the most instructions."""
    rows = []
    for kernel, its in zip(kernels, counts, strict=True):
        for (file, line), issued in sorted(its.by_line.items(), key=lambda item: -item[1])[:most]:
            share = issued / its.issued
            rows.append([kernel["kernel"], f"{file}:{line}", f"{share * kernel['instructions'] / 1e3:.1f}", f"{share:.1%}"])
    return table(["kernel", "line", "k instructions a view", "of its"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos whose sizes are taken; by default those of 256 photographs of ImageNet")
    parser.add_argument("--only", help="look at cases whose name holds this, and write nothing")
    parser.add_argument("--gpu", default=H200.name, choices=[gpu.name for gpu in ARCHITECTURES], help="with --only")
    parser.add_argument("--lines", action="store_true", help="with --only: lines of the source that take the most instructions, too")
    parser.add_argument("--images", type=int, default=128, help="of a batch; two views of each (128)")
    parser.add_argument("--programs", type=int, default=600, help="of a launch that are executed (600)")
    parser.add_argument("--new-before", action="store_true", help="compare later runs with what this one finds")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result's file, of which what was before is taken, too")
    options = parser.parse_args(arguments)
    sizes = sizes_below(options.data) if options.data else known_sizes()
    before = json.loads(options.out.read_text())["before"] if options.out.exists() and not options.new_before else None
    if options.only:
        (gpu,) = (gpu for gpu in ARCHITECTURES if gpu.name == options.gpu)
        for case in (case for case in CASES if options.only in case.name):
            its, counts = figures(case, gpu, sample_of(sizes, options.images, options.programs))
            print(report(case, gpu, its, before), end="\n\n", flush=True)
            if options.lines:
                print(costly_lines(its["kernels"], counts), end="\n\n")
        return 0
    result = run(sizes, options.images, options.programs, before)
    check_form(result, FORM)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {os.path.relpath(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
