"""One page with all results of a machine, and what docs/evidence.md shows: its plots, and its part on the experiments.

    python bench/page.py [--results FOLDER] [--docs FOLDER]

Nothing is measured here: all comes from the results that are there. The page needs nothing beside itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from harness.loaders.contestants import OURS
from harness.measuring import machine, results
from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.runs import UNTRAINED, Runs, comparisons
from harness.reporting import evidence, experiments, hardness, html, maps, plots, summary
from harness.reporting.frontier import target_line
from harness.selection.settings import EXACT
from harness.selection.settings import settings as every_setting
from hvs_data.demo.charts import Line, line_chart

DOCS = results.ROOT / "docs"
# The machine whose results the README's plots and tables show.
SHOWN_MACHINE = "intel-xeon-2-cores"
METHODS = {"simsiam": "SimSiam", "simclr": "SimCLR", "byol": "BYOL", "dino": "DINO", "dinov2": "DINOv2"}
# Curves of box overlap: which arms, in which colours.
SHOWN_ARMS = {"vanilla": "var(--b)", "hardest": "var(--a)", "cheap-16": "var(--c3)"}


def speeds(loader: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Images/s of a result of ``loader_cpu.py`` by loader and number of candidates, ours first."""
    found: dict[str, dict[int, float]] = {OURS: {}}
    for its in loader["measurements"]:
        group, name = its["group"], its["name"]
        if group.startswith("n = ") and name in (OURS, "albumentations", "torchvision"):
            found.setdefault(name, {})[int(group.removeprefix("n = "))] = its["median"]
    return dict(sorted(found.items(), key=lambda item: -max(item[1].values(), default=0)))


def throughput_section(loader: dict[str, Any]) -> str:
    made = plots.throughput(speeds(loader))
    rows = [
        [its["question"], its["target"], "-" if its["measured"] is None else f"{its['measured']:.2f}", html.mark(its["reached"])]
        for its in loader["targets"]
    ]
    measured = [
        [f"{its['group']}: {its['name']}", f"{its['median']:,.1f}", f"{its['q1']:,.1f} to {its['q3']:,.1f}", its["unit"]]
        for its in loader["measurements"]
    ]
    return html.section(
        "Views from files",
        "Images a second from JPEG files to normalised float32 batches, SimSiam's recipe.",
        html.figure(made, html.conditions_of(loader, "python bench/loader_cpu.py --data FOLDER --photos FOLDER"))
        + html.table(["target", "wanted", "measured", "reached"], rows)
        + html.folded("every measurement", html.table(["", "median", "quartiles", "unit"], measured)),
    )


def selection_section(result: dict[str, Any]) -> str:
    method = METHODS.get(result["conditions"]["settings"]["network"], result["bench"])
    its_settings = sorted(result["settings"], key=lambda its: its["cost"]["median"])
    rows = []
    for its in its_settings:
        memory = "-" if its["peak_of_vanilla"] is None else f"{its['peak_of_vanilla']:.2f}"
        seconds = its["seconds"]
        share = 100 * seconds["select"] / sum(seconds.values())
        own = "-" if its["captured"] is None else f"{its['captured']:.2f}"
        gained = f"{its['of_four']:.2f} ({its['of_four_error']:.2f})"
        cost = its["cost"]
        rows.append([its["name"], f"{cost['median']:.2f}", f"{cost['q1']:.2f} to {cost['q3']:.2f}", gained, own, f"{share:.0f} %", memory])
    header = ["setting", "x step", "quartiles", "hardness (error)", "of own candidates", "selecting", "x memory"]
    best = {place for place, its in enumerate(its_settings) if its["on_frontier"]}
    its = result["conditions"]
    options = f"--method {its['settings']['network']} --batch-size {its['sizes']['batch']:g}"
    names = [one["name"] for one in its_settings if one["name"] not in ("vanilla", EXACT)]
    some = bool(set(every_setting(its["settings"]["network"])) - {EXACT, *names, *result["not_run"]})
    if some:
        options += " --settings " + " ".join(map(shlex.quote, names))
    command = f"python bench/selection.py --data FOLDER {options}"
    return html.section(
        f"What selection costs: {method}{', some settings' if some else ''}",
        f"Hardness is the gain of the chosen pairs' loss over random ones, in units of the exact choice's among 4 candidates. "
        f"{target_line(result)[:1].upper()}{target_line(result)[1:]}.",
        html.figure(plots.selection_frontier(result["settings"], result["target"]), html.conditions_of(result, command))
        + html.table(header, rows, best),
    )


def hardness_section(result: dict[str, Any]) -> str:
    its = result["conditions"]
    network = its["settings"]["network"]
    names = " ".join(shlex.quote(one["name"]) for one in result["settings"] if one["name"] != EXACT)
    sizes = its["sizes"]
    options = f"--method {network} --batch-size {sizes['batch']:g} --trained {sizes['trained_steps']:g}"
    options += f" --batches {sizes['images_looked_at'] / sizes['batch']:g}"
    command = f"python bench/hardness.py --data FOLDER {options} --settings {names}"
    return html.section(
        f"How much hardness settings capture: {METHODS.get(network, network)}",
        "Hardness is the gain of the chosen views' loss over random ones, in units of the exact choice's among 4 candidates; beside it "
        "that of the same pairs with the first local views, where rows choose local ones. Times were not taken.",
        html.table(hardness.HEADER, hardness.cells(result)) + f'<p class="caption">{html.conditions_of(result, command)}</p>',
    )


def closed_loop_section(result: dict[str, Any]) -> str:
    method = result["conditions"]["settings"]["network"]
    curves = result["curves"]
    steps = [point["step"] for point in curves[0]["points"]]
    cells = [[its["name"], *(f"{point['of_four']:.2f} ({point['error']:.2f})" for point in its["points"])] for its in curves]
    command = f"python bench/closed_loop.py --data FOLDER --method {method}"
    return html.section(
        f"Does it last? {METHODS.get(method, method)}",
        "Hardness captured, in units of the exact choice's among 4 candidates, under networks that train on their own choices from the "
        "first step on; by exact losses, standard errors in brackets.",
        html.table(["setting, after steps", *map(str, steps)], cells) + f'<p class="caption">{html.conditions_of(result, command)}</p>',
    )


def evidence_section(lines: Sequence[dict[str, Any]], comparison: dict[str, Any]) -> str:
    rows = summary.rows(lines, comparison)
    trained = [row for row in rows if row.arm != UNTRAINED]
    charts = "".join(
        f'<figure class="plot">{plots.evidence(trained, probe, label)}</figure>'
        for probe, label in (("knn", "k-NN accuracy, %"), ("linear", "linear probe, %"))
    )
    overlaps = _overlaps(lines, comparison)
    cells = []
    for row in rows:
        probes = []
        for probe in ("knn", "linear"):
            gain = row.gain(probe)
            probes += [row.accuracy(probe).text(), "-" if gain is None else gain.text(signed=True)]
        cost = "-" if row.cost is None else f"{row.cost:.2f}"
        cells.append([f"{row.arm}: {row.selector}", row.match, str(len(row.runs)), f"{row.steps:.0f}", cost, *probes])
    header = ["arm", "at equal", "seeds", "steps", "x step", "k-NN %", "to vanilla", "linear %", "to vanilla"]
    caption = (
        f"{summary.title(comparison)}; mean and standard deviation over seeds, differences seed by seed; dots are seeds. "
        f"<code>python bench/pretrain.py --data FOLDER --method {escape(comparison['method'])}</code>"
    )
    title = f"Does it help? {METHODS.get(comparison['method'], comparison['method'])}"
    return html.section(
        title, "", f'<div class="plots">{charts}{overlaps}</div><p class="caption">{caption}</p>' + html.table(header, cells)
    )


def _overlaps(lines: Sequence[dict[str, Any]], comparison: dict[str, Any]) -> str:
    """Box overlap of the chosen pairs over training, mean over the seeds."""
    curves, steps = [], None
    for arm, colour in SHOWN_ARMS.items():
        runs = [line for line in lines if line.get("comparison") == comparison and line.get("arm") == arm and line.get("match") == "epochs"]
        runs = [line for line in runs if line["history"]["columns"]["selected_iou"][0] is not None]
        if runs:
            steps = steps or runs[0]["history"]["step"]
            values = np.array([line["history"]["columns"]["selected_iou"] for line in runs], dtype=np.float64).mean(0)
            curves.append(Line(arm, values, colour))
    if steps is None:
        return ""
    return f'<figure class="plot">{line_chart(steps, curves, x_label="training step", y_label="box overlap of the pair (IoU)")}</figure>'


def page(folder: Path) -> str:
    """The whole page of a machine's folder of results."""
    sections = []
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if "loader_cpu" in found:
        sections.append(throughput_section(found["loader_cpu"]))
    sections += [selection_section(its) for name, its in found.items() if name.startswith("selection_")]
    sections += [hardness_section(its) for name, its in found.items() if name.startswith("hardness_")]
    sections += [closed_loop_section(its) for name, its in found.items() if name.startswith("closed_loop_")]
    lines = Runs(folder / "pretrain.jsonl").lines()
    sections += [evidence_section(lines, its) for its in comparisons([line for line in lines if line["kind"] == "run"])]
    if not sections:
        raise SystemExit(f"expected results in {os.path.relpath(folder)}, got none; run a bench first, such as make bench DATA=FOLDER")
    lead = "Every number is measured, losses included; below each plot stands on what, and the command that measures it again."
    return html.page("hvs_data: what was measured", lead, sections)


def readme_plots(folder: Path) -> dict[str, str]:
    """The README's plots by file name, as far as there are results."""
    found = {}
    loader, selection = folder / "loader_cpu.json", folder / "selection_simsiam.json"
    if loader.exists():
        found["throughput.svg"] = plots.alone(plots.throughput(speeds(json.loads(loader.read_text()))))
    if selection.exists():
        result = json.loads(selection.read_text())
        found["frontier.svg"] = plots.alone(plots.selection_frontier(result["settings"], result["target"]))
    return found


def experiment_settings(folder: Path) -> dict[str, list[experiments.Setting]]:
    """What is there of every experiment, by name, from a folder with a file of runs for each."""
    return {name: experiments.settings(its, Runs(folder / f"{name}.jsonl").lines()) for name, its in EXPERIMENTS.items()}


def experiment_plots(found: dict[str, list[experiments.Setting]]) -> dict[str, str]:
    """The experiments' plots by file name, as far as there are runs."""
    drawn = {}
    for name, settings in found.items():
        if settings:
            drawn[f"{name}.svg"] = plots.alone(maps.heat_map(settings))
        if any(setting.pairs for setting in settings):
            drawn[f"{name}_curves.svg"] = plots.alone(maps.curves(settings))
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    here = results.RESULTS / machine.machine_name(machine.cpu_model(), machine.cores())
    made.add_argument("--results", type=Path, default=here, help="a machine's folder (bench/results/<this kind of machine>)")
    made.add_argument(
        "--docs",
        type=Path,
        default=None,
        help=f"folder of evidence.md, for its plots, which are those of {SHOWN_MACHINE}, and what it tells of the experiments; "
        "nothing is written there without it",
    )
    options = made.parse_args(arguments)
    written = {options.results / "index.html": page(options.results)}
    if options.docs is not None:
        written |= {options.docs / name: svg for name, svg in readme_plots(results.RESULTS / SHOWN_MACHINE).items()}
        found = experiment_settings(results.RESULTS / "experiments")
        written |= {options.docs / name: svg for name, svg in experiment_plots(found).items()}
        text = options.docs / "evidence.md"
        written[text] = evidence.replaced(text.read_text(), evidence.experiments_part(found))
    for path, content in written.items():
        path.write_text(content)
        print(f"written: {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
