"""Selects the hardest of every image's candidate views: one fused forward, one table of losses, an exact argmax."""

# Axes: B image, V view, K chosen view, S S a square view's pixels.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.fixed import Fixed
from hvs_data.arguments.sizes import Size
from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.forwards.asking import Asking
from hvs_data.forwards.compiled import Compile
from hvs_data.forwards.tokens import KeepTokens
from hvs_data.modules.freshness import weights_version
from hvs_data.objectives.base import Objective
from hvs_data.policies.base import Policy
from hvs_data.policies.named import policy_of
from hvs_data.policies.schedules import Scheduled
from hvs_data.recipes.spec import Recipe
from hvs_data.rules import RowRule
from hvs_data.selection.allowed import AllowedPairs, first_of
from hvs_data.selection.budgets import BY_BUDGET, ByBudget, budgeted
from hvs_data.selection.candidates import Candidates
from hvs_data.selection.choice import Choice
from hvs_data.selection.extra import with_extra
from hvs_data.selection.geometry import Geometry
from hvs_data.selection.narrowing import Narrowing
from hvs_data.selection.plan import Plan
from hvs_data.selection.schedule import Schedule
from hvs_data.selection.scorer import Scorer
from hvs_data.selection.sizes import scored_sizes
from hvs_data.selection.telling import scored_selection, widened, with_allowed, with_slots, with_teacher
from hvs_data.selection.unfit import UnfitImages
from hvs_data.types.rows import ViewParams
from hvs_data.types.selection import Selection


class HardViewSelector(Fixed):
    """Chooses, for every image, the pair of candidate views with the largest loss under the current model.

    Each view passes the model once, without gradient and without leaving a trace in it (:func:`hvs_data.scoring`). Nothing waits
    for the device.

    Which pair: the largest loss among the legal pairs that ``allowed`` allows; of equal losses the first pair in order; a NaN or infinite
    loss is never chosen, and an image without a finite one gets the first of these pairs. Legal are the pairs (i, j) with i < j, or,
    where the candidates are of two roles ("global1" and "global2"), those of one view each, the first role's slot first.
    Under an objective whose loss depends on the order (``Objective.ordered``), both orders of two views of one kind are legal.

    More than two views: where the recipe emits k views besides local ones, the set of k is chosen whose mean loss over all its pairs is the
    largest, of equal ones the first; every pair of it is legal and allowed. All sets are looked at up to 16,384 an image; of more, one
    of a large mean is searched for (:mod:`hvs_data.selection.set_search`), if the policy seeks the largest or the smallest loss.

    One view: where the recipe emits one, under an objective of single views, the view of the largest loss.

    Multi-crop: with candidates of the role "local", which may have a size of their own, a pair is chosen of the others and as many
    local views as the recipe emits, under an :class:`~hvs_data.objectives.additive.AdditiveObjective`, such as DINO; under an objective
    of pairs with ``score_locals``, and otherwise local views are handed out unseen.
    The choice is the exact maximum over all combinations, of equal ones that with the first pair, then with the first local views;
    without a finite one it is the first legal pair and the first local views.

    Args:
        objective: the loss and the modules behind it.
        budget: what selection may cost, in one word: "exact" is the published method; "balanced" and "cheap" set ``score_size`` (of
            vision transformers ``keep_tokens``) and ``prefilter``, as :mod:`hvs_data.selection.budgets` says and a log message tells.
            These three options are the budget's by default, None without one; what is given stays as it is. Rows are free: draw 8
            candidates for "balanced" and 16 for "cheap". A size, or a share of tokens, that the model turns out not to take is given up
            for the next one that it does, which a warning in the log tells.
        score_size: side in pixels at which candidates are scored, the longer one where they are not square; None scores them as they
            come. Larger candidates of an explicit call are scaled down (antialiased bilinear) just for their scores; a loader renders
            them at this size to begin with. A number is that of the largest candidates, and the size of others shrinks in proportion
            (224 and 96 at 112: 112 and 48); a number below 1, such as 0.5, is a share of each one's own size. A dict gives the size for
            each role by name, for models that need multiples of a patch; roles that it leaves out keep theirs.
        bn: statistics that batch normalisation in training mode uses while scoring. "fused": of all candidates of one size of the
            batch together, as in the published method. "per_view": of one slot at a time, as most training forwards do, at the cost of
            V forwards. "running": the running statistics.
        chunk: the most images in one forward, to bound memory; None for no bound. A forward is split into parts of nearly equal
            size, and under bn="fused" and "per_view" each part is normalised with its own statistics. Additive objectives go through
            the images in parts, so that the outputs of one part exist at a time.
        dropout: keep dropout and drop path on, as the published code does.
        autocast: type to which scoring casts automatically, such as torch.bfloat16; None leaves it to the code around, and many trainers
            ask for the next batch outside of their own autocast.
        policy: which pair is chosen, an object of :mod:`hvs_data.policies` or the name of a usual one. "hardest"; "easiest", the smallest
            loss; "quantile", the loss at the share ``quantile`` of the way from an image's smallest to its largest; "softmax", drawn with
            probabilities proportional to exp(loss / ``temperature``); "tempered", drawn by rank, random at first and harder over the run;
            "mixed", the hardest for half of the images, a random pair for the others; "feasible", the hardest of the pairs that overlap
            by .2; "anchored", the hardest partner of the view that shows most of the image, which comes first in the pair
            (:class:`hvs_data.policies.Anchored`); "unforetold", the largest loss less what the rows foretell; "smallest_iou", the boxes
            that overlap least, from the rows alone; "random", the first legal pair.
        quantile, temperature: of the policies of that name; numbers, functions of the step, or a :class:`hvs_data.policies.Ramp`.
        every, probability: score in one of ``every`` steps, and then with this probability; numbers, functions of the step, or a ramp.
            In other steps nothing is scored and the policy is "random".
        warmup: steps before the first in which something is scored; below 1, a share of the run.
        total_steps: of the whole run, for schedules over shares of it: ramps, and a warm-up below 1.
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
            free. An image without an allowed pair gets its first legal one (under the policy "feasible" that of the largest overlap)
            and is counted (``selection.none_allowed``, and :attr:`none_allowed`). The function runs on the CPU on a loader's threads,
            and must depend on the rows alone.
        keep_tokens: share of the patch tokens that a vision transformer keeps while scoring, such as 0.5, or a :class:`KeepTokens` that
            says more; None keeps all. See there for which.
        prefilter: ask the model for so many of an image's global candidates only, those that hold the hardest pairs as far as their rows
            tell (see :mod:`hvs_data.selection.geometry`; of two roles half each); None for all. A loader renders no others. With 2, the
            rows alone choose the pair, and the local views beside it where these are chosen by their loss; the model is asked in every
            eighth step, for four candidates and all local ones, to keep up with it. Local candidates are all scored otherwise. For
            policies that seek the largest or the smallest loss, and candidates with rows.
        compile: run the scoring forward through ``torch.compile``, as one graph for each shape: True, a mode such as "reduce-overhead"
            (CUDA graphs), or a dict of ``backend``, ``mode`` and ``options``. A forward that cannot be compiled raises.
        prepare: what the trainer's step does to its views before the model, such as normalising: a function of [N, 3, S, S], of the
            candidates' type, that returns what the model takes. Scoring does it too; the chosen views are handed out without it.
            None for nothing. ``torch.nn.Identity()`` says that nothing is meant, to a loader whose views are not normalised.
        extra_views: hand out so many further candidates between the pair and the local views, random ones: the first that are not in the
            pair, as rows are drawn independently of one another; of two roles in turn, beginning with the first. They are handed out in
            every kind of step, and what is scored, the rule and the loss that chooses are about the others alone. With 2, a step has
            both the hardest pair and a random one.

        score_locals: choose local views too under an objective of pairs: those of the largest losses with the chosen global views
            (:meth:`hvs_data.Objective.local_losses`). The networks must take views of their size. Otherwise the recipe's local views are
            handed out unseen, behind the others. Additive objectives choose them in any case.

    Attributes:
        budget: as given.
        policy: as an object.
        score_size, keep_tokens, prefilter: as given, or as the budget set them, less what it gave up since the model did not take it.
        last: the latest selection, None before the first.
        step: how many selections were made; with ``geometry`` the state of a run beside the model.
        none_allowed: how many images so far had no pair that ``allowed`` allows.
        geometry: what ``prefilter``, or the policy "unforetold", has learned of the rows: ``geometry.weights`` by name, ``pairs``, ``r2``.
        local_geometry: the same of what local views add to the loss beside a pair, for ``prefilter=2``.
        watchers: functions that are called with every selection, such as that of a :class:`hvs_data.Monitor`.

    Raises:
        SelectionError: an argument that means nothing.
        AttributeError: the objective, or an option of the schedule, of what is drawn or of what is run, that is set afterwards.
    """

    _decided = frozenset(
        "objective budget policy quantile temperature every probability warmup total_steps limit seed score_size keep_tokens prefilter "
        "bn chunk dropout keep_teacher compile allowed extra_views score_locals".split()
    )
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
        policy: str | Policy = "hardest",
        quantile: Scheduled = 0.75,
        temperature: Scheduled = 1.0,
        every: Scheduled = 1,
        probability: Scheduled = 1.0,
        warmup: float = 0,
        total_steps: int | None = None,
        limit: int | None = None,
        seed: int = 0,
        keep_teacher: bool = False,
        prefilter: int | ByBudget | None = BY_BUDGET,
        allowed: RowRule | Sequence[RowRule] | None = None,
        keep_tokens: float | KeepTokens | ByBudget | None = BY_BUDGET,
        compile: Compile = False,
        prepare: Callable[[Tensor], Tensor] | None = None,
        extra_views: int = 0,
        score_locals: bool = False,
    ):
        if not isinstance(objective, Objective):
            raise SelectionError(
                f"expected an hvs_data.Objective, got {objective if isinstance(objective, type) else type(objective).__name__}; "
                "pass an instance, such as objectives.SimSiam(model), or a subclass of Objective of your own"
            )
        # which pair is taken, in which steps, how the model is asked, and at which cost
        choice = Choice.of(policy_of(policy, quantile, temperature), allowed, limit)
        self.schedule = Schedule(every, probability, warmup, seed, total_steps)
        asking = Asking(bn, chunk, dropout, autocast, prepare)
        given = {"score_size": score_size, "keep_tokens": keep_tokens, "prefilter": prefilter}
        options = budgeted(budget, objective, choice.policy, keep_teacher, given)
        self.geometry = Geometry()
        self.local_geometry = Geometry()
        self._plan = Plan(
            objective, choice, self.schedule, options.prefilter, extra_views, self.geometry, self.local_geometry, bool(score_locals)
        )
        self._scorer = Scorer(objective, asking, options, budget, compile, keep_teacher)
        self.objective = objective
        self.budget = budget
        self.seed = self.schedule.seed
        self.none_allowed = 0
        self._unfit = UnfitImages()
        self.step = 0
        self.last: Selection | None = None
        self.watchers: list[Callable[[Selection], object]] = []
        self._made = True

    # --- selecting -----------------------------------------------------------------------------------------------------

    def __call__(
        self,
        candidates: Sequence[Tensor] | Tensor,
        params: ViewParams | Recipe | None = None,
        *,
        slots: Tensor | None = None,
        labels: Any = None,
    ) -> list[Tensor]:
        """Select, and return the chosen views.

        Args:
            candidates: V tensors [B, 3, S, S], local views of another size than the others if they have one, or one tensor
                [B, V, 3, S, S].
            params: the candidates' rows, if they have any: they say which pairs are legal, which views are local, and how many of
                these are chosen. Candidates that were made without rows take the recipe whose slots they fill.
            slots: int64 [B, K], for callers who render those candidates only that are needed: the slots that ``candidates`` show, as
                :meth:`narrowing` gave them for this step. ``params`` are the rows of all V.
            labels: of the images, a tensor with first axis B or a dict of such, for objectives that take them (``Objective.takes_labels``).

        Returns:
            ``[x1, x2]``, or ``[x1, x2, ..., extra views..., local views by number...]``, each [B, 3, S, S] with the candidates' type,
            device and memory format. The selection is in ``last``.

        Raises:
            SelectionError: candidates, model outputs or losses of a wrong shape.
        """
        given = Candidates.of(candidates, params, slots, self._plan.layout)
        device = given.groups[0].views[0].device
        return given.show(self._select(given, device, labels).slots.to(device, non_blocking=True))

    def select(
        self,
        candidates: Sequence[Tensor] | Tensor | None,
        params: ViewParams | Recipe | None = None,
        *,
        slots: Tensor | None = None,
        labels: Any = None,
    ) -> Selection:
        """The selection alone. Arguments and errors as for calling the selector; where :meth:`scores` is false for ``step``, rows are
        enough, and ``candidates`` may be None."""
        if candidates is None:
            if not isinstance(params, ViewParams) or self.scores(self.step):
                raise SelectionError(
                    "expected candidates, which only steps in which the model is not asked can do without if they have the rows, got "
                    f"None with {type_name(params)}"
                )
            layout = self._plan.layout(params.num_views, params)
            return self._select(Candidates([], layout, params, layout, params, slots), torch.device("cpu"), labels)
        given = Candidates.of(candidates, params, slots, self._plan.layout)
        return self._select(given, given.groups[0].views[0].device, labels)

    def scores(self, step: int) -> bool:
        """Whether the model is asked at a step. Where it is not, candidates need not be rendered to select."""
        return self._plan.asks(step)

    @property
    def ever_scores(self) -> bool:
        """Whether the policy asks the model at all."""
        return self.policy.ever_asks

    def narrowing(self, step: int, source: ViewParams | Recipe) -> Narrowing:
        """Which candidates are needed at a step, to be asked before any is rendered: as many steps ahead as ``geometry.delay`` allows.

        Args:
            step: not before :attr:`step`.
            source: rows of the candidates, or the recipe whose slots they fill.
        """
        return self._plan.narrowing(step, self._plan.layout(source.num_views, source))

    def check(self, source: ViewParams | Recipe) -> None:
        """Refuse candidates that this selector cannot choose from, as selecting would.

        Args:
            source: rows of the candidates, or the recipe whose slots they fill.

        Raises:
            SelectionError: see above.
        """
        self._plan.check(self._plan.layout(source.num_views, source))

    @property
    def narrows(self) -> bool:
        """Whether it depends on the step which candidates are needed."""
        return self._plan.changes

    def score_sizes(self, roles: Sequence[str], sizes: Sequence[Size]) -> tuple[Size, ...]:
        """The size in pixels at which each slot is scored, from the slots' roles and their own sizes; never a larger one."""
        return scored_sizes(self.score_size, roles, sizes)

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
        if self._plan.learns:
            state["geometry"] = self.geometry.state_dict()
        if self.local_geometry.pairs:
            state["local_geometry"] = self.local_geometry.state_dict()
        return state

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
        self.local_geometry.load_state_dict(state.get("local_geometry"))  # older versions had none

    # --- settings ------------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        return self._plan.choice.policy

    @property
    def prefilter(self) -> int | None:
        return self._plan.prefilter

    @property
    def extra_views(self) -> int:
        return self._plan.extra_views

    @property
    def score_locals(self) -> bool:
        return self._plan.scores_locals

    @property
    def allowed(self) -> RowRule | None:
        rule = self._plan.choice.rule
        return None if rule is None else rule.rule

    @property
    def score_size(self) -> float | Mapping[str, float] | None:
        return self._scorer.score_size

    @property
    def keep_tokens(self) -> float | KeepTokens | None:
        return self._scorer.keep_tokens

    @property
    def autocast(self) -> torch.dtype | None:
        return self._scorer.asking.autocast

    @autocast.setter
    def autocast(self, dtype: torch.dtype | None) -> None:
        self._scorer.asking = replace(self._scorer.asking, autocast=dtype)

    @property
    def prepare(self) -> Callable[[Tensor], Tensor] | None:
        return self._scorer.asking.prepare

    @prepare.setter
    def prepare(self, prepare: Callable[[Tensor], Tensor] | None) -> None:
        self._scorer.asking = replace(self._scorer.asking, prepare=prepare)

    # --- how -----------------------------------------------------------------------------------------------------------

    def _select(self, given: Candidates, device: torch.device, labels: Any) -> Selection:
        step, plan = self.step, self._plan
        narrowing = plan.narrowing(step, given.all_layout)
        allowed = AllowedPairs.of(plan.choice.rule, given.all_layout, given.all_rows)
        if not narrowing.asks:
            selection = plan.unasked(narrowing, given, step, device)
        else:
            selection = self._scored(plan.scored_of(narrowing, given, device), step, device, allowed, labels)
            selection = with_slots(selection, with_extra(selection.slots, given.all_layout, plan.extra_views))
        selection = replace(with_allowed(selection, allowed), extra_views=plan.extra_views)
        self.none_allowed += selection.none_allowed
        self.step, self.last = step + 1, selection
        for watch in self.watchers:
            watch(selection)
        return selection

    def _scored(self, given: Candidates, step: int, device: torch.device, allowed: AllowedPairs | None, labels: Any) -> Selection:
        layout, rows, choice = given.layout, given.rows, self._plan.choice
        foretold_BP = choice.foretold(self.geometry, step, rows, layout, device)
        scores = self._scorer.scores(given, device, allowed, labels)
        first_BK = None if allowed is None else first_of(allowed.pairs(layout, given.slots), layout).to(device, non_blocking=True)
        moment = replace(self.schedule.moment(step), key=given.image_key)
        chosen = choice.among(replace(scores.parts, foretold=foretold_BP), layout, moment, first_BK)
        self._unfit.note(step, chosen.best[:, None])
        if self._plan.learns and rows is not None:
            self.geometry.observe(step, rows, layout.pairs, chosen.pair_losses)
        if self._plan.learns_locals(layout) and rows is not None and scores.parts.local is not None:
            compared_PG = [pair[: self._plan.compared(layout)] for pair in layout.pairs]
            self.local_geometry.observe_locals(step, rows, compared_PG, layout.local_slots, scores.parts.local)
        selection = scored_selection(chosen, scores, layout, rows, choice.policy.name, step, self._weights(), foretold_BP)
        selection = widened(selection, given)
        selection = selection if allowed is None else with_slots(selection, allowed.oriented(selection.slots))
        return with_teacher(selection, scores.teacher, given)

    def _weights(self) -> int:
        return weights_version(self.objective.modules())
