"""What does the GPU renderer's compiled code say before it meets a GPU: registers, spills, instructions and the least time of each kernel?

    python bench/gpu_model.py [--data FOLDER] [--only WORDS] [--lines]

Launches are compiled as they would be for a GPU, and programs of them executed on the CPU, instruction by instruction, and counted.
Needs the package triton, and no GPU. The times are MODELLED: what the counted instructions would take at the best. Nothing is measured.
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
from harness.gpu_code.architectures import ARCHITECTURES, H200
from harness.gpu_code.cases import CASES, Case
from harness.gpu_code.figures import FIGURES, Sample, figures, instructions
from harness.measuring import machine, results
from harness.measuring.schema import Table, check_form, flag, number, text
from harness.reporting.evidence import replaced
from harness.reporting.gpu_code import MARKS, costly_lines, docs_part, report

BENCH = "gpu_model"
KERNELS = ("kernels/render",)  # whose code it is
RESULT = results.RESULTS / f"{BENCH}.json"
PAGE = results.ROOT / "docs" / "gpu.md"
SHOWN = "SimSiam, 224"  # kernel by kernel on that page
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


def run(sample: Sample, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """All cases on H200, the usual ones on the others too, in the form ``FORM``.

    Args:
        before: what code was; None where what it is now becomes that.
    """
    cases: dict[str, dict[str, Any]] = {}
    for gpu in ARCHITECTURES:
        for case in CASES:
            if case.usual or gpu is H200:
                its, _ = figures(case, gpu, sample)
                cases.setdefault(case.name, {})[gpu.name] = its
                print(report(case.name, gpu.name, its, figures_before(before, case.name, gpu.name)), end="\n\n", flush=True)
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
        "sample": {"images": len(sample.sizes), "programs": sample.programs, "seed": sample.seed},
        "before": before or now,
        "now": now,
        "guard": guard | {"instructions": {case.name: instructions(guarded(case)) for case in CASES if case.name in GUARDED}},
    }


def figures_before(before: Mapping[str, Any] | None, case: str, gpu: str) -> Mapping[str, Any] | None:
    return before["cases"].get(case, {}).get(gpu) if before else None


def look(case: Case, gpu_name: str, sample: Sample, before: Mapping[str, Any] | None, lines: bool) -> None:
    """Print a case on a GPU, and the costly lines of its source where these are wanted."""
    (gpu,) = (gpu for gpu in ARCHITECTURES if gpu.name == gpu_name)
    its, counts = figures(case, gpu, sample)
    print(report(case.name, gpu.name, its, figures_before(before, case.name, gpu.name)), end="\n\n", flush=True)
    if lines:
        names = [kernel["kernel"] for kernel in its["kernels"]]
        print(costly_lines({name: count.by_line for name, count in zip(names, counts, strict=True)}, 2 * len(sample.sizes)), end="\n\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos whose sizes are taken; by default those of 256 photographs of ImageNet")
    parser.add_argument("--only", help="look at cases whose name holds this, and write nothing")
    parser.add_argument("--gpu", default=H200.name, choices=[gpu.name for gpu in ARCHITECTURES], help="with --only")
    parser.add_argument("--lines", action="store_true", help="with --only: lines of the source that take the most instructions, too")
    parser.add_argument("--images", type=int, default=128, help="of a batch; two views of each (128)")
    parser.add_argument("--programs", type=int, default=600, help="of a launch that are executed (600)")
    parser.add_argument("--new-before", action="store_true", help="compare later runs with what this one finds")
    parser.add_argument("--out", type=Path, help="another file for the result, of which what was before is taken, too")
    options = parser.parse_args(arguments)
    out = options.out or RESULT
    before = json.loads(out.read_text())["before"] if out.exists() and not options.new_before else None
    sample = sample_of(sizes_below(options.data) if options.data else known_sizes(), options.images, options.programs)
    if options.only:
        for case in (case for case in CASES if options.only in case.name):
            look(case, options.gpu, sample, before, options.lines)
        return 0
    result = run(sample, before)
    check_form(result, FORM)
    written = {out: json.dumps(result, indent=1) + "\n"}
    if options.out is None:
        written[PAGE] = replaced(PAGE.read_text(), docs_part(result, SHOWN, H200.name), MARKS)
    for path, content in written.items():
        path.write_text(content)
        print(f"written: {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
