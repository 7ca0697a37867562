"""The picture of a monitor: every number at its step, and what is said where there is nothing to draw with."""

from __future__ import annotations

import sys

import pytest
import torch

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data.errors import HvsError
from multi_crop import make_recipe, make_rows


def monitored(every: int = 1) -> tuple[hvs.Monitor, list[dict[str, float]]]:
    selector = hvs.HardViewSelector(Numbered(torch.rand(64, 4, 4)), every=every)
    monitor = hvs.Monitor(selector)
    numbers = []
    for step in range(6):
        selector.select(numbered_views(4, 64), make_rows(make_recipe(("view",) * 4, locals_=0), 64, seed=step))
        numbers.append(monitor.numbers())
    return monitor, numbers


@pytest.mark.parametrize("every", [1, 2])
def test_curves_are_the_numbers_over_steps(every: int) -> None:
    pytest.importorskip("matplotlib")
    monitor, numbers = monitored(every)
    panels = overlap, shares, losses, model = monitor.figure().axes
    lines = {(axes, line.get_label()): line for axes in panels for line in axes.lines}
    drawn = {where: list(zip(*line.get_data(), strict=True)) for where, line in lines.items()}
    expected = {
        (overlap, "chosen"): "iou_chosen",
        (overlap, "others"): "iou_other",
        (shares, "least overlap chosen"): "smallest_iou",
        (shares, "by chance"): "smallest_iou_by_chance",
        (shares, "chosen views apart"): "disjoint_chosen",
        (losses, "chosen"): "loss_chosen",
        (losses, "mean of pairs"): "loss_mean",
        (model, "explained by rows"): "rows_r2",
        (model, "not finite"): "non_finite_share",
    }
    assert drawn.keys() == expected.keys()
    for where, name in expected.items():
        assert drawn[where] == [(step, told[f"hvs/{name}"]) for step, told in enumerate(numbers) if f"hvs/{name}" in told]
    assert len(drawn[losses, "chosen"]) == 6 // every


def test_a_figure_is_drawn_without_a_screen(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    monitor, _ = monitored()
    monitor.figure().savefig(tmp_path / "hardness.svg")
    assert (tmp_path / "hardness.svg").stat().st_size > 1000


def test_nothing_to_draw_is_said() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(HvsError, match=r"got none; call monitor.numbers\(\) now and then"):
        hvs.Monitor().figure()


def test_without_matplotlib_the_extra_is_named(monkeypatch) -> None:
    monitor, _ = monitored()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(hvs.MissingDependencyError, match=r"Monitor.figure needs the package 'matplotlib'.*hvs_data\[monitor\]"):
        monitor.figure()
