"""The least time of counted instructions, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.gpu_code.architectures import A100, H200
from harness.gpu_code.counting import Counts
from harness.gpu_code.model import nanoseconds


def test_each_unit_takes_its_share() -> None:
    gpu = replace(H200, multiprocessors=10, gigahertz=2.0, copied=4e12)
    kinds = {"float": 400.0, "float pair": 100.0, "integer": 100.0, "convert": 20.0, "double": 30.0, "load": 50.0, "branch": 40.0}
    ns = nanoseconds(Counts(kinds, {}, wavefronts=90.0, read={}, written={}), 8000.0, gpu)
    # warps over warps a cycle: four are issued, 128 lanes are four warps, 64 are two, 16 are half of one
    cycles = {"issue": 740 / 4, "L1": 90, "float": 600 / 4, "integer": 100 / 2, "double": 30 / 2, "convert": 20 / 0.5}
    assert ns == pytest.approx({unit: its / 20 for unit, its in cycles.items()} | {"memory": 2.0})


@pytest.mark.parametrize(
    ("registers", "shared", "program_warps", "warps"),
    [
        # 16,384 registers in each of four partitions, 32 lanes, in steps of 256
        (72, 512, 1, 28),
        (54, 1024, 4, 36),
        (64, 128, 1, 32),  # programs: no more than 32
        (114, 128, 1, 16),
        (168, 0, 1, 12),
        (32, 0, 4, 64),
        (32, 32 * 1024, 4, 24),  # shared memory: six programs of 33 KB in 228
    ],
)
def test_warps_that_fit(registers: int, shared: int, program_warps: int, warps: int) -> None:
    assert H200.warps(registers, shared, program_warps) == warps


def test_shared_memory_is_smaller_on_older_ones() -> None:
    assert A100.warps(32, 32 * 1024, 4) == 16
