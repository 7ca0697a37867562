"""The command ``hvs-data``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence

import hvs_data
from hvs_data.errors import HvsError

FAILED = 2  # as argparse
INTERRUPTED = 130  # as a shell reports SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the command's name; None for those of the process.

    Returns:
        the exit status: 0, 2 after an error, or 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except HvsError as error:
        print(f"hvs-data: error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("hvs-data: stopped", file=sys.stderr)
        return INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    from hvs_data.demo.records import Settings
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
    demo = commands.add_parser(
        "demo",
        help="pretrain a small model on hardest pairs and write a report",
        description="Pretrain a small ResNet with SimSiam on the hardest pair of every photo's candidate views, and write an HTML report. "
        "Ctrl-C ends the training early and still writes it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--data", metavar="FOLDER", help="photos, flat or in one sub-folder a class; the example set if left out")
    demo.add_argument("--layout", choices=("auto", "classes", "flat"), default="auto", help="how the folder is read")
    demo.add_argument("--report", metavar="FILE", default="demo-report.html", help="the HTML file to write")
    demo.add_argument("--minutes", type=_positive, default=3.0, help="wall time of the training")
    demo.add_argument("--steps", type=_whole(1), help="most training steps; no bound if left out")
    demo.add_argument("--candidates", type=_whole(3), default=4, help="views drawn of each photo, at least 3")
    demo.add_argument("--size", type=_whole(16), default=64, help="side of the views trained on, in pixels")
    demo.add_argument("--score-size", type=_whole(16), default=32, help="side of the candidates while scored, in pixels")
    demo.add_argument("--published-colors", action="store_true", help="change colours as much as SimSiam's published recipe does")
    demo.add_argument("--batch-size", type=_whole(2), default=64, help="photos of a step")
    demo.add_argument("--learning-rate", type=_positive, default=0.1, help="at the start; it falls to 0")
    demo.add_argument("--seed", type=_whole(0), default=0, help="of the split, the model and the views")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    """A converter of arguments that are whole numbers of at least ``least``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return convert


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
