"""Settings that all start from the same weights."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.selection.bench import bench_of
from harness.selection.settings import EXACT


def test_weights_are_trained_once_and_shared_by_all_settings(photo_folder: Path, tmp_path: Path) -> None:
    bench = bench_of(["--data", str(photo_folder), "--quick", "--trained", "2", "--work", str(tmp_path), "--threads", "1"])
    bench.trained()
    written = bench.snapshot.stat().st_mtime_ns
    bench.trained()
    assert bench.snapshot.stat().st_mtime_ns == written
    models = [bench.training(name).method.model.state_dict() for name in ("vanilla", EXACT, "every 2")]
    assert bench.training(EXACT).step == 2
    for name, weight in models[0].items():
        assert all(torch.equal(weight, model[name]) for model in models[1:])
