"""Peak memory of the training steps of one setting, taken in a process of its own."""

from __future__ import annotations

from typing import Any

import torch

from harness.measuring.memory import MemoryWatch
from harness.measuring.processes import in_a_process
from harness.pretraining.steps import timed_steps
from harness.selection.bench import bench_of

STEPS = 4


def peak_memory(arguments: list[str], setting: str) -> float:
    """MiB that some training steps hold at most, beyond what the process held before the training was made.

    Args:
        arguments: of ``bench/selection.py``, that make the same trainings.
        setting: its name.

    Raises:
        RuntimeError: the process failed.
    """
    few_arenas = {"MALLOC_ARENA_MAX": "2"}  # so that memory freed by one thread serves the others
    return in_a_process(run, {"arguments": arguments, "setting": setting}, few_arenas)


def run(request: dict[str, Any]) -> float:
    """Measure in this process; see :func:`peak_memory`."""
    bench = bench_of(request["arguments"])
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
    return peak / 2**20
