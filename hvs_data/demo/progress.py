"""A line on the terminal while the training runs."""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType

from hvs_data.demo.records import StepRecord
from hvs_data.errors import MissingDependencyError

RECENT = 20  # steps whose mean is shown


class ProgressBar:
    """Elapsed time as a bar, and the means of the last steps beside it. Use it in a ``with`` statement.

    Args:
        seconds: of the whole training.

    Raises:
        MissingDependencyError: tqdm is not installed.
    """

    def __init__(self, seconds: float):
        try:
            from tqdm import tqdm
        except ImportError:
            raise MissingDependencyError("tqdm", "demo", "the demo's progress bar") from None
        self._recent: deque[StepRecord] = deque(maxlen=RECENT)
        self._bar = tqdm(
            total=seconds,
            bar_format="{percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s{postfix}",
            # a log file gets a line now and then instead of one a step
            mininterval=0.2 if sys.stderr.isatty() else 10,
            dynamic_ncols=True,
        )

    def update(self, record: StepRecord) -> None:
        """Show the step that has ended."""
        self._recent.append(record)
        self._bar.set_postfix_str(progress_line(list(self._recent)), refresh=False)
        self._bar.update(min(record.elapsed, self._bar.total) - self._bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bar.close()


def progress_line(recent: list[StepRecord]) -> str:
    """Speed, loss, overlap and the share of the time spent selecting, over some steps."""

    def total(name: str) -> float:
        return sum(getattr(record, name) for record in recent)

    seconds, steps = total("seconds"), len(recent)
    return (
        f"{total('images') / seconds:.0f} images/s, loss {total('loss') / steps:.3f}, IoU {total('chosen_iou') / steps:.2f} chosen "
        f"{total('other_iou') / steps:.2f} others, {100 * total('select_seconds') / seconds:.0f} % selecting"
    )
