"""How much of the hardness a selection captures: the exact losses of its choices, beside those of the hardest and of random ones."""

# Axes: B image, V view slot, P legal pair, K chosen view, T global view, S student's view.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.rows.layout import Layout, layout_of


@dataclass(frozen=True)
class Exact:
    """The exact losses of a batch's candidates.

    Attributes:
        layout: what may be chosen.
        losses: float64 [B, V, V] of a loss of pairs; None of an additive one.
        terms: float64 [B, T, S] of an additive one, see ``AdditiveObjective.term_table``; None of others.
    """

    layout: Layout
    losses: Tensor | None = None
    terms: Tensor | None = None

    def of(self, slots_BK: Tensor) -> Tensor:
        """Loss of chosen views, float64 [B]."""
        if self.losses is not None:
            image_B = torch.arange(len(slots_BK))
            return self.losses[image_B, slots_BK[:, 0], slots_BK[:, 1]]
        place_BK = self._places()[slots_BK]
        assert self.terms is not None
        image_B11 = torch.arange(len(slots_BK))[:, None, None]
        return self.terms[image_B11, place_BK[:, :2, None], place_BK[:, None, :]].sum((1, 2))

    def of_random_choice(self) -> Tensor:
        """Mean loss over everything that may be chosen, float64 [B]."""
        first_P, second_P = torch.tensor(self.layout.pairs).unbind(1)
        if self.losses is not None:
            return self.losses[:, first_P, second_P].mean(1)
        pair_BP, local_BPL = self._additive_parts()
        if not self.layout.emitted_locals:
            return pair_BP.mean(1)
        return (pair_BP + self.layout.emitted_locals * local_BPL.mean(2)).mean(1)

    def of_hardest(self) -> Tensor:
        """Largest loss of all that may be chosen, float64 [B]."""
        first_P, second_P = torch.tensor(self.layout.pairs).unbind(1)
        if self.losses is not None:
            return self.losses[:, first_P, second_P].amax(1)
        pair_BP, local_BPL = self._additive_parts()
        if not self.layout.emitted_locals:
            return pair_BP.amax(1)
        return (pair_BP + local_BPL.topk(self.layout.emitted_locals, dim=2).values.sum(2)).amax(1)

    def _additive_parts(self) -> tuple[Tensor, Tensor]:
        """What each legal pair adds by itself [B, P], and each local view beside it [B, P, L]."""
        assert self.terms is not None
        place = self._places()
        first_P, second_P = place[torch.tensor(self.layout.pairs)].unbind(1)
        pair_BP = sum(self.terms[:, i, j] for i in (first_P, second_P) for j in (first_P, second_P))
        local_BTL = self.terms[:, :, len(self.layout.global_slots) :]
        assert isinstance(pair_BP, Tensor)
        return pair_BP, local_BTL[:, first_P] + local_BTL[:, second_P]

    def _places(self) -> Tensor:
        """int64 [V]: each slot's place among the student's views, global ones first."""
        order = [*self.layout.global_slots, *self.layout.local_slots]
        return torch.tensor([order.index(slot) for slot in range(self.layout.views)])


@contextmanager
def term_tables(objective: hvs.Objective) -> Iterator[list[Tensor]]:
    """The tables that an additive objective makes meanwhile; none of another one."""
    tables: list[Tensor] = []
    if not isinstance(objective, AdditiveObjective):
        yield tables
        return
    original = objective.term_table

    def recording(*arguments: object) -> Tensor:
        tables.append(original(*arguments))  # type: ignore[arg-type]
        return tables[-1]

    objective.term_table = recording  # type: ignore[method-assign]
    try:
        yield tables
    finally:
        del objective.term_table


def exact_losses(loader: hvs.ViewLoader, objective: hvs.Objective, autocast: torch.dtype | None, batches: int) -> list[Exact]:
    """Score candidates at full size, as the published method does: one value a batch of the loader's next epoch."""
    selector = hvs.HardViewSelector(objective, autocast=autocast)
    found = []
    with term_tables(objective) as tables:
        for _, batch in zip(range(batches), loader, strict=False):
            selection = selector.select(batch.views, batch.params)
            layout = layout_of(batch.params.num_views, batch.params, objective.ordered)
            if tables:
                found.append(Exact(layout, terms=torch.cat(tables).double().cpu()))
                tables.clear()
            else:
                found.append(Exact(layout, losses=selection.losses.double().cpu()))
    return found


@dataclass(frozen=True)
class Ratio:
    """A quotient of two means over images, with the standard error that the images' number leaves."""

    value: float
    standard_error: float

    @classmethod
    def of_means(cls, above_B: Tensor, below_B: Tensor) -> Ratio:
        """mean(above) / mean(below) of the same images.

        The error is that of a ratio estimator, to first order: the standard error of mean(above - ratio * below) over mean(below)
        (Cochran, "Sampling techniques", 1977, section 6.4).
        """
        value = (above_B.mean() / below_B.mean()).item()
        left_over_B = above_B - value * below_B
        error = left_over_B.std() / len(left_over_B) ** 0.5 / below_B.mean().abs()
        return cls(value, error.item())


@dataclass(frozen=True)
class Captured:
    """What a selection captures.

    Attributes:
        share: of the hardness among its own candidates: 1 is the exact choice, 0 a random one.
        of_four: the same gain in units of the exact choice's among four candidates.
        images: number of images.
    """

    share: Ratio
    of_four: Ratio
    images: int


def captured(chosen: Sequence[Tensor], own: Sequence[Exact], four: Sequence[Exact]) -> Captured:
    """Compare choices with the exact ones.

    Args:
        chosen: slots [B, K], a tensor a batch.
        own: exact losses of the candidates that were chosen from.
        four: those of the first four candidates of the same images.
    """
    random_B = torch.cat([exact.of_random_choice() for exact in own])
    gain_B = torch.cat([exact.of(slots_BK) for exact, slots_BK in zip(own, chosen, strict=True)]) - random_B
    full_B = torch.cat([exact.of_hardest() for exact in own]) - random_B
    four_B = torch.cat([exact.of_hardest() - exact.of_random_choice() for exact in four])
    return Captured(Ratio.of_means(gain_B, full_B), Ratio.of_means(gain_B, four_B), len(gain_B))
