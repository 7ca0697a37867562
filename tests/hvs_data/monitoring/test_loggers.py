"""The numbers in the loggers that people have: CSV files and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from multi_crop import make_recipe, make_rows


def steps_of(count: int) -> tuple[hvs.Monitor, list[dict[str, float]]]:
    """Numbers of steps, of which every second one asks the model."""
    selector = hvs.HardViewSelector(Numbered(torch.rand(64, 4, 4)), every=2)
    monitor = hvs.Monitor(selector)
    told = []
    for step in range(count):
        selector.select(numbered_views(4, 64), make_rows(make_recipe(("view",) * 4, locals_=0), 64, seed=step))
        told.append(monitor.numbers())
    return monitor, told


def test_a_csv_file_takes_every_row(tmp_path: Path) -> None:
    monitor, told = steps_of(6)
    assert len({tuple(numbers) for numbers in told}) > 1  # some steps know more than others
    with open(tmp_path / "hardness.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *monitor.names])
        writer.writeheader()
        for step, numbers in enumerate(told):
            writer.writerow({"step": step, **numbers})
    with open(tmp_path / "hardness.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    read = [{name: float(value) for name, value in row.items() if value and name != "step"} for row in rows]
    assert read == told


def test_tensorboard_takes_every_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    monitor, told = steps_of(4)
    with SummaryWriter(str(tmp_path)) as writer:
        for step, numbers in enumerate(told):
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
    events = EventAccumulator(str(tmp_path)).Reload()
    read = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    # TensorBoard keeps float32
    expected = {
        name: [(step, pytest.approx(numbers[name], rel=2**-23)) for step, numbers in enumerate(told) if name in numbers]
        for name in monitor.names
        if any(name in numbers for numbers in told)
    }
    assert read == expected
