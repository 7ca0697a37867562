"""The tests that need a CUDA device, as stages."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from harness.measuring import machine
from harness.measuring.results import ROOT
from harness.measuring.staged import Finding, MissingHereError

MOST_WORKERS = 8


def cuda_tests(data: str | None, device: str, quick: bool, tests: Sequence[str]) -> Iterator[Finding]:
    """Run the tests marked cuda; without a device, only collect them.

    Args:
        tests: files and folders, relative to the repository.

    Raises:
        MissingHereError: no pytest.
        SystemExit: some fail, or none ran.
    """
    if find_spec("pytest") is None:
        raise MissingHereError("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "--bare", "-m", "cuda", "--no-header", "-p", "no:cacheprovider", *tests]
    if device != "cuda":
        collected = subprocess.run([*command, "-q", "--collect-only"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        print(collected.stdout, flush=True)
        if collected.returncode:
            raise SystemExit("expected every test to be collected, got the errors above")
        yield {"what": "tests", "collected": collected.stdout.count("::")}
        return
    if find_spec("xdist") is not None:
        command += ["-n", str(min(MOST_WORKERS, machine.cores()))]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run([*command, "-v", "--junitxml", str(report)], cwd=ROOT)
        counts = counts_of(report.read_text()) if report.exists() else None
    if counts is None:
        raise SystemExit(f"expected a report of the tests, got none; pytest ended with {done.returncode}")
    yield {"what": "tests", **counts}
    if done.returncode or not counts["passed"]:
        raise SystemExit(f"{counts['passed']} passed, {len(counts['failed'])} failed; pytest ended with {done.returncode}")


def counts_of(report: str) -> Finding:
    """How many passed, which ones failed, and for what reasons how many were skipped, from pytest's report in XML."""
    passed, failed, skipped = 0, [], dict[str, int]()
    for case in ElementTree.fromstring(report).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif skip is not None:
            why = skip.get("message") or "no reason"
            skipped[why] = skipped.get(why, 0) + 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": skipped}
