"""What a step asks for, told from its number and the layout: whether the model is asked, and of which candidates."""

# Axes: B image, K needed view.

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from hvs_data.arguments.values import whole_number
from hvs_data.errors import SelectionError
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective
from hvs_data.policies.base import FIRST, LEAST_OVERLAP
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.layout import MAX_SETS, Layout, layout_of, tables_of
from hvs_data.selection.candidates import Candidates, narrowed, of_shown
from hvs_data.selection.choice import Choice
from hvs_data.selection.extra import check_enough, with_extra
from hvs_data.selection.geometry import Geometry
from hvs_data.selection.narrowing import ALL, PROMISING, Narrowing
from hvs_data.selection.schedule import Schedule
from hvs_data.selection.telling import unscored_selection
from hvs_data.types.rows import LOCAL, ViewParams
from hvs_data.types.selection import Selection

# With prefilter=2, the model is asked in one of so many steps, to fit the weights of the rows' features, and sees so many global views.
FIT_EVERY, FIT_VIEWS = 8, 4


@dataclass(frozen=True)
class Plan:
    """Settings of who is needed when.

    Attributes:
        objective: what scores.
        choice: which pair is taken.
        schedule: in which steps the model is asked.
        prefilter: how many global candidates it is asked for; None for all.
        extra_views: how many further candidates are handed out.
        scores_locals: whether an objective of pairs chooses local views too.
        geometry: what tells promising candidates from their rows.
        local_geometry: what tells from rows how much local views add beside global ones.

    Raises:
        SelectionError: a setting that means nothing, or does not fit the policy.
    """

    objective: Objective
    choice: Choice
    schedule: Schedule
    prefilter: int | None
    extra_views: int
    geometry: Geometry
    local_geometry: Geometry
    scores_locals: bool = False

    def __post_init__(self) -> None:
        views, extra = whole_number(self.prefilter), whole_number(self.extra_views)
        if self.prefilter is not None and (views is None or views < 2):
            raise SelectionError(
                f"prefilter must be a whole number of at least 2, or None, got {self.prefilter!r}; so many views are scored"
            )
        policy = self.choice.policy
        if self.prefilter is not None and not policy.may_prefilter:
            raise SelectionError(
                "prefilter goes with policies that seek the largest or the smallest loss, such as 'hardest' and 'easiest', got "
                f"{policy.name!r}, which is about candidates that rows would leave out"
            )
        if extra is None or extra < 0:
            raise SelectionError(
                f"extra_views must be a whole number of at least 0, got {self.extra_views!r}; so many random views are handed out beside "
                "the pair"
            )
        object.__setattr__(self, "prefilter", views)
        object.__setattr__(self, "extra_views", extra)

    def layout(self, views: int, source: ViewParams | Recipe | None) -> Layout:
        """The layout of so many candidates, from their rows or their recipe."""
        additive = isinstance(self.objective, AdditiveObjective)
        return layout_of(views, source, self.objective.ordered, additive or self.scores_locals)

    def asks(self, step: int) -> bool:
        """Whether the model is asked."""
        if not self.schedule.scores(step) or not self.choice.policy.asks(self.schedule.moment(step)):
            return False
        # of the steps of a schedule with every=k, the first one of each eight steps
        return self.prefilter != 2 or step % FIT_EVERY < self.schedule.distance(step)

    @property
    def changes(self) -> bool:
        """Whether it depends on the step which candidates are needed."""
        policy = self.choice.policy
        if not policy.ever_asks:
            return policy.unasked != FIRST and not self.schedule.always
        return self.prefilter is not None or not self.schedule.always or not policy.steady

    @property
    def learns(self) -> bool:
        """Whether the geometry is fitted to losses."""
        return self.prefilter is not None or self.choice.policy.foretold

    def learns_locals(self, layout: Layout) -> bool:
        """Whether rows choose local views in some steps."""
        return self.prefilter == 2 and 0 < layout.chosen_locals < len(layout.local_slots)

    def compared(self, layout: Layout) -> int:
        """With how many of a pair's views, the first ones, the loss compares local views."""
        return 1 if layout.ordered and isinstance(self.objective, AdditiveObjective) else 2

    def narrowing(self, step: int, layout: Layout) -> Narrowing:
        """Which candidates a step needs.

        Raises:
            SelectionError: see :meth:`check`.
        """
        self.check(layout)
        policy, rule, extra = self.choice.policy, self.choice.rule, self.extra_views
        if not self.schedule.scores(step):
            return Narrowing(layout, FIRST, asks=False, allowed=rule, extra=extra)
        if not policy.asks(self.schedule.moment(step)):
            return Narrowing(layout, policy.unasked, asks=False, allowed=rule, extra=extra)
        asks = self.asks(step)
        count = self.prefilter if self.prefilter != 2 or not asks else FIT_VIEWS
        if count is None or (asks and count >= len(layout.global_slots)):
            return Narrowing(layout, ALL, asks=True)
        beside = self.local_geometry.at(step) if not asks and self.learns_locals(layout) else None
        return Narrowing(
            layout, PROMISING, asks, count, self.geometry.at(step), policy.seeks < 0, rule, extra, beside, self.compared(layout)
        )

    def check(self, layout: Layout) -> None:
        """Refuse candidates that cannot be chosen from.

        Raises:
            SelectionError: see above.
        """
        objective, policy = self.objective, self.choice.policy
        if not layout.scores_locals and len(layout.local_slots) > layout.emitted_locals:
            raise SelectionError(
                f"expected as many candidates of the role {LOCAL!r} as reach the trainer, {layout.emitted_locals}, under "
                f"{type(objective).__name__}, which scores pairs of the others, got {len(layout.local_slots)}; draw as many, or pass "
                "HardViewSelector(..., score_locals=True) to have them chosen by their losses with the others"
            )
        if policy.anchor is not None and layout.ordered and len(layout.slots_of_roles) > 1:
            raise SelectionError(
                f"policy {policy.name!r} expected candidates of one role under {type(objective).__name__}, whose pairs are "
                f"ordered, since a view of either role may be the anchor, got the roles {list(dict.fromkeys(layout.roles))}; draw all from "
                "one role, or take a symmetric objective"
            )
        if policy.anchor is not None and layout.ordered and isinstance(objective, AdditiveObjective):
            raise SelectionError(
                f"policy {policy.name!r} hands the anchor out second, where {type(objective).__name__} takes its target first; give target "
                'and student roles of their own in the recipe, "global1" and "global2", the first with larger crops'
            )
        check_enough(layout, self.extra_views)
        if layout.emitted_globals == 1:
            self._check_single(layout)
        if layout.emitted_globals > 2:
            self._check_sets(layout)

    def _check_single(self, layout: Layout) -> None:
        """Refuse what does not go with one global view.

        Raises:
            SelectionError: see above.
        """
        objective, policy = self.objective, self.choice.policy
        if not objective.single_views:
            raise SelectionError(
                f"expected at least 2 emitted views of an image besides local ones under {type(objective).__name__}, whose loss is of two, "
                "got 1; set emitted= in the recipe's roles, or take an objective of single views, such as objectives.CLIP"
            )
        if layout.chosen_locals or self.prefilter is not None or policy.anchor is not None or policy.unasked == LEAST_OVERLAP:
            raise SelectionError(
                "expected one emitted view of an image without prefilter, also that of a budget, without scored local views, and under no "
                f"policy of pairs, got prefilter={self.prefilter}, {layout.chosen_locals} scored local views and policy {policy.name!r}; "
                "pass prefilter=None, draw no local views, or emit two views"
            )

    def _check_sets(self, layout: Layout) -> None:
        """Refuse what does not go with more than two global views.

        Raises:
            SelectionError: see above.
        """
        objective, policy, views = self.objective, self.choice.policy, layout.emitted_globals
        if isinstance(objective, AdditiveObjective) and (objective.ordered or not objective.any_globals):
            raise SelectionError(
                f"expected 2 emitted global views under {type(objective).__name__}, whose loss is of two, got {views}; set emitted= in the "
                "recipe's roles, or, for an objective of your own, any_globals = True and a term_table(..., views, global_views)"
            )
        if policy.anchor is not None:
            raise SelectionError(f"policy {policy.name!r} chooses a pair with the anchor, got a recipe that emits {views} global views")
        if self.prefilter is not None and (self.prefilter <= views or len(layout.chosen) > 1 or self.choice.rule is not None):
            raise SelectionError(
                f"prefilter with {views} emitted global views expected candidates of one role, more than {views} of them to be kept, and "
                f"no allowed=, got prefilter={self.prefilter} and the roles {list(dict.fromkeys(layout.roles))}; pass prefilter=None, also "
                "beside a budget"
            )
        if layout.num_sets > MAX_SETS and self._looks_at_all_sets(layout):
            raise SelectionError(
                f"expected at most {MAX_SETS} sets of {views} of the global candidates for a policy that is not after the largest or the "
                "smallest loss, a loss that is no sum over pairs, allowed=, limit=, or scored local views, got "
                f"{layout.num_sets}; draw fewer with the recipe's candidates="
            )

    def _looks_at_all_sets(self, layout: Layout) -> bool:
        choice, policy = self.choice, self.choice.policy
        if choice.rule is not None or (layout.chosen_locals and (policy.ever_asks or policy.unasked != FIRST)):
            return True
        is_sum = type(self.objective).set_losses is Objective.set_losses
        return policy.ever_asks and not (is_sum and policy.seeks and not policy.lists and choice.limit is None)

    def unasked(self, narrowing: Narrowing, given: Candidates, step: int, device: torch.device) -> Selection:
        """The selection of a step in which the model is not asked."""
        layout, rows = given.all_layout, given.all_rows
        if narrowing.rule == FIRST and narrowing.allowed is None:
            slots_BK = with_extra(tables_of(layout, device).first.expand(given.images, -1), layout, self.extra_views)
            return unscored_selection(slots_BK, layout, rows, "random", step)
        slots = given.slots if given.slots is not None and narrowing.rule != FIRST else narrowing.slots(given.images, rows)
        assert slots is not None
        return unscored_selection(slots, layout, rows, "random" if narrowing.rule == FIRST else narrowing.rule, step)

    def scored_of(self, narrowing: Narrowing, given: Candidates, device: torch.device) -> Candidates:
        """Those of the candidates that the model is asked for."""
        if narrowing.rule != PROMISING:
            return given
        if given.slots is not None:
            return of_shown(given, narrowing.scored_of(given.slots.shape[1]), self.layout)
        return narrowed(given, replace(narrowing, extra=0).slots(given.images, given.all_rows), device, self.layout)
