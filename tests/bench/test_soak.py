"""The soak run: a short one is complete, and one that grows is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import soak
from harness.measuring.schema import check_form


def test_a_short_run_is_complete(photo_folder: Path, tmp_path: Path) -> None:
    # so short a run may grow, as what is loaded on first use does; that everything is looked at is what counts here
    soak.main(["--quick", "--batches", "300", "--data", str(photo_folder), "--out", str(tmp_path)])
    (written,) = tmp_path.glob("*/soak.json")
    result = json.loads(written.read_text())
    check_form(result, soak.SOAK)
    assert result["samples"][-1]["batches"] == 300 and len(result["samples"]) == 30
    assert all(result["epochs"].values()) and result["counters"]["bad"] == 2 * soak.BROKEN and result["counters"]["replaced"] > 0
    assert all(result["growth"][name] == 0 for name in ("open_files", "processes"))
    drawn = ElementTree.fromstring(written.with_suffix(".svg").read_text())
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 8  # four curves, each with its average


def test_growth_is_noticed() -> None:
    def samples(name: str, step: float) -> list[dict[str, float]]:
        still = {"resident_mib": 300.0, "open_files": 9.0, "threads": 3.0, "processes": 0.0}
        return [{**still, name: still[name] + step * number} for number in range(90)]

    assert soak.is_steady(soak.growth(samples("resident_mib", 0.1)))
    assert not soak.is_steady(soak.growth(samples("resident_mib", 1)))
    assert not soak.is_steady(soak.growth(samples("open_files", 0.1)))
    assert not soak.is_steady(soak.growth(samples("threads", 0.1)))
    assert not soak.is_steady(soak.growth(samples("processes", 0.1)))
