"""The test by nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hvs_data.demo.evaluation import NeighbourTest, why_no_test
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import hold_out, open_photos
from hvs_data.demo.settings import Settings


def test_the_test_looks_at_labelled_photos_only_and_at_few_enough(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.demo.evaluation.MOST_FITTED", 10)
    photos = open_photos(labelled)
    train, held = hold_out(photos.labels, seed=0)
    test = NeighbourTest(photos, train, held, Settings(size=16), skipped="")
    assert (test.accuracy.fitted, test.accuracy.held_out, test.accuracy.classes, test.accuracy.majority) == (10, 6, 2, 0.5)
    test.measure("before", SimSiam(width=8, dimensions=16))
    assert test.accuracy.before is not None and 0 <= test.accuracy.before <= 1 and test.accuracy.after is None


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([-1] * 9, "no labels"),
        ([0] * 9, "Fewer than two classes"),
        ([0] * 9 + [1] * 3, "Fewer than two classes"),
        ([0] * 9 + [1] * 4, ""),
    ],
)
def test_photos_that_cannot_be_tested_on_are_told(labels: list[int], reason: str) -> None:
    given = np.array(labels)
    told = why_no_test(given, hold_out(given, seed=0)[1])
    assert reason in told and bool(told) == bool(reason)
