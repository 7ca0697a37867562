"""The tables of ``bench/loader_cpu.py``."""

from __future__ import annotations

from typing import Any

from harness.reporting.tables import Notes, figure, table


def report(result: dict[str, Any]) -> str:
    """All tables of a result."""
    conditions, notes = result["conditions"], Notes()
    device, data = conditions["device"], ", ".join(f"{name} ({its['images']} images)" for name, its in conditions["data"].items())
    loaders = [entry for entry in result["measurements"] if entry["unit"] == "images/s"]
    stages = [entry for entry in result["measurements"] if entry["group"] == "stages"]
    parts = [
        f"{device['name']}, {device['cores']} cores; {data}; {conditions['repeats']} repeats, median (quartiles)",
        _loader_table(loaders, notes),
        table(["ratio, round by round", "median", "quartiles"], [_ratio_row(entry) for entry in result["ratios"]]),
        table(["target", "wanted", "measured", ""], [_target_row(target) for target in result["targets"]]),
        _footprint_table(result["footprints"]),
        _stage_table(stages, notes),
        f"differs from what hvs_data computes:\n{notes}",
    ]
    if result["quick"]:
        parts.insert(0, "QUICK RUN: it shows that the bench works; the numbers mean nothing.")
    return "\n\n".join(parts)


def _loader_table(entries: list[dict[str, Any]], notes: Notes) -> str:
    header = ["end to end", "images/s", "quartiles", "views/s", "first batch s", "next p50 ms", "p99 ms", "differs"]
    rows = []
    for entry in entries:
        its = entry["details"]
        numbers = [figure(its[name]) for name in ("views_per_second", "first_batch_s", "next_batch_p50_ms", "next_batch_p99_ms")]
        speed = [figure(entry["median"]), f"{figure(entry['q1'])}-{figure(entry['q3'])}"]
        rows.append([f"{entry['group']}: {entry['name']}", *speed, *numbers, notes.letter(entry["differs"])])
    return table(header, rows)


def _footprint_table(entries: list[dict[str, Any]]) -> str:
    header = ["in a process of its own, once", "batch", "batch MiB", "peak MiB", "first batch cold s", "cores used"]
    columns = ("batch_size", "batch_mib", "peak_mib", "first_batch_cold_s", "cores_used")
    return table(header, [[f"{entry['group']}: {entry['name']}", *[figure(entry[name]) for name in columns]] for entry in entries])


def _ratio_row(entry: dict[str, Any]) -> list[str]:
    return [f"{entry['group']}: {entry['name']}", f"{entry['median']:.2f}", f"{entry['q1']:.2f}-{entry['q3']:.2f}"]


def _target_row(target: dict[str, Any]) -> list[str]:
    word = {None: "not measured", True: "reached", False: "MISSED"}[target["reached"]]
    measured = "-" if target["measured"] is None else f"{target['measured']:.2f} x"
    return [target["question"], target["target"], measured, word]


def _stage_table(entries: list[dict[str, Any]], notes: Notes) -> str:
    rows = []
    for entry in entries:
        its = entry["details"]
        unit = entry["unit"].removeprefix("us/").partition(",")[0]
        quartiles = f"{figure(entry['q1'])}-{figure(entry['q3'])}"
        share = "-" if its["share_of_bound"] is None else f"{100 * its['share_of_bound']:.0f} %"
        rows.append(
            [entry["name"], unit, figure(entry["median"]), quartiles, figure(its["bound_us"]), share, notes.letter(entry["differs"])]
        )
    return table(["one thread", "per", "us", "quartiles", "bound us", "of bound", "differs"], rows)
