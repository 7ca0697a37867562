"""The demo from photos to report."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

import hvs_data as hvs
from hvs_data.demo.evaluation import NeighbourTest, why_no_test
from hvs_data.demo.examples import Example, examples_of
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import Part, hold_out, open_photos
from hvs_data.demo.progress import ProgressBar
from hvs_data.demo.records import Outcome, StepRecord
from hvs_data.demo.report import report_html
from hvs_data.demo.settings import Settings
from hvs_data.demo.training import pretrain, views_of
from hvs_data.errors import HvsError, SourceError

LEAST_PHOTOS = 8
SHOWN = 8


def run(settings: Settings, report: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None, layout: str = "auto") -> Outcome:
    """Train, and write the report. What is going on is printed.

    Ctrl-C during the training ends it early; the report is of what was trained until then.

    Args:
        settings: how to train; the batch size is lowered where there are too few photos.
        report: path of the HTML file to write.
        folder: of photos; None for the example set.
        layout: of the folder, as for :func:`hvs_data.open_source`.

    Raises:
        HvsError: photos that cannot be opened or are too few, a missing package, a report that cannot be written.
        KeyboardInterrupt: Ctrl-C before the first step has ended, or after the training.
    """
    _check_writable(report)
    photos = open_photos(folder, layout)
    train_N, held_N = hold_out(photos.labels, settings.seed)
    skipped = why_no_test(photos.labels, held_N)
    if skipped:
        train_N, held_N = np.arange(len(photos.source)), held_N[:0]
    print(f"{len(photos.source):,} {photos.title}, {len(train_N):,} to train on.", *filter(None, [skipped]), flush=True)
    settings, notes = _fitting(settings, len(train_N))

    torch.manual_seed(settings.seed)
    model = SimSiam()
    test = NeighbourTest(photos, train_N, held_N, settings, skipped)
    _warm_up(Part(photos.source, train_N), settings)
    test.measure("before", model)
    records, examples, interrupted = train(Part(photos.source, train_N), model, settings)
    if interrupted:
        print("Stopped; the report is made of what was trained so far (Ctrl-C again to leave without).", flush=True)
        notes += (f"The training was stopped after {records[-1].elapsed:.0f} of {settings.seconds:g} s.",)
    test.measure("after", model)
    outcome = Outcome(settings, photos.title, len(train_N), test.accuracy, tuple(records), tuple(examples), interrupted, notes)
    _write(report, report_html(outcome))
    print(f"Report: {os.fspath(report)}", flush=True)
    return outcome


def train(photos: Part, model: SimSiam, settings: Settings) -> tuple[list[StepRecord], list[Example], bool]:
    """Train behind a progress bar.

    Returns:
        the steps, examples from the last one, and whether Ctrl-C ended the training.

    Raises:
        KeyboardInterrupt: Ctrl-C before the first step has ended.
    """
    records: list[StepRecord] = []
    last: hvs.Batch | None = None
    interrupted = False
    try:
        with ProgressBar(settings.seconds) as progress:
            for record, batch in pretrain(photos, model, settings):
                records.append(record)
                last = batch
                progress.update(record)
    except KeyboardInterrupt:
        interrupted = True
    if last is None:
        raise KeyboardInterrupt
    return records, examples_of(last, photos, SHOWN), interrupted


def _fitting(settings: Settings, photos: int) -> tuple[Settings, tuple[str, ...]]:
    """Settings with a batch that these photos fill, and a word about it where it had to change.

    Raises:
        SourceError: too few photos.
    """
    if photos < LEAST_PHOTOS:
        raise SourceError(
            f"expected at least {LEAST_PHOTOS} photos to train on, got {photos}; add some, or name a folder that holds more, or leave "
            "--data out for the example set"
        )
    if photos >= settings.batch_size:
        return settings, ()
    note = f"The batch was reduced from {settings.batch_size} to {photos} photos, since there are no more to train on."
    print(note, flush=True)
    return replace(settings, batch_size=photos), (note,)


def _warm_up(photos: Part, settings: Settings) -> None:
    """Render a batch, so that the renderer is compiled before the training's time runs."""
    next(iter(hvs.ViewLoader(photos, views_of(settings), settings.batch_size)))


def _check_writable(report: str | os.PathLike[str]) -> None:
    """Open the report's file before the run, so that a run does not end without one. A file that is there stays as it is."""
    is_new = not os.path.exists(report)
    _write(report, "", mode="a")
    if is_new:
        os.remove(report)


def _write(report: str | os.PathLike[str], text: str, mode: str = "w") -> None:
    try:
        with open(report, mode, encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise HvsError(f"cannot write the report {os.fspath(report)!r}: {error.strerror}; name another file with --report") from error
