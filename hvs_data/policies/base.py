"""The form that all policies share."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.drawing.steps import numbers_of, unit_numbers
from hvs_data.errors import SelectionError
from hvs_data.rules import RowRule
from hvs_data.threads.this_rank import current_rank
from hvs_data.types.rows import ViewParams

# What chooses where the model is not asked: the first legal pair, or the boxes that overlap least. What an image gets of whose pairs the
# policy's rule allows none: its first legal pair, or that whose boxes overlap most.
FIRST, LEAST_OVERLAP, MOST_OVERLAP = "first", "smallest_iou", "largest_iou"


@dataclass(frozen=True)
class Moment:
    """When something is chosen, and the random numbers that belong to it.

    Attributes:
        step: of the selector, counted from 0.
        total_steps: of the run, as the selector was told; None if it was not.
        seed: of the selector.
        key: int64 [B], what tells the images apart, whatever batch and rank they are in; None where their rows have none.
    """

    step: int
    total_steps: int | None = None
    seed: int = 0
    key: NDArray[np.int64] | None = field(default=None, compare=False)

    @property
    def share(self) -> float:
        """How much of the run is behind, from 0 to 1.

        Raises:
            SelectionError: a selector that does not know how long the run is.
        """
        if self.total_steps is None:
            raise SelectionError(
                "expected total_steps, the number of steps of the whole run, for a schedule over shares of it, got None; pass "
                "HardViewSelector(..., total_steps=epochs * len(loader))"
            )
        return min(1.0, self.step / self.total_steps)

    def of_images(self, purpose: int, images: int, device: torch.device) -> Tensor:
        """A number in (0, 1) for each image of the batch: float64 [B] on the device, without waiting for it.

        It belongs to the image, by the key of its rows, so that one rank and several draw the same. Without rows it belongs to the
        image's place in this rank's batch.
        """
        if self.key is not None:
            unit = numbers_of(self.key, self.seed, self.step, purpose)
        else:
            unit = unit_numbers(self.seed, self.step, purpose, images, stream=current_rank(None, None)[0])
        return torch.from_numpy(unit).to(device, non_blocking=True)

    def of_step(self, purpose: int) -> float:
        """A number in (0, 1), the same on every rank."""
        return float(unit_numbers(self.seed, self.step, purpose, 1)[0])


class Policy(ABC):
    """Which of an image's combinations is chosen: a pair of views, and of multi-crop the local views beside it.

    Subclasses are frozen dataclasses that check their arguments, so that two that say the same are equal. Whatever they draw comes from
    the moment, and so is the same after a resume and, for candidates with rows, on any number of ranks.

    Attributes:
        name: what a selection says that it was made by.
        lists: whether ``choose`` needs all combinations, not just the best one with each pair.
        foretold: whether ``choose`` is given losses less what the rows foretell of them.
        unasked: what chooses in steps in which ``asks`` is false: FIRST or LEAST_OVERLAP.
    """

    name: ClassVar[str]
    lists: ClassVar[bool] = False
    foretold: ClassVar[bool] = False
    unasked: ClassVar[str] = FIRST

    @property
    def seeks(self) -> int:
        """1 if the largest loss is looked for and others do not matter, -1 for the smallest, 0 for neither. It says which local views
        are best beside a pair."""
        return 0

    @property
    def may_prefilter(self) -> bool:
        """Whether candidates of which the rows foretell smaller losses (larger ones, where those are not sought) may be left out."""
        return self.seeks != 0

    @property
    def rule(self) -> RowRule | None:
        """Which pairs may be chosen at all, told from the rows; None for all. Images without one get that of the largest overlap."""
        return None

    @property
    def anchor(self) -> Callable[[ViewParams], Tensor] | None:
        """The view that every pair holds, told from the rows: a function of rows [B, V] that returns its slot for every image, int64 [B]
        on the CPU; None where any pair will do. It comes first in a pair, or second where ``Objective.ordered`` makes that the target."""
        return None

    @property
    def ever_asks(self) -> bool:
        """Whether the model is asked at all."""
        return True

    @property
    def steady(self) -> bool:
        """Whether ``asks`` says the same of all steps."""
        return True

    def asks(self, moment: Moment) -> bool:
        """Whether the model is asked in a step, which must not depend on the rank."""
        return self.ever_asks

    @abstractmethod
    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        """The choice for every image: int64 [B], never a combination without a finite value, unless there is no other.

        Args:
            value_BM: floating [B, M], larger = harder; of pairs in the order of the layout.
            moment: of the choice.
        """

    def at_random(self, images: int, moment: Moment, device: torch.device) -> Tensor | None:
        """Images that get a random combination, the first legal one, whatever their losses: bool [B]; None for no image."""
        return None
