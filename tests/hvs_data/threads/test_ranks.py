"""The number of ranks on a host, and who started them, by what launchers leave."""

from __future__ import annotations

import pytest

from hvs_data.threads.ranks import launcher, local_ranks


@pytest.mark.parametrize(
    ("environment", "count", "source"),
    [
        ({}, 1, ""),
        ({"LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "3"}, 8, "LOCAL_WORLD_SIZE"),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 4, "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ({"MPI_LOCALNRANKS": "2"}, 2, "MPI_LOCALNRANKS"),
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_LOCALID": "1"}, 4, "SLURM_NTASKS_PER_NODE"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "1"}, 4, "SLURM_STEP_TASKS_PER_NODE"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"}, 3, "SLURM_STEP_TASKS_PER_NODE"),
        # a step's own number is nearer than the job's, and torchrun's nearer than that of the step that started it
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NTASKS_PER_NODE": "4"}, 1, "SLURM_STEP_TASKS_PER_NODE"),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "LOCAL_WORLD_SIZE": "8"}, 8, "LOCAL_WORLD_SIZE"),
        ({"LOCAL_WORLD_SIZE": "many", "MPI_LOCALNRANKS": "0", "SLURM_NTASKS_PER_NODE": "4x"}, 1, ""),
    ],
)
def test_launchers_tell(environment: dict[str, str], count: int, source: str) -> None:
    ranks = local_ranks(environment)
    assert (ranks.count, ranks.source) == (count, source)


@pytest.mark.parametrize(("world_size", "devices", "count"), [(4, 0, 4), (16, 8, 8), (4, 8, 4), (64, 1, 1)])
def test_without_a_launcher_there_are_at_most_as_many_as_devices(world_size: int, devices: int, count: int) -> None:
    assert local_ranks({"RANK": "0"}, world_size, lambda: devices).count == count


RANK = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_the_launcher_is_behind_all_scripts_of_the_rank(machine) -> None:
    machine.process(40, 30, environment=RANK, me=True)
    machine.process(30, 20, environment=RANK)  # numactl, a shell
    machine.process(20, 10, environment={"PATH": "/bin"})  # torchrun
    machine.process(10, 1, environment={})
    assert launcher(machine.root, RANK, "LOCAL_RANK") == 20


def test_another_rank_may_have_started_this_one(machine) -> None:
    machine.process(40, 30, environment=RANK, me=True)
    machine.process(30, 1, environment={**RANK, "LOCAL_RANK": "0"})
    assert launcher(machine.root, RANK, "LOCAL_RANK") == 30


def test_what_belongs_to_somebody_else_is_the_launcher(machine) -> None:
    machine.process(40, 30, environment=RANK, me=True)
    machine.process(30, 1)  # Slurm's own process
    assert launcher(machine.root, RANK, "LOCAL_RANK") == 30


def test_a_container_of_one_rank_has_no_launcher(machine) -> None:
    machine.process(7, 1, environment=RANK, me=True)
    machine.process(1, 0, environment=RANK)
    assert launcher(machine.root, RANK, "LOCAL_RANK") == 0
    assert launcher(machine.root, {"LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK") == 1  # nothing tells the ranks apart


def test_a_process_put_into_a_container_knows_no_launcher(machine) -> None:
    machine.process(7, 0, environment=RANK, me=True)
    assert launcher(machine.root, RANK, "LOCAL_RANK") is None


def test_no_launcher_without_the_files(machine) -> None:
    assert launcher(machine.root, RANK, "LOCAL_RANK") is None
