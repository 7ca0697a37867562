"""What machine this is: the device, the programs that look into it, the packages, and the photographs that are measured on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from harness.measuring import machine, results
from harness.measuring.staged import Finding

PACKAGES = (
    *machine.PACKAGES, "triton", "kornia", "kornia-rs", "triton-augment", "lightly", "timm", "pytest", "pytest-xdist",
    "nvidia-dali-cuda120", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu12", "nvidia-nvimgcodec-cu13",
)  # fmt: skip
PROGRAMS = ("nvidia-smi", "ncu", "compute-sanitizer")
ASKED = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"


def environment(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """The conditions of every number of the run, and what the machine's own program says of the device."""
    import torch

    there = torch.cuda.is_available()
    about = {"versions": {**machine.versions(PACKAGES), "cuda": str(torch.version.cuda)}, "device": _described(torch) if there else None}
    yield {"what": "machine", "cores": machine.cores(), "programs": {name: bool(shutil.which(name)) for name in PROGRAMS}, **about}
    if there and shutil.which("nvidia-smi"):
        said = subprocess.run(["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv"], capture_output=True, text=True, timeout=20)
        yield {"what": "nvidia-smi", "lines": said.stdout.splitlines()}
    yield {"what": "conditions", "conditions": _conditions(data, quick, about)}


def _described(torch: Any) -> dict[str, Any]:
    its = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": its.name,
        "capability": f"{its.major}.{its.minor}",
        "multiprocessors": its.multi_processor_count,
        "memory_gib": round(its.total_memory / 2**30, 1),
        "l2_mib": round(getattr(its, "L2_cache_size", 0) / 2**20, 1),
    }


def _conditions(data: str | None, quick: bool, about: dict[str, Any]) -> dict[str, Any]:
    from harness.data import photos
    from harness.device.bench import QUICK, Setup

    setup = QUICK if quick else Setup()
    with photos.photographs(data) as (name, paths):
        described = photos.described(paths)
    conditions = results.conditions(
        data={name: described},
        sizes={"view": setup.size, "batch": setup.images, "batches": setup.batches},
        recipe="simsiam, where nothing else is said",
        seeds=[setup.seed],
        repeats=setup.repeats,
        settings={
            "bound": "views a second if each crop is read once and each output written once, at the speed of a large copy",
            "output": "bfloat16 from resident images where nothing else is said, float16 from files; normalised, on the device",
            "threads": f"{machine.cores()} that decode",
        },
    )
    conditions["versions"] = about["versions"]
    if its := about["device"]:
        conditions["device"] = {"kind": "cuda", "name": its["name"], "cores": machine.cores(), "memory_gib": its["memory_gib"]}
    return conditions
