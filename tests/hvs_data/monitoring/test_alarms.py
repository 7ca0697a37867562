"""When a monitor warns: once, only when due, with what to do."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import HardnessWarning
from hvs_data.monitoring.alarms import PATIENCE, Alarms
from multi_crop import make_recipe, make_rows


def told(alarms: Alarms, times: int = 1, images: int = 64, steps: int = 10, **means: float) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            alarms.judge(means, images, steps)
    return [str(warning.message) for warning in caught]


def test_overlap_is_judged_once_enough_images_were_seen() -> None:
    alarms = Alarms(0.1, None)
    assert told(alarms, 7, iou_chosen=0.04, iou_other=0.31) == []  # 448 images
    (message,) = told(alarms, iou_chosen=0.04, iou_other=0.31)
    assert "by 0.1 or more (mean IoU), got 0.04 (0.31 of the others)" in message and "allowed=hvs.rules.MinIoU" in message
    assert told(alarms, 100, iou_chosen=0.01) == []


def test_overlap_that_is_low_now_and_then_is_no_reason() -> None:
    alarms = Alarms(0.1, None)
    for _ in range(50):
        assert told(alarms, iou_chosen=0.02) + told(alarms, iou_chosen=0.25) == []
    assert told(Alarms(0.1, None), 100, iou_chosen=0.101) == []
    assert told(Alarms(None, None), 100, iou_chosen=0.0, output_std=0.0) == []


def test_a_run_that_loses_its_overlap_late_is_told_of() -> None:
    alarms = Alarms(0.1, None)
    assert told(alarms, 1000, iou_chosen=0.4) == []
    assert len(told(alarms, 16, iou_chosen=0.05)) == 1


def test_a_spread_that_falls_is_collapse() -> None:
    alarms = Alarms(None, 0.05)
    assert told(alarms, output_std=0.9) == []
    (message,) = told(alarms, output_std=0.004)
    assert "got a standard deviation of 0.004" in message and "largest so far 0.90" in message and "warmup=" in message
    assert told(alarms, 200, output_std=0.004) == []


def test_a_spread_that_begins_low_has_time_to_rise() -> None:
    alarms = Alarms(None, 0.05)
    assert told(alarms, PATIENCE // 10 - 1, output_std=0.01) == []
    assert len(told(alarms, 2, output_std=0.01)) == 1
    rises = Alarms(None, 0.05)
    assert told(rises, PATIENCE // 10 - 1, output_std=0.01) + told(rises, 1000, output_std=0.06) == []


def test_a_monitor_warns_where_its_numbers_are_asked_for() -> None:
    rows = make_rows(make_recipe(("view",) * 6, locals_=0), 64)
    apart = torch.tensor([[0, 0, 10, 10], [20, 0, 10, 10], [0, 20, 10, 10], [20, 20, 10, 10], [0, 40, 10, 10], [20, 40, 10, 10]])
    rows.box.copy_(apart)
    selector = hvs.HardViewSelector(Numbered(torch.rand(64, 6, 6)))
    monitor = hvs.Monitor(selector)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            selector.select(numbered_views(6, 64), rows)
        assert not caught
        assert monitor.numbers()["hvs/iou_chosen"] == 0.0
        for _ in range(16):
            selector.select(numbered_views(6, 64), rows)
            monitor.numbers()
    (warning,) = caught
    assert warning.category is HardnessWarning and warning.filename == __file__


class Shrinking(hvs.Objective):
    """Outputs of different images that draw together."""

    share = 1.0

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = pixels.flatten(1)
        return vectors.mean(0) + 1 + self.share * (vectors - vectors.mean(0))


def test_a_model_that_collapses_is_told_of_by_a_watching_monitor() -> None:
    objective = Shrinking()
    selector = hvs.HardViewSelector(objective)
    monitor = hvs.Monitor(selector)
    views = [torch.randn(32, 3, 4, 4, generator=torch.Generator().manual_seed(slot)) for slot in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for Shrinking.share in (1.0, 0.5, 0.2):
            selector.select(views)
            monitor.numbers()
    Shrinking.share = 0.01
    selector.select(views)
    with pytest.warns(HardnessWarning, match="nearly the same output for all images"):
        monitor.numbers()


@pytest.mark.parametrize("contrast", [False, True])
def test_a_training_that_only_attracts_collapses_and_one_with_negatives_does_not(contrast: bool) -> None:
    """Cosines of two views that are drawn together, without anything that holds images apart; and SimCLR."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    selector = hvs.HardViewSelector(hvs.objectives.SimCLR(encoder=model, temperature=0.5))
    monitor, spreads = hvs.Monitor(selector), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(300):
            images = torch.randn(32, 3, 4, 4)
            x1, x2 = selector([images + 0.3 * torch.randn_like(images) for _ in range(3)])
            z1, z2 = F.normalize(model(x1), dim=1), F.normalize(model(x2), dim=1)
            loss = F.cross_entropy(z1 @ z2.T / 0.5, torch.arange(32)) if contrast else -(z1 * z2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 9:
                spreads.append(monitor.numbers()["hvs/output_std"])
    assert spreads[0] > 0.2
    assert (spreads[-1] < 0.05) != contrast
    assert [warning.category for warning in caught] == [] if contrast else [HardnessWarning]
