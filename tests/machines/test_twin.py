"""The comparison of two machines: a machine is its own twin, and no difference is overlooked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from render_material import PRESETS

sys.path.append(str(Path(__file__).parent))

import twin

FEW = ("simsiam", "simclr", "byol", "dinov2, as run")


@pytest.fixture(scope="module", autouse=True)
def few_presets() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "PRESETS", {name: PRESETS[name] for name in FEW})
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "twin.pt"
    twin.write(path)
    return path


def told(path: Path) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return twin.compare(path, lines.append), lines


def test_a_machine_is_its_own_twin(written: Path) -> None:
    right, lines = told(written)
    assert right and all(line.startswith("ok: ") for line in lines)
    assert any("; 0 differ" in line for line in lines) and any("12 of 12 pairs the same" in line for line in lines)


def nudge_a_row(kept: dict[str, Any]) -> None:
    value = kept["rows"]["byol, brightness"]
    value[0, 0] = torch.nextafter(value[0, 0], torch.tensor(2.0))


def nudge_a_decoded_pixel(kept: dict[str, Any]) -> None:
    kept["decoded"]["JPEG 4:2:0, 61 x 83"][0, 0, 0] ^= 1


def leave_the_bounds(kept: dict[str, Any]) -> None:
    kept["pixels"]["byol, expected"][0, 0, 0, 0, 0] += 0.1


def choose_another_pair(kept: dict[str, Any]) -> None:
    pair = kept["epoch"][0]["pair"]
    pair[0] = torch.tensor([0, 1]) if pair[0].tolist() != [0, 1] else torch.tensor([2, 3])


def change_the_order(kept: dict[str, Any]) -> None:
    kept["epoch"][0]["index"] = kept["epoch"][0]["index"].flip(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nudge_a_row, "1 differ: byol, brightness"),
        (nudge_a_decoded_pixel, "1 differ: JPEG 4:2:0, 61 x 83"),
        (leave_the_bounds, "outside of the bounds in byol"),
        (choose_another_pair, "pairs of the other machine's candidates"),
        (change_the_order, "index"),
    ],
)
def test_a_difference_is_found(change: Callable[[dict[str, Any]], None], said: str, written: Path, tmp_path: Path) -> None:
    kept = torch.load(written, weights_only=True)
    change(kept)
    torch.save(kept, tmp_path / "other.pt")
    right, lines = told(tmp_path / "other.pt")
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert not right and len(wrong) == 1 and said in wrong[0]
