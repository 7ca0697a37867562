"""How many views a second on a CUDA device, from images in its memory and from files, and how far from its memory's bandwidth?

    python bench/gpu.py [--data FOLDER] [--quick]

First the tests that need CUDA, then hvs_data beside Kornia (eager, compiled), torchvision v2 and triton-augment on images in the device's
memory, and beside DALI from files. What is not installed or fails is left out, and the result says why. Without a CUDA device, this says
so and does nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.loaders.on_device import OURS, Bench, Setup, bytes_per_second, from_files, of_triton_augment, resident
from harness.measuring import machine, results
from harness.measuring.schema import MIN_REPEATS, RESULT, ResultError, Table, check_form, text
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.reporting.tables import figure, table

BENCH = "gpu"
TESTS = ("-m", "cuda", "tests")
NO_DEVICE = "no CUDA device was found on this machine: nothing was tested, nothing was measured and nothing was written"
PACKAGES = ("triton", "kornia", "triton-augment", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
FORM = {**{key: form for key, form in RESULT.items() if key != "footprints"}, "not_run": Table(text, least=0)}

TARGETS = [
    ("40 % of the bytes-over-bandwidth bound", "from resident uint8, n = 4", None, 0.4),
    ("50 x Kornia eager", "from resident uint8, n = 4", "kornia", 50.0),
    ("3 x triton-augment on its operations", "operations of triton-augment, n = 4", "triton-augment", 3.0),
    ("2 x DALI's own pipeline, n = 4", "from files, n = 4", "DALI", 2.0),
    ("4 x DALI's own pipeline, n = 8", "from files, n = 8", "DALI", 4.0),
]


def judged(bench: Bench) -> list[dict[str, Any]]:
    """Each target of the project beside what was measured; a quick run measures nothing."""
    judged = []
    for target, group, rival, wanted in TARGETS:
        if rival is None:
            found = [entry["details"]["share_of_bound"] for entry in bench.measurements if (entry["group"], entry["name"]) == (group, OURS)]
        else:
            found = [entry["median"] for entry in bench.ratios if (entry["group"], entry["name"]) == (group, f"{OURS} / {rival}")]
        measured = None if bench.setup.quick or not found else found[0]
        note = bench.not_run.get(f"{group}: {rival or OURS}", "quick run" if bench.setup.quick else "median of ratios round by round")
        reached = None if measured is None else measured >= wanted
        judged.append({"question": group, "target": target, "measured": measured, "reached": reached, "note": note})
    return judged


def run(setup: Setup, device: torch.device, data_name: str, paths: list[str]) -> dict[str, Any]:
    """Measure all there is to measure on a device."""
    bench = Bench(setup, device)
    images = hvs.decode([Path(path).read_bytes() for path in photos.repeated(paths, setup.images)], device=device)
    bandwidth = bytes_per_second(bench)
    resident(bench, images, bandwidth)
    of_triton_augment(bench, images, bandwidth)
    from_files(bench, paths)
    if not bench.measurements:
        raise SystemExit(f"nothing could be run: {bench.not_run}")
    conditions = results.conditions(
        data={data_name: photos.described(paths)},
        sizes={"view": setup.size, "batch": setup.images, "batches": setup.batches},
        recipe="simsiam",
        seeds=[setup.seed],
        repeats=setup.repeats,
        settings={
            "bandwidth": f"{bandwidth / 1e9:.0f} GB/s read and written by a large copy within the device's memory",
            "bound": "views a second if each crop is read once, each output written once, at that bandwidth",
            "output": "bfloat16 from resident images, float16 from files; normalised, contiguous, on the device",
            "threads": f"{machine.cores()} that decode",
            "tests": "those marked cuda passed before" if device.type == "cuda" else "none",
        },
    )
    conditions["versions"] |= {"cuda": str(torch.version.cuda), **machine.versions(PACKAGES)}
    conditions["device"] = _device(device)
    return {
        "bench": BENCH,
        "question": "views a second on a CUDA device, from resident images and from files, beside other libraries and the memory's speed",
        "quick": setup.quick,
        "conditions": conditions,
        "measurements": bench.measurements,
        "ratios": bench.ratios,
        "targets": judged(bench),
        "not_run": bench.not_run,
    }


def check_gpu_result(result: dict[str, Any]) -> None:
    """Raises ResultError for a result that is not complete."""
    check_form(result, FORM)
    if result["conditions"]["repeats"] < MIN_REPEATS and not result["quick"]:
        raise ResultError(f"expected at least {MIN_REPEATS} repeats, got {result['conditions']['repeats']}")


def _device(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"kind": device.type, "name": machine.cpu_model(), "cores": machine.cores(), "memory_gib": 0}
    its = torch.cuda.get_device_properties(device)
    return {"kind": "cuda", "name": its.name, "cores": machine.cores(), "memory_gib": round(its.total_memory / 2**30, 1)}


def report(result: dict[str, Any]) -> str:
    """The result in tables."""
    speeds = [
        [f"{entry['group']}: {entry['name']}", figure(entry["median"]), entry["unit"], figure(entry["details"]["share_of_bound"])]
        for entry in result["measurements"]
    ]
    parts = [
        table(["measured", "median", "", "of bound"], speeds),
        table(
            ["ratio, round by round", "median"],
            [[f"{entry['group']}: {entry['name']}", figure(entry["median"])] for entry in result["ratios"]],
        ),
        table(["target", "measured"], [[target["target"], figure(target["measured"])] for target in result["targets"]]),
        *(f"not run: {name}: {reason}" for name, reason in result["not_run"].items()),
    ]
    return "\n\n".join(["QUICK RUN: the numbers mean nothing.", *parts] if result["quick"] else parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos of ordinary size; by default the demo's example photos")
    parser.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    parser.add_argument("--no-check", action="store_true", help="time even if the tests on the device fail")
    parser.add_argument("--images", type=int, help="images on the device, and of a batch (128)")
    parser.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(NO_DEVICE)
        return 0
    setup = Setup(size=64, images=8, batches=2, candidates=(2, 4), repeats=2, quick=True) if options.quick else Setup()
    setup = replace(setup, images=options.images or setup.images)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    with photos.photographs(options.data) as (name, paths):
        result = run(setup, torch.device("cuda", torch.cuda.current_device()), name, paths)
    path = results.write_result(result, options.out, check_gpu_result)
    print(report(result))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
