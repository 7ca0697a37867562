"""Another policy in some of the images or steps, a random pair in the others."""

# Axes: B image.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvs_data.arguments.checks import share
from hvs_data.drawing.steps import MIXED
from hvs_data.errors import SelectionError
from hvs_data.policies.around import Around
from hvs_data.policies.base import FIRST, Moment, Policy
from hvs_data.policies.extremes import Hardest
from hvs_data.policies.schedules import Scheduled, check_scheduled, is_steady, number_at

_SHARE: tuple[Any, str] = share, "a number from 0 to 1; the share of images or steps that are not random"


@dataclass(frozen=True)
class Mixed(Around):
    """With a probability another policy, else a random pair.

    Args:
        share: that probability; a number, a function of the step, or a :class:`Ramp`.
        policy: the other one.
        by: "image" draws for each image; "step" for all images of all ranks together, and asks the model in those steps alone.

    Raises:
        SelectionError: an argument that means nothing.
    """

    share: Scheduled = 0.5
    policy: Policy = Hardest()
    by: str = "image"
    name: ClassVar[str] = "mixed"
    unasked: ClassVar[str] = FIRST  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_scheduled("share", self.share, *_SHARE)
        if self.by not in ("image", "step"):
            raise SelectionError(f'by must be "image" or "step", got {self.by!r}; it says for what random pairs are drawn')
        if not isinstance(self.policy, Policy) or isinstance(self.policy, Mixed) or not self.policy.ever_asks:
            raise SelectionError(f"policy must be a policy that asks the model, such as policies.Hardest(), got {self.policy!r}")

    @property
    def seeks(self) -> int:
        return self.policy.seeks if self.by == "step" else 0

    @property
    def steady(self) -> bool:
        return self.by == "image" and is_steady(self.share) and self.policy.steady

    def asks(self, moment: Moment) -> bool:
        share_ = self._share(moment)
        drawn = self.by == "image" or moment.of_step(MIXED) < share_
        return share_ > 0 and drawn and self.policy.asks(moment)

    def at_random(self, images: int, moment: Moment, device: torch.device) -> Tensor | None:
        if self.by == "step":
            return None
        return moment.of_images(MIXED, images, device) >= self._share(moment)

    def _share(self, moment: Moment) -> float:
        return number_at("share", self.share, moment, *_SHARE)
