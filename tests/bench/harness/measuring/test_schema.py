"""The check of a result: what is complete passes, what is not is named."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.measuring.schema import ResultError, check_result

SPREAD = {"median": 3.0, "q1": 2.0, "q3": 4.0, "repeats": [1.0, 2.0, 3.0, 4.0, 5.0]}


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "bench": "loader_cpu",
        "question": "how many images/s?",
        "quick": False,
        "conditions": {
            "commit": "0123abc",
            "uncommitted_changes": False,
            "time": "2030-01-01T00:00:00+00:00",
            "versions": {"torch": "2.6.0"},
            "device": {"kind": "cpu", "name": "Some CPU", "cores": 2, "memory_gib": 8.0},
            "data": {"photos": {"images": 10, "median_megapixels": 0.2, "median_kilobytes": 100.0}},
            "sizes": {"view": 224},
            "recipe": "simsiam",
            "seeds": [0],
            "repeats": 5,
            "settings": {"threads": "2"},
        },
        "measurements": [
            {"group": "n = 4", "name": "ours", "unit": "images/s", **SPREAD, "details": {"bound_us": None}, "differs": "nothing"}
        ],
        "ratios": [{"group": "n = 4", "name": "ours / theirs", **SPREAD}],
        "footprints": [
            {
                "group": "n = 4",
                "name": "ours",
                "batch_size": 64,
                "batch_mib": 1.0,
                "peak_mib": 2.0,
                "base_mib": 3.0,
                "first_batch_cold_s": 0.1,
                "cores_used": 1.9,
            }
        ],
        "targets": [
            {"question": "speed", "target": "2 x", "measured": 3.0, "reached": True, "note": "median"},
            {"question": "photos", "target": "4 x", "measured": None, "reached": None, "note": "median"},
        ],
    }


def test_a_complete_result_passes(result: dict[str, Any]) -> None:
    check_result(result)
    result["measurements"][0]["details"] = {}
    check_result(result)


def changed(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(result: dict[str, Any]) -> None:
        for key in keys[:-1]:
            result = result[key]
        result[keys[-1]] = to

    return change


def removed(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(result: dict[str, Any]) -> None:
        for key in keys[:-1]:
            result = result[key]
        del result[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (removed("conditions"), "result: expected the keys"),
        (removed("conditions", "commit"), "result.conditions: expected the keys"),
        (removed("measurements", 0, "differs"), r"measurements\[0\]: expected the keys"),
        (changed("remark", to="x"), "result: expected the keys"),
        (changed("measurements", to=[]), "measurements: expected a list of at least one item"),
        (changed("measurements", to="many"), "measurements: expected a list"),
        (changed("conditions", "versions", to={}), "versions: expected at least 1 names"),
        (changed("conditions", "device", to="a CPU"), "device: expected the keys"),
        (changed("conditions", "device", "cores", to=0), "cores: expected a finite number of at least 1"),
        (changed("conditions", "device", "cores", to=True), "cores: expected a finite number"),
        (changed("conditions", "seeds", to=[]), "seeds: expected a list of at least one item"),
        (changed("conditions", "recipe", to=""), "recipe: expected a text"),
        (changed("conditions", "settings", "data", to="/home/someone/photos"), "settings.data: expected a text"),
        (changed("conditions", "settings", "command", to="bench --data=/home/someone"), "settings.command: expected a text"),
        (changed("measurements", 0, "median", to=math.nan), "median: expected a finite number"),
        (changed("measurements", 0, "repeats", 2, to=math.inf), r"repeats\[2\]: expected a finite number"),
        (changed("measurements", 0, "details", "bound_us", to="none"), "bound_us: expected a finite number of at least -inf, or null"),
        (changed("quick", to=0), "quick: expected true or false"),
        (changed("measurements", 0, "median", to=3.5), "expected the median of its repeats, 3.0, got 3.5"),
        (changed("measurements", 0, "q1", to=3.5), "expected min <= q1 <= median <= q3 <= max"),
        (changed("measurements", 0, "q3", to=6.0), "expected min <= q1 <= median <= q3 <= max"),
        (changed("ratios", 0, "repeats", to=[3.0] * 4), "expected 5 repeats as in the conditions, got 4"),
        (changed("conditions", "repeats", to=3), "expected at least 5, got 3"),
        (changed("targets", 1, "reached", to=False), "exactly where something was measured"),
        (changed("targets", 0, "reached", to=None), "exactly where something was measured"),
    ],
)
def test_what_is_missing_or_wrong_is_named(result: dict[str, Any], break_it: Callable[[dict[str, Any]], None], message: str) -> None:
    broken = copy.deepcopy(result)
    break_it(broken)
    with pytest.raises(ResultError, match=message):
        check_result(broken)


def test_a_quick_run_may_have_fewer_repeats(result: dict[str, Any]) -> None:
    result["quick"] = True
    result["conditions"]["repeats"] = 2
    for entry in (*result["measurements"], *result["ratios"]):
        entry.update(median=1.5, q1=1.25, q3=1.75, repeats=[1.0, 2.0])
    check_result(result)


def test_all_that_is_wrong_is_named_at_once(result: dict[str, Any]) -> None:
    result["question"] = ""
    result["conditions"]["seeds"] = None
    with pytest.raises(ResultError) as error:
        check_result(result)
    assert len(str(error.value).splitlines()) == 2
