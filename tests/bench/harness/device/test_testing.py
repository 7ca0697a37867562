"""Tests as stages: what is read from pytest's report, and that all of them can be collected."""

from __future__ import annotations

import pytest

from harness.device import testing

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="3" tests="7">
<testcase classname="tests.a" name="test_one[2]"/><testcase classname="tests.a" name="test_two"/>
<testcase classname="tests.a" name="test_three"><failure message="AssertionError">lines</failure></testcase>
<testcase classname="tests.b" name="test_four"><error message="failed on setup">lines</error></testcase>
<testcase classname="tests.b" name="test_five"><skipped type="pytest.skip" message="needs a second CUDA device">at</skipped></testcase>
<testcase classname="tests.b" name="test_six"><skipped type="pytest.skip" message="needs a second CUDA device">at</skipped></testcase>
<testcase classname="" name="tests.c"><skipped type="pytest.skip" message="needs lightly, which is not installed">at</skipped></testcase>
</testsuite></testsuites>
"""


def test_the_report_is_counted() -> None:
    assert testing.counts_of(REPORT) == {
        "passed": 2,
        "failed": ["tests.a::test_three", "tests.b::test_four"],
        "skipped": {"needs a second CUDA device": 2, "needs lightly, which is not installed": 1},
    }


def test_without_a_device_tests_are_collected() -> None:
    (found,) = testing.cuda_tests(None, "cpu", True, ["tests/kernels/render/triton/test_on_cuda.py"])
    assert found["what"] == "tests" and found["collected"] > 80


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SystemExit, match="expected every test to be collected"):
        list(testing.cuda_tests(None, "cpu", True, ["tests/kernels/nowhere.py"]))


def test_on_a_device_nothing_that_passes_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "MOST_WORKERS", 1)
    # with a device that is said to be there and is not, all tests are skipped
    with pytest.raises(SystemExit, match="^0 passed, 0 failed"):
        for found in testing.cuda_tests(None, "cuda", False, ["tests/kernels/pair_scores/test_correlation.py"]):
            assert found["passed"] == 0 and sum(found["skipped"].values()) >= 1
