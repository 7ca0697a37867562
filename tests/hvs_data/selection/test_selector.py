"""The selector against brute force: every pair on its own, through the formula of the loss."""

import copy
import math
import random
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data import Objective
from hvs_data.objectives import SimSiam
from small_selections import SIDE, Table, bits, make_candidates, make_model, make_params, outputs_of, pair_loss, select_from
from trainers import NoQuestions

# ---- against brute force ----


def assert_hardest(selection, expected, length):
    """expected: {(i, j): losses of every image in float64}."""
    # Each of the two cosines errs by at most (2 D + 6) units of 2**-24 (derived beside the tests of the cosine table), and so does their
    # mean, up to one rounding of its own and two of the embeddings' own narrowing to float32.
    bound = (2 * length + 9) * 2.0**-24
    for image in range(len(selection.pair)):
        for (i, j), loss_B in expected.items():
            assert abs(float(selection.losses[image, i, j]) - loss_B[image]) <= bound
            assert selection.losses[image, i, j] == selection.losses[image, j, i]
        ranked = sorted(expected, key=lambda pair: -expected[pair][image])
        chosen = tuple(selection.pair[image].tolist())
        if len(ranked) == 1 or expected[ranked[0]][image] - expected[ranked[1]][image] > 2 * bound:
            assert chosen == ranked[0]
        else:
            assert expected[ranked[0]][image] - expected[chosen][image] <= 2 * bound


def brute_force(embed, views, images):
    """Every pair on its own; ``embed(slot, image)`` gives (p, z) of one view."""
    return {
        (i, j): [pair_loss(*(part[k] for k in (0, 1) for part in (embed(i, image), embed(j, image)))) for image in range(images)]
        for i, j in combinations(range(views), 2)
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 2**31))
def test_the_hardest_pair_of_brute_force(views, images, width, norm, seed):
    torch.manual_seed(seed)
    model = make_model(norm=norm, width=width)
    candidates = make_candidates(views, images, seed)
    selection = hvs.HardViewSelector(SimSiam(model), bn="running").select(candidates)
    alone = copy.deepcopy(model).eval()

    def embed(slot, image):
        with torch.no_grad():
            p, z = outputs_of(alone, candidates[slot][image : image + 1])
        return p[0], z[0]

    assert_hardest(selection, brute_force(embed, views, images), width)


@pytest.mark.parametrize("chunk", [None, 5, 6, 100])
@pytest.mark.parametrize("bn", ["fused", "per_view"])
def test_batch_statistics_are_those_of_the_forward_that_is_promised(bn, chunk):
    torch.manual_seed(0)
    views, images = 4, 5
    model, candidates = make_model(), make_candidates(views, images)
    selection = hvs.HardViewSelector(SimSiam(model), bn=bn, chunk=chunk).select(candidates)

    training = copy.deepcopy(model).train()
    pixels = torch.cat(candidates)
    # all candidates or one slot at a time, and in the fewest parts of nearly equal size that a chunk allows
    forwards = [20] if bn == "fused" and chunk in (None, 100) else [5, 5, 5, 5]
    with torch.no_grad():
        parts = [outputs_of(training, part) for part in pixels.split(forwards)]
    p, z = (torch.cat(column) for column in zip(*parts, strict=True))
    expected = brute_force(lambda slot, image: (p[slot * images + image], z[slot * images + image]), views, images)
    assert_hardest(selection, expected, 6)


def test_the_choice_of_statistics_matters():
    torch.manual_seed(0)
    model, candidates = make_model(), make_candidates(4, 5)
    losses = [hvs.HardViewSelector(SimSiam(model), bn=bn).select(candidates).losses.nan_to_num() for bn in ("fused", "per_view", "running")]
    for first, second in combinations(losses, 2):
        assert not torch.allclose(first, second, atol=1e-3)


# ---- the rule of choice ----


LOSS = st.sampled_from([0.0, 1.0, 2.0, -1.0, -math.inf, math.inf, math.nan])
ROLES = st.one_of(
    st.integers(2, 5).map(lambda views: ["view"] * views),
    st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda counts: ["global1"] * counts[0] + ["global2"] * counts[1]),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_rule_of_choice(data):
    roles = data.draw(ROLES)
    images, views = data.draw(st.integers(1, 3)), len(roles)
    entries = data.draw(st.lists(LOSS, min_size=images * views * views, max_size=images * views * views))
    losses = torch.tensor(entries).reshape(images, views, views)
    selection = select_from(losses, make_params(roles, images))

    legal = [(i, j) for i, j in combinations(range(views), 2) if len(set(roles)) == 1 or roles[i] != roles[j]]
    assert selection.legal.nonzero().tolist() == [list(pair) for pair in legal]
    non_finite = 0
    for image in range(images):
        finite = [pair for pair in legal if math.isfinite(losses[image][pair])]
        non_finite += len(legal) - len(finite)
        # max takes the first of equals
        expected = max(finite, key=lambda pair: float(losses[image][pair])) if finite else legal[0]
        assert tuple(selection.pair[image].tolist()) == expected
        for i in range(views):
            for j in range(views):
                entry = losses[image, min(i, j), max(i, j)] if (min(i, j), max(i, j)) in legal else torch.tensor(math.nan)
                assert torch.equal(selection.losses[image, i, j].isnan(), entry.isnan())
                assert entry.isnan() or selection.losses[image, i, j] == entry
    assert selection.non_finite.ndim == 0 and selection.non_finite.dtype == torch.int64 and int(selection.non_finite) == non_finite
    assert selection.pair.dtype == torch.int64 and selection.losses.dtype == torch.float32 and selection.legal.dtype == torch.bool


def test_two_views_leave_one_choice():
    for value in (1.0, math.nan, -math.inf):
        assert select_from(torch.full((1, 2, 2), value)).pair.tolist() == [[0, 1]]


def test_equal_losses_give_the_first_pair():
    assert select_from(torch.zeros(70, 8, 8)).pair.tolist() == [[0, 1]] * 70


def test_without_rows_every_pair_is_legal():
    assert torch.equal(select_from(torch.zeros(1, 4, 4)).legal, torch.ones(4, 4, dtype=torch.bool).triu(1))


def test_of_two_roles_the_first_ones_slot_comes_first():
    losses = torch.arange(16.0).reshape(1, 4, 4)
    selection = select_from(losses, make_params(["global1", "global2", "global1", "global2"], 1))
    assert selection.legal.nonzero().tolist() == [[0, 1], [0, 3], [2, 1], [2, 3]]
    assert selection.pair.tolist() == [[2, 3]]
    losses[0, 2, 1] = 99
    assert select_from(losses, selection.params).pair.tolist() == [[2, 1]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_an_objective_may_tell_the_first_view_from_the_second(data):
    roles = data.draw(ROLES)
    images, views = data.draw(st.integers(1, 3)), len(roles)
    entries = data.draw(st.lists(LOSS, min_size=images * views * views, max_size=images * views * views))
    objective = Table(torch.tensor(entries).reshape(images, views, views))
    objective.ordered = True
    selection = hvs.HardViewSelector(objective).select([torch.zeros(images, 3, 1, 1)] * views, make_params(roles, images))

    # of two kinds the recipe says which comes first
    legal = [(i, j) for i, j in permutations(range(views), 2) if len(set(roles)) == 1 or (roles[i], roles[j]) == ("global1", "global2")]
    assert selection.legal.nonzero().tolist() == [list(pair) for pair in legal]
    for image in range(images):
        finite = [pair for pair in legal if math.isfinite(objective.losses[image][pair])]
        expected = max(finite, key=lambda pair: float(objective.losses[image][pair])) if finite else legal[0]
        assert tuple(selection.pair[image].tolist()) == expected
    read = torch.where(selection.legal, objective.losses, torch.nan)
    np.testing.assert_array_equal(selection.losses, read)


def test_the_chosen_views_come_in_the_order_of_the_pair():
    losses = torch.zeros(1, 3, 3)
    losses[0, 2, 0] = 1
    objective = Table(losses)
    candidates = make_candidates(3, 1)
    for ordered, expected in ((False, (0, 1)), (True, (2, 0))):
        objective.ordered = ordered
        x1, x2 = hvs.HardViewSelector(objective)(candidates)
        assert torch.equal(x1, candidates[expected[0]]) and torch.equal(x2, candidates[expected[1]])


def test_rows_travel_with_the_selection():
    params = make_params(["view"] * 3, 2)
    selection = select_from(torch.zeros(2, 3, 3), params)
    assert selection.params is params
    assert torch.equal(selection.iou, torch.ones(2))
    assert select_from(torch.zeros(2, 3, 3)).params is None


def test_losses_of_another_type_become_float32():
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        losses = torch.tensor([[[0, 3, 1], [0, 0, 2], [0, 0, 0]]], dtype=dtype)
        selection = select_from(losses)
        assert selection.losses.dtype == torch.float32 and selection.pair.tolist() == [[0, 1]]


# ---- the chosen views ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout", ["list", "tuple", "slices", "stacked", "strided"])
def test_the_chosen_views_are_returned_as_they_came(dtype, memory_format, layout):
    views, images = 4, 5
    pixels = torch.randint(0, 256, (views * images, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).to(dtype)
    separate = [view.clone(memory_format=memory_format) for view in pixels.chunk(views)]
    candidates = {
        "list": separate,
        "tuple": tuple(separate),
        "slices": list(pixels.to(memory_format=memory_format).chunk(views)),
        "stacked": torch.stack(separate, dim=1),
        "strided": [torch.cat([view, view], dim=3)[..., :SIDE] for view in separate],
    }[layout]
    losses = torch.randn(images, views, views, generator=torch.Generator().manual_seed(2))
    selector = hvs.HardViewSelector(Table(losses))
    assert selector.last is None
    chosen = selector(candidates)
    assert isinstance(chosen, list) and len(chosen) == 2
    for column, view in enumerate(chosen):
        for image in range(images):
            assert torch.equal(view[image], separate[int(selector.last.pair[image, column])][image])
        assert view.dtype == dtype
        if layout in ("list", "tuple", "slices"):
            assert view.is_contiguous(memory_format=memory_format)


def test_slices_of_one_storage_reach_the_model_without_a_copy():
    seen = []

    class Recorder(Table):
        def encode(self, pixels):
            seen.append(pixels)
            return pixels.flatten(1)

    storage = torch.randn(3, 2, 3, 4, 4)
    selector = hvs.HardViewSelector(Recorder(torch.zeros(2, 3, 3)))
    selector(list(storage.unbind(0)))
    assert seen[0].data_ptr() == storage.data_ptr() and torch.equal(seen[0], storage.flatten(0, 1))
    elsewhere = -storage
    not_adjacent = [
        [storage[2], storage[1], storage[0]],
        [storage[0]] * 3,
        [storage[0], storage[1].transpose(2, 3), storage[2]],
        [storage[0], elsewhere[1], storage[2]],
        list(storage[:, :, :, :2, :2].unbind(0)),
    ]
    for others in not_adjacent:
        selector(others)
        assert torch.equal(seen[-1], torch.cat(others))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_larger_candidates_are_scored_small_and_returned_large(dtype):
    sizes = []

    class Recorder(Table):
        def encode(self, pixels):
            sizes.append(pixels)
            return pixels.flatten(1)

    candidates = [(view * 40 + 128).clamp(0, 255).to(dtype) for view in make_candidates(3, 2, dtype=torch.float32)]
    selector = hvs.HardViewSelector(Recorder(torch.zeros(2, 3, 3)), score_size=5)
    chosen = selector(candidates)
    assert [view.shape for view in chosen] == [(2, 3, SIDE, SIDE)] * 2
    expected = F.interpolate(torch.cat(candidates).float(), size=5, mode="bilinear", antialias=True)
    assert sizes[0].dtype == dtype
    assert torch.equal(sizes[0], expected.to(dtype) if dtype.is_floating_point else expected.round().to(dtype))
    hvs.HardViewSelector(Recorder(torch.zeros(2, 3, 3)), score_size=SIDE)(candidates)
    hvs.HardViewSelector(Recorder(torch.zeros(2, 3, 3)), score_size=2 * SIDE)(candidates)
    assert all(torch.equal(pixels, torch.cat(candidates)) for pixels in sizes[1:])


def test_every_view_passes_the_model_once():
    calls = []

    class Counter(Objective):
        def encode(self, pixels):
            calls.append(len(pixels))
            return {"flat": pixels.flatten(1), "rest": [pixels.mean((1, 2, 3)), (pixels,)]}

        def pair_losses(self, outputs):
            assert outputs["flat"].shape == (2, 4, 3 * SIDE * SIDE) and outputs["rest"][0].shape == (2, 4)
            assert torch.equal(outputs["rest"][1][0], torch.stack(candidates, dim=1))
            return super().pair_losses(outputs["flat"])

    candidates = make_candidates(4, 2)
    for options, expected in (
        ({}, [8]),
        ({"bn": "per_view"}, [2, 2, 2, 2]),
        ({"chunk": 3}, [3, 3, 2]),
        ({"bn": "per_view", "chunk": 1}, [1] * 8),
    ):
        calls.clear()
        hvs.HardViewSelector(Counter(), **options).select(candidates)
        assert calls == expected


# ---- no trace, no question to the device ----


@pytest.mark.parametrize("autocast", [False, True], ids=["float64", "bfloat16"])
def test_training_is_the_same_with_and_without_selection(autocast):
    def train(select):
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        model = make_model(dropout=0.5).to(torch.float32 if autocast else torch.float64)
        candidates = make_candidates(4, 5, dtype=torch.float32 if autocast else torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            if select:
                hvs.HardViewSelector(SimSiam(model))(candidates)
            p, z = outputs_of(model, candidates[0])
            F.cosine_similarity(p.float(), z.detach().float()).mean().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        return bits(model.state_dict()), bits(gradients), torch.get_rng_state().tolist(), np.random.rand(), random.random()

    assert train(True) == train(False)


@pytest.mark.parametrize("options", [{}, {"bn": "per_view"}, {"bn": "running", "chunk": 3}, {"score_size": 4}], ids=str)
@pytest.mark.parametrize("roles", [["view"] * 4, ["global1", "global1", "global2", "global2"]], ids=["alike", "two roles"])
def test_selection_never_asks_the_device(options, roles):
    selector = hvs.HardViewSelector(SimSiam(make_model().float()), **options)
    candidates, params = make_candidates(4, 3, dtype=torch.float32), make_params(roles, 3)
    with NoQuestions():
        selector(candidates, params)
    with pytest.raises(AssertionError), NoQuestions():
        int(selector.last.non_finite)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_selection_never_waits_for_cuda():
    selector = hvs.HardViewSelector(SimSiam(make_model().float().cuda()))
    candidates = [view.cuda() for view in make_candidates(4, 3, dtype=torch.float32)]
    selector(candidates)  # makes the tables of legal pairs
    torch.cuda.set_sync_debug_mode("error")
    try:
        selector(candidates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
