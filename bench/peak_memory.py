"""Peak memory of the training steps of one setting, in a process of its own.

Started by ``measure``; reads the command line of ``selection.py`` and a setting from standard input, writes one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

STEPS = 4


def measure(arguments: list[str], setting: str) -> float:
    """MiB that some training steps hold at most, beyond what the process held before the training was made.

    Args:
        arguments: of ``selection.py``, that make the same trainings.
        setting: its name.

    Raises:
        RuntimeError: the process failed.
    """
    request = json.dumps({"arguments": arguments, "setting": setting})
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # so that memory freed by one thread serves the others
    done = subprocess.run([sys.executable, __file__], input=request, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"the memory of {setting!r} could not be taken:\n{done.stderr[-4000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def run(request: dict[str, Any]) -> dict[str, float]:
    """Measure in this process; see :func:`measure`."""
    import selection
    import torch
    from footprint import MemoryWatch
    from steps import timed_steps

    bench = selection.bench_of(request["arguments"])
    next(iter(bench.candidates(2, epoch=0)))  # the renderer is compiled on first use
    on_device = torch.device(bench.setup.device).type == "cuda"
    if on_device:
        torch.cuda.reset_peak_memory_stats()
    watch = MemoryWatch()
    base = watch.now()
    with watch:
        training = bench.training(request["setting"])
        timed_steps(training, STEPS)
    peak = torch.cuda.max_memory_allocated() if on_device else watch.peak - base
    return {"peak_mib": peak / 2**20}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
