"""Torch's threads beside a loader's: they sleep while they wait, instead of taking the loader's CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvs_data.threads.openmp import missing_threads

# Prints the milliseconds of CPU that torch's idle threads burn after a tensor operation, at most in a few tries: before an iteration,
# while one is open and its threads have nothing to do, and after it.
SCRIPT = """
import sys, time
import torch
import hvs_data as hvs

def burnt():
    most = 0.0
    for _ in range(5):
        torch.empty(2**20).fill_(1.0)
        process, thread = time.process_time(), time.thread_time()
        time.sleep(0.05)
        most = max(most, time.process_time() - process - (time.thread_time() - thread))
    return 1e3 * most

loader = hvs.ViewLoader(sys.argv[1], hvs.recipes.simsiam(size=16), batch_size=4, prefetch=0, num_threads=int(sys.argv[2]))
before = burnt()
batches = iter(loader)
next(batches)
during = burnt()
batches.close()
after, tries = burnt(), 0
while after < before / 10 and tries < 20:  # a busy machine may let the loader's last thread end late
    time.sleep(0.2)
    after, tries = burnt(), tries + 1
print(torch.get_num_threads(), before, during, after)
"""
CPUS = len(os.sched_getaffinity(0))


def burnt(photos: Path, threads: int = CPUS, **variables: str) -> list[float]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))}
    command = [sys.executable, "-c", SCRIPT, str(photos), str(threads)]
    done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()[1:]]


@pytest.mark.skipif(CPUS < 2, reason="torch's threads never spin on one CPU")
def test_torchs_threads_sleep_while_a_loader_works(photos: Path) -> None:
    # GNU's runtime spins 300,000 times, or 100 times where there are more threads than CPUs
    before, during, after = burnt(photos)
    assert during < before / 10 and during < after / 10


@pytest.mark.skipif(CPUS < 2, reason="torch's threads never spin on one CPU")
def test_whoever_wants_them_to_spin_has_it_so(photos: Path) -> None:
    before, during, _ = burnt(photos, OMP_WAIT_POLICY="active")
    assert during > before / 10


@pytest.mark.parametrize(
    ("loader", "torch_threads", "cpus", "missing"),
    [(2, 2, 2, 1), (1, 1, 2, 0), (1, 2, 2, 1), (8, 4, 8, 5), (4, 4, 8, 0), (5, 4, 8, 5), (2, 16, 8, 1)],
)
def test_the_runtime_counts_more_threads_than_cpus_where_there_are_more(loader: int, torch_threads: int, cpus: int, missing: int) -> None:
    assert missing_threads(loader, torch_threads, cpus) == missing
    assert (torch_threads + missing > cpus) == (loader + torch_threads > cpus)
