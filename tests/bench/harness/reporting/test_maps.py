"""An experiment's plots show what is there, and mark what is undecided or missing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.strength import Strength
from harness.reporting import maps
from harness.reporting.experiments import settings
from harness.reporting.plots import alone

Run = Callable[..., dict[str, Any]]
MAP = EXPERIMENTS["map"]
MILD, USUAL = Strength(0.6, 0.5), Strength(0.2, 1.0)
SVG = "{http://www.w3.org/2000/svg}"


def elements(svg: str, tag: str) -> list[ET.Element]:
    return [its for its in ET.fromstring(alone(svg)).iter() if its.tag == SVG + tag]


def cells(svg: str, kind: str) -> dict[str, list[str]]:
    """Words in the cells of a kind, by what a pointer is told over them."""
    found = {}
    for group in elements(svg, "g"):
        if group.get("class") == kind:
            texts = [its.text or "" for its in group.iter(SVG + "text")]
            found[next(its.text or "" for its in group.iter(SVG + "title"))] = texts
    return found


@pytest.fixture
def lines(run: Run) -> list[dict[str, Any]]:
    """Under mild views hardest gains 3 and 3.2 points, under the usual ones it loses 2 in one seed; tempered has no vanilla of its seed."""
    made = [run("vanilla", 10, 0.50), run("hardest", 10, 0.53), run("vanilla", 11, 0.51), run("hardest", 11, 0.542)]
    return [*made, run("vanilla", 10, 0.52, USUAL), run("hardest", 10, 0.50, USUAL), run("tempered", 11, 0.5, USUAL)]


def test_cells_hold_gains_with_errors_and_tell_decided_from_undecided(lines: list[dict[str, Any]]) -> None:
    found = settings(MAP, lines)
    svg = maps.heat_map(found)
    decided, undecided = cells(svg, "decided"), cells(svg, "undecided")
    assert sorted(decided.values()) == [["+3.1", "±0.1 (2)"]] * 2
    assert sorted(undecided.values()) == [["−2.0", "one seed"]] * 2
    assert all(words.startswith("hardest, crops from 0.6, colours x 0.5") for words in decided)
    # 8 strengths are planned and 2 are there, of either probe; an arm without a gain has no panel
    assert sum(its.get("class") == "todo" for its in elements(svg, "rect")) == 2 * (8 - 2)
    words = [its.text for its in elements(svg, "text")]
    assert "hardest" in words and "tempered" not in words
    assert any(found[0].count in (its or "") for its in words)


def test_colours_are_centred_on_zero_and_paler_where_undecided(lines: list[dict[str, Any]]) -> None:
    fills = {}
    for group in elements(maps.heat_map(settings(MAP, lines)), "g"):
        if group.get("class") in ("decided", "undecided"):
            (rect,) = group.iter(SVG + "rect")
            colour, opacity = re.match(r"fill:var\(--(\w)\);fill-opacity:([\d.]+)", rect.get("style") or "").groups()  # type: ignore[union-attr]
            fills[group.get("class"), colour] = float(opacity)
            assert ("dasharray" in (rect.get("style") or "")) == (group.get("class") == "undecided")
    assert set(fills) == {("decided", "a"), ("undecided", "b")}
    # opacities are written with two decimals, and the scale ends at 4 points
    assert fills["decided", "a"] == pytest.approx(maps.STRONGEST * 3.1 / 4, abs=0.005)
    assert fills["undecided", "b"] == pytest.approx(maps.STRONGEST * 2 / 4 * maps.PALE, abs=0.005)


def test_plots_without_pairs_are_drawn_and_say_so(run: Run) -> None:
    found = settings(MAP, [run("hardest", 10, 0.5)])
    words = [its.text for its in elements(maps.heat_map(found), "text")]
    assert "no arm has a run of the same seed as vanilla yet" in words
    assert maps.most_seeds(found[0]) == [] and elements(maps.curves(found), "polyline") == []


def curve(start: float) -> dict[str, float]:
    return {"1": start, "2": start + 0.05}


def test_curves_are_means_with_errors_over_the_seeds_that_both_have(run: Run) -> None:
    hardest = np.array([[0.40, 0.45, 0.52], [0.44, 0.49, 0.58]])
    lines = [run("vanilla", seed, 0.5, curve=curve(0.4)) for seed in (10, 11)] + [run("vanilla", 12, 0.99, curve=curve(0.9))]
    lines += [run("hardest", seed, its[2], curve=curve(its[0])) for seed, its in zip((10, 11), hardest, strict=True)]
    svg = maps.curves(settings(MAP, lines))
    labels = [(float(its.text), float(its.get("y", 0)) - 4) for its in elements(svg, "text") if re.fullmatch(r"\d\d", its.text or "")]
    slope, offset = np.polyfit(*zip(*labels, strict=True), 1)
    vanilla, arm = ([float(point.split(",")[1]) for point in (its.get("points") or "").split()] for its in elements(svg, "polyline"))
    # places are written with one decimal
    assert vanilla == pytest.approx(slope * np.array([40, 45, 50]) + offset, abs=0.11)
    assert arm == pytest.approx(slope * 100 * hardest.mean(0) + offset, abs=0.11)
    errors = 100 * hardest.std(0, ddof=1) / np.sqrt(2)
    bars = [its.get("d") or "" for its in elements(svg, "path") if its.get("class") == "whisker a"]
    spans = [float(low) - float(high) for low, high in (re.match(r"M[\d.]+,([\d.]+)V([\d.]+)", bar).groups() for bar in bars)]  # type: ignore[union-attr]
    assert spans == pytest.approx(-2 * slope * errors, abs=0.11)
    assert "2 seeds" in [its.text for its in elements(svg, "text")]


def test_one_seed_has_curves_without_bars(run: Run) -> None:
    svg = maps.curves(settings(MAP, [run("vanilla", 10, 0.5, curve=curve(0.4)), run("hardest", 10, 0.52)]))
    assert [len((its.get("points") or "").split()) for its in elements(svg, "polyline")] == [3, 1]
    assert elements(svg, "path") == [] and "one seed" in [its.text for its in elements(svg, "text")]


def test_settings_are_drawn_below_each_other(run: Run) -> None:
    lines = [run(arm, 10, knn, epochs=epochs) for arm, knn in (("vanilla", 0.5), ("hardest", 0.52)) for epochs in (10.0, 3.0)]
    for svg in (maps.heat_map(settings(MAP, lines)), maps.curves(settings(MAP, lines))):
        heads = [float(its.get("y", 0)) for its in elements(svg, "text") if "epochs:" in (its.text or "")]
        panels = [float(its.get("y", 0)) for its in elements(svg, "text") if its.text == "hardest"]
        assert heads[0] < panels[0] < heads[1] < panels[1]


def test_curves_are_those_of_the_strengths_with_most_seeds(run: Run) -> None:
    wild = Strength(0.08, 1.0)
    both = ("vanilla", "hardest")
    lines = [run(arm, seed, 0.5, wild) for arm in both for seed in range(3)] + [run(arm, 0, 0.5) for arm in both]
    lines += [run(arm, 0, 0.5, USUAL) for arm in (*both, "random")]
    assert maps.most_seeds(settings(MAP, lines)[0]) == [wild, USUAL]
