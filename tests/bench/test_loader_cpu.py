"""The whole bench on a few small pictures, and what it makes of its numbers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from harness.measuring.schema import check_result
from harness.measuring.timing import Epoch

for package in ("albumentations", "psutil"):
    pytest.importorskip(package, reason="the bench extra is not installed")
import loader_cpu  # noqa: E402


def ratios(**medians: float) -> list[dict[str, object]]:
    names = {"tv4": ("n = 4", "hvs_data / torchvision"), "alb4": ("n = 4", "hvs_data / albumentations")}
    names |= {"photos": ("photos, n = 4", "hvs_data-scaled / torchvision"), "from2": ("n = 8", "hvs_data, n = 2 / hvs_data-hard")}
    return [{"group": names[key][0], "name": names[key][1], "median": median} for key, median in medians.items()]


def test_targets_are_reached_or_missed_or_not_measured() -> None:
    judged = {(target["question"], target["target"].split(" ")[2]): target for target in loader_cpu.judged(ratios(tv4=8.0, alb4=3.4))}
    assert judged["n = 4 at 224, end to end", "torchvision"]["reached"] is True
    assert judged["n = 4 at 224, end to end", "albumentations"]["reached"] is False
    assert judged["n = 8 at 224, end to end", "torchvision"]["reached"] is None
    assert sum(target["reached"] is None for target in judged.values()) == 8


def test_the_target_for_photos_is_a_multiple_of_the_gain_at_ordinary_size() -> None:
    def photo_target(gain: float, ratio: float) -> bool:
        return next(its for its in loader_cpu.judged(ratios(tv4=gain, photos=ratio)) if its["question"].startswith("photos"))["reached"]

    assert photo_target(2.0, 8.0) is True
    assert photo_target(2.0, 7.9) is False


def test_a_target_may_be_an_upper_bound() -> None:
    def reached(ratio: float) -> bool:
        return next(its for its in loader_cpu.judged(ratios(from2=ratio)) if its["question"].startswith("from n = 2"))["reached"]

    assert reached(1.5) is True and reached(1.6) is False


def test_ratios_are_ours_over_everyone_elses() -> None:
    group = loader_cpu.Group("n = 8", {}, [])
    seconds = {"torchvision": (10, 20), "hvs_data": (1, 2), "hvs_data-hard": (0.5, 2), "hvs_data, n = 2": (0.25, 1)}
    epochs = {name: [Epoch(100, its, 0.1, (0.1,)) for its in both] for name, both in seconds.items()}
    found = {entry["name"]: entry["repeats"] for entry in loader_cpu.ratios_of(group, epochs)}
    assert found == {
        "hvs_data / torchvision": [10, 10],
        "hvs_data-hard / torchvision": [20, 10],
        "hvs_data, n = 2 / hvs_data-hard": [2, 2],
    }


def test_an_epoch_gives_every_worker_as_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, batches in ((1, 16), (2, 16), (3, 18), (16, 64)):
        monkeypatch.setattr(loader_cpu.machine, "cores", lambda cores=cores: cores)
        assert loader_cpu.Setup().epoch_length(64) == 64 * batches


@pytest.mark.slow
def test_a_quick_run_writes_a_valid_result(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # packed files go there
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert (
        loader_cpu.main(["--quick", "--no-check", "--data", str(photo_folder), "--photos", str(photo_folder), "--out", str(tmp_path)]) == 0
    )
    (path,) = tmp_path.glob("*/loader_cpu.json")
    result = json.loads(path.read_text())
    check_result(result)
    assert result["quick"] and result["conditions"]["data"][photo_folder.name]["images"] == 7
    groups = {(entry["group"], entry["name"]) for entry in result["measurements"]}
    assert {("n = 8", "hvs_data-hard"), ("photos, n = 4", "torchvision"), ("n = 4", "hvs_data-raw"), ("stages", "decode")} <= groups
    assert all(entry["median"] > 0 for entry in result["measurements"])
    # sizes of a quick run say nothing about the targets
    assert [target["reached"] for target in result["targets"]] == [None] * 10
    (footprint,) = result["footprints"]
    assert footprint["peak_mib"] >= footprint["batch_mib"] and footprint["first_batch_cold_s"] > 0
    printed = capsys.readouterr().out
    assert printed.startswith("QUICK RUN") and "n = 8: hvs_data-hard / torchvision" in printed and "simplejpeg alone" in printed
