"""Another policy among the partners of one view: for losses that pull hard views towards an easy one."""

# Axes: B image, V view slot.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.policies.around import Around
from hvs_data.policies.base import Policy
from hvs_data.policies.extremes import Hardest
from hvs_data.types.rows import LOCAL, ViewParams


@dataclass(frozen=True)
class Anchored(Around):
    """Another policy among the pairs with the anchor, the view that shows most of the image: of equal ones the first slot.

    A pair comes as (anchor, partner), whatever their slots and in every kind of step, so that the trainer's loss can weigh the two
    directions: strong views as source and weak ones as target help where the reverse does not (Bai et al., DSSL, CVPR 2022).

    Where the order of a pair decides its loss (``Objective.ordered``), the loss that is read is that towards the anchor: entry
    (partner, anchor) of ``pair_losses``, whose first view is the student's, such as MoCo's query, and whose second is the target. Such a
    pair comes as its trainer takes it, (partner, anchor).

    A rule (``allowed``, or that of the other policy) leaves some of the anchor's pairs; an image of which it leaves none gets the anchor's
    first pair, or under "feasible" the one that overlaps most. The rule's table is read in the order of the slots. Where a pair takes one
    view of each of two roles, the anchor is the largest view of both, and its partner is of the other role.

    Args:
        policy: what chooses the partner.

    Raises:
        SelectionError: an argument that means nothing.
    """

    policy: Policy = Hardest()
    name: ClassVar[str] = "anchored"

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy) or self.policy.anchor is not None:
            raise SelectionError(f"policy must be a policy without an anchor of its own, such as policies.Hardest(), got {self.policy!r}")

    @property
    def anchor(self) -> Callable[[ViewParams], Tensor] | None:
        return largest


def largest(rows: ViewParams) -> Tensor:
    """The slot of the view, local ones apart, whose box has the largest area: int64 [B] on the CPU."""
    side_BV2 = rows.source_box[..., 2:]
    area_BV = (side_BV2 if side_BV2.is_floating_point() else side_BV2.to(torch.int64)).prod(-1)
    local_V = torch.tensor([role == LOCAL for role in rows.role])
    return area_BV.masked_fill(local_V, -1).argmax(1)  # of equal ones the first
