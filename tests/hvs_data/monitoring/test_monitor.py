"""A monitor's numbers, against plain loops in float64 over images and pairs."""

# Axes: B image, V view slot.

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data.errors import HvsError
from hvs_data.monitoring import monitor as monitor_module
from hvs_data.monitoring.history import MOST_POINTS, History
from hvs_data.rows.features import pair_features
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms

# Overlaps come in float32, of numbers up to 1 (a unit is 2**-24), and so do losses, up to 8 here; all sums are in float64.
UNIT = 2**-24
CLOSE = 16 * UNIT


# --- the reference -----------------------------------------------------------------------------------------------------


def iou(one: Sequence[int], other: Sequence[int]) -> float:
    (top, left, height, width), (top2, left2, height2, width2) = one, other
    tall = max(0, min(top + height, top2 + height2) - max(top, top2))
    wide = max(0, min(left + width, left2 + width2) - max(left, left2))
    return tall * wide / (height * width + height2 * width2 - tall * wide)


@dataclass
class Step:
    """A selection as the reference knows it: `losses` by legal pair, one dict an image, None if the model was not asked."""

    rows: hvs.ViewParams
    chosen: list[list[int]]
    legal: list[tuple[int, int]]
    allowed: list[set[tuple[int, int]]] | None = None
    losses: list[dict[tuple[int, int], float]] | None = None
    chosen_loss: list[float] = field(default_factory=list)
    non_finite: tuple[int, int] = (0, 0)


def reference(steps: Iterable[Step]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    wrong = looked_at = 0

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for step in steps:
        note("scored", float(step.losses is not None))
        slots = sorted(set(itertools.chain(*step.legal)))
        for image, chosen in enumerate(step.chosen):
            box, (height, width) = step.rows.box[image].tolist(), step.rows.image_size[image].tolist()
            pair = tuple(sorted(chosen[:2]))
            free = {tuple(sorted(legal)) for legal in (step.legal if step.allowed is None else step.allowed[image])} | {pair}
            if step.allowed is not None:
                note("none_allowed", float(not step.allowed[image]))
            overlap = {two: iou(box[two[0]], box[two[1]]) for two in free}
            others = [overlap[two] for two in free - {pair}]
            note("iou_chosen", overlap[pair])
            note("disjoint_chosen", float(overlap[pair] == 0))
            if others:
                note("iou_other", math.fsum(others) / len(others))
                note("disjoint_other", others.count(0) / len(others))
                least = min(overlap.values())
                note("smallest_iou", float(overlap[pair] == least))
                note("smallest_iou_by_chance", list(overlap.values()).count(least) / len(overlap))
            for prefix, group in (("", slots), ("local_", step.rows.slots("local"))):
                for slot in group:
                    side = "chosen" if slot in chosen else "other"
                    note(f"{prefix}area_{side}", box[slot][2] * box[slot][3] / (height * width))
        if step.losses is not None:
            wrong, looked_at = wrong + step.non_finite[0], looked_at + step.non_finite[1]
            for of_pairs, loss in zip(step.losses, step.chosen_loss, strict=True):
                note("unfit", float(not any(map(math.isfinite, of_pairs.values()))))
                if math.isfinite(loss):
                    finite = [value for value in of_pairs.values() if math.isfinite(value)]
                    note("loss_chosen", loss)
                    note("loss_mean", math.fsum(finite) / len(finite))
    means = {name: math.fsum(values) / len(values) for name, values in found.items()}
    if looked_at:
        means["non_finite_share"] = wrong / looked_at
    if "loss_chosen" in means:
        means["loss_gap"] = means["loss_chosen"] - means["loss_mean"]
        means["loss_gap_relative"] = means["loss_gap"] / abs(means["loss_mean"])
    return {f"hvs/{name}": value for name, value in means.items()}


def agrees(numbers: dict[str, float], expected: dict[str, float]) -> None:
    numbers = {name: value for name, value in numbers.items() if name not in ("hvs/rows_r2", "hvs/output_std")}
    assert numbers.keys() == expected.keys()
    for name, value in numbers.items():
        assert type(value) is float
        # the gap in units of the mean carries the errors of both
        tolerance = (
            8 * CLOSE * (1 + abs(expected[name])) / min(1, abs(expected["hvs/loss_mean"])) if name.endswith("relative") else 8 * CLOSE
        )
        assert value == pytest.approx(expected[name], abs=tolerance), name


# --- pairs -------------------------------------------------------------------------------------------------------------


def pairs_of(roles: Sequence[str], ordered: bool) -> list[tuple[int, int]]:
    names = list(dict.fromkeys(roles))
    if len(names) == 2:
        return [(i, j) for i, j in itertools.product(range(len(roles)), repeat=2) if (roles[i], roles[j]) == tuple(names)]
    return [(i, j) for i, j in itertools.product(range(len(roles)), repeat=2) if i < j or (ordered and i != j)]


def losses_of(draw: np.random.Generator, images: int, views: int, ordered: bool, broken: float) -> Tensor:
    losses = draw.uniform(-2, 8, (images, views, views)).astype(np.float32)
    losses[draw.random(losses.shape) < broken] = draw.choice([np.nan, np.inf, -np.inf])
    return torch.from_numpy(losses if ordered else np.triu(losses) + np.triu(losses, 1).transpose(0, 2, 1))


def step_of(
    selection: hvs.Selection, rows: hvs.ViewParams, losses_BVV: Tensor, legal: list[tuple[int, int]], rule: Any, shown: Any
) -> Step:
    images = range(rows.batch_size)
    chosen = selection.slots.tolist()
    table = None if rule is None else rule(rows)
    allowed = None if table is None else [{two for two in legal if table[image][two]} for image in images]
    if not selection.scored:
        return Step(rows, chosen, legal, allowed)
    first = [[legal[0]]] * len(images) if allowed is None else [[legal[0]] if not those else those for those in allowed]
    free = [[two for two in legal if two in set(first[image]) or allowed is None] for image in images]
    looked_at = [[two for two in free[image] if shown is None or set(two) <= set(shown[image])] for image in images]
    losses = [{two: float(losses_BVV[image][two]) for two in looked_at[image]} for image in images]
    chosen_loss = [float(losses_BVV[image][tuple(chosen[image][:2])]) for image in images]
    values = [value for of_pairs in losses for value in of_pairs.values()]
    return Step(rows, chosen, legal, allowed, losses, chosen_loss, (sum(not math.isfinite(value) for value in values), len(values)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    roles=st.sampled_from([("view",) * 2, ("view",) * 4, ("view",) * 6, ("global1",) * 2 + ("global2",) * 2, ("global1", "global2")]),
    ordered=st.booleans(),
    broken=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    least=st.sampled_from([None, 0.3, 0.6, 0.999]),
    policy=st.sampled_from(["hardest", "easiest", "random", "smallest_iou"]),
    every=st.integers(1, 3),
)
@pytest.mark.filterwarnings("ignore:expected finite losses:RuntimeWarning")
def test_numbers_of_pairs(seed, roles, ordered, broken, least, policy, every):
    recipe = make_recipe(roles, locals_=0)
    draw, images = np.random.default_rng(seed), 7
    rule = None if least is None else hvs.rules.MinIoU(least)
    objective = Numbered(torch.empty(0), ordered)
    selector = hvs.HardViewSelector(objective, policy=policy, every=every, allowed=rule)
    monitor = hvs.Monitor(selector)
    for _ in range(2):
        steps = []
        for _ in range(3):
            rows = make_rows(recipe, images, seed=int(draw.integers(10**6)))
            objective.losses = losses_of(draw, images, len(roles), ordered, broken)
            selection = selector.select(numbered_views(len(roles), images), rows)
            steps.append(step_of(selection, rows, objective.losses, pairs_of(roles, ordered), rule, None))
        agrees(monitor.numbers(), reference(steps))
    assert monitor.numbers() == {}


@pytest.mark.parametrize("ordered", [False, True])
def test_of_promising_pairs_alone_losses_are_known(ordered):
    """With prefilter=3 of 6 views, three pairs of an image have a loss, and all of them an overlap."""
    recipe, draw, images = make_recipe(("view",) * 6, locals_=0), np.random.default_rng(0), 9
    rows = make_rows(recipe, images)
    losses_BVV = losses_of(draw, images, 6, ordered, 0.2)
    selector = hvs.HardViewSelector(Numbered(losses_BVV, ordered), prefilter=3)
    shown = selector.narrowing(0, rows).slots(images, rows).tolist()
    monitor = hvs.Monitor(selector)
    selection = selector.select(numbered_views(6, images), rows)
    agrees(monitor.numbers(), reference([step_of(selection, rows, losses_BVV, pairs_of(("view",) * 6, ordered), None, shown)]))


# --- multi-crop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("rule", [None, hvs.rules.MinIoU(0.4)], ids=["all", "some"])
@pytest.mark.parametrize("roles", [("global1",) * 2 + ("global2",) * 2, ("view",) * 3])
@pytest.mark.filterwarnings("ignore:expected finite losses:RuntimeWarning")
def test_numbers_of_multi_crop(roles, rule, broken):
    recipe, images = make_recipe(roles, locals_=4, chosen=2), 6
    draw = np.random.default_rng(3)
    table = draw.uniform(0, 2, (images, len(roles), len(recipe.slot_roles))).astype(np.float32)
    table[draw.random(table.shape) < broken] = np.nan
    rows = make_rows(recipe, images, seed=5)
    selector = hvs.HardViewSelector(Terms(torch.from_numpy(table)), allowed=rule)
    monitor = hvs.Monitor(selector)
    selection = selector.select(make_pixels(recipe, images), rows)
    chosen = selection.slots.tolist()
    legal = list(dict.fromkeys(combination[:2] for combination in every_combination(recipe)))
    allowed = None if rule is None else [{two for two in legal if rule(rows)[image][two]} for image in range(images)]
    losses, held = [], set()
    for combination in every_combination(recipe):
        held |= set(itertools.product(combination[:2], combination))
    for image in range(images):
        of_pairs: dict[tuple[int, int], float] = {}
        for combination in every_combination(recipe):
            if allowed is None or combination[:2] in (allowed[image] or {legal[0]}):
                loss = sum_of_terms(torch.from_numpy(table[image]), combination, recipe)
                if math.isfinite(loss):
                    of_pairs[combination[:2]] = max(of_pairs.get(combination[:2], -math.inf), loss)
        losses.append(of_pairs)
    chosen_loss = [sum_of_terms(torch.from_numpy(table[image]), tuple(chosen[image]), recipe) for image in range(images)]
    place = [slot for slot, name in enumerate(rows.role) if name != "local"] + list(rows.slots("local"))
    wrong = sum(not math.isfinite(table[image][place.index(t)][place.index(s)]) for image in range(images) for t, s in held)
    expected = Step(rows, chosen, legal, allowed, losses, chosen_loss, (wrong, images * len(held)))
    agrees(monitor.numbers(), reference([expected]))


# --- what rows explain -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_what_rows_explain_is_a_least_squares_fit(noise):
    recipe, images, steps = hvs.recipes.simsiam(candidates=4, size=8), 20, 6
    draw = np.random.default_rng(1)
    monitor = hvs.Monitor()
    pairs = list(itertools.combinations(range(4), 2))
    features, losses = [], []
    for step in range(steps):
        rows = make_rows(recipe, images, seed=step)
        feature_BPD = pair_features(rows, pairs)
        loss_BP = (-3 * feature_BPD[..., 0] + feature_BPD[..., 6] + noise * draw.standard_normal((images, 6))).astype(np.float32)
        loss_BP += draw.uniform(-9, 9, (images, 1)).astype(np.float32)  # of the image as a whole
        losses_BVV = torch.full((images, 4, 4), torch.nan)
        for place, (first, second) in enumerate(pairs):
            losses_BVV[:, first, second] = losses_BVV[:, second, first] = torch.from_numpy(loss_BP[:, place])
        legal = torch.ones(4, 4, dtype=torch.bool).triu(1)
        monitor.observe(hvs.Selection(torch.tensor([[0, 1]] * images), losses_BVV, legal, torch.tensor(0), params=rows, num_losses=120))
        weight = 0.95 ** ((steps - 1 - step) / 2)  # half of it is in each factor of a square
        features.append((weight * (feature_BPD - feature_BPD.mean(1, keepdims=True))).reshape(-1, feature_BPD.shape[2]))
        loss_BP = loss_BP.astype(np.float64)
        losses.append((weight * (loss_BP - loss_BP.mean(1, keepdims=True))).ravel())
    x, y = np.concatenate(features), np.concatenate(losses)
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    # the fit's ridge, a millionth of each feature's sum of squares and a millionth, costs no more than what it adds at the best weights
    ridge = float(((x**2).sum(0) * 1e-6 + 1e-6) @ w**2)
    expected = 1 - ((y - x @ w) ** 2).sum() / (y**2).sum()
    assert monitor.numbers()["hvs/rows_r2"] == pytest.approx(expected, abs=ridge / (y**2).sum() + 1e-9)
    assert (expected > 0.99) == (noise == 0)


def test_what_rows_explain_waits_for_enough_pairs():
    recipe, monitor = make_recipe(("view",) * 4, locals_=0), hvs.Monitor()
    selector = hvs.HardViewSelector(Numbered(torch.rand(20, 4, 4)))
    for known in (False, False, True):  # 120 pairs each, of 256
        monitor.observe(selector.select(numbered_views(4, 20), make_rows(recipe, 20)))
        assert ("hvs/rows_r2" in monitor.numbers()) == known


# --- collapse ----------------------------------------------------------------------------------------------------------


class Embeds(hvs.Objective):
    """A linear map of the pixels, whose outputs differ as much as `apart` says."""

    def __init__(self, length: int = 64, apart: float = 1.0):
        draw = torch.Generator().manual_seed(0)
        self.map = torch.randn(3 * 4 * 4, length, generator=draw)
        self.common, self.apart = torch.randn(length, generator=draw) * 7, apart

    def encode(self, pixels: Tensor) -> Tensor:
        return self.common * (self.apart < 1) + self.apart * (pixels.flatten(1) @ self.map)


@pytest.mark.parametrize("apart", [1.0, 0.1, 0.0])
def test_collapse_is_told_from_the_outputs(apart):
    objective = Embeds(apart=apart)
    selector = hvs.HardViewSelector(objective)
    monitor = hvs.Monitor(selector, min_std=None)
    expected = []
    for seed in range(3):
        views = [torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(4 * seed + slot)) for slot in range(3)]
        selector.select(views)
        z = objective.encode(views[0]).double().numpy()
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        expected.append(z.std(0, ddof=1).mean() * math.sqrt(64))
    found = monitor.numbers()["hvs/output_std"]
    # a standard deviation of 40 numbers of at most 1 in float32 that are alike up to their last bits
    assert found == pytest.approx(np.mean(expected), abs=100 * UNIT * math.sqrt(64))
    # the varying part of an output, of length .1 sqrt(48) a dimension beside 7, or alone; the mean over 64 deviations of 40 numbers
    # errs by 1 / sqrt(2 * 39 * 64) = .014 of it, and the lengths of 48 pixels and of 64 common numbers by .1
    level = {1.0: 1.0, 0.1: 0.693 / math.hypot(0.693, 7), 0.0: 0.0}[apart]
    assert found == pytest.approx(level, rel=0.2, abs=1e-6)


def test_outputs_of_the_trainers_own_take_the_place_of_the_selectors():
    selector = hvs.HardViewSelector(Embeds())
    monitor = hvs.Monitor(selector)
    selector.select([torch.randn(8, 3, 4, 4)] * 2)
    monitor.observe_outputs(torch.eye(6))
    selector.select([torch.randn(8, 3, 4, 4)] * 2)
    # each column of the identity holds five zeros and a one: deviation sqrt(1/6)
    assert monitor.numbers()["hvs/output_std"] == pytest.approx(1, abs=8 * UNIT)
    with pytest.raises(HvsError, match=r"expected outputs \[N, D\] of at least 2 images"):
        monitor.observe_outputs(torch.zeros(1, 4))


# --- what is observed --------------------------------------------------------------------------------------------------


def test_candidates_without_rows_have_losses_alone():
    selector = hvs.HardViewSelector(Embeds())
    monitor = hvs.Monitor(selector)
    selector.select([torch.randn(8, 3, 4, 4) for _ in range(3)])
    numbers = monitor.numbers()
    names = ("loss_chosen", "loss_mean", "loss_gap", "loss_gap_relative", "scored", "non_finite_share", "unfit", "output_std")
    assert list(numbers) == [f"hvs/{name}" for name in names]
    assert set(numbers) < set(monitor.names)


def test_a_batch_may_be_told_instead_of_watched():
    recipe = make_recipe(("view",) * 3, locals_=0)
    rows, views = make_rows(recipe, 5), numbered_views(3, 5)
    watching, told, closed = (hvs.HardViewSelector(Numbered(torch.rand(5, 3, 3))) for _ in range(3))
    monitors = hvs.Monitor(told), hvs.Monitor(prefix="own/"), hvs.Monitor(closed)
    selection = told.select(views, rows)
    monitors[1].observe(hvs.Batch(views, torch.zeros(5), torch.arange(5), rows, selection=selection))
    expected = {name.replace("hvs/", "own/"): value for name, value in monitors[0].numbers().items()}
    assert monitors[1].numbers() == expected != {}
    monitors[2].close()
    closed.select(views, rows)
    assert monitors[2].numbers() == {} and closed.watchers == []
    with pytest.raises(HvsError, match="a Batch that has one, got one without"):
        monitors[1].observe(hvs.Batch(views, torch.zeros(5), torch.arange(5), rows))
    with pytest.raises(HvsError, match="expected a HardViewLoader or a HardViewSelector to watch, got Numbered"):
        hvs.Monitor(Numbered(torch.rand(5, 3, 3)))  # type: ignore[arg-type]
    with pytest.raises(HvsError, match="min_iou must be a number, or None for no warning, got 'low'"):
        hvs.Monitor(watching, min_iou="low")  # type: ignore[arg-type]


class Late:
    """Copies that arrive when they are told to, or waited for."""

    arriving = False
    waits = 0

    def __init__(self, tensor: Tensor):
        self.values = tensor.detach().to(torch.float64).numpy()

    @property
    def arrived(self) -> bool:
        return Late.arriving

    def numpy(self) -> np.ndarray:
        Late.waits += not Late.arriving
        return self.values


def held(thing: Any, seen: set[int]) -> int:
    """Tensors and arrays that can be reached."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, (Tensor, np.ndarray)):
        return 1
    if isinstance(thing, dict):
        return sum(held(value, seen) for value in thing.values())
    if isinstance(thing, (list, tuple, set)) or type(thing).__name__ == "deque":
        return sum(held(item, seen) for item in thing)
    return sum(held(value, seen) for value in vars(thing).values()) if hasattr(thing, "__dict__") else 0


def count_of(thing: Any, seen: set[int]) -> int:
    """Numbers and other objects that can be reached."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, dict):
        return len(thing) + sum(count_of(value, seen) for value in thing.values())
    if isinstance(thing, (list, tuple, set)) or type(thing).__name__ == "deque":
        return len(thing) + sum(count_of(item, seen) for item in thing)
    return sum(count_of(value, seen) for value in vars(thing).values()) if hasattr(thing, "__dict__") else 1


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["on the host", "on their way"])
def test_memory_does_not_grow(late, monkeypatch):
    if late:
        monkeypatch.setattr("hvs_data.monitoring.observed.HostCopy", Late)
        monkeypatch.setattr(Late, "arriving", False)
    selector = hvs.HardViewSelector(Numbered(torch.rand(2, 3, 3)))
    selection = selector.select(numbered_views(3, 2), make_rows(make_recipe(("view",) * 3, locals_=0), 2))
    monitor, arrays, objects = hvs.Monitor(), [], []
    for number in range(2_000):
        monitor.observe(replace(selection, step=number))
        if number % 100 == 99:
            arrays.append(held(monitor, set()))
        if number % 500 == 499:
            objects.append(count_of(monitor, set()))
    assert len(monitor._pending) == (monitor_module.MOST_PENDING if late else 0)
    assert len(set(arrays[10:])) == 1 and len(set(objects[1:])) == 1
    assert monitor.numbers()["hvs/scored"] == 1.0 and not monitor._pending


def test_nothing_is_waited_for_before_the_numbers_are_asked_for(monkeypatch):
    monkeypatch.setattr("hvs_data.monitoring.observed.HostCopy", Late)
    monkeypatch.setattr(Late, "arriving", False)
    monkeypatch.setattr(Late, "waits", 0)
    selector = hvs.HardViewSelector(Numbered(torch.rand(2, 3, 3)))
    monitor = hvs.Monitor(selector)
    for _ in range(monitor_module.MOST_PENDING):
        selector.select(numbered_views(3, 2), make_rows(make_recipe(("view",) * 3, locals_=0), 2))
    assert Late.waits == 0
    monkeypatch.setattr(Late, "arriving", True)
    selector.select(numbered_views(3, 2), make_rows(make_recipe(("view",) * 3, locals_=0), 2))
    assert Late.waits == 0 and not monitor._pending
    assert monitor._count["scored"] == monitor_module.MOST_PENDING + 1


def test_threads_may_observe_and_ask_at_once():
    """Four threads tell of 100 selections each while another asks: every selection is in one of the answers."""
    selector = hvs.HardViewSelector(Numbered(torch.rand(2, 3, 3)))
    selection = selector.select(numbered_views(3, 2), make_rows(make_recipe(("view",) * 3, locals_=0), 2))
    monitor, counted, over = hvs.Monitor(), [], threading.Event()
    monitor._alarms.judge = lambda means, images, steps: counted.append((images, steps))

    def asking() -> None:
        while not over.is_set():
            monitor.numbers()

    threads = [threading.Thread(target=lambda: [monitor.observe(selection) for _ in range(100)]) for _ in range(4)]
    asker = threading.Thread(target=asking)
    for thread in (asker, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    asker.join()
    monitor.numbers()
    assert tuple(map(sum, zip(*counted, strict=True))) == (800, 400)


def test_the_loaders_selections_are_watched(tmp_path):
    from example_scripts import write_photos
    from small_simsiam import small_simsiam

    photos = write_photos(tmp_path / "photos", 24)
    views = hvs.ViewLoader(photos, hvs.recipes.simsiam(candidates=3, size=16), 8, format=hvs.formats.views_and_labels)
    loader = hvs.HardViewLoader(views, hvs.HardViewSelector(hvs.objectives.SimSiam(small_simsiam())))
    monitor, told = hvs.Monitor(loader), hvs.Monitor()
    for _ in loader:
        told.observe(loader.selector.last)
    assert monitor.numbers() == told.numbers() != {}
    assert monitor._history.points()[0][0] == 2


# --- history -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, MOST_POINTS, MOST_POINTS + 1, 5 * MOST_POINTS])
def test_history_keeps_evenly_spaced_points(count):
    history = History()
    for step in range(count):
        history.add(step, {"iou_chosen": step / 2})
    steps = [step for step, _ in history.points()]
    assert steps == list(range(0, count, steps[1]))
    assert min(count, MOST_POINTS / 2) <= len(steps) <= MOST_POINTS
    assert all(means == {"iou_chosen": step / 2} for step, means in history.points())


def test_images_left_to_chance_with_a_loss_that_is_not_finite_are_not_unfit():
    losses = torch.rand(40, 3, 3)
    losses[:, 0, 1] = math.nan  # the pair that chance gives; the others are finite
    selector = hvs.HardViewSelector(Numbered(losses), policy="mixed", seed=1)
    monitor = hvs.Monitor(selector)
    selection = selector.select(numbered_views(3, 40), make_rows(make_recipe(("view",) * 3, locals_=0), 40))
    assert 0 < int(selection.loss.isnan().sum()) < 40
    assert monitor.numbers()["hvs/unfit"] == 0 and selector.unfit_images == 0
