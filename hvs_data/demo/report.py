"""The report: one HTML file that needs nothing beside itself."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from hvs_data.demo.charts import Line, line_chart
from hvs_data.demo.examples import SHOWN_SIZE
from hvs_data.demo.machine import machine_facts
from hvs_data.demo.pictures import example_card, letter, signed
from hvs_data.demo.records import Outcome
from hvs_data.demo.style import CSS

CHOSEN, OTHER, TRAINED = "#d55e00", "#5b7c99", "#0072b2"
MINUS = "\N{MINUS SIGN}"


def report_html(outcome: Outcome) -> str:
    """The page, complete.

    Args:
        outcome: of a run of at least one step.
    """
    body = "".join(
        (
            _head(outcome),
            _numbers(outcome),
            _photos(outcome),
            _plots(outcome),
            _time(outcome),
            _facts(outcome),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Hardest pairs of views</title><style>{CSS}</style></head><body><main>{body}</main></body></html>\n"
    )


def _head(outcome: Outcome) -> str:
    settings = outcome.settings
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in outcome.notes)
    return (
        "<header><h1>Learning from the hardest pair of views</h1>"
        f'<p class="lead">Of every photo, {settings.candidates} random views were drawn, and a small ResNet was trained without labels '
        "(SimSiam) on the pair whose two views it found hardest to recognise as the same photo. "
        "This page shows which pairs it chose, how much harder they were than the others, and what choosing cost.</p>"
        f"{notes}</header>"
    )


def _numbers(outcome: Outcome) -> str:
    settings, steps = outcome.settings, len(outcome.records)
    seconds, images = outcome.column("seconds").sum(), int(outcome.column("images").sum())
    late = "mean over the last tenth of the steps"
    tiles = (
        _tile(
            "Speed",
            {"images/s": f"{outcome.images_per_second:.0f}"},
            f"{images:,} images in {steps:,} step{'s' * (steps != 1)} and {seconds:.0f} s: {settings.candidates} views of each scored, "
            "2 trained on",
        ),
        _tile(
            "Time spent selecting",
            {"% of a step": f"{100 * outcome.share_of_time('select_seconds'):.0f}"},
            f"the forward that scores the candidates, at {settings.score_size} pixels, and the choice",
        ),
        _tile(
            "Box overlap (IoU)",
            {"chosen": f"{outcome.late('chosen_iou'):.2f}", "others": f"{outcome.late('other_iou'):.2f}"},
            f"{late}; 0 is none, 1 is the same box",
        ),
        _tile(
            "Loss as scored",
            {"chosen": signed(outcome.late("chosen_loss")), "all pairs": signed(outcome.late("mean_loss"))},
            f"{late}; {MINUS}1 is full agreement of two views",
        ),
        _accuracy(outcome),
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(name: str, values: dict[str, str], meaning: str) -> str:
    """A box with one or two large numbers, each with a word about it."""
    numbers = "".join(f"<div><b>{value}</b><i>{escape(word)}</i></div>" for word, value in values.items())
    return f'<div class="tile"><strong>{name}</strong><div class="values">{numbers}</div><span>{escape(meaning)}</span></div>'


def _accuracy(outcome: Outcome) -> str:
    accuracy, name = outcome.accuracy, "k-NN accuracy"
    if accuracy.skipped:
        return _tile(name, {"not measured": "\N{EN DASH}"}, accuracy.skipped)
    measured = {"before": accuracy.before, "after": accuracy.after}
    return _tile(
        name,
        {f"% {word}": f"{100 * share:.1f}" for word, share in measured.items() if share is not None},
        f"{accuracy.held_out:,} photos not trained on, {accuracy.classes} classes, {accuracy.neighbours} neighbours among "
        f"{accuracy.fitted:,}; the largest class makes {100 * accuracy.majority:.1f} %",
    )


def _photos(outcome: Outcome) -> str:
    if not outcome.examples:
        return ""
    settings = outcome.settings
    last = letter(settings.candidates - 1)
    cards = "".join(example_card(example) for example in outcome.examples)
    return (
        "<section><h2>What was chosen</h2>"
        f'<p class="caption">Photos of the last training step, each with the boxes of its {settings.candidates} candidate views '
        f"(A to {last}), the views themselves, and the loss of every pair: darker is harder, {MINUS}1 is full agreement. "
        "The small number below a loss is how much the two boxes overlap (IoU, 0 to 1). "
        "<b>Solid frames and the outlined cell mark the pair with the largest loss, which was trained on.</b> "
        f"The model scored the views at {settings.score_size} pixels and trained on the chosen two at {settings.size}; for this page they "
        f"were rendered once more from their rows of numbers, at {SHOWN_SIZE}.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def _plots(outcome: Outcome) -> str:
    step = outcome.column("step")

    def plot(title: str, y_label: str, caption: str, *lines: Line) -> str:
        chart = line_chart(step, lines, x_label="training step", y_label=y_label)
        return f'<figure class="plot"><h3>{title}</h3>{chart}<figcaption>{escape(caption)}</figcaption></figure>'

    plots = (
        plot(
            "Overlap of the two boxes",
            "mean IoU (0 to 1)",
            "How much of the photo the two views of a pair share. Where the chosen pairs lie below the others, the model finds those hard "
            "that show different parts of a photo; where the curves meet, hardness comes from something else, such as colour or blur.",
            Line("chosen pairs", outcome.column("chosen_iou"), CHOSEN),
            Line("pairs not chosen", outcome.column("other_iou"), OTHER),
        ),
        plot(
            "Hardness of the chosen pair",
            f"loss when scored ({MINUS}1 to 1)",
            "The gap between the curves is what selection adds: the loss of the chosen pair above the mean of all pairs of the same photo, "
            "both from the scoring forward.",
            Line("chosen pairs", outcome.column("chosen_loss"), CHOSEN),
            Line("all pairs", outcome.column("mean_loss"), OTHER),
        ),
        plot(
            "Training loss",
            f"SimSiam loss ({MINUS}1 to 1)",
            f"Loss of the chosen pairs in the training forward, at {outcome.settings.size} pixels; it falls as the two views of a pair "
            "come to look alike to the model. Here and beside it, faint lines are single steps and strong ones their moving average.",
            Line("chosen pairs", outcome.column("loss"), TRAINED),
        ),
    )
    return f'<section><h2>Over the training</h2><div class="plots">{"".join(plots)}</div></section>'


def _time(outcome: Outcome) -> str:
    parts = [
        ("training: forward, backward, optimizer", "train_seconds", TRAINED),
        ("selecting: scoring forward and choice", "select_seconds", CHOSEN),
        ("views: waiting for candidates, rendering the chosen pair", "view_seconds", "#b8c4cf"),
    ]
    shares = [(name, 100 * outcome.share_of_time(attribute), color) for name, attribute, color in parts]
    bar = "".join(f'<i style="width: {share:.2f}%; background: {color}"></i>' for _, share, color in shares)
    keys = "".join(f'<span><i style="background: {color}"></i>{share:.1f} % {name}</span>' for name, share, color in shares)
    return (
        f'<section><h2>Where a step\'s time went</h2><div class="share">{bar}</div><div class="keys">{keys}</div>'
        '<p class="caption">Wall time of the training thread. The next candidates are decoded and rendered by '
        "other threads meanwhile, on the same cores.</p></section>"
    )


def _facts(outcome: Outcome) -> str:
    settings = outcome.settings
    used = {
        "Photos": outcome.title,
        "Trained on": f"{outcome.trained:,} photos, {settings.batch_size} a step",
        "Views": f"{settings.candidates} candidates at {settings.score_size} pixels, 2 trained on at {settings.size}",
        "Colours": "as published for SimSiam"
        if settings.published_colors
        else "gentler than published for SimSiam (hue by 0.02 turns, saturation by 20 %, never grey), so that colour stays useful",
        "Optimizer": f"SGD, learning rate {settings.learning_rate:g} falling to 0 along a cosine, momentum {settings.momentum:g}, "
        f"weight decay {settings.weight_decay:g}",
        "Time": f"{settings.seconds:g} s" + (f", at most {settings.max_steps:,} steps" if settings.max_steps else ""),
        "Seed": str(settings.seed),
    }
    machine = {**machine_facts(), "Written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    lists = "".join(
        f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts.items())}</dl>"
        for facts in (used, machine)
    )
    return f'<section><h2>How it was run</h2><div class="facts">{lists}</div></section>'
