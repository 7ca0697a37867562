"""Whether chosen sets of views are the hardest of all, each set's loss worked out by a formula."""

# Axes: B image, V view, S set of views.

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

import hvs_data as hvs


def in_both_types(losses: Callable[[list[Tensor]], Tensor], outputs: list[Tensor]) -> tuple[Tensor, float]:
    """Losses in float64, and four times what they err in float32: what is compared errs on both sides, and in other orders of sums."""
    exact, rounded = (losses([output.to(dtype) for output in outputs]) for dtype in (torch.float64, torch.float32))
    return exact, 4 * float((exact - rounded).nan_to_num().abs().max())


def gain_of_the_hardest(
    losses: Callable[..., Callable[[list[int]], Tensor]], outputs: list[Tensor], selection: hvs.Selection, roles: Sequence[str]
) -> float:
    """By how much the chosen sets are harder than the mean of all, after a check that none is harder and that the losses are right.

    Args:
        losses: from outputs [B, V, D] of some networks to a function of slots, in order, that gives their loss [B].
        outputs: of all candidates, global ones first.
        selection: of the same images.
        roles: of the candidates.
    """
    sets = [list(slots) for slots in combinations(range(len(roles)), selection.slots.shape[1])]
    kinds = {tuple(sorted(roles[slot] for slot in slots)) for slots in selection.slots.tolist()}
    assert len(kinds) == 1, "as many views of each role for every image"
    sets = [slots for slots in sets if tuple(sorted(roles[slot] for slot in slots)) in kinds]
    place_B = torch.tensor([sets.index(sorted(slots)) for slots in selection.slots.tolist()])
    losses_BS, error = in_both_types(lambda given: torch.stack([losses(*given)(slots) for slots in sets], 1), outputs)
    chosen_B = losses_BS[torch.arange(len(place_B)), place_B]
    assert (chosen_B >= losses_BS.amax(1) - error).all(), "some image has a harder set"
    torch.testing.assert_close(selection.loss.double(), chosen_B, rtol=0, atol=error)
    return float((chosen_B - losses_BS.mean(1)).mean())
