"""The command ``hvs-data``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import hvs_data
from hvs_data.commands import bench, check, pack, range, views
from hvs_data.commands.arguments import positive, whole
from hvs_data.demo.settings import Settings
from hvs_data.errors import HvsError

FAILED = 2  # as argparse
INTERRUPTED = 130  # as a shell reports SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the command's name; None for those of the process.

    Returns:
        the exit status: 0, 1 where a check found something, 2 after an error, or 130 after Ctrl-C.
    """
    parser = _parser()
    _complete(parser)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except HvsError as error:
        print(f"hvs-data: error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("hvs-data: stopped", file=sys.stderr)
        return INTERRUPTED


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that completes a line, which ends the process, if that is what this call is for."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        from argcomplete import autocomplete
    except ImportError:
        return
    autocomplete(parser)


def _demo(options: argparse.Namespace) -> int:
    # Torch's threads share the cores with the loader's: one that waits for the others must sleep, not spin. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hvs_data.demo.run import run

    settings = Settings(
        seconds=60 * options.minutes,
        max_steps=options.steps,
        candidates=options.candidates,
        size=options.size,
        score_size=min(options.score_size, options.size),
        published_colors=options.published_colors,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    outcome = run(settings, options.report, options.data, options.layout)
    return INTERRUPTED if outcome.interrupted else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hvs-data", description="Hard view selection for self-supervised pretraining.")
    parser.add_argument("--version", action="version", version=f"hvs_data {hvs_data.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="pretrain a small model on hardest pairs and write a report", description=_DEMO))
    check.add(commands.add_parser("check", help="read and decode every image of a source once: is it sound", description=check.ABOUT))
    pack.add(commands.add_parser("pack", help="copy a source into shards that are read faster", description=pack.ABOUT))
    range.add(commands.add_parser("range", help="which values images of any bits have: lines for a recipe", description=range.ABOUT))
    views.add(commands.add_parser("views", help="a page of images, boxes and views as a trainer will see them", description=views.ABOUT))
    bench.add(commands.add_parser("bench", help="how fast views come from a source here, and what limits them", description=bench.ABOUT))
    return parser


_DEMO = (
    "Pretrain a small ResNet with SimSiam on the hardest pair of every photo's candidate views, and write an HTML report. "
    "Ctrl-C ends the training early and still writes it."
)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    usual = Settings()
    demo.set_defaults(run=_demo)
    demo.add_argument("--data", metavar="FOLDER", help="photos, flat or in one sub-folder a class; left out: an example set of groceries")
    demo.add_argument("--layout", choices=("auto", "classes", "flat"), default="auto", help="how to read the folder (%(default)s)")
    demo.add_argument("--report", metavar="FILE", default="demo-report.html", help="the HTML file to write (%(default)s)")
    demo.add_argument("--minutes", metavar="N", type=positive, default=usual.seconds / 60, help="time of the training (%(default)g)")
    demo.add_argument("--steps", metavar="N", type=whole(1), help="most training steps; left out: as many as the time allows")

    def add_whole(option: str, least: int, default: int, meaning: str) -> None:
        demo.add_argument(option, metavar="N", type=whole(least), default=default, help=f"{meaning} (%(default)s)")

    add_whole("--candidates", 3, usual.candidates, "views drawn of each photo, at least 3")
    add_whole("--size", 16, usual.size, "side in pixels of the views that are trained on")
    add_whole("--score-size", 16, usual.score_size, "side in pixels of the candidates while they are scored")
    add_whole("--batch-size", 2, usual.batch_size, "photos of a step")
    add_whole("--seed", 0, usual.seed, "of the split, the model and the views")
    demo.add_argument("--learning-rate", metavar="X", type=positive, default=usual.learning_rate, help="at the start (%(default)g)")
    demo.add_argument("--published-colors", action="store_true", help="change colours as much as SimSiam's published recipe does")
