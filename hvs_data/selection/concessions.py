"""What a budget gives up where a model does not take views of its size, or fewer tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvs_data.arguments.sizes import Size
from hvs_data.errors import SelectionError

logger = logging.getLogger("hvs_data")

# A selector's score_size and keep_tokens.
Scoring = tuple[float | Mapping[str, float] | None, Any]


class SizeConcededError(SelectionError):
    """Candidates were rendered at a size that the model does not take, and the selector's size is another by now."""


@dataclass(frozen=True)
class Sizes:
    """Of the candidates of one size, in pixels: their own size, that at which they were given, and that at which they are scored."""

    own: Size
    given: Size
    scored: Size


class Concessions:
    """Goes from what a budget set to what costs more, as far as a model demands it.

    Args:
        budget: its name.
        options: what the budget set, and what comes after it, the last one all candidates at their own size. Empty for options that
            are the user's own, which stay.
    """

    def __init__(self, budget: str | None, options: Sequence[Scoring]):
        self.budget = budget
        self._options = list(options)
        self._refused: list[str] = []

    def after(self, error: Exception) -> Scoring | None:
        """What to try after an error; None if there is nothing else, or if it is about memory, of which the rest needs more."""
        if len(self._options) < 2 or isinstance(error, torch.OutOfMemoryError):
            return None
        self._refused.append(f"{_told(self._options.pop(0))} ({type(error).__name__}: {_first_line(error)})")
        return self._options[0]

    def announce(self) -> None:
        """Say, once, what was given up and what works."""
        if self._refused:
            logger.warning(
                "budget=%r sets %s, which this model does not take; selecting with %s instead. Pass score_size= to choose a size yourself",
                self.budget,
                ", nor ".join(self._refused),
                _told(self._options[0]),
            )
            self._refused = []


def add_note(error: Exception, sizes: Sequence[Sizes], score_size: Any, keep_tokens: Any, budget: str | None) -> None:
    """Tell with an error of a scoring forward that its views were smaller than the trainer's, or their tokens fewer."""
    by = "" if budget is None else f" under budget={budget!r}"
    for size in sizes:
        if size.scored != size.own:
            error.add_note(
                f"Views of {size.own} pixels were scored at {size.scored} (score_size={score_size!r}{by}). If the model takes no such "
                "views, pass a size that it takes, such as a multiple of its patch, or score_size=None to score them as they are."
            )
    if keep_tokens is not None:
        error.add_note(f"The model was given part of its tokens (keep_tokens={keep_tokens!r}{by}). keep_tokens=None gives it all.")


def _told(option: Scoring) -> str:
    score_size, keep_tokens = option
    if keep_tokens is not None:
        return f"keep_tokens={keep_tokens.share!r}"
    return "all candidates at their own size" if score_size is None else f"score_size={score_size!r}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
