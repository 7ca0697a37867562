"""How many ranks share this host, and which process started them: read from what launchers leave, without asking the other ranks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# The variables in which a launcher tells each rank how many there are on its host, and which one it is.
LAUNCHERS = (
    ("LOCAL_WORLD_SIZE", "LOCAL_RANK"),  # torchrun, and what starts ranks as it does: Accelerate, Ray Train
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    ("MPI_LOCALNRANKS", "MPI_LOCALRANKID"),  # MPICH, Intel MPI
    ("MV2_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),  # MVAPICH2
    ("HOROVOD_LOCAL_SIZE", "HOROVOD_LOCAL_RANK"),
)
_SLURM = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE")


@dataclass(frozen=True)
class Ranks:
    """Ranks on this host.

    Attributes:
        count: at least 1.
        source: what says so, for people.
        variable: the environment variable that tells them apart.
    """

    count: int
    source: str = ""
    variable: str = ""


def local_ranks(environment: Mapping[str, str], world_size: int = 1, devices: Callable[[], int] = lambda: 0) -> Ranks:
    """The ranks that share this host, this one included.

    Where no launcher tells (``torch.multiprocessing.spawn``, Lightning), it is the run's ranks, but at most one for every CUDA device if
    there are any.

    Args:
        environment: of this process.
        world_size: ranks of the run, as far as known.
        devices: the number of CUDA devices that this process sees.
    """
    for name, variable in LAUNCHERS:
        if count := whole(environment.get(name)):
            return Ranks(count, name, variable)
    for name in _SLURM:
        if count := _of_node(environment.get(name, ""), environment.get("SLURM_NODEID", "0")):
            return Ranks(count, name, "SLURM_LOCALID")
    if world_size > 1:
        count = min(world_size, devices() or world_size)
        return Ranks(count, "the world size, as no launcher tells the local one", "LOCAL_RANK")
    return Ranks(1)


def launcher(root: Path, environment: Mapping[str, str], variable: str) -> int | None:
    """Number of the process that started the ranks: the first one up from here that is not of this rank, by its environment.

    Between them there may be scripts that start a rank, and tools that bind it to CPUs.

    Args:
        root: where ``/proc`` lies.
        environment: of this process.
        variable: tells a rank from the others of its host.

    Returns:
        0 where there is none, as the container was started for this rank alone; None where that is not to be known.
    """
    mine, process = environment.get(variable), "self"
    while True:
        status = status_of(root, process)
        parent = whole(status.get("PPid"))
        if parent is None:
            return 0 if status.get("PPid") == "0" and status.get("Pid") == "1" and mine is not None else None
        if mine is None or _environment(root, parent).get(variable) != mine:
            return parent
        process = str(parent)


def status_of(root: Path, process: str) -> dict[str, str]:
    """What the kernel says of a process; empty where it cannot be read."""
    try:
        lines = (root / "proc" / process / "status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _environment(root: Path, process: int) -> dict[str, str]:
    """A process's environment when it was started; empty where it belongs to somebody else, as Slurm's own processes do."""
    try:
        content = (root / "proc" / str(process) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (pair.partition("=") for pair in content.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _of_node(tasks: str, node: str) -> int | None:
    """Tasks of a node in Slurm's list for all nodes, such as "4(x2),3" for 4, 4 and 3."""
    counts: list[int] = []
    for group in tasks.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", group.strip())
        if match is None:
            return None
        counts += [int(match[1])] * int(match[2] or 1)
    place = int(node) if node.isdecimal() else 0
    # one number alone is that of every node
    return counts[place if place < len(counts) else -1] or None


def whole(text: str | None) -> int | None:
    """A number of at least 1; None for anything else."""
    return int(text) if text is not None and text.isdecimal() and int(text) else None
