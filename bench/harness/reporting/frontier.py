"""The frontier of cost and captured hardness: which settings lie on it, the form of a result, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.measuring.schema import RESULT, SPREAD, Table, flag, number, optional, text
from harness.reporting.tables import figure, table

SETTING = {
    "name": text,
    "selector": text,
    "candidates": number(1),
    # the time of a step over that of vanilla's in the same round
    "cost": SPREAD,
    # median seconds of a step
    "seconds": {"wait": number(0), "select": number(0), "train": number(0)},
    # null for vanilla, which selects nothing
    "captured": optional(number()),
    "captured_error": optional(number(0)),
    # in units of the exact gap of four candidates
    "of_four": number(),
    "of_four_error": number(0),
    "peak_mib": optional(number(0)),
    "peak_of_vanilla": optional(number(0)),
    "on_frontier": flag,
}
SELECTION = {
    "bench": text,
    "question": text,
    "quick": flag,
    "conditions": RESULT["conditions"],
    "settings": [SETTING],
    "not_run": Table(text, least=0),
    "target": {"cost": number(1), "captured": number(0), "nearest": text, "reached": flag},
}


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point (cost, hardness) is on the frontier: no other costs at most as much and captures at least as much.

    Of equal points the first is.
    """

    def beaten(place: int) -> bool:
        cost, hardness = points[place]
        return any(
            other_cost <= cost and other_hardness >= hardness and ((other_cost, other_hardness) != (cost, hardness) or other < place)
            for other, (other_cost, other_hardness) in enumerate(points)
            if other != place
        )

    return [not beaten(place) for place in range(len(points))]


def report(result: dict[str, Any]) -> str:
    """The table, cheapest setting first, and how far the target is."""
    conditions = result["conditions"]
    device, sizes, how = conditions["device"], conditions["sizes"], conditions["settings"]
    data = ", ".join(f"{name} ({its['images']} images)" for name, its in conditions["data"].items())
    head = (
        f"{how['network']}, {device['name']}, {device['cores']} cores, {how['torch threads']} threads; {data}; "
        f"views of {sizes['view']:g} pixels, batch {sizes['batch']:g}, {how['precision of the training']}; weights {how['weights']}; "
        f"{conditions['repeats']} rounds, median (quartiles); hardness on {sizes['images_looked_at']} images (standard error)"
    )
    header = [
        "* on the frontier",
        "x step",
        "quartiles",
        "captured",
        "x gap of 4",
        "wait %",
        "select %",
        "train %",
        "peak MiB",
        "x vanilla",
    ]
    ordered = sorted(result["settings"], key=lambda its: its["cost"]["median"])
    parts = [head, table(header, [_row(its) for its in ordered]), target_line(result)]
    if result["not_run"]:
        parts.append("not run:\n" + "\n".join(f"  {name}: {why}" for name, why in result["not_run"].items()))
    if result["quick"]:
        parts.insert(0, "QUICK RUN: it shows that the bench works; the numbers mean nothing.")
    return "\n\n".join(parts)


def target_line(result: dict[str, Any]) -> str:
    """How near the target is."""
    target = result["target"]
    nearest = next(its for its in result["settings"] if its["name"] == target["nearest"])
    word = "reached by" if target["reached"] else "MISSED; nearest is"
    return (
        f"target: {target['cost']:.2f} x the step at {target['captured']:.1f} of the exact gap of four; "
        f"{word} {nearest['name']!r}: {nearest['cost']['median']:.2f} x at {nearest['of_four']:.2f}"
    )


def _row(its: dict[str, Any]) -> list[str]:
    seconds = its["seconds"]
    whole = sum(seconds.values())
    shares = [f"{100 * seconds[part] / whole:.0f}" for part in ("wait", "select", "train")]
    captured = "-" if its["captured"] is None else f"{its['captured']:.3f} ({its['captured_error']:.3f})"
    memory = ["-" if its[name] is None else figure(its[name]) for name in ("peak_mib", "peak_of_vanilla")]
    return [
        f"{'*' if its['on_frontier'] else ' '} {its['name']}",
        f"{its['cost']['median']:.3f}",
        f"{its['cost']['q1']:.3f}-{its['cost']['q3']:.3f}",
        captured,
        f"{its['of_four']:.3f} ({its['of_four_error']:.3f})",
        *shares,
        *memory,
    ]
