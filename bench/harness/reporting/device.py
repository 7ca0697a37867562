"""What a run on a CUDA device found: its stages, tables of its times, and each target of the project beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.measuring.staged import DONE, Finding, Outcome
from harness.reporting.tables import figure, table

OURS, ALONE = "hvs_data", "hvs_data, the device's part alone"
RESIDENT = "from resident uint8, n = 4"


@dataclass(frozen=True)
class Target:
    """What the project wants of a device.

    Attributes:
        words: of the target.
        group: of measurements that it is about.
        rival: whose speed is the unit; None is for a share of the bound that the memory's speed sets.
        wanted: at least so much.
    """

    words: str
    group: str
    rival: str | None
    wanted: float


TARGETS = (
    Target("40 % of the bytes-over-bandwidth bound", RESIDENT, None, 0.4),
    Target("50 x Kornia eager", RESIDENT, "kornia", 50.0),
    Target("3 x triton-augment on its operations", "operations of triton-augment, n = 4", "triton-augment", 3.0),
    Target("2 x DALI's own pipeline, n = 4", "from files, n = 4", "DALI", 2.0),
    Target("4 x DALI's own pipeline, n = 8", "from files, n = 8", "DALI", 4.0),
)


def judged(findings: list[Finding], quick: bool = False) -> list[dict[str, Any]]:
    """Each target with what the device's part reached, which is what is judged, and whole calls beside it. From files there are only whole
    loaders, which are judged then. None stands for what was not measured, with the reason; a quick run measures nothing."""
    if quick:
        findings = [{"what": "not run", "group": its.group, "name": its.rival or OURS, "reason": "a rehearsal"} for its in TARGETS]
    return [_judged(target, findings) for target in TARGETS]


def _judged(target: Target, findings: list[Finding]) -> dict[str, Any]:
    alone, whole = (_reached(target, findings, name) for name in (ALONE, OURS))
    judged = whole if alone is None else alone
    rival = target.rival or OURS
    reasons = [its["reason"] for its in findings if its["what"] == "not run" and (its["group"], its["name"]) == (target.group, rival)]
    note = "" if judged is not None else (reasons or ["not measured"])[0]
    return {
        "target": target.words,
        "measured": judged,
        "whole calls": whole,
        "reached": None if judged is None else judged >= target.wanted,
        "note": note,
    }


def _reached(target: Target, findings: list[Finding], name: str) -> float | None:
    if target.rival is None:
        found = [its["share_of_bound"] for its in findings if _is(its, "measurement", target.group, name)]
    else:
        found = [its["median"] for its in findings if _is(its, "ratio", target.group, f"{name} / {target.rival}")]
    return found[0] if found else None


def _is(finding: Finding, what: str, group: str, name: str) -> bool:
    return finding["what"] == what and (finding["group"], finding["name"]) == (group, name)


def report(outcomes: Mapping[str, Outcome], quick: bool) -> str:
    """All of it in tables; those of which nothing was found are left out."""
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]

    def of(what: str) -> list[Finding]:
        return [its for its in findings if its["what"] == what]

    kernels = [
        (its["name"], kernel["name"][:60], kernel["launches"], kernel["nanoseconds"], kernel["nanoseconds"] / its["bound"])
        for its in of("kernels")
        for kernel in its["kernels"]
    ]
    speeds = [(_named(its), its["median"], its["unit"], its["share_of_bound"]) for its in of("measurement")]
    steps = [
        (its["name"], its["cost"]["median"], setting, *seconds.values())
        for its in of("steps")
        for setting, seconds in its["seconds"].items()
    ]
    tables = [
        _table(("stage", "", "s"), [(name, _words(its), its.seconds) for name, its in outcomes.items()]),
        _table(("views of", "kernel", "launches", "ns a view", "in bounds"), kernels),
        _table(("measured", "median", "", "of bound"), speeds),
        _table(("ratio, round by round", "median"), [(_named(its), its["median"]) for its in of("ratio")]),
        _table(("training step", "of vanilla", "", "s waiting", "selecting", "training"), steps),
        _table(
            ("target", "the device's part", "whole calls", ""),
            [(its["target"], its["measured"], its["whole calls"], _verdict(its)) for its in judged(findings, quick)],
        ),
        "\n".join(f"not run: {_named(its)}: {its['reason']}" for its in of("not run")),
    ]
    return "\n\n".join(filter(None, ["A REHEARSAL: the numbers mean nothing." * quick, *tables]))


def _table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    return table(header, [[figure(cell) if isinstance(cell, float | None) else cell for cell in row] for row in rows]) if rows else ""


def _named(finding: Finding) -> str:
    return f"{finding['group']}: {finding['name']}"


def _words(outcome: Outcome) -> str:
    if outcome.status is None:
        return "begun, without an end"
    return outcome.status if outcome.status == DONE or not outcome.reason else f"{outcome.status}: {outcome.reason}"


def _verdict(its: dict[str, Any]) -> str:
    return its["note"] or ("reached" if its["reached"] else "not reached")
