"""Machines made of files: what the kernel would say under /proc and /sys, below a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class FakeMachine:
    """A file system root with the files that say which CPUs a process may use."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def online(self, cpus: str) -> None:
        self.write("/sys/devices/system/cpu/online", cpus + "\n")

    def process(
        self, number: int, parent: int, *, cpus: str = "", environment: Mapping[str, str] | None = None, groups: str = "", me: bool = False
    ) -> None:
        """One process, under its number and, if it is the one that asks, as "self"."""
        for name in (str(number), *(["self"] if me else [])):
            self.write(f"/proc/{name}/status", f"Name:\tpython\nPid:\t{number}\nPPid:\t{parent}\nCpus_allowed_list:\t{cpus}\n")
            self.write(f"/proc/{name}/cgroup", groups)
            if environment is not None:  # else nobody may read it
                self.write(f"/proc/{name}/environ", "".join(f"{key}={value}\0" for key, value in environment.items()))

    def mounts(self, *lines: str) -> None:
        self.write("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(f"{line}\n" for line in lines))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 small photographs."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.jpg")
    return root
