"""The page and the plots hold what the results hold, and need nothing beside themselves."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import page
from harness.reporting import plots

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(path.parent for path in ROOT.glob("bench/results/*/loader_cpu.json"))
SVG = "{http://www.w3.org/2000/svg}"


def setting(name, cost, gain):
    return {"name": name, "cost": {"median": cost, "q1": cost, "q3": cost}, "of_four": gain}


SETTINGS = [setting("vanilla", 1.0, 0.0), setting("exact", 1.7, 1.0), setting("thrifty", 1.05, 0.95), setting("poor", 1.4, 0.5)]


def circles(svg):
    return [(float(its.get("cx")), float(its.get("cy"))) for its in ET.fromstring(svg).iter() if its.tag.removeprefix(SVG) == "circle"]


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_the_page_of_committed_results_is_complete_and_self_contained(folder):
    made = page.page(folder)
    assert not re.search(r"(?:src|href)=|url\(|@import|<script|https?://(?!www\.w3\.org)", made)
    loader = json.loads((folder / "loader_cpu.json").read_text())
    for its in loader["measurements"]:
        assert f"{its['median']:,.1f}" in made
    for path in folder.glob("selection_*.json"):
        for its in json.loads(path.read_text())["settings"]:
            assert f">{its['name']}</td><td>{its['cost']['median']:.2f}</td>" in made.replace("&#x27;", "'")
    for svg in re.findall(r"<svg.*?</svg>", made, re.DOTALL):
        ET.fromstring(svg)


def test_the_readmes_plots_are_those_of_the_committed_results():
    made = page.readme_plots(page.results.RESULTS / page.SHOWN_MACHINE)
    assert len(made) == 2
    for name, svg in made.items():
        assert (ROOT / "docs" / name).read_text() == svg, "run: make bench-page"


def test_the_evidence_of_experiments_is_that_of_the_committed_runs():
    found = page.experiment_settings(page.results.RESULTS / "experiments")
    assert found.keys() == page.EXPERIMENTS.keys()
    drawn = page.experiment_plots(found)
    assert {"map.svg", "map_curves.svg"} <= drawn.keys()
    for name, svg in drawn.items():
        assert (ROOT / "docs" / name).read_text() == svg, "run: make bench-page"
    text = (ROOT / "docs" / "evidence.md").read_text()
    assert page.evidence.replaced(text, page.evidence.experiments_part(found)) == text, "run: make bench-page"
    for name in drawn:
        assert f"]({name})" in text


def test_experiments_without_runs_have_no_plots(tmp_path):
    found = page.experiment_settings(tmp_path)
    assert not any(found.values()) and page.experiment_plots(found) == {}


def test_a_run_of_some_settings_names_them_in_its_command():
    result = json.loads((page.results.RESULTS / "intel-xeon-2-cores" / "selection_dino.json").read_text())
    some = page.selection_section(result)
    assert "--settings" in some and "keep teacher" in some.split("--settings")[1]
    known = [*page.every_setting("dino"), "vanilla"]
    assert "--settings" not in page.selection_section({**result, "settings": [{**result["settings"][0], "name": name} for name in known]})


def test_every_setting_is_a_point_and_cheaper_lies_further_left():
    places = circles(plots.selection_frontier(SETTINGS, {"cost": 1.1, "captured": 0.9}))
    assert len(places) == len(SETTINGS)
    by_name = dict(zip([its["name"] for its in SETTINGS], places, strict=True))
    assert by_name["vanilla"][0] < by_name["thrifty"][0] < by_name["poor"][0] < by_name["exact"][0]
    assert by_name["vanilla"][1] > by_name["poor"][1] > by_name["thrifty"][1] > by_name["exact"][1]


def test_only_the_frontier_is_joined():
    svg = plots.selection_frontier(SETTINGS, {"cost": 1.1, "captured": 0.9})
    (line,) = [its for its in ET.fromstring(svg).iter() if its.tag == "polyline"]
    joined = {tuple(map(float, point.split(","))) for point in line.get("points").split()}
    places = circles(svg)
    assert joined == {places[0], places[1], places[2]}


def test_throughput_is_drawn_where_its_axis_says():
    svg = plots.throughput({"ours": {2: 900.0, 4: 700.0}, "theirs": {2: 300.0}})
    places = circles(svg)
    assert len(places) == 3
    labels = {
        its.text: float(its.get("y")) - 4 for its in ET.fromstring(svg).iter() if its.tag == "text" and its.get("text-anchor") == "end"
    }
    low, high = labels["0"], labels["1,000"]
    # labels and places are written with one decimal
    for (_, y), speed in zip(places, (900, 700, 300), strict=True):
        assert y == pytest.approx(low + (high - low) * speed / 1000, abs=0.11)


def test_a_plot_alone_brings_its_colours_for_light_and_dark():
    svg = plots.alone(plots.throughput({"ours": {2: 900.0, 4: 700.0}}))
    ET.fromstring(svg)
    used = set(re.findall(r"var\((--\w+)\)", svg))
    assert used <= set(re.findall(r"(--\w+):", plots.LIGHT)) | {"--c"} and "prefers-color-scheme:dark" in svg
    assert set(re.findall(r"(--\w+):", plots.LIGHT)) == set(re.findall(r"(--\w+):", plots.DARK))


def test_a_folder_without_results_says_what_to_run(tmp_path):
    with pytest.raises(SystemExit, match="make bench"):
        page.page(tmp_path)
