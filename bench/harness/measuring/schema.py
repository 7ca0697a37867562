"""What a result must hold, and the check of it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MIN_REPEATS = 5

Leaf = Callable[[Any], str | None]


class ResultError(ValueError):
    """A result that does not say all that a reader needs to believe it."""


def number(least: float = -math.inf) -> Leaf:
    """A finite number of at least this."""

    def check(value: Any) -> str | None:
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if known and math.isfinite(value) and value >= least else f"a finite number of at least {least}"

    return check


def text(value: Any) -> str | None:
    """Words, without the path of anyone's machine in them."""
    fine = isinstance(value, str) and value and not re.search(r"(?:^|[\s'\"=])/\w", value)
    return None if fine else "a text that is not empty and names no path of this machine"


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def optional(leaf: Leaf) -> Leaf:
    """The same, or null where it could not be had."""

    def check(value: Any) -> str | None:
        wrong = None if value is None else leaf(value)
        return f"{wrong}, or null" if wrong else None

    return check


@dataclass(frozen=True)
class Table:
    """A form of any names, at least so many, each with a value of the form ``of``."""

    of: Any
    least: int = 1


SPREAD = {"median": number(), "q1": number(), "q3": number(), "repeats": [number()]}

# A form is a dictionary of forms (these keys, no others), a list of one form, a Table of one form, or a check of a single value.
RESULT = {
    "bench": text,
    "question": text,
    "quick": flag,
    "conditions": {
        "commit": text,
        "uncommitted_changes": flag,
        "time": text,
        "versions": Table(text),
        "device": {"kind": text, "name": text, "cores": number(1), "memory_gib": number(0)},
        "data": Table({"images": number(1), "median_megapixels": number(0), "median_kilobytes": number(0)}),
        "sizes": Table(number(1)),
        "recipe": text,
        "seeds": [number(0)],
        "repeats": number(1),
        "settings": Table(text),
    },
    "measurements": [{"group": text, "name": text, "unit": text, **SPREAD, "details": Table(optional(number()), least=0), "differs": text}],
    "ratios": [{"group": text, "name": text, **SPREAD}],
    # taken once each, in a process of its own
    "footprints": [
        {
            "group": text,
            "name": text,
            "batch_size": number(1),
            "batch_mib": number(0),
            "peak_mib": number(0),
            "base_mib": number(0),
            "first_batch_cold_s": number(0),
            "cores_used": number(0),
        }
    ],
    "targets": [{"question": text, "target": text, "measured": optional(number()), "reached": optional(flag), "note": text}],
}


def check_result(result: Any) -> None:
    """Check a result.

    Raises:
        ResultError: keys that are missing or unknown, values of another kind, spreads that contradict their repeats, or fewer
            repeats than stated. All that is wrong is in the message.
    """
    check_form(result, RESULT)
    if wrong := list(_contradictions(result)):
        raise ResultError("\n".join(wrong))


def check_form(result: Any, form: Any) -> None:
    """Check that a result has a form, of the kind that ``RESULT`` is.

    Raises:
        ResultError: all that is missing, unknown or of another kind.
    """
    if wrong := list(_breaches(result, form, "result")):
        raise ResultError("\n".join(wrong))


def _breaches(value: Any, form: Any, where: str) -> Iterator[str]:
    if isinstance(form, Table):
        if not isinstance(value, dict) or len(value) < form.least:
            yield f"{where}: expected at least {form.least} names with values, got {value!r}"
            return
        for key, item in value.items():
            yield from _breaches(item, form.of, f"{where}.{key}")
    elif isinstance(form, dict):
        keys = set(value) if isinstance(value, dict) else None
        if keys != set(form):
            yield f"{where}: expected the keys {sorted(form)}, got {sorted(map(str, keys)) if keys is not None else repr(value)}"
            return
        for key, inner in form.items():
            yield from _breaches(value[key], inner, f"{where}.{key}")
    elif isinstance(form, list):
        if not isinstance(value, list) or not value:
            yield f"{where}: expected a list of at least one item, got {value!r}"
            return
        for position, item in enumerate(value):
            yield from _breaches(item, form[0], f"{where}[{position}]")
    elif expected := form(value):
        yield f"{where}: expected {expected}, got {value!r}"


def _contradictions(result: dict[str, Any]) -> Iterator[str]:
    stated = result["conditions"]["repeats"]
    if stated < MIN_REPEATS and not result["quick"]:
        yield f"result.conditions.repeats: expected at least {MIN_REPEATS}, got {stated}; fewer are for a quick run only"
    for kind in ("measurements", "ratios"):
        for entry in result[kind]:
            where = f"result.{kind} {entry['group']}/{entry['name']}"
            repeats = entry["repeats"]
            if len(repeats) != stated:
                yield f"{where}: expected {stated} repeats as in the conditions, got {len(repeats)}"
            if not math.isclose(entry["median"], statistics.median(repeats), rel_tol=1e-9):
                yield f"{where}: expected the median of its repeats, {statistics.median(repeats)}, got {entry['median']}"
            if not min(repeats) <= entry["q1"] <= entry["median"] <= entry["q3"] <= max(repeats):
                yield f"{where}: expected min <= q1 <= median <= q3 <= max, got {entry['q1']}, {entry['median']}, {entry['q3']}"
    for target in result["targets"]:
        if (target["measured"] is None) != (target["reached"] is None):
            yield f"result.targets {target['question']}: expected `reached` exactly where something was measured"
