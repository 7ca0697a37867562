"""Another policy among the pairs that still show the same thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvs_data.errors import SelectionError
from hvs_data.policies.around import Around
from hvs_data.policies.base import Policy
from hvs_data.policies.extremes import Hardest
from hvs_data.rules import MinArea, MinIoU, RowRule, SimilarColor, rule_of


@dataclass(frozen=True)
class Feasible(Around):
    """Another policy among the pairs that overlap enough, show enough of the image, and have similar colours.

    Every step obeys it, whether it asks the model or not. An image without such a pair gets the one whose boxes overlap most.

    Args:
        min_iou: the least overlap (IoU) of a pair, from 0 to 1; None for any.
        min_area: the least share of the image that each view shows, from 0 to 1; None for any.
        max_color: the most by which brightness, contrast, saturation and hue of the two views differ
            (:class:`hvs_data.rules.SimilarColor`); None for any.
        policy: what chooses among them.

    Raises:
        SelectionError: an argument that means nothing.
    """

    min_iou: float | None = 0.2
    min_area: float | None = None
    max_color: float | None = None
    policy: Policy = Hardest()

    name: ClassVar[str] = "feasible"

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy) or self.policy.rule is not None:
            raise SelectionError(f"policy must be a policy without a rule of its own, such as policies.Hardest(), got {self.policy!r}")
        if self.rule is None:
            raise SelectionError("Feasible takes at least one of min_iou, min_area and max_color, got none of them")

    @property
    def rule(self) -> RowRule | None:
        kinds = ((MinIoU, self.min_iou), (MinArea, self.min_area), (SimilarColor, self.max_color))
        return rule_of([kind(value) for kind, value in kinds if value is not None])
