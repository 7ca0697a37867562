"""The tests that come before the times."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from harness.measuring.results import ROOT


def refuse_if_tests_fail(tests: Sequence[str]) -> None:
    """Run the tests of an operation that is about to be timed.

    Args:
        tests: files or folders, relative to the repository.

    Raises:
        SystemExit: they fail or cannot be run; the speed of a wrong result is worth nothing.
    """
    print(f"tests first: {' '.join(tests)}", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--no-header", *tests], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{done.stdout[-4000:]}{done.stderr[-2000:]}\nnothing is timed, since the tests above did not pass; "
            "--no-check times all the same, for looking at a change under way"
        )
