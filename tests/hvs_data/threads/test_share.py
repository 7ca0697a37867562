"""The default number of threads: one rank's fair share of what the process may really use."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hvs_data as hvs
from hvs_data.pipelines import decode, render
from hvs_data.threads import share as share_module
from hvs_data.threads.quotas import quotas
from hvs_data.threads.ranks import LAUNCHERS, local_ranks
from hvs_data.threads.share import Share, default_share, fair_share

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
RANK, LAUNCHER = 40, 20


def share(machine, mask: range, environment: dict[str, str] | None = None, world_size: int = 1) -> Share:
    environment = environment or {}
    ranks = local_ranks(environment, world_size)
    return fair_share(set(mask), ranks, environment, quotas(machine.root), machine.root)


def ranks_of(count: int) -> dict[str, str]:
    return {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(count)}


def started(machine, environment: dict[str, str], *, launcher_cpus: str, groups: str = "0::/\n", launcher_groups: str = "0::/\n") -> None:
    """A rank, and the launcher that started it."""
    machine.mounts(V2)
    machine.process(RANK, LAUNCHER, environment=environment, groups=groups, me=True)
    machine.process(LAUNCHER, 1, cpus=launcher_cpus, environment={}, groups=launcher_groups)


# --- one process -------------------------------------------------------------------------------------------------------


def test_the_affinity_mask_alone(machine) -> None:
    assert share(machine, range(6)) == (6, "6 CPUs in the affinity mask")


@pytest.mark.parametrize(
    ("quota", "threads"), [(10, 1), (50, 1), (100, 1), (149, 1), (150, 2), (200, 2), (240, 2), (250, 3), (800, 8), (9600, 16)]
)
def test_a_quota_is_rounded_to_the_nearest(machine, quota: int, threads: int) -> None:
    machine.mounts(V2)
    machine.process(RANK, 1, groups="0::/pod\n", me=True)
    machine.write("/sys/fs/cgroup/pod/cpu.max", f"{quota}000 100000\n")
    assert share(machine, range(16)).threads == threads


def test_the_smallest_quota_holds_and_is_named(machine) -> None:
    machine.mounts(V2)
    machine.process(RANK, 1, groups="0::/pod/container\n", me=True)
    machine.write("/sys/fs/cgroup/pod/container/cpu.max", "800000 100000\n")
    machine.write("/sys/fs/cgroup/pod/cpu.max", "350000 100000\n")
    assert share(machine, range(16)) == (4, f"a quota of 3.5 CPUs in {machine.root}/sys/fs/cgroup/pod")


def test_slurms_allocation_holds_where_nothing_enforces_it(machine) -> None:
    assert share(machine, range(96), {"SLURM_CPUS_ON_NODE": "16"}) == (16, "SLURM_CPUS_ON_NODE=16")


# --- several ranks -----------------------------------------------------------------------------------------------------


def test_ranks_share_the_mask_that_all_of_them_have(machine) -> None:
    machine.online("0-95")
    started(machine, ranks_of(8), launcher_cpus="0-95")
    assert share(machine, range(96), ranks_of(8)) == (12, "96 CPUs over 8 local ranks by LOCAL_WORLD_SIZE")


def test_ranks_share_what_a_container_or_taskset_left_to_their_launcher(machine) -> None:
    machine.online("0-95")
    started(machine, ranks_of(4), launcher_cpus="0-15")
    assert share(machine, range(16), ranks_of(4)).threads == 4


@pytest.mark.parametrize("launcher_cpus", ["0-31", "0-95"])
def test_a_mask_of_one_rank_is_not_divided_again(machine, launcher_cpus: str) -> None:
    machine.online("0-95")
    started(machine, ranks_of(4), launcher_cpus=launcher_cpus)
    assert share(machine, range(8, 16), ranks_of(4)) == (8, "8 CPUs in the affinity mask")


def test_a_mask_of_some_ranks_leaves_each_its_part(machine) -> None:
    # Open MPI binds more than two ranks to sockets: four of eight ranks have the same 48 CPUs
    machine.online("0-95")
    environment = {"OMPI_COMM_WORLD_LOCAL_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "5"}
    started(machine, environment, launcher_cpus="0-95")
    assert share(machine, range(48), environment).threads == 12


@pytest.mark.parametrize(("mask", "threads"), [(range(24), 6), (range(6, 12), 6), (range(96), 6)])
def test_tasks_of_slurm_bound_or_not(machine, mask: range, threads: int) -> None:
    # a step of 24 CPUs on a host of 96: bound to a task's own (6), to the step's (24), or not at all
    machine.online("0-95")
    environment = {"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "1", "SLURM_CPUS_ON_NODE": "24"}
    machine.process(RANK, LAUNCHER, environment=environment, me=True)
    machine.process(LAUNCHER, 1, cpus="0-95")  # slurmstepd is root's
    assert share(machine, mask, environment).threads == threads


def test_ranks_share_the_quota_of_their_container(machine) -> None:
    machine.online("0-95")
    started(machine, ranks_of(4), launcher_cpus="0-95", groups="0::/pod/job\n", launcher_groups="0::/pod/job\n")
    machine.write("/sys/fs/cgroup/pod/cpu.max", "1200000 100000\n")
    machine.write("/sys/fs/cgroup/pod/job/cpu.max", "max 100000\n")
    expected = f"a quota of 12 CPUs in {machine.root}/sys/fs/cgroup/pod over 4 local ranks by LOCAL_WORLD_SIZE"
    assert share(machine, range(96), ranks_of(4)) == (3, expected)


def test_a_quota_of_one_rank_is_not_divided_again(machine) -> None:
    machine.online("0-95")
    started(machine, ranks_of(4), launcher_cpus="0-95", groups="0::/job/rank0\n", launcher_groups="0::/job\n")
    machine.write("/sys/fs/cgroup/job/rank0/cpu.max", "400000 100000\n")
    assert share(machine, range(96), ranks_of(4)).threads == 4
    machine.write("/sys/fs/cgroup/job/cpu.max", "800000 100000\n")
    assert share(machine, range(96), ranks_of(4)).threads == 2


def test_a_container_of_one_rank_is_its_own(machine) -> None:
    machine.online("0-95")
    machine.mounts(V2)
    machine.process(1, 0, environment=ranks_of(4), groups="0::/\n", me=True)
    assert share(machine, range(12), ranks_of(4)).threads == 12
    assert share(machine, range(96), ranks_of(4)).threads == 24  # nothing was set apart for it
    machine.write("/sys/fs/cgroup/cpu.max", "600000 100000\n")
    assert share(machine, range(12), ranks_of(4)).threads == 6


def test_there_is_always_one(machine) -> None:
    machine.online("0-1")
    started(machine, ranks_of(8), launcher_cpus="0-1")
    assert share(machine, range(2), ranks_of(8)).threads == 1


def test_a_launcher_that_is_bound_itself_tells_nothing(machine) -> None:
    # OMP_PROC_BIND binds a process's main thread, and not the CPUs of those that it started before
    machine.online("0-7")
    started(machine, ranks_of(2), launcher_cpus="0")
    assert share(machine, range(8), ranks_of(2)).threads == 4


def test_ranks_without_a_launcher_share_by_the_worlds_size(machine) -> None:
    machine.online("0-7")
    machine.process(RANK, LAUNCHER, environment={}, me=True)
    machine.process(LAUNCHER, 1, cpus="0-7", environment={})
    assert share(machine, range(8), world_size=4).threads == 2


def test_a_system_without_these_files_divides_the_mask(machine) -> None:
    cpus = os.cpu_count() or 1
    assert share(machine, range(4 * cpus), ranks_of(4)).threads == cpus


# --- where it is used --------------------------------------------------------------------------------------------------

HERE = Share(3, "as the test says")


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the thread pools that decode and render make from now on, with a share of 3."""
    sizes: list[int] = []

    def pool(count: int, **names: str) -> ThreadPoolExecutor:
        sizes.append(count)
        return ThreadPoolExecutor(count, **names)

    monkeypatch.setattr(share_module, "_share_here", lambda *key: HERE)
    for module in (decode, render):
        monkeypatch.setattr(module, "ThreadPoolExecutor", pool)
    return sizes


def test_decode_and_render_take_the_share(photos: Path, pools: list[int]) -> None:
    images = hvs.decode([path.read_bytes() for path in sorted(photos.iterdir())])
    index, recipe = list(range(len(images))), hvs.recipes.simsiam(size=16)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=index, height=images.height, width=images.width)
    hvs.render(images, rows, engine="reference")
    assert pools == [3, 3]


def test_a_loader_says_once_how_many_it_takes_and_why(photos: Path, pools: list[int], caplog: pytest.LogCaptureFixture) -> None:
    share_module._announce.cache_clear()
    with caplog.at_level(logging.INFO, "hvs_data"):
        loaders = [hvs.ViewLoader(photos, hvs.recipes.simsiam(size=16), batch_size=4) for _ in range(2)]
    assert all("3 threads (as the test says)" in repr(loader) for loader in loaders)
    assert [line for line in caplog.messages if "threads" in line] == ["num_threads=None takes 3 threads (as the test says)"]


def test_a_number_that_is_given_is_taken(photos: Path, pools: list[int]) -> None:
    assert "5 threads (num_threads)" in repr(hvs.ViewLoader(photos, hvs.recipes.simsiam(size=16), batch_size=4, num_threads=5))


def test_what_changes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = os.cpu_count() or 1
    mask = set(range(8 * cpus))  # more than any launcher of this machine may have given
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: mask, raising=False)
    monkeypatch.setattr(share_module, "quotas", lambda: [])
    for name in ("SLURM_CPUS_ON_NODE", "WORLD_SIZE", *(name for name, _ in LAUNCHERS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # is about something else
    assert default_share().threads == 8 * cpus
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert default_share().threads == 4 * cpus
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", str(2 * cpus))
    assert default_share().threads == cpus


def test_ranks_of_torchrun_take_no_more_than_one_process(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("from hvs_data.threads.share import default_share\nprint(default_share(), flush=True)\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    threads = [int(number) for number in re.findall(r"(\d+) threads?? \(", done.stdout)]
    assert len(threads) == 2 and sum(threads) <= max(2, default_share().threads), done.stdout
