"""The demo from photos to report."""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.demo.progress import ProgressBar, progress_line
from hvs_data.demo.records import Outcome, StepRecord
from hvs_data.demo.run import run

from .conftest import TINY, write_photos

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that elements close in the order in which they opened, and collects them and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def urls(self) -> list[str]:
        return [value for _, attributes in self.elements for name, value in attributes.items() if name in ("src", "href", "xlink:href")]


def test_the_report_is_one_whole_page_that_needs_nothing_else(finished: tuple[Outcome, str]) -> None:
    _, html = finished
    page = Page(html)
    assert html.startswith("<!doctype html>")
    tags = [tag for tag, _ in page.elements]
    assert [tags.count(tag) for tag in ("html", "head", "title", "body", "h1")] == [1, 1, 1, 1, 1]
    assert {"script", "link", "iframe", "object", "base"} & set(tags) == set()
    # 8 photos, each with 4 views, all inside the file
    assert len(page.urls()) == 8 * 5
    assert all(url.startswith("data:image/jpeg;base64,") for url in page.urls())
    assert "http" not in html and "@import" not in html and "url(" not in html


def test_the_report_tells_the_numbers_of_the_run(finished: tuple[Outcome, str]) -> None:
    outcome, html = finished
    text = Page(html).text
    records = outcome.records
    assert [record.step for record in records] == [1, 2, 3, 4]
    seconds = sum(record.seconds for record in records)
    assert f" {32 / seconds:.0f} images/s" in re.sub(r"\s+", " ", text)
    assert f"{100 * sum(record.select_seconds for record in records) / seconds:.1f} % selecting" in text
    # the last tenth of four steps is the last one
    assert f"{records[-1].chosen_iou:.2f}" in text and f"{records[-1].other_iou:.2f}" in text
    assert f"{records[-1].chosen_loss:.2f}".replace("-", "\u2212") in text
    accuracy = outcome.accuracy
    assert accuracy.before is not None and accuracy.after is not None
    assert f"{100 * accuracy.before:.1f}" in text and f"{100 * accuracy.after:.1f}" in text
    assert (accuracy.fitted, accuracy.held_out, accuracy.classes) == (18, 6, 2)
    assert hvs.__version__ in text and "PyTorch" in text and "18 photos, 8 a step" in text


def test_the_report_escapes_the_names_of_classes(finished: tuple[Outcome, str]) -> None:
    assert "green &amp; &lt;ripe&gt;" in finished[1] and "<ripe>" not in finished[1]


def test_the_report_draws_three_plots_with_labelled_axes(finished: tuple[Outcome, str]) -> None:
    page = Page(finished[1])
    charts = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg" and attributes["class"] == "chart"]
    assert [chart.partition(":")[0] for chart in charts] == [
        "mean IoU (0 to 1) over training step",
        "loss when scored (\u22121 to 1) over training step",
        "SimSiam loss (\u22121 to 1) over training step",
    ]


def test_unlabelled_photos_are_trained_on_without_the_test(flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(replace(TINY, batch_size=64, max_steps=2), tmp_path / "r.html", flat)
    assert outcome.trained == 11 and outcome.settings.batch_size == 11
    assert outcome.accuracy.before is None and "no labels" in outcome.accuracy.skipped
    text = Page((tmp_path / "r.html").read_text()).text
    assert outcome.accuracy.skipped in text
    note = "The batch was reduced from 64 to 11 photos, since there are no more to train on."
    assert note in text and note in capsys.readouterr().out


def test_one_class_is_trained_on_whole(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos" / "only", 9)
    outcome = run(replace(TINY, max_steps=1), tmp_path / "r.html", tmp_path / "photos")
    assert outcome.trained == 9 and "Fewer than two classes" in outcome.accuracy.skipped
    assert "Fewer than two classes" in (tmp_path / "r.html").read_text()


def test_a_broken_photo_does_not_stop_the_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 12)
    (photos / "05.jpg").write_bytes(b"not a photo")
    outcome = run(replace(TINY, max_steps=3), tmp_path / "r.html", photos)
    assert len(outcome.records) == 3 and len(outcome.examples) == 8


def test_names_that_are_no_text_do_not_stop_the_run(tmp_path: Path) -> None:
    photos = write_photos(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")), 8)
    (photos / "00.jpg").rename(os.fsdecode(os.fsencode(photos) + b"/\xff.jpg"))
    run(replace(TINY, max_steps=1), tmp_path / "r.html", photos)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "caf?" in text and "?.jpg" in text


def test_ctrl_c_ends_the_training_and_still_writes_the_report(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = ProgressBar.update

    def interrupted_update(self: ProgressBar, record: StepRecord) -> None:
        update(self, record)
        if record.step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "update", interrupted_update)
    outcome = run(replace(TINY, max_steps=50), tmp_path / "r.html", labelled)
    assert outcome.interrupted and [record.step for record in outcome.records] == [1, 2]
    assert outcome.accuracy.after is not None
    text = Page((tmp_path / "r.html").read_text()).text
    assert "The training was stopped after" in text and "16 images in 2 steps" in text
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")] == []


def test_ctrl_c_before_the_first_step_leaves_no_report(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("hvs_data.demo.training.simsiam_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, tmp_path / "r.html", labelled)
    assert list(tmp_path.iterdir()) == []


def test_too_few_photos_say_what_to_do(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 7)
    with pytest.raises(hvs.SourceError, match="expected at least 8 photos to train on, got 7; add some, or name a folder that holds more"):
        run(TINY, tmp_path / "r.html", photos)
    assert not (tmp_path / "r.html").exists()


def test_a_report_that_cannot_be_written_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(hvs.HvsError, match="cannot write the report .*name another file with --report"):
        run(TINY, tmp_path / "missing" / "r.html", tmp_path / "no photos")


def test_a_report_of_an_earlier_run_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("earlier")
    with pytest.raises(hvs.SourceError):
        run(TINY, tmp_path / "r.html", tmp_path / "no photos")
    assert (tmp_path / "r.html").read_text() == "earlier"


def test_the_progress_line_is_of_the_last_steps(finished: tuple[Outcome, str]) -> None:
    records = list(finished[0].records)
    line = progress_line(records)
    assert f"loss {np.mean([record.loss for record in records]):.3f}" in line
    assert re.fullmatch(r"\d+ images/s, loss -?\d\.\d{3}, IoU \d\.\d\d chosen \d\.\d\d others, \d+ % selecting", line)
