"""What the GPU renderer's compiled code comes to, in tables for a terminal and for docs/gpu.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reporting.tables import table

Figures = Mapping[str, Any]
MARKS = "<!-- modelled: written by bench/gpu_model.py -->\n", "<!-- end of modelled -->\n"
_UNITS = ("issue", "L1", "integer", "float", "convert", "memory")


def report(case: str, gpu: str, its: Figures, was: Figures | None) -> str:
    """One case on one GPU, beside what it was before if that is known."""
    old = {kernel["kernel"]: kernel for kernel in was["kernels"]} if was else {}
    names = [kernel["kernel"] for kernel in its["kernels"]]
    header = ["kernel", "registers", "warps held", "spilled", "k instructions", "L1 passes", "KB", "ns by unit", "before", "before: ns"]
    rows = [_row(kernel) + _before(old.get(kernel["kernel"])) for kernel in its["kernels"]]
    rows += [[name, *[""] * (len(header) - 3), *_before(kernel)] for name, kernel in old.items() if name not in names]
    before = f", before {was['ns']:.0f}" if was else ""
    total = (
        f"sum {its['ns']:.0f} ns{before}; {its['bound_ns'] / its['ns']:.1%} of what memory would allow, {its['bound_ns']:.0f} ns, if each "
        f"crop of {its['crop_bytes'] / 1e3:.0f} KB were read and each output of {its['output_bytes'] / 1e3:.0f} KB written once; "
        f"between kernels {its['scratch_bytes'] / 1e3:.0f} KB are written and read"
    )
    return f"{case}, {gpu}: modelled, a view\n\n{table(header, rows)}\n\n{total}"


def _row(kernel: Figures) -> list[str]:
    times = sorted(kernel["ns"].items(), key=lambda item: -item[1])[:4]
    return [
        kernel["kernel"],
        *(str(kernel[name]) for name in ("registers", "warps_held", "spilled_bytes")),
        *(f"{kernel[name] / 1e3:.1f}" for name in ("instructions", "wavefronts", "memory_bytes")),
        ", ".join(f"{unit} {ns:.0f}" for unit, ns in times),
    ]


def _before(kernel: Figures | None) -> list[str]:
    return [f"{kernel['instructions'] / 1e3:.1f}", f"{kernel['ns'][kernel['bound_by']]:.0f}"] if kernel else ["", ""]


def costly_lines(by_kernel: Mapping[str, Mapping[tuple[str, int], float]], views: int, most: int = 15) -> str:
    """Lines of the source that take the most instructions, from those of all views by file and line."""
    rows = []
    for kernel, lines in by_kernel.items():
        for (file, line), issued in sorted(lines.items(), key=lambda item: -item[1])[:most]:
            rows.append([kernel, f"{file}:{line}", f"{issued / views / 1e3:.1f}", f"{issued / sum(lines.values()):.1%}"])
    return table(["kernel", "line", "k instructions a view", "of its"], rows)


def docs_part(result: Figures, case: str, gpu: str) -> str:
    """Tables of a result for a page: one case by kernel, then all of them, before and now."""
    before, now = result["before"]["cases"], result["now"]["cases"]
    header = [f"{case}, {gpu}, a view", "registers", "warps held", "thousand instructions", f"ns: {', '.join(_UNITS)}", "bound by"]
    kernels = [_docs_row(kernel, "") for kernel in now[case][gpu]["kernels"]]
    kernels += [_docs_row(kernel, "before: ") for kernel in before[case][gpu]["kernels"]]
    totals = []
    for name, gpus in now.items():
        for which, its in gpus.items():
            was = before.get(name, {}).get(which)
            share = its["bound_ns"] / its["ns"]
            old = [f"{_thousands(was)}", f"{was['ns']:.0f}"] if was else ["", ""]
            totals.append(
                [name, which, old[0], _thousands(its), old[1], f"{its['ns']:.0f}", f"{share:.0%}", f"{its['scratch_bytes'] / 1e3:.0f}"]
            )
    columns = [
        "views", "GPU", "thousand instructions before", "now", "ns a view before", "now", "of the bytes bound", "KB between kernels",
    ]  # fmt: skip
    return f"{_markdown(header, kernels)}\n\n{_markdown(columns, totals)}\n"


def _docs_row(kernel: Figures, prefix: str) -> list[str]:
    times = ", ".join(f"{kernel['ns'][unit]:.0f}" for unit in _UNITS)
    name = f"{prefix}`{kernel['kernel']}`"
    held = [str(kernel["registers"]), str(kernel["warps_held"])]
    return [name, *held, f"{kernel['instructions'] / 1e3:.0f}", times, kernel["bound_by"]]


def _thousands(its: Figures) -> str:
    return f"{sum(kernel['instructions'] for kernel in its['kernels']) / 1e3:.0f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
