"""What the model says of a step's candidates: one pass of each view, as table of losses or of their terms."""

# Axes: B image, V view, P legal pair, K chosen view, T global view, S student's view.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.errors import SelectionError
from hvs_data.forwards.asking import Asking
from hvs_data.forwards.compiled import Compile
from hvs_data.forwards.encoding import Encoding
from hvs_data.forwards.forward import Forward
from hvs_data.forwards.spread import OutputSpread
from hvs_data.modules.reachable import reachable_modules
from hvs_data.modules.trace_free import scoring, uses_batch_statistics
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective, Outputs
from hvs_data.rows.layout import tables_of
from hvs_data.selection.allowed import AllowedPairs
from hvs_data.selection.budgets import Options
from hvs_data.selection.candidates import Candidates
from hvs_data.selection.combinations import Parts, additive_parts, pair_parts
from hvs_data.selection.concessions import Concessions, SizeConcededError, Sizes, add_note
from hvs_data.selection.sizes import checked_size, scored_sizes


@dataclass(frozen=True)
class Scores:
    """What the model says of some views.

    Attributes:
        parts: what combinations of them are made of; NaN for pairs that may not be chosen.
        non_finite: int64 scalar: losses, or terms of them, that are NaN or infinite and could have been chosen.
        num_losses: of how many.
        output_std: float32 scalar, see :class:`hvs_data.forwards.spread.OutputSpread`; None where outputs are no vectors.
        teacher: the teacher's outputs [B, T, ...] for the global views; None if they are not kept.
    """

    parts: Parts
    non_finite: Tensor
    num_losses: int
    output_std: Tensor | None = None
    teacher: Outputs = None


class Scorer:
    """Asks the model.

    Args:
        objective: the loss and the modules behind it.
        asking: how its forwards are run.
        options: what a budget, or the user, set: sizes and tokens.
        budget: its name.
        compile: see :func:`hvs_data.forwards.compiled.compile_arguments`.
        keep_teacher: whether the teacher's outputs are kept.

    Attributes:
        asking: as given; another one takes its place from the next step on.
        score_size, keep_tokens: as they are by now, since a budget gives up what a model does not take.

    Raises:
        SelectionError: settings that mean nothing, or do not go together.
    """

    def __init__(self, objective: Objective, asking: Asking, options: Options, budget: str | None, compile: Compile, keep_teacher: bool):
        self.objective = objective
        self.asking = asking
        self.score_size = checked_size(options.score_size)
        self.keep_tokens = options.keep_tokens
        self._encoding = Encoding(objective, self.keep_tokens, compile)
        self._concessions = Concessions(budget, options.concessions)
        self._settled = False  # whether a forward has gone through
        self._keep_teacher = keep_teacher
        reusable = objective.has_teacher and self.score_size is None and self._encoding.spares_teacher()
        if keep_teacher and not reusable:
            raise SelectionError(
                "keep_teacher needs an objective with a teacher or a momentum network, such as DINO or BYOL, candidates scored at their "
                "own size (score_size=None), and a teacher that sees all tokens (keep_tokens=KeepTokens(share, teacher=False)), "
                f"got {type(objective).__name__}, score_size={self.score_size!r} and keep_tokens={self.keep_tokens!r}"
            )

    def scores(self, candidates: Candidates, device: torch.device, allowed: AllowedPairs | None, labels: Any = None) -> Scores:
        """Ask the model, and give up what a budget set if the model does not take it.

        Raises:
            SizeConcededError: candidates that must be rendered anew at another size.
            SelectionError: outputs or losses of a wrong shape.
        """
        try:
            scores = self._asked(candidates, device, allowed, labels)
        except Exception as error:
            self._give_way(error, self._sizes(candidates))
            return self.scores(candidates, device, allowed, labels)
        self._settled = True
        self._concessions.announce()
        return scores

    def _give_way(self, error: Exception, sizes: list[Sizes]) -> None:
        """Go on to what costs more, or raise the error where nothing is left to give up."""
        add_note(error, sizes, self.score_size, self.keep_tokens, self._concessions.budget)
        concession = None if self._settled else self._concessions.after(error)
        if concession is None:
            raise error
        self.score_size, self.keep_tokens = concession
        self._encoding = self._encoding.with_tokens(self.keep_tokens)
        if any(size.given != size.own for size in sizes):
            raise SizeConcededError(
                f"expected candidates at a size that the model takes, got them at {sizes[0].given} pixels, not their own "
                f"{sizes[0].own}; give them at the sizes that selector.score_sizes now tells"
            ) from error

    def _asked(self, candidates: Candidates, device: torch.device, allowed: AllowedPairs | None, labels: Any) -> Scores:
        groups, layout, asking, objective = candidates.groups, candidates.layout, self.asking, self.objective
        if self._keep_teacher and not self._settled:
            _refuse_batch_statistics(objective)
        tables = tables_of(layout, device)
        open_BP = None if allowed is None else allowed.pairs(layout, candidates.slots).to(device, non_blocking=True)
        sizes = self._group_sizes(candidates)
        spread = OutputSpread()
        forward = Forward(asking.bn, asking.chunk, sizes, candidates.rows, self._encoding, asking.prepare, spread)
        teacher: Outputs = None
        with (
            scoring(*objective.modules(), bn="running" if asking.bn == "running" else "batch", dropout=asking.dropout),
            asking.casting(device),
            self._encoding.guards(first=not self._settled, dropout=asking.dropout, prepare=asking.prepare),
            self._encoding.levers(),
        ):
            if isinstance(objective, AdditiveObjective):
                table_BTS, teacher = forward.term_table(objective, groups, layout.emitted, layout.emitted_globals, self._keep_teacher)
                table_BTS = table_BTS.detach()
                parts = additive_parts(table_BTS, layout, tables)
                non_finite = (~table_BTS.isfinite() & tables.read).sum()
            else:
                sets_QK = tables.set_place if layout.emitted_globals > 2 else None
                losses_BGG, local_BGL, of_sets_BQ, teacher = forward.pair_losses(
                    objective, groups[0], groups[1] if layout.chosen_locals else None, sets_QK, labels, self._keep_teacher
                )
                parts = replace(pair_parts(losses_BGG, local_BGL, layout, tables, objective.local_weight), sets=of_sets_BQ)
                non_finite = (~parts.pair.isfinite() if open_BP is None else ~parts.pair.isfinite() & open_BP).sum()
                if local_BGL is not None:
                    non_finite = non_finite + (~local_BGL.isfinite()).sum()
        parts = parts if open_BP is None else parts.only(open_BP)
        return Scores(parts, non_finite, self._num_losses(candidates, len(parts.pair), allowed), spread.value(), teacher)

    def _num_losses(self, candidates: Candidates, images: int, allowed: AllowedPairs | None) -> int:
        layout = candidates.layout
        if isinstance(self.objective, AdditiveObjective):
            return images * layout.terms
        locals_ = images * len(layout.global_slots) * len(layout.local_slots) if layout.chosen_locals else 0
        return locals_ + (images * len(layout.pairs) if allowed is None else int(allowed.pairs(layout, candidates.slots).sum()))

    def _sizes(self, candidates: Candidates) -> list[Sizes]:
        own, given = candidates.own_sizes, candidates.given_sizes
        scored = [size or its_own for size, its_own in zip(self._group_sizes(candidates), own, strict=True)]
        return [Sizes(*sizes) for sizes in zip(own, given, scored, strict=True)]

    def _group_sizes(self, candidates: Candidates) -> tuple[Size | None, ...]:
        """The largest size at which each group is scored."""
        if self.score_size is None:
            return (None,) * len(candidates.groups)
        roles = [candidates.layout.roles[group.slots[0]] for group in candidates.groups]
        return scored_sizes(self.score_size, roles, candidates.own_sizes)


def _refuse_batch_statistics(objective: Objective) -> None:
    teacher = getattr(objective, "teacher", None)
    if uses_batch_statistics(module for root in reachable_modules(teacher) for module in root.modules()):
        raise SelectionError(
            f"keep_teacher expected a teacher of {type(objective).__name__} whose outputs are of one view at a time, got batch "
            "normalisation in training mode, which makes them others among all candidates than among the chosen ones; set the teacher to "
            "eval(), or leave it to the trainer's own forward: keep_teacher=False"
        )
