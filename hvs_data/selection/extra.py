"""Extra views beside the chosen global ones: the first candidates that are not among them.

Rows are drawn independently of one another, so that the first ones are as random as any that were not chosen.
"""

# Axes: B image, T taken slot, G global view of a role, K handed-out view.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.rows.layout import Layout, tables_of


def extra_shares(layout: Layout, extra: int) -> list[int]:
    """How many extra views are of each role: of two roles they are taken in turn, the first one of the first role."""
    roles = len(layout.slots_of_roles)
    return [(extra + roles - 1 - number) // roles for number in range(roles)]


def check_enough(layout: Layout, extra: int) -> None:
    """Refuse candidates that are too few.

    Raises:
        SelectionError: too few of some role.
    """
    roles = layout.slots_of_roles
    needed = [count + share for count, share in zip(layout.chosen, extra_shares(layout, extra), strict=True)]
    if any(len(slots) < count for slots, count in zip(roles, needed, strict=True)):
        names = [layout.roles[slots[0]] for slots in roles]
        expected, got = (
            " and ".join(f"{count} of the role {name!r}" for name, count in zip(names, counts, strict=True))
            for counts in (needed, map(len, roles))
        )
        raise SelectionError(
            f"extra_views={extra} expected at least {expected}, the chosen views and those beside them, got {got}; draw more with the "
            "recipe's candidates=, or ask for fewer extra views"
        )


def beside(taken_BT: Tensor, slots_G: Tensor, count: int) -> Tensor:
    """The first slots of some that are not taken: int64 [B, count], rising, on their device and without waiting for it."""
    taken_BG = (slots_G[:, None] == taken_BT[:, None]).any(2)
    return slots_G[taken_BG.to(torch.uint8).sort(dim=1, stable=True).indices[:, :count]]


def with_extra(slots_BK: Tensor, layout: Layout, extra: int) -> Tensor:
    """Handed-out slots, chosen global views and local ones, with so many extra views between these."""
    if not extra:
        return slots_BK
    globals_BK, locals_Bl = slots_BK.tensor_split([layout.emitted_globals], dim=1)
    roles = tables_of(layout, slots_BK.device).of_roles
    of_role = [beside(globals_BK, slots_G, count) for slots_G, count in zip(roles, extra_shares(layout, extra), strict=True)]
    in_turn = [of_role[number % len(roles)][:, number // len(roles)] for number in range(extra)]
    return torch.cat([globals_BK, torch.stack(in_turn, dim=1), locals_Bl], dim=1)
