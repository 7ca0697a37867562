"""A run in stages: each in a process of its own with a limit of time, and all that it finds written down at once.

A stage is a generator of findings, which are dictionaries that JSON can hold. A run leaves two files: its record, one JSON object a line,
and the log of all that the stages printed. Nothing here needs more than Python, so that a machine on which nothing works still says so.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.measuring.results import ROOT

DONE, FAILED, TIMED_OUT, ABSENT, NO_DEVICE, LEFT_OUT = "done", "failed", "timed out", "not here", "no device", "left out"
# exit status of a stage that misses something
MISSING = 77
TAIL = 2000  # characters
SECONDS_TO_END = 5.0

Finding = dict[str, Any]


class MissingHereError(Exception):
    """A program or package that a stage needs is not on this machine; the message names it."""


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        name: a few words.
        seconds: after which it is ended.
        function: "module:name" of a generator of findings.
        arguments: of the function, beside those that all stages get.
        stand_in: whether it does something on a CPU in place of the device.
    """

    name: str
    seconds: float
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stand_in: bool = True


@dataclass
class Outcome:
    """What is known of a stage.

    Attributes:
        status: one of the words above; None where it was begun and its end was never written.
        seconds: that it took.
        reason: why it is not done; empty where it is.
        findings: what it found, also where it did not come to its end.
    """

    status: str | None = None
    seconds: float = 0.0
    reason: str = ""
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """The files of a run.

    Attributes:
        path: of the record: lines of ``event`` "start", "finding", "end", or "anew", after which only ``kept`` of the stages before count.
        log: of what the stages printed.
    """

    path: Path
    log: Path

    def add(self, event: str, stage: str, **line: Any) -> None:
        """Append a line, which is on disk when this returns."""
        text = json.dumps({"event": event, "stage": stage, **line}, allow_nan=False)
        # a process that was ended in the middle of a line must not spoil the next one
        torn = self.path.exists() and self.path.stat().st_size and self.path.read_bytes()[-1:] != b"\n"
        with self.path.open("a") as file:
            file.write("\n" * bool(torn) + text + "\n")

    def outcomes(self) -> dict[str, Outcome]:
        """The latest attempt of every stage, by name."""
        found: dict[str, Outcome] = {}
        for line in self._lines():
            event, name = line.pop("event"), line.pop("stage")
            if event == "anew":
                found = {kept: found[kept] for kept in line["kept"]}
            elif event == "start":
                found[name] = Outcome()
            elif event == "finding":
                found[name].findings.append(line)
            else:
                outcome = found.setdefault(name, Outcome())
                outcome.status, outcome.seconds, outcome.reason = line["status"], line["seconds"], line["reason"]
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        for text in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                continue


def run_stages(
    stages: Sequence[Stage],
    arguments: Mapping[str, Any],
    record: Record,
    seconds: float,
    environment: Mapping[str, str],
    *,
    no_device: str = "",
    stand_ins: bool = False,
    again: bool = False,
) -> None:
    """Run stages one after another, and write down of each how it ended or why it was not begun.

    A stage that is done already is not run again. One is begun while half of its time is left at least, and then gets no more than is left.

    Args:
        arguments, environment: see :func:`run_stage`.
        seconds: of all of them.
        no_device: why there is none; empty where there is one.
        stand_ins: without a device, run what has a stand-in for it.
        again: also run what is done already.
    """
    end = time.monotonic() + seconds
    known = record.outcomes()
    for stage in stages:
        left = end - time.monotonic()
        if not again and stage.name in known and known[stage.name].status == DONE:
            print(f"{stage.name}: done before", flush=True)
            continue
        if no_device and not (stand_ins and stage.stand_in):
            outcome = _not_begun(record, stage, NO_DEVICE, no_device)
        elif left < stage.seconds / 2:
            outcome = _not_begun(record, stage, LEFT_OUT, f"{max(0.0, left):.0f} s were left, and it may take {stage.seconds:.0f} s")
        else:
            outcome = run_stage(stage, arguments, record, min(stage.seconds, left), environment)
        print(f"{stage.name}: {outcome.status}" + (f": {outcome.reason}" if outcome.reason else f", {outcome.seconds:.0f} s"), flush=True)


def _not_begun(record: Record, stage: Stage, status: str, reason: str) -> Outcome:
    record.add("start", stage.name)
    record.add("end", stage.name, status=status, seconds=0.0, reason=reason)
    return Outcome(status, 0.0, reason)


def run_stage(stage: Stage, arguments: Mapping[str, Any], record: Record, seconds: float, environment: Mapping[str, str]) -> Outcome:
    """Run a stage in a process of its own, which is ended with all that it started once its time is over.

    Args:
        arguments: of the function.
        seconds: its limit.
        environment: variables of the process, beside those of this one.

    Returns:
        how it ended, which is in the record then.
    """
    record.add("start", stage.name)
    with record.log.open("ab") as log:
        log.write(f"\n===== {stage.name}\n".encode())
        log.flush()
        began = log.tell()
        start = time.perf_counter()
        order = {"stage": stage.name, "function": stage.function, "arguments": {**arguments, **stage.arguments}, "record": str(record.path)}
        # -P: the working directory may hold folders named as packages are
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from harness.measuring.staged import work; work()"],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment},
            process_group=0, text=True,
        )  # fmt: skip
        try:
            process.communicate(json.dumps(order), seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            status = process.poll()
            _end(process)
        took = time.perf_counter() - start
    printed = record.log.read_bytes()[began:].decode(errors="replace").rstrip()
    last = printed.rpartition("\n")[2].strip()
    found = record.outcomes()[stage.name].findings
    if status is None:
        how, reason = TIMED_OUT, f"ended after {seconds:.0f} s"
    elif status == MISSING:
        how, reason = ABSENT, last
    elif status:
        how, reason = FAILED, f"ended by signal {-status}" if status < 0 else last or f"exit status {status}"
    elif not found:
        how, reason = FAILED, "it ended well and found nothing"
    else:
        how, reason = DONE, ""
    tail = {} if how in (DONE, ABSENT) else {"tail": printed[-TAIL:]}
    record.add("end", stage.name, status=how, seconds=round(took, 1), reason=reason, **tail)
    return Outcome(how, took, reason, found)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process, and what is left of those that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue


def work() -> None:
    """What the process of a stage does; standard input says which one."""
    order = json.load(sys.stdin)
    record = Record(Path(order["record"]), Path(os.devnull))
    module, _, name = order["function"].partition(":")
    try:
        for finding in getattr(importlib.import_module(module), name)(**order["arguments"]):
            record.add("finding", order["stage"], **finding)
    except MissingHereError as error:
        print(error, flush=True)
        sys.exit(MISSING)
