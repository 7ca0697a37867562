"""The file of pretraining runs: a line of JSON for each run and for each measured cost of an arm."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.measuring.schema import RESULT, SPREAD, ResultError, Table, check_form, number, optional, text
from harness.pretraining import training

MATCHES = ("epochs", "time")

COMPARISON = {
    "method": text,
    "precision": text,
    "sizes": Table(number(0)),
    "views": Table(number(0), least=0),
    "epochs": number(0),
    "data": text,
    "images": number(1),
}
RUN = {
    "kind": text,
    "comparison": COMPARISON,
    "arm": text,
    "about": text,
    "selector": text,
    "match": text,
    "seed": number(0),
    "steps": number(0),
    "seconds": number(0),
    "knn": number(0),
    "linear": number(0),
    # by probe, which held-out images it names rightly, as :func:`packed`; the oldest runs lack it
    "right": Table(text, least=0),
    # k-NN accuracy after so many steps
    "curve": Table(number(0), least=0),
    # accuracy of the probes on other data
    "transfer": Table({"knn": number(0), "linear": number(0)}, least=0),
    "history": {"step": [number(1)], "columns": {name: [optional(number())] for name in training.COLUMNS}},
    "conditions": RESULT["conditions"],
}
# the time of a step over that of vanilla's, taken in alternation
COST = {
    "kind": text,
    "comparison": COMPARISON,
    "arm": text,
    "selector": text,
    **SPREAD,
    "conditions": RESULT["conditions"],
}  # fmt: skip
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Run:
    """One training of a comparison.

    Attributes:
        comparison: what all its runs have in common, of the form ``COMPARISON``.
        arm: its name.
        selector: the arm's settings in words, so that runs of an arm that has changed are told apart.
        match: "epochs", or "time": as many steps as take the time that vanilla's take.
        seed: of everything that is drawn.
    """

    comparison: dict[str, Any]
    arm: str
    selector: str
    match: str
    seed: int

    @property
    def key(self) -> str:
        """A name for files."""
        digest = hashlib.sha256(json.dumps([self.comparison, self.selector], sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.comparison['method']}-{self.arm}-{self.match}-seed{self.seed}-{digest}"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Run:
        return cls(line["comparison"], line["arm"], line["selector"], line["match"], line["seed"])


class Runs:
    """Lines of a file, to which several processes may add.

    Args:
        path: of the file, which need not exist.
    """

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far, each checked.

        Raises:
            ResultError: a line that is not complete; the message says which.
        """
        if not self.path.exists():
            return []
        found = []
        for number_of_line, line in enumerate(self.path.read_text().splitlines(), start=1):
            try:
                found.append(checked(json.loads(line)))
            except (ValueError, KeyError) as error:
                raise ResultError(f"{self.path.name}, line {number_of_line}: {error}") from error
        return found

    def done(self) -> set[str]:
        """Keys of the runs that are there."""
        return {Run.of(line).key for line in self.lines() if line["kind"] == "run"}

    def cost(self, comparison: dict[str, Any], arm: str, selector: str) -> float | None:
        """The latest measured cost of an arm's step in units of vanilla's; None if there is none. How long a run is does not matter to
        it, nor how strong its augmentation."""
        wanted = (_of_a_step(comparison), arm, selector)
        costs = [line for line in self.lines() if line["kind"] == "cost"]
        found = [line["median"] for line in costs if (_of_a_step(line["comparison"]), line["arm"], line["selector"]) == wanted]
        return found[-1] if found else None

    def add(self, line: dict[str, Any]) -> None:
        """Append a line, whole or not at all.

        Raises:
            ResultError: it is not complete.
        """
        encoded = (json.dumps(checked(line)) + "\n").encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, encoded)
        finally:
            os.close(file)


def checked(line: dict[str, Any]) -> dict[str, Any]:
    """The line, if it is complete."""
    forms = {"run": RUN, "cost": COST}
    if not isinstance(line, dict) or line.get("kind") not in forms:
        raise ResultError(f"expected a line of the kind {' or '.join(forms)}, got {line!r:.200}")
    check_form(line, forms[line["kind"]])
    if line["kind"] == "run" and line["match"] not in MATCHES:
        raise ResultError(f"expected a run matched by {' or '.join(MATCHES)}, got {line['match']!r}")
    return line


def comparisons(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different comparisons among some lines, in the order in which they appear."""
    found: list[dict[str, Any]] = []
    for line in lines:
        if line["comparison"] not in found:
            found.append(line["comparison"])
    return found


def packed(right: Tensor) -> str:
    """Booleans [N] as text, eight in a byte."""
    return base64.urlsafe_b64encode(np.packbits(right.numpy()).tobytes()).decode()


def unpacked(right: str, count: int) -> NDArray[np.bool_]:
    """The first so many booleans of :func:`packed`'s."""
    return np.unpackbits(np.frombuffer(base64.urlsafe_b64decode(right), np.uint8), count=count).astype(bool)


def _of_a_step(comparison: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in comparison.items() if name not in ("epochs", "images", "views")}
