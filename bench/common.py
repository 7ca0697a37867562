"""What every bench file shares: the conditions of a run, the tests that come before the times, and the result's file."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schema import check_result

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
# Quick runs say that the bench works, and nothing about speed: they stay out of the repository.
QUICK_RESULTS = ROOT / "build" / "bench"

PACKAGES = ("hvs_data", "torch", "torchvision", "numpy", "numba", "pillow", "simplejpeg", "albumentations", "opencv-python-headless")

# Words of a processor's name that do not tell it from others.
_EMPTY_WORDS = re.compile(r"\((?:r|tm|c)\)|\b(?:cpu|processor|with|\d+-core)\b|@.*$", re.IGNORECASE)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    """The processor's name as it gives it itself, the architecture where it gives none, and what its instructions are held down to."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    held_down_to = os.environ.get("HVS_DATA_HELD_DOWN_TO")  # by tests/machines/held_down.py
    return f"{name} held down to {held_down_to}" if held_down_to else name


def machine_name(model: str, cores: int) -> str:
    """A short name of a kind of machine, such as "intel-xeon-2-cores"; never that of a host."""
    words = re.findall(r"[a-z0-9]+", _EMPTY_WORDS.sub(" ", model).lower())
    return "-".join([*words, str(cores), "cores" if cores > 1 else "core"])


def conditions(
    *,
    data: Mapping[str, Any],
    sizes: Mapping[str, int],
    recipe: str,
    seeds: Sequence[int],
    repeats: int,
    settings: Mapping[str, str],
) -> dict[str, Any]:
    """All that a number needs to be understood and taken again; see ``schema.RESULT``."""
    return {
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": {"kind": "cpu", "name": cpu_model(), "cores": cores(), "memory_gib": round(_memory_bytes() / 2**30, 1)},
        "data": dict(data),
        "sizes": dict(sizes),
        "recipe": recipe,
        "seeds": list(seeds),
        "repeats": repeats,
        "settings": dict(settings),
    }


def versions() -> dict[str, str]:
    """Versions of Python, the kernel and the packages that take part, where they are installed."""
    found = {"python": platform.python_version(), "linux": platform.release()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _git(*arguments: str) -> str:
    """Output of a git command in the repository; empty where that fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def refuse_if_tests_fail(tests: Sequence[str]) -> None:
    """Run the tests of an operation that is about to be timed.

    Args:
        tests: files or folders, relative to the repository.

    Raises:
        SystemExit: they fail or cannot be run; the speed of a wrong result is worth nothing.
    """
    print(f"tests first: {' '.join(tests)}", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--no-header", *tests], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{done.stdout[-4000:]}{done.stderr[-2000:]}\nnothing is timed, since the tests above did not pass; "
            "--no-check times all the same, for looking at a change under way"
        )


def write_result(result: dict[str, Any], folder: Path, check: Callable[[dict[str, Any]], None] = check_result) -> Path:
    """Check a result and write it as ``folder/<machine>/<bench>.json``, in place of an earlier one.

    Raises:
        ResultError: the result is not complete; nothing is written.
    """
    check(result)
    device = result["conditions"]["device"]
    path = folder / machine_name(device["name"], device["cores"]) / f"{result['bench']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
