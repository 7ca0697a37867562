"""Selects the hardest of every image's candidate views: one fused forward, one table of losses, an exact argmax."""

# Axes: B image, V view, P legal pair, K chosen view, T global view, S student's view, C channel, S S a square view's pixels.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.fixed import Fixed
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective, Outputs, map_outputs
from hvs_data.objectives.parts import type_name
from hvs_data.order import current_rank
from hvs_data.recipes.spec import Recipe
from hvs_data.rules import RowRule, rule_of
from hvs_data.selection.allowed import AllowedPairs, first_of
from hvs_data.selection.budgets import BY_BUDGET, ByBudget, budgeted
from hvs_data.selection.candidates import Group, checked_views, groups_of
from hvs_data.selection.combinations import Chosen, Parts, additive_parts, choose_combination, listed_combinations
from hvs_data.selection.compiled import Compile
from hvs_data.selection.concessions import Concessions, Sides, SizeConcededError, add_note
from hvs_data.selection.draws import WHICH, unit_numbers
from hvs_data.selection.encoding import Encoding
from hvs_data.selection.forward import BN_MODES, Forward
from hvs_data.selection.freshness import weights_version
from hvs_data.selection.geometry import Geometry
from hvs_data.selection.layout import Layout, Tables, layout_of, tables_of
from hvs_data.selection.narrowing import ALL, FIRST, LEAST_OVERLAP, PROMISING, Narrowing
from hvs_data.selection.policies import POLICIES
from hvs_data.selection.schedule import Schedule, Scheduled, checked, positive, share, whole
from hvs_data.selection.spread import OutputSpread
from hvs_data.selection.taken import Taken, narrowed, widened
from hvs_data.selection.tokens import KeepTokens
from hvs_data.selection.unfit import UnfitImages
from hvs_data.selection.unscored import unscored_selection
from hvs_data.trace_free import scoring
from hvs_data.types import LOCAL, Selection, ViewParams
from hvs_data.values import real_number, whole_number

# Policies that choose without asking the model.
UNSCORED = ("random", "smallest_iou")
# Policies that look for the largest or smallest loss, for which it is enough to score candidates that may have it.
_EXTREME = ("hardest", "easiest")

# With prefilter=2, the model is asked in one of so many steps, to fit the weights of the rows' features, and sees so many global views.
FIT_EVERY, FIT_VIEWS = 8, 4


class HardViewSelector(Fixed):
    """Chooses, for every image, the pair of candidate views with the largest loss under the current model.

    Each view passes the model once, without gradient and without leaving a trace in it (:func:`hvs_data.scoring`). Nothing waits
    for the device.

    Which pair: the largest loss among the legal pairs that ``allowed`` allows; of equal losses the first pair in order; a NaN or infinite
    loss is never chosen, and an image without a finite one gets the first of these pairs. Legal are the pairs (i, j) with i < j, or,
    where the candidates follow two distributions (roles "global1" and "global2"), those of one view each, the first role's slot first.
    Under an objective whose loss depends on the order (``Objective.ordered``), both orders of two views of one kind are legal.

    Multi-crop: with candidates of the role "local", which may have a size of their own, a pair is chosen of the others and as many
    local views as the recipe emits. The objective must be an :class:`~hvs_data.objectives.additive.AdditiveObjective`, such as DINO.
    The choice is the exact maximum over all combinations, of equal ones that with the first pair, then with the first local views;
    without a finite one it is the first legal pair and the first local views.

    Args:
        objective: the loss and the modules behind it.
        budget: what selection may cost, in one word: "exact" is the published method; "balanced" and "cheap" set ``score_size`` (of
            vision transformers ``keep_tokens``) and ``prefilter``, as :mod:`hvs_data.selection.budgets` says and a log message tells.
            These three options are the budget's by default, None without one; what is given stays as it is. Rows are free: draw 8
            candidates for "balanced" and 16 for "cheap". A size, or a share of tokens, that the model turns out not to take is given up
            for the next one that it does, which a warning in the log tells.
        score_size: side in pixels at which candidates are scored; None scores them as they come. Larger candidates of an explicit
            call are scaled down (antialiased bilinear) just for their scores; a loader renders them at this size to begin with. A
            number is that of the largest candidates, and the size of others shrinks in proportion (224 and 96 at 112: 112 and 48); a
            number below 1, such as 0.5, is a share of each one's own size. A dict gives the size for each role by name, for models
            that need multiples of a patch; roles that it leaves out keep theirs.
        bn: statistics that batch normalisation in training mode uses while scoring. "fused": of all candidates of one size of the
            batch together, as in the published method. "per_view": of one slot at a time, as most training forwards do, at the cost of
            V forwards. "running": the running statistics.
        chunk: the most images in one forward, to bound memory; None for no bound. A forward is split into parts of nearly equal
            size, and under bn="fused" and "per_view" each part is normalised with its own statistics. Additive objectives go through
            the images in parts, so that the outputs of one part exist at a time.
        dropout: keep dropout and drop path on, as the published code does.
        autocast: type to which scoring casts automatically, such as torch.bfloat16; None leaves it to the code around, and many trainers
            ask for the next batch outside of their own autocast.
        policy: "hardest"; "easiest", the smallest loss; "quantile", the loss at the share ``quantile`` of the way from an image's
            smallest to its largest; "softmax", drawn with probabilities proportional to exp(loss / ``temperature``); "smallest_iou",
            the boxes that overlap least (of several views, by the sum over the loss's pairs of views), from the rows alone; "random",
            the first legal pair and local views: rows are drawn independently, so the first ones are as random as any.
        quantile, temperature: see ``policy``; numbers, or functions of the step.
        every, probability: score in every so manieth step, and then with this probability; numbers, or functions of the step.
            In other steps nothing is scored and the policy is "random".
        warmup: steps before the first in which something is scored.
        limit: consider at most so many combinations, drawn at random anew in each step, as the published code for DINO does (with 64
            or 128). Needed by "quantile" and "softmax" where local views make more than 4,096 combinations.
        seed: of all that is drawn here, together with the step: no global random state is used. What is drawn to decide for the
            whole batch is the same on every rank, so that all ranks make the same forwards.
        keep_teacher: keep the teacher's outputs for the chosen pair in ``selection.teacher_outputs``, for trainers that reuse them
            instead of another forward. They are what the trainer's own forward would give if the teacher has neither batch
            normalisation in training mode nor dropout, and ``autocast`` is the trainer's.
        allowed: which pairs may be chosen, told from the rows: a function that takes the rows (:class:`hvs_data.ViewParams` [B, V]) and
            returns bool [B, V, V], True where a pair may be chosen, a rule by name (:class:`hvs_data.rules.MinIoU`, ``MaxIoU``,
            ``MinArea``), or several in a list, all of which must allow it. Every step obeys it, whether it asks the model or not. Of a
            pair as ``selection.pair`` tells it the entry in that order is read. With local views it is about the pair; local views are
            free. An image without an allowed pair gets its first legal one and is counted (``selection.none_allowed``, and
            :attr:`none_allowed`). The function runs on the CPU on a loader's threads, and must depend on the rows alone.
        keep_tokens: share of the patch tokens that a vision transformer keeps while scoring, such as 0.5, or a :class:`KeepTokens` that
            says more; None keeps all. See there for which.
        prefilter: ask the model for so many of an image's global candidates only, those that hold the hardest pairs as far as their rows
            tell (see :mod:`hvs_data.selection.geometry`; of two roles half each); None for all. A loader renders no others. With 2, the
            rows alone choose the pair, and the model is asked in every eighth step, for four candidates, to keep up with it; local
            views are then the first ones, as in other steps that do not score. Local candidates are all scored otherwise. For policies
            "hardest" and "easiest", and candidates with rows.
        compile: run the scoring forward through ``torch.compile``, as one graph for each shape: True, a mode such as "reduce-overhead"
            (CUDA graphs), or a dict of ``backend``, ``mode`` and ``options``. A forward that cannot be compiled raises.
        prepare: what the trainer's step does to its views before the model, such as normalising: a function of [N, 3, S, S], of the
            candidates' type, that returns what the model takes. Scoring does it too; the chosen views are handed out without it.
            None for nothing. ``torch.nn.Identity()`` says that nothing is meant, to a loader whose views are not normalised.

    Attributes:
        budget: as given.
        last: the latest selection, None before the first.
        step: how many selections were made; with ``geometry`` the state of a run beside the model.
        none_allowed: how many images so far had no pair that ``allowed`` allows.
        geometry: what ``prefilter`` has learned of the rows: ``geometry.weights`` by name, ``pairs``, ``r2``.
        watchers: functions that are called with every selection, such as that of a :class:`hvs_data.Monitor`.

    Raises:
        SelectionError: an argument that means nothing.
        AttributeError: the objective, or an option of the schedule, of what is drawn or of what is run, that is set afterwards.
    """

    _decided = frozenset("objective budget quantile temperature every probability warmup seed keep_tokens compile allowed".split())
    _instead = "make another HardViewSelector with it, and load_state_dict(state_dict()) to go on with this one's step"

    def __init__(
        self,
        objective: Objective,
        *,
        budget: str | None = None,
        score_size: float | Mapping[str, float] | ByBudget | None = BY_BUDGET,
        bn: str = "fused",
        chunk: int | None = None,
        dropout: bool = False,
        autocast: torch.dtype | None = None,
        policy: str = "hardest",
        quantile: Scheduled = 0.75,
        temperature: Scheduled = 1.0,
        every: Scheduled = 1,
        probability: Scheduled = 1.0,
        warmup: int = 0,
        limit: int | None = None,
        seed: int = 0,
        keep_teacher: bool = False,
        prefilter: int | ByBudget | None = BY_BUDGET,
        allowed: RowRule | Sequence[RowRule] | None = None,
        keep_tokens: float | KeepTokens | ByBudget | None = BY_BUDGET,
        compile: Compile = False,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ):
        if not isinstance(objective, Objective):
            raise SelectionError(
                f"expected an hvs_data.Objective, got {objective if isinstance(objective, type) else type(objective).__name__}; "
                "pass an instance, such as objectives.SimSiam(model), or a subclass of Objective of your own"
            )
        if bn not in BN_MODES:
            raise SelectionError(
                f"bn must be one of {BN_MODES}, got {bn!r}; it says which statistics batch normalisation uses while scoring"
            )
        if policy not in POLICIES:
            raise SelectionError(f"policy must be one of {POLICIES}, got {policy!r}; it says which of an image's pairs is chosen")
        given = {"score_size": score_size, "keep_tokens": keep_tokens, "prefilter": prefilter}
        options = budgeted(budget, objective, policy, keep_teacher, given)
        self.budget = budget
        self.score_size = _plain_sizes(options.score_size)
        self.keep_tokens = options.keep_tokens
        number = whole_number(options.prefilter)
        self.prefilter = options.prefilter if number is None else number  # True stays, to be refused
        for name, value in (("chunk", chunk), ("limit", limit)):
            if value is not None and not whole(value):
                raise SelectionError(f"{name} must be a whole number of at least 1, or None, got {value!r}")
        for name, value in _named_sizes(self.score_size):
            if value is not None and not whole(value) and not (share(value) and 0 < value < 1):
                raise SelectionError(f"{name} must be a whole number of at least 1, a share of the size below 1, or None, got {value!r}")
        if self.prefilter is not None and not (whole(self.prefilter) and self.prefilter >= 2):
            raise SelectionError(
                f"prefilter must be a whole number of at least 2, or None, got {self.prefilter!r}; so many views are scored"
            )
        if self.prefilter is not None and policy not in _EXTREME:
            raise SelectionError(
                f"prefilter goes with the policies {_EXTREME}, got {policy!r}, which is about candidates that rows would leave out"
            )
        if autocast is not None and not (isinstance(autocast, torch.dtype) and autocast.is_floating_point):
            raise SelectionError(f"autocast must be a floating type, such as torch.bfloat16, or None, got {autocast!r}")
        self.encoding = Encoding(objective, self.keep_tokens, compile)
        self._concessions = Concessions(budget, options.concessions)
        self._settled = False  # whether a forward has gone through
        self._unfit = UnfitImages()
        reusable = getattr(objective, "has_teacher", False) and self.score_size is None and self.encoding.spares_teacher()
        if keep_teacher and not reusable:
            raise SelectionError(
                "keep_teacher needs an objective with a teacher, such as DINO, candidates scored at their own size (score_size=None), and "
                "a teacher that sees all tokens (keep_tokens=KeepTokens(share, teacher=False)), "
                f"got {type(objective).__name__}, score_size={self.score_size!r} and keep_tokens={self.keep_tokens!r}"
            )
        if prepare is not None and not callable(prepare):
            raise SelectionError(f"prepare must be a function of views, such as one that normalises them, or None, got {prepare!r}")
        self.prepare = prepare
        self.objective = objective
        self.bn = bn
        self.chunk = None if chunk is None else int(chunk)
        self.dropout = dropout
        self.autocast = autocast
        self.policy = policy
        self.limit = None if limit is None else int(limit)
        self.keep_teacher = keep_teacher
        self.allowed = rule_of(allowed)
        self.none_allowed = 0
        self.geometry = Geometry()
        self.schedule = Schedule(every, probability, warmup, seed)
        self.seed = int(seed)
        self._quantile = checked("quantile", quantile, share, "a number from 0, the smallest loss, to 1, the largest")
        self._temperature = checked("temperature", temperature, positive, "a number above 0, in units of the loss")
        self.step = 0
        self.last: Selection | None = None
        self.watchers: list[Callable[[Selection], object]] = []
        self._made = True

    # --- selecting -----------------------------------------------------------------------------------------------------

    def __call__(
        self, candidates: Sequence[Tensor] | Tensor, params: ViewParams | Recipe | None = None, *, slots: Tensor | None = None
    ) -> list[Tensor]:
        """Select, and return the chosen views.

        Args:
            candidates: V tensors [B, 3, S, S], local views of another size than the others if they have one, or one tensor
                [B, V, 3, S, S].
            params: the candidates' rows, if they have any: they say which pairs are legal, which views are local, and how many of
                these are chosen. Candidates that were made without rows take the recipe whose slots they fill.
            slots: int64 [B, K], for callers who render those candidates only that are needed: the slots that ``candidates`` show, as
                :meth:`narrowing` gave them for this step. ``params`` are the rows of all V.

        Returns:
            ``[x1, x2]``, or ``[x1, x2, local views...]`` by number, each [B, 3, S, S] with the candidates' type, device and memory
            format. The selection is in ``last``.

        Raises:
            SelectionError: candidates, model outputs or losses of a wrong shape.
        """
        taken = self._taken(candidates, params, slots)
        device = taken.groups[0].views[0].device
        chosen_BK = self._select(taken, device).slots.to(device, non_blocking=True)
        if taken.slots is not None:
            # which of the views that are there shows each of the chosen slots
            shown_BK = taken.slots.to(device, non_blocking=True)
            chosen_BK = (shown_BK[:, None] == chosen_BK[:, :, None]).to(torch.uint8).argmax(2)
        place_BK = tables_of(taken.layout, device).position[chosen_BK]
        pairs_and_locals = zip(taken.groups, (place_BK[:, :2], place_BK[:, 2:]), strict=False)
        return [view for group, place in pairs_and_locals for view in group.pick(place)]

    def select(
        self, candidates: Sequence[Tensor] | Tensor | None, params: ViewParams | Recipe | None = None, *, slots: Tensor | None = None
    ) -> Selection:
        """The selection alone. Arguments and errors as for calling the selector; where :meth:`scores` is false for ``step``, rows are
        enough, and ``candidates`` may be None."""
        if candidates is None:
            if not isinstance(params, ViewParams) or self.scores(self.step):
                raise SelectionError(
                    "expected candidates, which only steps in which the model is not asked can do without if they have the rows, got "
                    f"None with {type_name(params)}"
                )
            layout = layout_of(params.num_views, params, self.objective.ordered)
            return self._select(Taken([], layout, params, layout, params, slots), torch.device("cpu"))
        taken = self._taken(candidates, params, slots)
        return self._select(taken, taken.groups[0].views[0].device)

    def scores(self, step: int) -> bool:
        """Whether the model is asked at a step. Where it is not, candidates need not be rendered to select."""
        if self.policy in UNSCORED or not self.schedule.scores(step):
            return False
        # of the steps of a schedule with every=k, the first one of each eight steps
        return self.prefilter != 2 or step % FIT_EVERY < self.schedule.every(step)

    def narrowing(self, step: int, source: ViewParams | Recipe) -> Narrowing:
        """Which candidates are needed at a step, to be asked before any is rendered: as many steps ahead as ``geometry.delay`` allows.

        Args:
            step: not before :attr:`step`.
            source: rows of the candidates, or the recipe whose slots they fill.
        """
        return self._narrowing(step, layout_of(source.num_views, source, self.objective.ordered))

    @property
    def narrows(self) -> bool:
        """Whether it depends on the step which candidates are needed."""
        return self.prefilter is not None or (self.policy != "random" and not self.schedule.always)

    def score_sizes(self, roles: Sequence[str], sizes: Sequence[int]) -> tuple[int, ...]:
        """The side in pixels at which each slot is scored, from the slots' roles and their own sizes; never a larger one."""
        size = self.score_size
        if size is None:
            return tuple(sizes)
        if isinstance(size, Mapping):
            return tuple(_scored_size(own, size.get(role, own), own) for role, own in zip(roles, sizes, strict=True))
        return tuple(_scored_size(own, size, max(sizes)) for own in sizes)

    @property
    def unfit_images(self) -> int:
        """Images so far of which no loss was finite, so that they got their first legal pair. Waits for losses in the making."""
        return self._unfit.count

    def is_fresh(self, selection: Selection) -> bool:
        """Whether the model's weights are still those that chose. To be asked right before training on the chosen views; True for a
        selection that did not ask the model.

        Every change in place counts, one by an optimizer or by a momentum update; changes through ``parameter.data`` are not seen.
        """
        return selection.weights is None or selection.weights == self._weights()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on with the same schedule, draws and weights of the rows' features: plain numbers and lists."""
        state: dict[str, Any] = {"step": self.step, "seed": self.seed}
        if self.allowed is not None:
            state["none_allowed"] = self.none_allowed
        return state if self.prefilter is None else {**state, "geometry": self.geometry.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the selector of :meth:`state_dict` stood.

        Raises:
            SelectionError: the state of a selector with another seed.
        """
        if state["seed"] != self.seed:
            raise SelectionError(
                f"expected the state of a selector with seed {self.seed}, got seed {state['seed']}; use the same to go on with its draws"
            )
        self.step = int(state["step"])
        self.none_allowed = int(state.get("none_allowed", 0))
        self.geometry.load_state_dict(state.get("geometry"))

    # --- how -----------------------------------------------------------------------------------------------------------

    def _taken(self, candidates: Sequence[Tensor] | Tensor, params: ViewParams | Recipe | None, slots: Tensor | None) -> Taken:
        rows = params if isinstance(params, ViewParams) else None
        if slots is None:
            views = checked_views(candidates, rows)
            layout = layout_of(len(views), params, self.objective.ordered)
            return Taken(groups_of(views, layout), layout, rows, layout, rows)
        if rows is None:
            raise SelectionError(f"slots= says which of the candidates' rows are shown, got {type_name(params)} for params; pass the rows")
        shown = rows.take(slots)
        views = checked_views(candidates, shown)
        layout = layout_of(len(views), shown, self.objective.ordered)
        return Taken(groups_of(views, layout), layout, shown, layout_of(rows.num_views, rows, self.objective.ordered), rows, slots)

    def _narrowing(self, step: int, layout: Layout) -> Narrowing:
        asks, in_schedule = self.scores(step), self.schedule.scores(step)
        if not asks and (self.policy == "random" or not in_schedule):
            return Narrowing(layout, FIRST, asks=False, allowed=self.allowed)
        if self.policy == "smallest_iou":
            return Narrowing(layout, LEAST_OVERLAP, asks=False, allowed=self.allowed)
        count = self.prefilter if self.prefilter != 2 or not asks else FIT_VIEWS
        if count is None or (asks and count >= len(layout.global_slots)):
            return Narrowing(layout, ALL, asks=True)
        return Narrowing(layout, PROMISING, asks, count, self.geometry.at(step), self.policy == "easiest", self.allowed)

    def _select(self, taken: Taken, device: torch.device) -> Selection:
        if taken.layout.local_slots and not isinstance(self.objective, AdditiveObjective):
            raise SelectionError(
                f"expected an AdditiveObjective, such as DINO, for candidates of the role {LOCAL!r}, got {type(self.objective).__name__}, "
                "which scores pairs; pass the global views alone, such as params.views(slots)"
            )
        step = self.step
        narrowing = self._narrowing(step, taken.all_layout)
        rows = taken.all_rows
        allowed = AllowedPairs.of(self.allowed, taken.all_layout, rows)
        if not narrowing.asks:
            selection = self._unscored(narrowing, taken, step, device)
        elif taken.slots is None and narrowing.rule == PROMISING:
            images = taken.groups[0].views[0].shape[0]
            few = narrowed(taken, narrowing.slots(images, rows), device, self.objective.ordered)
            selection = self._scored(few, step, device, allowed)
        else:
            selection = self._scored(taken, step, device, allowed)
        if allowed is not None:
            without = int(allowed.without.sum())  # on the CPU, as rows are
            self.none_allowed += without
            table_BVV = allowed.allowed_BVV.to(selection.pair.device, non_blocking=True)
            selection = replace(selection, allowed=table_BVV, none_allowed=without)
        self.step, self.last = step + 1, selection
        for watch in self.watchers:
            watch(selection)
        return selection

    def _unscored(self, narrowing: Narrowing, taken: Taken, step: int, device: torch.device) -> Selection:
        rows = taken.all_rows
        images = rows.batch_size if rows is not None else taken.groups[0].views[0].shape[0]
        if narrowing.rule == FIRST:
            # rows are drawn independently, so the first ones are as random as any
            slots = None if self.allowed is None else narrowing.slots(images, rows)
            slots_BK = tables_of(taken.all_layout, device).first.expand(images, -1) if slots is None else slots
            return unscored_selection(slots_BK, taken.all_layout, rows, "random", step)
        slots = taken.slots if taken.slots is not None else narrowing.slots(images, rows)
        assert slots is not None
        return unscored_selection(slots, taken.all_layout, rows, narrowing.rule, step)

    def _weights(self) -> int:
        return weights_version(self.objective.modules())

    def _scored(self, taken: Taken, step: int, device: torch.device, allowed: AllowedPairs | None) -> Selection:
        try:
            selection = self._asked(taken, step, device, allowed)
        except Exception as error:
            sides = self._sides(taken)
            add_note(error, sides, self.score_size, self.keep_tokens, self.budget)
            concession = None if self._settled else self._concessions.after(error)
            if concession is None:
                raise
            score_size, keep_tokens = concession
            vars(self).update(score_size=score_size, keep_tokens=keep_tokens)  # decided for others
            self.encoding = self.encoding.with_tokens(self.keep_tokens)
            if any(side.given < side.own for side in sides):
                raise SizeConcededError(
                    f"expected candidates at a size that the model takes, got them at {sides[0].given} pixels, not their own "
                    f"{sides[0].own}; give them at the sizes that selector.score_sizes now tells"
                ) from error
            return self._scored(taken, step, device, allowed)
        self._settled = True
        self._concessions.announce()
        return selection

    def _asked(self, taken: Taken, step: int, device: torch.device, allowed: AllowedPairs | None) -> Selection:
        groups, layout, params = taken.groups, taken.layout, taken.rows
        tables = tables_of(layout, device)
        open_BP = None if allowed is None else allowed.pairs(layout, taken.slots).to(device, non_blocking=True)
        spread = OutputSpread()
        forward = Forward(self.bn, self.chunk, self._group_sizes(groups, layout, params), params, self.encoding, self.prepare, spread)
        teacher: Outputs = None
        with (
            scoring(*self.objective.modules(), bn="running" if self.bn == "running" else "batch", dropout=self.dropout),
            self._casting(device),
            self.encoding.guards(first=not self._settled, dropout=self.dropout, prepare=self.prepare),
            self.encoding.levers(),
        ):
            if isinstance(self.objective, AdditiveObjective):
                table_BTS, teacher = forward.term_table(self.objective, groups, layout.emitted, self.keep_teacher)
                table_BTS = table_BTS.detach()
                parts = additive_parts(table_BTS, layout, tables)
                non_finite = (~table_BTS.isfinite() & tables.read).sum()
            else:
                losses_BVV = forward.pair_losses(self.objective, groups[0]).detach()
                parts = Parts(losses_BVV[:, tables.pair[:, 0], tables.pair[:, 1]].to(torch.float32))
                non_finite = (~parts.pair.isfinite() if open_BP is None else ~parts.pair.isfinite() & open_BP).sum()
        first_BK = None
        if open_BP is not None:
            parts, first_BK = parts.only(open_BP), first_of(open_BP, layout)
        chosen = self._choice(parts, layout, tables, step, first_BK)
        self._unfit.note(step, chosen.loss)
        if self.prefilter is not None and params is not None:
            self.geometry.observe(step, params, layout.pairs, chosen.pair_losses)
        selection = self._selection(chosen, parts, layout, tables, non_finite, params, step)
        selection = replace(selection, num_losses=self._num_losses(taken, len(parts.pair), allowed), output_std=spread.value())
        if teacher is not None:
            place_B2 = tables.position[selection.pair]
            image_B = torch.arange(len(place_B2), device=device)
            kept = map_outputs(lambda output_BT: torch.cat([output_BT[image_B, place_B] for place_B in place_B2.unbind(1)]), teacher)
            selection = replace(selection, teacher_outputs=kept)
        return selection if taken.slots is None else widened(selection, taken, device)

    def _num_losses(self, taken: Taken, images: int, allowed: AllowedPairs | None) -> int:
        """How many losses, or terms of them, are looked at."""
        if isinstance(self.objective, AdditiveObjective):
            return images * taken.layout.terms
        return images * len(taken.layout.pairs) if allowed is None else int(allowed.pairs(taken.layout, taken.slots).sum())

    def _casting(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        # a weight that is cast under no_grad and kept would lack its gradient in an autocast region around
        return torch.autocast(device.type, dtype=self.autocast, cache_enabled=False)

    def _choice(self, parts: Parts, layout: Layout, tables: Tables, step: int, first_BK: Tensor | None) -> Chosen:
        device = parts.pair.device
        listed = listed_combinations(layout, self.policy, self.limit, self.seed, step, device)
        parameter, unit_B = 0.0, None
        if self.policy == "quantile":
            parameter = self._quantile(step)
        elif self.policy == "softmax":
            parameter = self._temperature(step)
            unit = unit_numbers(self.seed, step, WHICH, len(parts.pair), stream=current_rank(None, None)[0])
            unit_B = torch.from_numpy(unit).to(device, non_blocking=True)
        return choose_combination(parts, layout, tables, self.policy, parameter, unit_B, listed, first_BK)

    def _selection(
        self, chosen: Chosen, parts: Parts, layout: Layout, tables: Tables, non_finite: Tensor, params: ViewParams | None, step: int
    ) -> Selection:
        device = parts.pair.device
        losses_BVV = torch.full((len(parts.pair), layout.views, layout.views), torch.nan, dtype=torch.float32, device=device)
        loss_BP = chosen.pair_losses.to(torch.float32)
        if parts.local is not None:
            loss_BP = loss_BP.where(loss_BP.isfinite(), torch.nan)
        first_P, second_P = tables.pair.unbind(1)
        losses_BVV[:, first_P, second_P] = loss_BP
        if not layout.ordered:
            losses_BVV[:, second_P, first_P] = loss_BP
        return Selection(
            pair=chosen.slots[:, :2],
            losses=losses_BVV,
            legal=tables.legal,
            non_finite=non_finite,
            params=params,
            slots=chosen.slots,
            policy=self.policy,
            step=step,
            weights=self._weights(),
            combination_loss=None if parts.local is None else chosen.loss.to(torch.float32),
        )

    def _sides(self, taken: Taken) -> list[Sides]:
        given = [max(group.views[0].shape[-2:]) for group in taken.groups]
        own = given if taken.rows is None else [taken.rows.size[group.slots[0]] for group in taken.groups]
        scored = [size or side for size, side in zip(self._group_sizes(taken.groups, taken.layout, taken.rows), own, strict=True)]
        return [Sides(*sides) for sides in zip(own, given, scored, strict=True)]

    def _group_sizes(self, groups: list[Group], layout: Layout, params: ViewParams | None) -> tuple[int | None, ...]:
        """The largest side at which each group is scored."""
        if self.score_size is None:
            return (None,) * len(groups)
        if params is None:
            sides = [max(group.views[0].shape[-2:]) for group in groups]
        else:
            # of the rows: a loader renders candidates at the size at which they are scored, of which a share would be taken once more
            sides = [params.size[group.slots[0]] for group in groups]
        return self.score_sizes([layout.roles[group.slots[0]] for group in groups], sides)


def _scored_size(own: int, size: float, largest: int) -> int:
    """The side at which a view of the side ``own`` is scored, if ``size`` is that of views of the side ``largest``, or a share of all."""
    share_of_own = size if size < 1 else min(1, size / largest)
    return max(1, round(own * share_of_own))


def _plain_sizes(score_size: Any) -> Any:
    """Plain numbers in place of those of numpy and the like; what is no number stays, to be refused."""
    if isinstance(score_size, Mapping):
        return {role: _plain_sizes(size) for role, size in score_size.items()}
    return next((number for number in (whole_number(score_size), real_number(score_size)) if number is not None), score_size)


def _named_sizes(score_size: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(score_size, Mapping):
        yield "score_size", score_size
        return
    for role, size in score_size.items():
        yield f"score_size[{role!r}]", size
