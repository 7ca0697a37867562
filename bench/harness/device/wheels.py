"""Packages that travel as wheels to a machine without a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.measuring.staged import Finding


def install(data: str | None, device: str, quick: bool, wheels: str, target: str) -> Iterator[Finding]:
    """Unpack wheels into a folder; nothing else is installed, and no index is asked.

    Args:
        wheels: folder of the wheels, among which nothing is missing that they need and the machine has not.
        target: folder that gets the packages.

    Raises:
        SystemExit: no wheels, or some that pip refuses.
    """
    found = sorted(str(path) for path in Path(wheels).glob("*.whl"))
    if not found:
        raise SystemExit("expected wheels in the folder of --wheels, got none; gather_wheels.py downloads them")
    # in one call: a second one with a target replaces folders that packages share, such as nvidia
    options = ("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", target)
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, *found])
    if done.returncode:
        raise SystemExit(f"expected pip to take all wheels, it ended with {done.returncode}")
    yield {"what": "wheels", "names": [Path(path).name for path in found]}
