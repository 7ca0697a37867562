"""Another policy, of what is left of the losses after what the rows foretell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvs_data.errors import SelectionError
from hvs_data.policies.around import Around
from hvs_data.policies.base import Policy
from hvs_data.policies.extremes import Hardest


@dataclass(frozen=True)
class Unforetold(Around):
    """Another policy, given each loss less what the rows foretell of it.

    The hardest pair is often the one that overlaps least or whose colours differ most, which is known without a model. What is left is
    by how much the model finds a pair harder than it finds other pairs of such boxes and colours.

    What rows foretell is linear in the features of a pair's rows, fitted to the losses while training
    (:mod:`hvs_data.selection.geometry`, ``selector.geometry``), for pairs of one image. With local views it is the loss of the hardest
    combination with a pair; local views' own rows are not looked at. A step's weights are fitted to the losses of steps at least
    ``selector.geometry.delay`` before it. Until there are any, nothing is foretold, and the losses themselves decide.

    ``selection.losses`` are the model's, ``selection.foretold`` is what was taken off. Candidates need rows. Not with ``prefilter``,
    which leaves out candidates by what is foretold.

    Args:
        policy: what chooses; one that asks the model.

    Raises:
        SelectionError: something else.
    """

    policy: Policy = Hardest()
    name: ClassVar[str] = "unforetold"

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy) or not self.policy.ever_asks or self.policy.foretold:
            raise SelectionError(
                f"policy must be a policy that asks the model, other than Unforetold, such as policies.Hardest(), got {self.policy!r}"
            )

    @property
    def foretold(self) -> bool:  # type: ignore[override]
        return True

    @property
    def may_prefilter(self) -> bool:
        return False
