"""Lines of an experiment without trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.pretraining.arms import ARMS
from harness.pretraining.strength import Strength

MILD, USUAL = Strength(0.6, 0.5), Strength(0.2, 1.0)


@pytest.fixture
def run(line: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A function that makes the line of a run of the experiment "map": ``run(arm, seed, knn, strength, ...)``, linear probe 1 % above."""

    def made(
        arm: str,
        seed: int,
        knn: float,
        strength: Strength = MILD,
        *,
        precision: str = "float32",
        epochs: float = 10.0,
        selector: str | None = None,
        transfer: dict[str, float] | None = None,
        curve: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        its = line(arm, seed, knn, selector=ARMS[arm].in_words(32) if selector is None else selector)
        changed = {"data": "cifar10", "images": 50000, "epochs": epochs, "views": strength.as_json(), "precision": precision}
        its["comparison"] = {**its["comparison"], **changed}
        its["conditions"]["sizes"]["held_out"] = 10000
        its |= {"linear": knn + 0.01, "curve": curve or {}}
        its["transfer"] = {name: {"knn": value, "linear": value / 2} for name, value in (transfer or {}).items()}
        return its

    return made
