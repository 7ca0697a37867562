"""The machine: its processor, cores and memory, and the versions of what runs on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("hvs_data", "torch", "torchvision", "numpy", "numba", "pillow", "simplejpeg", "albumentations", "opencv-python-headless")

# Words of a processor's name that say nothing about it.
_EMPTY_WORDS = re.compile(r"\((?:r|tm|c)\)|\b(?:cpu|processor|with|\d+-core)\b|@.*$", re.IGNORECASE)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    """The processor's own name, or the architecture where it has none, and the instruction set that it is held down to."""
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


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, the kernel and those of some packages that are installed."""
    found = {"python": platform.python_version(), "linux": platform.release()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def memory_bytes() -> int:
    """Main memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
