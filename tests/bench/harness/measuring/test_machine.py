"""What a machine is called."""

from __future__ import annotations

import pytest

from harness.measuring import machine


@pytest.mark.parametrize(
    ("model", "cores", "name"),
    [
        ("Intel(R) Xeon(R) Processor", 2, "intel-xeon-2-cores"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", 16, "intel-xeon-platinum-8480-16-cores"),
        ("AMD EPYC 7763 64-Core Processor", 1, "amd-epyc-7763-1-core"),
        ("aarch64", 4, "aarch64-4-cores"),
    ],
)
def test_a_machine_is_named_after_its_processor(model: str, cores: int, name: str) -> None:
    assert machine.machine_name(model, cores) == name


def test_a_machine_that_is_held_down_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.machine_name(machine.cpu_model(), 2)
    monkeypatch.setenv("HVS_DATA_HELD_DOWN_TO", "avx2")
    held = machine.machine_name(machine.cpu_model(), 2)
    assert held != whole and held.endswith("-held-down-to-avx2-2-cores")
