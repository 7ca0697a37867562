"""NVIDIA's own programs on one rendering: the hardware's counters of each kernel, and accesses beyond memory and races."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.measuring.staged import Finding, MissingHereError

# clocks are left as they are: they are the machine's, and others may use it
NCU = ("--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw", "--print-units", "base")
COUNTERS = (
    "gpu__time_duration.sum",
    "smsp__inst_executed.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
    "l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed",
    "lts__t_bytes.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
)
# a program that knows one of the counters under another name counts nothing; its own choice is better than that
CHOICES = (("--metrics", ",".join(COUNTERS)), ("--section", "SpeedOfLight", "--section", "LaunchStats", "--section", "Occupancy"))
CHECKS = ("memcheck", "racecheck")
FOUND_SOMETHING = 9


def counters(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Of every launch of one rendering of the usual size, what the hardware counted.

    Raises:
        MissingHereError: no ncu.
        RuntimeError: it counted nothing.
    """
    program = _program("ncu")
    with tempfile.TemporaryDirectory() as folder:
        for number, choice in enumerate(CHOICES):
            table = Path(folder) / f"{number}.csv"
            done = subprocess.run(
                [program, *NCU, *choice, "--log-file", str(table), *_python(f"one_rendering({data!r}, {device!r}, {quick!r})")]
            )
            launches = launches_of(table.read_text()) if table.exists() else []
            if launches:
                for launch in launches:
                    yield {"what": "counters", **launch}
                return
            print(table.read_text()[-1000:] if table.exists() else f"ncu ended with {done.returncode} and wrote no table")
    raise RuntimeError("expected counters of each launch, got none from ncu; its words are above")


def launches_of(table: str) -> list[Finding]:
    """Kernels and their counters from what ncu writes: its own words, then a table with a line of names and one of units."""
    lines = [line for line in table.splitlines() if line.startswith('"')]
    if len(lines) < 3:
        return []
    names, units, *rows = csv.reader(lines)
    found = []
    for row in rows:
        its = dict(zip(names, row, strict=True))
        numbers = {name: _number(value) for name, value in its.items() if "__" in name and _number(value) is not None}
        used = {name: unit for name, unit in zip(names, units, strict=True) if unit and name in numbers}
        found.append({"name": its["Kernel Name"], "grid": its.get("Grid Size", ""), "counted": numbers, "units": used})
    return found


def checks(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Errors that compute-sanitizer finds in a tiny rendering.

    Raises:
        MissingHereError: no compute-sanitizer.
        RuntimeError: it found some, or did not come to its end.
    """
    program = _program("compute-sanitizer")
    bad = []
    # torch's own allocator hands out parts of large pieces, beyond which memory is still memory
    variables = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for check in CHECKS:
        command = [program, "--tool", check, "--error-exitcode", str(FOUND_SOMETHING), *_python(f"tiny_rendering({device!r})")]
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout[-20_000:], flush=True)
        total = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", done.stdout)
        errors = int(total.group(1)) if total else None
        yield {"what": "check", "name": check, "errors": errors, "status": done.returncode}
        if errors or done.returncode:
            bad.append(check)
    if bad:
        raise RuntimeError(f"expected no errors from {' and '.join(CHECKS)}, got some or no end from {' and '.join(bad)}; see the log")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingHereError(f"{name} was not found among the programs of this machine")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _python(call: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"from harness.device import tools; tools.{call}"]


def one_rendering(data: str | None, device: str, quick: bool) -> None:
    """Render once for the compiler, then once while the program looks."""
    import torch

    import hvs_data as hvs
    from harness.data import photos
    from harness.device.bench import bench_on
    from harness.device.resident import rows_for

    bench = bench_on(device, quick)
    with photos.photographs(data) as (_, paths):
        images = bench.decoded(paths)
    rows = rows_for(images, bench.setup.recipe(4), bench.setup.seed)
    for look in (False, True):
        bench.synchronize()
        if look and device == "cuda":
            torch.cuda.profiler.start()
        hvs.render(images, rows, engine="fused", dtype=torch.bfloat16)
        bench.synchronize()
    if device == "cuda":
        torch.cuda.profiler.stop()


def tiny_rendering(device: str) -> None:
    """Some views of small images of odd sizes, with every operation: crops, colours, blur, solarize."""
    import torch

    import hvs_data as hvs

    draw = torch.Generator().manual_seed(0)
    sizes = ((37, 53), (61, 40), (1, 29), (7, 5))
    images = [torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=draw).to(device) for height, width in sizes]
    for recipe in (hvs.recipes.simsiam(4, size=33), hvs.recipes.byol(4, size=33)):
        rows = hvs.sample_views(
            recipe, seed=0, epoch=0, index=range(len(sizes)), height=[size[0] for size in sizes], width=[size[1] for size in sizes]
        )
        pixels = hvs.render(images, rows, engine="fused")
        if not bool(pixels.isfinite().all()):
            raise SystemExit("expected finite pixels, got others")
