"""The result of a benchmark: its file, and the conditions without which a number says nothing."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.measuring import machine
from harness.measuring.schema import check_result

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "bench" / "results"
# Quick runs say that the bench works, and nothing about speed: they stay out of the repository.
QUICK_RESULTS = ROOT / "build" / "bench"


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
    memory = round(machine.memory_bytes() / 2**30, 1)
    return {
        "commit": commit(),
        "uncommitted_changes": uncommitted_changes(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": machine.versions(),
        "device": {"kind": "cpu", "name": machine.cpu_model(), "cores": machine.cores(), "memory_gib": memory},
        "data": dict(data),
        "sizes": dict(sizes),
        "recipe": recipe,
        "seeds": list(seeds),
        "repeats": repeats,
        "settings": dict(settings),
    }


def commit(*folders: str) -> str:
    """The last commit, of those that changed these folders if any are named; "unknown" where there is none."""
    return _git("log", "-1", "--format=%H", "--", *folders) or "unknown"


def uncommitted_changes(*folders: str) -> bool:
    """Whether anything differs from the last commit, in these folders if any are named."""
    return bool(_git("status", "--porcelain", "--", *folders))


def _git(*arguments: str) -> str:
    """Output of a git command in the repository; empty where that fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def write_result(result: dict[str, Any], folder: Path | None = None, check: Callable[[dict[str, Any]], None] = check_result) -> Path:
    """Check a result and write it as ``folder/<machine>/<bench>.json``, in place of an earlier one.

    Args:
        result: of one benchmark.
        folder: of all machines' results; None stands for ``RESULTS``, and for ``QUICK_RESULTS`` where the run was a quick one.
        check: of its form; raises.

    Raises:
        ResultError: the result is not complete; nothing is written.
    """
    check(result)
    folder = folder or (QUICK_RESULTS if result["quick"] else RESULTS)
    device = result["conditions"]["device"]
    path = folder / machine.machine_name(device["name"], device["cores"]) / f"{result['bench']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
