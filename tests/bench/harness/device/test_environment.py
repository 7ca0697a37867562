"""What is said of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.device.bench import QUICK
from harness.device.environment import environment
from harness.measuring.schema import RESULT, check_form


def test_conditions_are_complete_and_a_device_that_is_not_there_is_none(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    machine, conditions = environment(str(photo_folder), "cuda", quick=True)
    assert (
        machine["what"] == "machine"
        and machine["device"] is None
        and set(machine["programs"]) == {"nvidia-smi", "ncu", "compute-sanitizer"}
    )
    assert conditions["what"] == "conditions"
    check_form(conditions["conditions"], RESULT["conditions"])
    assert conditions["conditions"]["sizes"] == {"view": QUICK.size, "batch": QUICK.images, "batches": QUICK.batches}
    assert conditions["conditions"]["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
