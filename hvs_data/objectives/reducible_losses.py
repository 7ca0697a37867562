"""Losses less those of the momentum network: what the model finds harder now than on the average of its last steps."""

# Axes: N image of a forward, B image, V view, T global view, L local view, S student's view (global, then local).

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective, Outputs
from hvs_data.objectives.dino import DINO
from hvs_data.objectives.parts import Number, checked_number, current_number


def reducible(objective: Objective, weight: Number = 1.0) -> Objective:
    """An objective's pairs scored by ``l(i, j) - weight * l'(i, j)``, l' the same loss with the momentum network on both sides.

    A pair that the momentum network finds as hard as the trained one does may be hard because nothing can be told from it; what the trained
    one finds harder, it has yet to learn. After the reducible loss of Mindermann et al. 2022 (RHO-LOSS, arXiv 2206.07137), which chooses
    training samples and takes for l' a network that was trained on other data. For views, and with a momentum network in its place, it is
    untested.

    | method | l' |
    |---|---|
    | BYOL | the target's projection in place of the prediction: ``4 - 4 cos(z'_i, z'_j)`` |
    | MoCo v2, v3 | the key in place of the query (of v3: of the prediction), under the same ``score``, queue and temperature |
    | DINO | the teacher's logits in place of the student's, as under ``DINO(scored_by="teacher")`` |

    The momentum network's outputs for global views are at hand, so that no forward is added, but for local views: these pass the
    teacher as well. ``selection.losses`` are these scores, and not the trainer's losses; they may be below 0.

    Args:
        objective: BYOL, MoCoV2, MoCoV3 or DINO; or one of your own that has ``momentum_outputs``, or, of an
            :class:`~hvs_data.objectives.AdditiveObjective`, ``encode_local_by_teacher``.
        weight: of l', a number above 0, or a function that is called at each scoring.

    Returns:
        An objective that takes the place of the one given; an additive one of an additive one.

    Raises:
        SelectionError: an objective without a momentum network; a weight that is no number above 0.
    """
    if isinstance(objective, DINO) and objective.scored_by == "teacher":
        raise SelectionError(
            "reducible takes what the teacher's logits make of a loss off what the student's make of it, got a DINO with "
            'scored_by="teacher", which does not ask the student; leave scored_by= out'
        )
    if isinstance(objective, AdditiveObjective):
        if type(objective).encode_local_by_teacher is not AdditiveObjective.encode_local_by_teacher:
            return ReducibleTerms(objective, weight)
    elif isinstance(objective, Objective) and type(objective).momentum_outputs is not Objective.momentum_outputs:
        return ReduciblePairs(objective, weight)
    raise SelectionError(
        f"reducible needs an objective whose momentum network gives what the trained one gives: BYOL, MoCoV2, MoCoV3, DINO, or one with "
        f"momentum_outputs, got {type_name(objective)}; pass one of these, or select by {type_name(objective)} itself"
    )


class _Reducible(Objective):
    """An objective around another one, whose forward it takes as it is."""

    _read_only = ("weight",)
    objective: Any

    def __init__(self, objective: Objective, weight: Number):
        self.objective = objective
        self.weight = checked_number("weight", weight)
        self.ordered, self.extras, self.local_weight = objective.ordered, objective.extras, objective.local_weight
        self.has_teacher = objective.has_teacher

    def encode(self, pixels: Tensor, **extras: Any) -> Outputs:
        """As the objective inside."""
        return self.objective.encode(pixels, **extras)

    @property
    def teacher(self) -> Any:
        """The objective's teacher, if that is what it calls it: options that spare it look for it here."""
        return getattr(self.objective, "teacher", None)

    def teacher_outputs(self, outputs: Outputs) -> Outputs:
        """As the objective inside."""
        return self.objective.teacher_outputs(outputs)

    def modules(self) -> list[nn.Module]:
        """Those of the objective inside."""
        return self.objective.modules()

    def around_forwards(self) -> AbstractContextManager[None]:
        """That of the objective inside."""
        return self.objective.around_forwards()


class ReduciblePairs(_Reducible):
    """Of an objective that scores pairs; made by :func:`reducible`."""

    def pair_losses(self, outputs: Outputs) -> Tensor:
        """Outputs with first axes [B, V] -> float32 [B, V, V], ordered as the objective's."""
        of_momentum = self.objective.pair_losses(self.objective.momentum_outputs(outputs))
        return self.objective.pair_losses(outputs) - current_number("weight", self.weight) * of_momentum


class ReducibleTerms(_Reducible, AdditiveObjective):
    """Of an additive objective; made by :func:`reducible`."""

    def __init__(self, objective: AdditiveObjective, weight: Number):
        super().__init__(objective, weight)
        self.any_globals = objective.any_globals

    def encode_local(self, pixels: Tensor) -> tuple[Outputs, Outputs]:
        """Local views [N, 3, S, S] -> the student's outputs and the teacher's."""
        return self.objective.encode_local(pixels), self.objective.encode_local_by_teacher(pixels)

    def term_table(self, teacher: Outputs, student: Outputs, local: tuple[Outputs, Outputs] | None, views: int, **more: int) -> Tensor:
        """Outputs with first axes [B, T], [B, T] and twice [B, L] -> floating [B, T, T + L]."""
        by_student, by_teacher = (None, None) if local is None else local
        terms: Callable[..., Tensor] = self.objective.term_table
        of_teacher = terms(teacher, teacher, by_teacher, views, **more)
        return terms(teacher, student, by_student, views, **more) - current_number("weight", self.weight) * of_teacher
