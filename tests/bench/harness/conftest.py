"""Lines of results without trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.measuring import results
from harness.pretraining.training import COLUMNS


def _line(arm: str, seed: int, knn: float, match: str = "epochs", selector: str = "none") -> dict[str, Any]:
    comparison = {
        "method": "simclr",
        "precision": "float32",
        "sizes": {"view": 32.0, "width": 16.0, "batch": 64.0},
        "views": {},
        "epochs": 2.0,
    }
    history = {"step": [1, 2, 3, 4], "columns": {name: [None, 0.1, 0.2, 0.4] for name in COLUMNS}}
    conditions = results.conditions(
        data={"photos": {"images": 9, "median_megapixels": 0.1, "median_kilobytes": 2.0}},
        sizes={"view": 32}, recipe="simclr", seeds=[seed], repeats=1, settings={"precision": "float32"},
    )  # fmt: skip
    made = {"kind": "run", "comparison": {**comparison, "data": "photos", "images": 9}, "arm": arm, "about": arm}
    made |= {
        "selector": selector,
        "match": match,
        "seed": seed,
        "steps": 4,
        "seconds": 1.0,
        "knn": knn,
        "linear": knn / 2,
        "right": {},
        "curve": {},
        "transfer": {},
        "history": history,
    }
    return {**made, "conditions": conditions}


@pytest.fixture
def line() -> Callable[..., dict[str, Any]]:
    """A function that makes the line of a run on photos: ``line(arm, seed, knn, ...)``."""
    return _line
