"""What an image's candidates are and what may be chosen of them: pairs or larger sets of global views, and local views beside them."""

# Axes: V view slot, P legal pair, Q set that may be chosen, K chosen view, T global view, G global view of a role, L local view,
# S student's view (global, then local).

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, permutations, product
from math import comb, prod

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.recipes.spec import Recipe
from hvs_data.types.rows import LOCAL, ViewParams

# The most sets of more than two views of which all are looked at.
MAX_SETS = 2**14


@dataclass(frozen=True)
class Layout:
    """The slots of an image by their use.

    Attributes:
        roles: V names.
        global_slots, local_slots: in order.
        pairs: the pairs of slots that may be chosen, in lexicographic order of roles and slots. Where one view is chosen, each with itself.
        ordered: whether (i, j) and (j, i) are different pairs.
        emitted_locals: how many local views reach the trainer.
        chosen: how many global views of each role are chosen, the roles in the order of ``slots_of_roles``. Where these are more than two
            views, every two that a set may hold are a pair.
        scores_locals: whether local views are chosen by their loss; the first ones are taken otherwise.
    """

    roles: tuple[str, ...]
    global_slots: tuple[int, ...]
    local_slots: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    ordered: bool
    emitted_locals: int
    chosen: tuple[int, ...] = (2,)
    scores_locals: bool = True

    @property
    def views(self) -> int:
        return len(self.roles)

    @property
    def emitted_globals(self) -> int:
        return sum(self.chosen)

    @property
    def emitted(self) -> int:
        """Views of an image that its loss is about: global ones and local ones."""
        return self.emitted_globals + self.emitted_locals

    @property
    def chosen_locals(self) -> int:
        """How many local views are chosen by their loss."""
        return self.emitted_locals if self.scores_locals else 0

    @property
    def slots_of_roles(self) -> tuple[tuple[int, ...], ...]:
        """The global slots of each role, the roles in the order in which a pair takes them."""
        names = dict.fromkeys(self.roles[slot] for slot in self.global_slots)
        return tuple(tuple(slot for slot in self.global_slots if self.roles[slot] == name) for name in names)

    @property
    def num_sets(self) -> int:
        """How many sets of global views may be chosen: of two views, the pairs."""
        if self.emitted_globals <= 2:
            return len(self.pairs)
        return prod(comb(len(slots), count) for slots, count in zip(self.slots_of_roles, self.chosen, strict=True))

    @property
    def combinations(self) -> int:
        """How many combinations of such a set and local views there are."""
        return self.num_sets * comb(len(self.local_slots), self.chosen_locals)

    @cached_property
    def terms(self) -> int:
        """How many terms of a loss that is a sum over (teacher's view, student's view) some combination holds."""
        of_pairs = set(self.pairs) if self.ordered else {term for pair in self.pairs for term in product(pair, repeat=2)}
        teachers = {teacher for teacher, _ in of_pairs}
        return len(of_pairs) + (len(teachers) * len(self.local_slots) if self.chosen_locals else 0)

    @property
    def first_slots(self) -> tuple[int, ...]:
        """The first pair or set, and the first local views."""
        globals_ = (slot for slots, count in zip(self.slots_of_roles, self.chosen, strict=True) for slot in slots[:count])
        return (*globals_, *self.local_slots[: self.emitted_locals])


def layout_of(views: int, source: ViewParams | Recipe | None, ordered: bool, scores_locals: bool = True) -> Layout:
    """The layout of V candidates, from their rows or the recipe whose slots they fill, if they have any.

    Args:
        ordered, scores_locals: as in :class:`Layout`.

    Raises:
        SelectionError: roles of which no pair can be made, or numbers of emitted views that a selection cannot give.
    """
    if source is None:
        return _layout(("view",) * views, (), ordered, scores_locals)
    if source.num_views != views:
        kind = "rows" if isinstance(source, ViewParams) else "a recipe"
        raise SelectionError(
            f"expected one row for each of the {views} candidate views, got {kind} of {source.num_views}; pass the candidates' own"
        )
    if isinstance(source, ViewParams):
        return _layout(source.role, tuple(source.emitted.items()), ordered, scores_locals)
    roles = tuple(role.name for role in source.slot_roles)
    return _layout(roles, tuple((role.name, role.emitted) for role in source.roles), ordered, scores_locals)


@lru_cache(maxsize=64)
def _layout(roles: tuple[str, ...], emitted: tuple[tuple[str, int], ...], ordered: bool, scores_locals: bool) -> Layout:
    slots_of: dict[str, list[int]] = {}
    for slot, role in enumerate(roles):
        slots_of.setdefault(role, []).append(slot)
    local_slots = slots_of.pop(LOCAL, [])
    names, counts = list(slots_of), dict(emitted)
    chosen = tuple(counts.get(name, 2 // len(names)) for name in names)
    if not chosen or any(not 0 < count <= len(slots_of[name]) for name, count in zip(names, chosen, strict=True)):
        raise SelectionError(
            "expected emitted views of an image besides local ones, of each role at least one and no more than it has "
            f"candidates, got {dict(zip(names, chosen, strict=True))} of the roles {list(roles)}; set emitted= in the recipe's roles"
        )
    pairs: Iterable[tuple[int, int]]
    if sum(chosen) > 2:
        pairs = _pairs_of_sets(list(slots_of.values()), chosen, ordered)
    elif sum(chosen) == 1:
        pairs = ((slot, slot) for slot in slots_of[names[0]])
    elif len(names) == 1:
        pairs = permutations(slots_of[names[0]], 2) if ordered else combinations(slots_of[names[0]], 2)
    else:
        pairs = product(slots_of[names[0]], slots_of[names[1]])
    emitted_locals = counts.get(LOCAL, len(local_slots))
    if not 0 <= emitted_locals <= len(local_slots):
        raise SelectionError(f"expected at least {emitted_locals} local candidates, as many as are emitted, got {len(local_slots)}")
    return Layout(roles, _global_slots(roles), tuple(local_slots), tuple(pairs), ordered, emitted_locals, chosen, scores_locals)


def _pairs_of_sets(slots_of_roles: list[list[int]], chosen: tuple[int, ...], ordered: bool) -> list[tuple[int, int]]:
    """Every two slots that a set of more than two views may hold, role by role; of a role that gives one view no two."""
    place = [(number, slot) for number, slots in enumerate(slots_of_roles) for slot in slots]
    both = permutations(place, 2) if ordered else combinations(place, 2)
    return [(first, second) for (role, first), (other, second) in both if role != other or chosen[role] > 1]


def _global_slots(roles: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(slot for slot, role in enumerate(roles) if role != LOCAL)


@dataclass(frozen=True)
class Tables:
    """A layout as tensors on a device.

    Attributes:
        pair: int64 [P, 2], slots.
        sets: int64 [Q, K], slots of every set of global views that may be chosen, in lexicographic order of roles and slots; ``pair`` where
            these are pairs, single slots where one view is, and none where there are more than ``MAX_SETS``.
        legal: bool [V, V].
        place: int64 [P, 2], the same pairs by place among the global slots.
        set_place: int64 [Q, K], the same sets.
        local: int64 [L], slots.
        globals_: int64 [G], slots.
        of_roles: int64 [G] each, the global slots of each role.
        read: bool [T, S], the terms of a table that some combination holds.
        position: int64 [V], each slot's place among the global or the local slots.
        first: int64 [K], the first pair or set, and the first local views.
    """

    pair: Tensor
    sets: Tensor
    legal: Tensor
    place: Tensor
    set_place: Tensor
    local: Tensor
    globals_: Tensor
    of_roles: tuple[Tensor, ...]
    read: Tensor
    position: Tensor
    first: Tensor


@lru_cache(maxsize=64)
def tables_of(layout: Layout, device: torch.device) -> Tables:
    """Made once for each layout and device, as copying them to the device would wait for it."""
    with torch.inference_mode(False):  # what is made in inference mode could not be used outside of it
        return _tables(layout, device)


def _tables(layout: Layout, device: torch.device) -> Tables:
    position = [0] * layout.views
    for slots in (layout.global_slots, layout.local_slots):
        for place, slot in enumerate(slots):
            position[slot] = place
    places = [(position[first], position[second]) for first, second in layout.pairs]
    globals_ = len(layout.global_slots)
    legal = torch.zeros(layout.views, layout.views, dtype=torch.bool)
    read = torch.zeros(globals_, globals_ + len(layout.local_slots), dtype=torch.bool)
    for (first, second), (i, j) in zip(layout.pairs, places, strict=True):
        legal[first, second] = read[i, j] = True
        if not layout.ordered:
            read[j, i] = read[i, i] = read[j, j] = True
    if layout.chosen_locals:
        read[:, globals_:] = read[:, :globals_].any(1, keepdim=True)

    def whole(numbers: object) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    pair, pair_place = whole(layout.pairs), whole(places)
    sets, set_place = pair, pair_place
    if layout.emitted_globals != 2:
        sets = whole(_sets(layout)).reshape(-1, layout.emitted_globals)
        set_place = whole(position)[sets]
    return Tables(
        pair=pair,
        sets=sets,
        legal=legal.to(device),
        place=pair_place,
        set_place=set_place,
        local=whole(layout.local_slots),
        globals_=whole(layout.global_slots),
        of_roles=tuple(whole(slots) for slots in layout.slots_of_roles),
        read=read.to(device),
        position=whole(position),
        first=whole(layout.first_slots),
    )


def _sets(layout: Layout) -> list[tuple[int, ...]]:
    """Every set of global views that may be chosen, if they are not too many."""
    if layout.num_sets > MAX_SETS:
        return []
    of_roles = [combinations(slots, count) for slots, count in zip(layout.slots_of_roles, layout.chosen, strict=True)]
    return [tuple(slot for part in parts for slot in part) for parts in product(*of_roles)]
