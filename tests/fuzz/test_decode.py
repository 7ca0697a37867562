"""A short run of the fuzzer, and that it would notice what it looks for."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verdicts
from hvs_data.errors import DecodeError
from isolated import run_isolated
from mutations import intact, mutated
from verdicts import BOTH_REFUSE, EQUAL, KEPT, NOT_EIGHT_BITS, OTHER_FORMAT, TOO_LARGE, verdict


def script() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_decode", Path(__file__).with_name("decode.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damaged_files_become_pillows_pixels_or_decode_errors() -> None:
    # numbers that the recorded run of 100,000 from 0 on has not seen
    found, broken, slowest, grown = script().fuzz(0, 1_000_000, 1200)
    assert broken == []
    assert sum(found.values()) == 1200 and slowest < 10 and grown < 1024
    # a fuzzer whose files are all refused, or all intact, would test nothing
    for kind in ("JPEG", "PNG"):
        assert found[kind, EQUAL] > 50 and found[kind, BOTH_REFUSE] > 50
    assert {verdict for _, verdict in found} >= {EQUAL, BOTH_REFUSE, OTHER_FORMAT, TOO_LARGE}


def test_a_number_always_makes_the_same_file() -> None:
    files = [mutated(3, number) for number in range(40)]
    assert files == [mutated(3, number) for number in range(40)]
    assert len({data for _, data in files}) == 40 and files != [mutated(4, number) for number in range(40)]


def test_intact_files_are_decoded() -> None:
    found = {kind: {verdict(data) for data in files} for kind, files in intact().items()}
    assert all(verdicts <= {EQUAL, NOT_EIGHT_BITS} for verdicts in found.values()), found
    assert NOT_EIGHT_BITS in found["PNG"] and {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"} <= set(found)


@pytest.mark.parametrize(
    ("decoded", "wrong"),
    [
        (lambda data, **options: np.zeros((37, 53, 3), np.uint8), "OTHER PIXELS"),
        (lambda data, **options: np.zeros((37, 52, 3), np.uint8), "ANOTHER SHAPE"),
        (lambda data, **options: np.zeros((37, 53), np.uint8), "NO IMAGE"),
        (lambda data, **options: 1 / 0, "ESCAPED: ZeroDivisionError"),
        (lambda data, **options: (_ for _ in ()).throw(DecodeError("no")), "NO REASON"),
        (lambda data, **options: (_ for _ in ()).throw(DecodeError("expected x, got y")), "REFUSED, and read by Pillow"),
    ],
)
def test_a_broken_promise_is_noticed(decoded: Any, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "decode_image", decoded)
    found = verdict(intact()["PNG"][0])
    assert found.startswith(wrong) and found not in KEPT


def test_what_pillow_refuses_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "decode_image", lambda data, **options: np.zeros((1, 1, 3), np.uint8))
    assert verdict(b"no image").startswith("READ, and refused by Pillow")


# --- the process that tasks run in ----------------------------------------------------------------------------------------


def test_results_come_in_order() -> None:
    outcomes = list(run_isolated("builtins:len", [[1], [], [3, 3]]))
    assert [outcome["result"] for outcome in outcomes] == [1, 0, 2]


def test_a_crash_costs_its_own_task_only() -> None:
    outcomes = list(run_isolated("isolated:crash", [0, signal.SIGSEGV, 0, signal.SIGABRT]))
    assert [outcome.get("died") for outcome in outcomes] == [None, "signal 11", None, "signal 6"]
    assert "Segmentation fault" in outcomes[1]["trace"] and "Aborted" in outcomes[3]["trace"]


def test_a_hang_is_ended_and_the_rest_goes_on() -> None:
    outcomes = list(run_isolated("time:sleep", [0, 60, 0], seconds=0.5))
    assert ["died" in outcome for outcome in outcomes] == [False, True, False]
    assert "Timeout" in outcomes[1]["trace"]


def test_memory_has_a_limit() -> None:
    (outcome,) = run_isolated("isolated:take_memory", [3000], headroom_mib=1000)
    assert "MemoryError" in outcome["trace"]
    (outcome,) = run_isolated("isolated:take_memory", [300], headroom_mib=1000)
    assert outcome["result"] == 300 * 2**20 and 290 < outcome["grown_mib"] < 400
