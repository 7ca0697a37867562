"""What selection may cost, in one word: settings of a selector that belong together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from hvs_data.errors import SelectionError
from hvs_data.forwards.tokens import KeepTokens
from hvs_data.modules.transformers import vision_transformers
from hvs_data.objectives.base import Objective
from hvs_data.policies.base import Policy
from hvs_data.selection.concessions import Scoring

logger = logging.getLogger("hvs_data")


class ByBudget(Enum):
    """Stands for "as the budget says", to be told from a None that is given."""

    BY_BUDGET = "by budget"

    def __repr__(self) -> str:
        return self.name


BY_BUDGET = ByBudget.BY_BUDGET

# What each sets, for convolutional networks: points of the frontier that bench/selection.py measures (docs/cheap_selection.md).
BUDGETS: dict[str, dict[str, Any]] = {
    "exact": {"score_size": None, "prefilter": None},
    "balanced": {"score_size": 0.375, "prefilter": 3},
    "cheap": {"score_size": 0.375, "prefilter": 2},
}
# What is tried after a smaller size, or fewer tokens, that the model does not take, before views are scored as they are.
_LARGER = 0.5
# In place of a smaller size, the share of its tokens that a vision transformer keeps, whose sides must be multiples of a patch.
_TOKENS = {"balanced": 0.25, "cheap": 0.25}


@dataclass(frozen=True)
class Options:
    """Options of a selector, see there.

    Attributes:
        concessions: ``(score_size, keep_tokens)`` as the budget set them, and what comes after where the model does not take that.
    """

    score_size: float | Mapping[str, float] | None = None
    keep_tokens: float | KeepTokens | None = None
    prefilter: int | None = None
    concessions: tuple[Scoring, ...] = ()


def budgeted(budget: str | None, objective: Objective, policy: Policy, keep_teacher: bool, given: Mapping[str, Any]) -> Options:
    """The options that a budget sets.

    Args:
        budget: one of BUDGETS; None for the published method, as "exact".
        objective, policy, keep_teacher: the selector's.
        given: these options by name, as they were given; BY_BUDGET where they were not. What was given stays. A size that was given
            keeps the budget from dropping tokens, and the other way round.

    Raises:
        SelectionError: another word.
    """
    if budget is not None and budget not in BUDGETS:
        raise SelectionError(f"budget must be one of {tuple(BUDGETS)}, or None, got {budget!r}; it says what selection may cost")
    chosen: dict[str, Any] = {}
    if budget not in (None, "exact"):
        if given["score_size"] is BY_BUDGET and given["keep_tokens"] is BY_BUDGET:
            chosen |= _smaller_forward(str(budget), objective, keep_teacher)
            if chosen:
                chosen["concessions"] = _concessions(keep_teacher, **chosen)
        # other policies are about candidates that rows would leave out
        if policy.may_prefilter:
            chosen["prefilter"] = BUDGETS[str(budget)]["prefilter"]
    chosen |= {name: value for name, value in given.items() if value is not BY_BUDGET}
    if budget is not None:
        _announce(budget, ", ".join(f"{name}={value!r}" for name, value in chosen.items() if name in given and value is not None))
    return Options(**chosen)


def _smaller_forward(budget: str, objective: Objective, keep_teacher: bool) -> dict[str, Any]:
    """Options that make an objective's forward cheaper; none where its outputs belong to patches of whole views."""
    if "mask" in objective.extras:
        return {}
    modules = [module for root in objective.modules() for module in root.modules()]
    try:
        loses_tokens = bool(vision_transformers(modules))
    except SelectionError:  # one with positions of the whole grid, of which some take smaller views all the same
        loses_tokens = False
    if not loses_tokens:
        return {} if keep_teacher else {"score_size": BUDGETS[budget]["score_size"]}
    spared = keep_teacher and objective.has_teacher
    return {"keep_tokens": KeepTokens(_TOKENS[budget], teacher=not spared)}


def _concessions(keep_teacher: bool, score_size: float | None = None, keep_tokens: KeepTokens | None = None) -> tuple[Scoring, ...]:
    larger: tuple[Scoring, ...] = () if keep_teacher else ((_LARGER, None),)
    return ((score_size, keep_tokens), *larger, (None, None))


@cache
def _announce(budget: str, options: str) -> None:
    logger.info("budget=%r selects with %s", budget, options or "all candidates at their own size, as published")
