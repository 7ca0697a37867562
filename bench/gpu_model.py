"""What does the GPU renderer's compiled code say before it meets a GPU: registers, spills, instructions and the least time of each kernel?

    python bench/gpu_model.py [--data FOLDER] [--only WORDS] [--lines]

Launches are compiled as they would be for a GPU, and programs of them executed on the CPU, instruction by instruction, and counted.
Needs no GPU. The times are MODELLED: what the counted instructions would take at the best, and nothing that was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from harness.data.sizes import known_sizes, sizes_below
from harness.gpu_code.architectures import ARCHITECTURES
from harness.gpu_code.cases import CASES
from harness.gpu_code.figures import FIGURES, Sample, figures
from harness.measuring import machine, results
from harness.measuring.schema import Table, check_form, flag, number, text
from harness.reporting.tables import table

BENCH = "gpu_model"
PATH = results.RESULTS / f"{BENCH}.json"
CODE = {"commit": text, "uncommitted_changes": flag, "versions": Table(text), "cases": Table(Table(FIGURES))}
FORM = {
    "bench": text,
    "question": text,
    "assumed": Table(Table(number(0))),
    "sample": {"images": number(1), "views": number(1), "programs": number(1), "seed": number(0)},
    "before": CODE,
    "now": CODE,
}


def report(case: str, gpu: str, its: dict[str, Any], before: dict[str, Any] | None) -> str:
    """One case in a table."""
    old = {kernel["kernel"]: kernel for kernel in before["kernels"]} if before else {}
    rows = []
    for kernel in its["kernels"]:
        was = old.get(kernel["kernel"])
        times = sorted(kernel["ns"].items(), key=lambda item: -item[1])[:3]
        rows.append(
            [
                kernel["kernel"],
                f"{kernel['registers']}, {kernel['warps_held']}",
                str(kernel["stack_bytes"]),
                f"{kernel['instructions'] / 1e3:.1f}",
                f"{was['instructions'] / 1e3:.1f}" if was else "",
                ", ".join(f"{unit} {ns:.0f}" for unit, ns in times),
                f"{was['ns'][was['bound_by']]:.0f}" if was else "",
            ]
        )
    header = ["kernel", "registers, warps held", "stack", "k instructions a view", "before", "ns a view, by unit", "before"]
    total = f"{its['ns']:.0f} ns a view" + (f" (before {before['ns']:.0f})" if before else "")
    share = f"{its['bound_ns'] / its['ns']:.1%} of the bytes bound, {its['bound_ns']:.0f} ns"
    return f"{case}, {gpu}\n\n{table(header, rows)}\n\nmodelled: {total}: {share}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos whose sizes are taken; by default those of 256 photographs of ImageNet")
    parser.add_argument("--only", help="cases whose name holds this; nothing is written")
    parser.add_argument("--architecture", type=int, nargs="+", default=[90], choices=list(ARCHITECTURES), help="80, 90 or 100; several")
    parser.add_argument("--lines", action="store_true", help="print the lines of the source that take the most instructions, too")
    parser.add_argument("--images", type=int, default=128, help="of a batch; two views of each")
    parser.add_argument("--programs", type=int, default=600, help="of a launch that are executed")
    parser.add_argument("--new-before", action="store_true", help="what later runs are compared with is what this one finds")
    options = parser.parse_args(arguments)
    sizes = sizes_below(options.data) if options.data else known_sizes()
    sample = Sample(sizes[:: max(len(sizes) // options.images, 1)], options.programs)
    before = json.loads(PATH.read_text())["before"] if PATH.exists() else {"cases": {}}
    cases: dict[str, dict[str, Any]] = {}
    for case in CASES:
        if options.only and options.only not in case.name:
            continue
        for gpu in (ARCHITECTURES[capability] for capability in options.architecture):
            its, counted = figures(case, gpu, sample)
            cases.setdefault(case.name, {})[gpu.name] = its
            print(report(case.name, gpu.name, its, before["cases"].get(case.name, {}).get(gpu.name)), end="\n\n", flush=True)
            for kernel, counts in zip(its["kernels"], counted, strict=True):
                for (file, line), count in sorted(counts.lines.items(), key=lambda item: -item[1])[: 15 if options.lines else 0]:
                    share = count / counts.issued
                    print(f"  {kernel['kernel']}  {file}:{line}  {share * kernel['instructions'] / 1e3:.1f} k, {share:.1%}")
    if options.only:
        return 0
    now = {
        "commit": results.commit(),
        "uncommitted_changes": results.uncommitted_changes(),
        "versions": machine.versions(("triton",)),
        "cases": cases,
    }
    result = {
        "bench": BENCH,
        "question": "registers, spills, instructions and modelled time of the GPU renderer's compiled code; nothing was measured",
        "assumed": {gpu.name: gpu.assumed() for gpu in ARCHITECTURES.values()},
        "sample": {"images": len(sample.sizes), "views": 2 * len(sample.sizes), "programs": sample.programs, "seed": sample.seed},
        "before": now if options.new_before or not before["cases"] else before,
        "now": now,
    }
    check_form(result, FORM)
    PATH.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {os.path.relpath(PATH)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
