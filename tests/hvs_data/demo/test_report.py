"""The report of an outcome whose every number is known."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hvs_data.demo.records import Accuracy, Outcome, StepRecord
from hvs_data.demo.report import report_html
from hvs_data.demo.settings import Settings


def step(number: int, **changes: float) -> StepRecord:
    record = StepRecord(
        step=number,
        epoch=0,
        images=50,
        elapsed=float(number),
        learning_rate=0.1,
        loss=-0.2,
        chosen_loss=-0.34,
        mean_loss=-0.56,
        chosen_iou=0.31,
        other_iou=0.42,
        view_seconds=0.05,
        select_seconds=0.2,
        train_seconds=0.75,
    )
    return replace(record, **changes)


@pytest.fixture
def outcome() -> Outcome:
    # ten steps of one second each, the last of which is the last tenth
    first = [step(number, chosen_iou=0.9, other_iou=0.9, chosen_loss=0.9, mean_loss=0.9) for number in range(1, 10)]
    accuracy = Accuracy(before=0.125, after=0.875, majority=0.25, neighbours=5, fitted=1234, held_out=56, classes=7)
    return Outcome(Settings(batch_size=50), "photos of <mine>", 2345, accuracy, (*first, step(10)))


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.partition("<body>")[2]))


def test_every_number_stands_beside_its_name(outcome: Outcome) -> None:
    text = words(report_html(outcome))
    for told in (
        "Speed 50 images/s 500 images in 10 steps and 10 s: 4 views of each scored, 2 trained on",
        "Time spent selecting 20 % of a step",
        "Box overlap (IoU) 0.31 chosen 0.42 others",
        "Loss as scored \u22120.34 chosen \u22120.56 all pairs",
        "k-NN accuracy 12.5 % before 87.5 % after 56 photos not trained on, 7 classes, 5 neighbours among 1,234; "
        "the largest class makes 25.0 %",
        "75.0 % training",
        "20.0 % selecting",
        "5.0 % views",
        "2,345 photos, 50 a step",
        "photos of &lt;mine&gt;",
        "4 candidates at 32 pixels, 2 trained on at 64",
        "never grey",
    ):
        assert told in text


def test_what_was_not_measured_is_told(outcome: Outcome) -> None:
    text = words(report_html(replace(outcome, accuracy=Accuracy(skipped="No labels here."))))
    assert "k-NN accuracy \u2013 not measured No labels here." in text


def test_notes_and_published_colours(outcome: Outcome) -> None:
    settings = replace(outcome.settings, published_colors=True, max_steps=1000)
    text = words(report_html(replace(outcome, settings=settings, notes=("Few & small photos.",))))
    assert "Few &amp; small photos." in text
    assert "as published for SimSiam" in text and "never grey" not in text
    assert "180 s, at most 1,000 steps" in text


def test_one_step_without_examples_makes_a_page(outcome: Outcome) -> None:
    text = words(report_html(replace(outcome, records=outcome.records[-1:])))
    assert "50 images in 1 step and 1 s" in text
    assert "What was chosen" not in text and "Over the training" in text
