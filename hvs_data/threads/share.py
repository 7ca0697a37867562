"""The number of threads that this process takes by default: its rank's fair share of the CPUs that it may really use.

    threads = min(own, shared / local ranks), rounded down, at least 1

``own`` is what nobody else uses: the process's affinity mask, and quotas of control groups of its own. ``shared`` is what all ranks of the
host use together: the CPUs of the process that started them, its quotas, Slurm's allocation. So a mask that is one rank's share already,
as Slurm's ``--cpu-bind`` and numactl give it, is not divided again, one that all ranks have is, and one that some of them have gives
each what all ranks together leave to it. A quota that is no whole number is rounded to the nearest: 1.5 CPUs are two threads, which take
turns, and not one, which would leave a third unused.

``OMP_NUM_THREADS`` is not looked at: it is about the threads inside a tensor operation, and torchrun sets it to 1 wherever it is not set.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Set
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from hvs_data.threads.quotas import ROOT, Quota, group_folders, quotas
from hvs_data.threads.ranks import Ranks, launcher, local_ranks, status_of, whole

logger = logging.getLogger("hvs_data")

# CPUs of a job step on this host, or of the job outside of a step.
SLURM_CPUS = "SLURM_CPUS_ON_NODE"


class Share(NamedTuple):
    """A number of threads, at least 1, and where it comes from, for people."""

    threads: int
    reason: str

    def __str__(self) -> str:
        return f"{self.threads} {'thread' if self.threads == 1 else 'threads'} ({self.reason})"


class Limit(NamedTuple):
    """CPUs, and what they are."""

    cpus: int
    meaning: str


def default_threads() -> int:
    """The number of threads of whatever is not told one."""
    return default_share().threads


def default_share() -> Share:
    """This process's share at this moment."""
    ranks = local_ranks(os.environ, _world_size(os.environ), _cuda_devices)
    matters = tuple((name, os.environ[name]) for name in (ranks.variable, SLURM_CPUS) if name in os.environ)
    return _share_here(os.getpid(), frozenset(usable_cpus()), ranks, matters)


def announced_share() -> Share:
    """This process's share, said in the log the first time."""
    share = default_share()
    _announce(share)
    return share


@cache
def _announce(share: Share) -> None:
    logger.info("num_threads=None takes %s", share)


# Reading the files takes a millisecond or two, which each call of `decode` and `render` would pay. A forked process reads its own.
@lru_cache(maxsize=16)
def _share_here(process: int, mask: frozenset[int], ranks: Ranks, environment: tuple[tuple[str, str], ...]) -> Share:
    return fair_share(mask, ranks, dict(environment), quotas())


def usable_cpus() -> set[int]:
    """CPUs on which this thread, and those that it starts, may run; all of them on systems that cannot tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def fair_share(mask: Set[int], ranks: Ranks, environment: Mapping[str, str], limits: list[Quota], root: Path = ROOT) -> Share:
    """The share of one rank.

    Args:
        mask: the CPUs on which this process may run.
        ranks: those of this host.
        environment: of this process.
        limits: the quotas that bind this process.
        root: where ``/proc`` and ``/sys`` lie.
    """
    parent = launcher(root, environment, ranks.variable) if ranks.count > 1 else None
    of_parent = group_folders(root, str(parent)) if parent else []
    own = [Limit(len(mask), f"{_counted(len(mask))} in the affinity mask")]
    shared: list[Limit] = []
    for cpus, folder in limits:
        limit = Limit(max(1, math.floor(cpus + 0.5)), f"a quota of {cpus:g} CPUs in {folder}")
        (shared if parent is None or folder in of_parent else own).append(limit)
    if allocated := whole(environment.get(SLURM_CPUS)):
        shared.append(Limit(allocated, f"{SLURM_CPUS}={allocated}"))
    if ranks.count > 1:
        everyone = len(_cpus_of_all(mask, parent, root))
        shared.append(Limit(everyone, _counted(everyone)))
    least = min(own)
    together = min(shared) if shared else None
    if together is None or least.cpus * ranks.count <= together.cpus:
        return Share(least.cpus, least.meaning)
    if ranks.count == 1:
        return Share(together.cpus, together.meaning)
    return Share(max(1, together.cpus // ranks.count), f"{together.meaning} over {ranks.count} local ranks by {ranks.source}")


def _counted(cpus: int) -> str:
    return f"{cpus} {'CPU' if cpus == 1 else 'CPUs'}"


def _cpus_of_all(mask: Set[int], parent: int | None, root: Path) -> Set[int]:
    """CPUs on which some rank of this host may run: those of the process that started them; else all."""
    online = _cpu_list(_text(root / "sys/devices/system/cpu/online")) or set(range(os.cpu_count() or 1))
    started = _cpu_list(status_of(root, str(parent)).get("Cpus_allowed_list", "")) & online if parent else set()
    return next(cpus for cpus in (started, online, mask) if mask <= cpus)


def _cpu_list(text: str) -> set[int]:
    """CPUs in the kernel's way of writing them, such as "0-3,8"."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return {cpu for first, _, last in ends for cpu in range(int(first), int(last or first) + 1)}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _world_size(environment: Mapping[str, str]) -> int:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return whole(environment.get("WORLD_SIZE")) or 1


@cache
def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()
