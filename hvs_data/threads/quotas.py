"""How many CPUs the control groups of a process let it use: quotas of cgroup v1 and v2, read from the files of the kernel.

Sources: cgroups(7), proc(5) on ``/proc/PID/cgroup`` and ``/proc/PID/mountinfo``, and the kernel's ``cgroup-v2.rst`` (``cpu.max``) and
``sched-bwc.rst`` (``cpu.cfs_quota_us``). Every group from the process's own up to the root has a say, and the smallest quota holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")


class Quota(NamedTuple):
    """CPUs that a group of processes may use together, 1.5 say, and the folder of that group."""

    cpus: float
    folder: Path


def quotas(root: Path = ROOT, process: str = "self") -> list[Quota]:
    """The quotas that bind a process. Groups that cannot be seen from here, outside of a container say, are left out.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
        process: its number.
    """
    limits = ((_limit(folder), folder) for folder in group_folders(root, process))
    return [Quota(cpus, folder) for cpus, folder in limits if cpus is not None]


def group_folders(root: Path = ROOT, process: str = "self") -> list[Path]:
    """Folders of a process's groups that may limit its CPUs, each followed by its ancestors, as far as they are mounted."""
    try:
        memberships = (root / "proc" / process / "cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    # v2 has one hierarchy, number 0; of v1, the one of the controller "cpu". A host may have both, and then a quota is in either.
    paths = {}
    for line in memberships:
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            paths[2 if number == "0" else 1] = path
    folders = []
    for version, mounted, point in _mounts(mounts):
        below = _below(mounted, paths[version]) if version in paths else None
        if below is not None:
            folder = root / point.lstrip("/")
            folders += [folder.joinpath(*below[:depth]) for depth in range(len(below), -1, -1)]
    return list(dict.fromkeys(folders))


def _mounts(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Version, the group that is mounted, and where, of every mount of a hierarchy that may limit CPUs."""
    for line in lines:
        place, _, kind = line.partition(" - ")
        (_, _, _, mounted, point, *_), (name, _, options) = place.split(" "), kind.split(" ", 2)
        if name == "cgroup2" or (name == "cgroup" and "cpu" in options.split(",")):
            yield 2 if name == "cgroup2" else 1, _unescaped(mounted), _unescaped(point)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def _below(mounted: str, path: str) -> list[str] | None:
    """The way from the group that is mounted to that of the process; None where it is not there.

    In a namespace of its own a process sees both relative to the namespace's root, with ".." for what lies above.
    """
    start, way = ([name for name in text.split("/") if name] for text in (mounted, path))
    if way[: len(start)] == start and ".." not in way[len(start) :]:
        return way[len(start) :]
    above = bool(start) and set(start) == {".."} and way[:1] != [".."]
    return [] if above else None  # an ancestor is mounted, and the names between are not known


def _limit(folder: Path) -> float | None:
    """CPUs by the quota of one group; None where it has none."""
    quota = _first_line(folder / "cpu.max")
    if quota is None:
        v1 = _first_line(folder / "cpu.cfs_quota_us"), _first_line(folder / "cpu.cfs_period_us")
        quota = " ".join(filter(None, v1))
    try:
        microseconds, period = map(int, quota.split())
    except ValueError:
        return None  # "max 100000", or no quota that can be read
    return microseconds / period if microseconds > 0 and period > 0 else None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None
