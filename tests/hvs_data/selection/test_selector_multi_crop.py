"""The selector with candidates of several sizes: its forwards, sizes, returned views, teacher's outputs, and no trace of it."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hvs_data as hvs
from distillers import DISTILLERS, MASKED_RECIPE, RECIPE, MultiCrop, chosen, quiet
from hvs_data import SelectionError
from hvs_data.objectives import DINO
from multi_crop import GLOBAL_SIDE, LOCAL_SIDE, Terms, make_pixels, make_recipe, make_rows
from traces import bits
from trainers import NoQuestions, next_step, seed, started, traces

IMAGES = 5


class Counter(Terms):
    """Notes the pixels of every forward."""

    def __init__(self, images=IMAGES, globals_=4, views=11):
        super().__init__(torch.randn(images, globals_, views, generator=torch.Generator().manual_seed(0)))
        self.calls = []

    def encode(self, pixels):
        self.calls.append(("global", pixels))
        return super().encode(pixels)

    def encode_local(self, pixels):
        self.calls.append(("local", pixels))
        return super().encode_local(pixels)

    def sizes(self):
        return [(kind, len(pixels)) for kind, pixels in self.calls]


# ---- forwards ----


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("global", 20), ("local", 35)]),
        ({"chunk": 100}, [("global", 20), ("local", 35)]),
        ({"bn": "per_view"}, [("global", 5)] * 4 + [("local", 5)] * 7),
        # parts of 3 and 2 images, each with all of its views
        ({"chunk": 21}, [("global", 12), ("local", 21), ("global", 8), ("local", 14)]),
        ({"chunk": 21, "bn": "per_view"}, ([("global", 3)] * 4 + [("local", 3)] * 7) + ([("global", 2)] * 4 + [("local", 2)] * 7)),
        # fewer than an image's views
        ({"chunk": 3}, [("global", 2), ("global", 2), ("local", 3), ("local", 2), ("local", 2)] * 5),
    ],
    ids=str,
)
def test_every_view_passes_each_network_once(options, expected):
    objective = Counter()
    pixels = make_pixels(RECIPE, IMAGES)
    hvs.HardViewSelector(objective, **options).select(pixels, make_rows(RECIPE, IMAGES))
    assert objective.sizes() == expected
    for kind, slots in (("global", range(4)), ("local", range(4, 11))):
        seen = torch.cat([views for name, views in objective.calls if name == kind])
        given = torch.cat([pixels[slot] for slot in slots])
        assert len(seen) == len(given) and all((seen == view).flatten(1).all(1).sum() == 1 for view in given)


@pytest.mark.parametrize("options", [{}, {"chunk": 21}, {"chunk": 3}, {"bn": "per_view"}, {"bn": "per_view", "chunk": 4}], ids=str)
def test_outputs_reach_the_table_by_image_and_view(options):
    pixels = make_pixels(RECIPE, IMAGES)
    read = []

    class Means(Counter):
        def encode(self, pixels):
            return pixels.mean((1, 2, 3)), {"mean": pixels.mean((1, 2, 3))}

        def encode_local(self, pixels):
            return [pixels.mean((1, 2, 3))]

        def term_table(self, teacher, student, local, views):
            assert views == 5 and torch.equal(teacher, student["mean"])
            read.append(torch.cat([teacher, local[0]], dim=1))
            return teacher[:, :, None] + torch.cat([teacher, local[0]], dim=1)[:, None]

    hvs.HardViewSelector(Means(), **options).select(pixels, make_rows(RECIPE, IMAGES))
    assert torch.equal(torch.cat(read), torch.stack([view.mean((1, 2, 3)) for view in pixels], dim=1))


def test_without_local_candidates_nothing_is_encoded_as_local():
    objective = Counter(globals_=4, views=4)
    hvs.HardViewSelector(objective).select(make_pixels(make_recipe(locals_=0), IMAGES))
    assert objective.sizes() == [("global", 20)]


def test_batch_statistics_are_those_of_one_size():
    """Of all global views together and of all local ones, as in training, or of each view."""
    norm = nn.BatchNorm2d(3, affine=False)
    pixels = [view * (1 + slot) for slot, view in enumerate(make_pixels(RECIPE, IMAGES))]
    seen = {}

    class Normed(Counter):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def encode(self, pixels):
            seen["global"] = self.norm(pixels)
            return super().encode(pixels)

        def encode_local(self, pixels):
            seen["local"] = self.norm(pixels)
            return super().encode_local(pixels)

    hvs.HardViewSelector(Normed()).select(pixels, make_rows(RECIPE, IMAGES))
    for kind, slots in (("global", slice(0, 4)), ("local", slice(4, 11))):
        assert torch.equal(seen[kind], copy.deepcopy(norm)(torch.cat(pixels[slots])))


# ---- sizes ----


@pytest.mark.parametrize(
    ("score_size", "expected"),
    [
        (None, (8, 4)),
        (6, (6, 3)),
        (4, (4, 2)),
        (8, (8, 4)),
        (100, (8, 4)),
        ({"global1": 6, "global2": 6}, (6, 4)),
        ({"local": 2}, (8, 2)),
        ({"global1": 6, "global2": 6, "local": 3}, (6, 3)),
        ({"local": 9}, (8, 4)),
    ],
    ids=str,
)
def test_views_are_scored_small_and_returned_large(score_size, expected):
    objective = Counter()
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    selector = hvs.HardViewSelector(objective, score_size=score_size)
    views = selector(pixels, rows)
    assert [view.shape[-1] for view in views] == [GLOBAL_SIDE] * 2 + [LOCAL_SIDE] * 3
    assert all(torch.equal(view, right) for view, right in zip(views, chosen(pixels, selector.last.slots), strict=True))
    for (_, scored), slots, size in zip(objective.calls, (slice(0, 4), slice(4, 11)), expected, strict=True):
        given = torch.cat(pixels[slots])
        small = given if size == given.shape[-1] else F.interpolate(given, size=size, mode="bilinear", antialias=True)
        assert torch.equal(scored, small)
    # what a loader asks for
    assert selector.score_sizes(rows.role, rows.size) == (expected[0],) * 4 + (expected[1],) * 7


def test_sizes_shrink_in_proportion():
    selector = hvs.HardViewSelector(Counter(), score_size=112)
    assert selector.score_sizes(["a", "b", "local"], [224, 224, 96]) == (112, 112, 48)
    assert selector.score_sizes(["a", "local"], [100, 96]) == (100, 96)
    # a number is the longer side, and views keep their shape
    assert selector.score_sizes(["a", "local"], [(128, 448), (96, 48)]) == ((32, 112), (24, 12))
    assert hvs.HardViewSelector(Counter(), score_size={"a": 64}).score_sizes(["a", "b"], [(128, 32), (9, 7)]) == ((64, 16), (9, 7))
    assert hvs.HardViewSelector(Counter(), score_size=0.5).score_sizes(["a"], [(3, 224)]) == ((2, 112),)
    assert hvs.HardViewSelector(Counter(), score_size=1).score_sizes(["a", "local"], [224, 96]) == (1, 1)


def test_candidates_that_come_small_are_not_shrunk_again():
    objective = Counter()
    recipe = make_recipe(sides=(6, 3))
    hvs.HardViewSelector(objective, score_size=6).select(make_pixels(recipe, IMAGES), make_rows(recipe, IMAGES))
    assert [pixels.shape[-1] for _, pixels in objective.calls] == [6, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_views_keep_their_type_and_format(dtype, memory_format):
    pixels = [(view * 50 + 128).clamp(0, 255).to(dtype).contiguous(memory_format=memory_format) for view in make_pixels(RECIPE, IMAGES)]
    for options in ({}, {"chunk": 20}):
        objective = Counter()
        selector = hvs.HardViewSelector(objective, **options)
        views = selector(pixels, make_rows(RECIPE, IMAGES))
        assert all(torch.equal(view, right) for view, right in zip(views, chosen(pixels, selector.last.slots), strict=True))
        assert all(view.dtype == dtype and view.is_contiguous(memory_format=memory_format) for view in views)
        assert all(seen.is_contiguous(memory_format=memory_format) for _, seen in objective.calls)


# ---- what candidates may be ----


def test_a_recipe_stands_for_rows_that_were_never_drawn():
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    selectors = [hvs.HardViewSelector(Counter()) for _ in range(2)]
    views = [selector(pixels, source) for selector, source in zip(selectors, (rows, RECIPE), strict=True)]
    assert torch.equal(selectors[0].last.slots, selectors[1].last.slots) and selectors[1].last.params is None
    assert all(torch.equal(view, other) for view, other in zip(*views, strict=True))
    assert selectors[0].last.params is rows and selectors[1].last.iou is None
    with pytest.raises(SelectionError, match="each of the 10 candidate views, got a recipe of 11"):
        selectors[0](pixels[:10], RECIPE)


def test_one_image_and_the_fewest_candidates():
    recipe = make_recipe(["global1", "global2"], 1, 1)
    objective = Counter(1, 2, 3)
    views = hvs.HardViewSelector(objective)(make_pixels(recipe, 1), make_rows(recipe, 1))
    assert [view.shape for view in views] == [(1, 3, 8, 8)] * 2 + [(1, 3, 4, 4)]


def test_local_views_may_have_the_size_of_the_others():
    recipe = make_recipe(sides=(8, 8))
    objective = Counter()
    pixels = torch.stack(make_pixels(recipe, IMAGES), dim=1)
    views = hvs.HardViewSelector(objective)(pixels, make_rows(recipe, IMAGES))
    assert [view.shape for view in views] == [(IMAGES, 3, 8, 8)] * 5 and objective.sizes() == [("global", 20), ("local", 35)]


@pytest.mark.parametrize(
    "change",
    [
        lambda views: [*views[:1], views[1][..., :7, :7], *views[2:]],
        lambda views: [*views[:10], views[10][..., :3, :3]],
        lambda views: [*views[:10], views[10].double()],
        lambda views: [*views[:10], views[10][:3]],
        lambda views: [*views[:10], views[10][0]],
    ],
)
def test_candidates_that_do_not_fit_are_refused(change):
    with pytest.raises(SelectionError, match="one shape .* only those of the role 'local' in their rows may have a size of their own"):
        hvs.HardViewSelector(Counter()).select(change(make_pixels(RECIPE, IMAGES)), make_rows(RECIPE, IMAGES))


def test_several_sizes_without_rows_are_refused():
    with pytest.raises(SelectionError, match="only those of the role 'local'"):
        hvs.HardViewSelector(Counter()).select(make_pixels(RECIPE, IMAGES))


def test_a_table_of_another_shape_is_refused():
    objective = Counter()
    objective.table = torch.zeros(IMAGES, 4, 10)
    with pytest.raises(
        SelectionError, match=r"expected term_table to return a float32 tensor \[B, T, S\] = \[5, 4, 11\], got .*\[5, 4, 10\]"
    ):
        hvs.HardViewSelector(objective).select(make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES))


# ---- the teacher's outputs ----


@pytest.mark.parametrize("options", [{}, {"chunk": 8}, {"bn": "per_view"}], ids=str)
@pytest.mark.parametrize("method", DISTILLERS)
def test_the_teachers_outputs_are_those_of_its_own_forward(method, options):
    trainer = started(DISTILLERS[method], torch.float64)
    pixels = make_pixels(RECIPE, IMAGES, dtype=torch.float64)
    teacher = trainer.model["teacher"]
    teacher.eval()
    selector = hvs.HardViewSelector(trainer.objective, keep_teacher=True, **options)
    views = selector(pixels, **trainer.select)
    with quiet(teacher):
        expected = teacher(views[:2])
    kept = selector.last.teacher_outputs
    for output, right in zip(*((value if isinstance(value, tuple) else [value]) for value in (kept, expected)), strict=True):
        # one forward of all candidates and one of two views: other sums of the networks' few terms, in float64
        torch.testing.assert_close(output, right, rtol=1e-10, atol=1e-12)
        assert not output.requires_grad and output.shape[0] == 2 * IMAGES
    assert hvs.HardViewSelector(trainer.objective).select(pixels, **trainer.select).teacher_outputs is None


def test_the_teachers_outputs_are_not_kept_of_other_views():
    with pytest.raises(SelectionError, match=r"keep_teacher needs .* score_size=4"):
        hvs.HardViewSelector(Counter(), keep_teacher=True, score_size=4)


# ---- no trace, no question to the device ----


OPTIONS = [{}, {"bn": "per_view"}, {"bn": "running", "chunk": 12}, {"keep_teacher": True}, {"score_size": {"local": 3}}]
OPTIONS += [{"policy": "softmax", "limit": 9}, {"policy": "quantile"}]


def made_for(method, options):
    """What makes the method's trainer, whose teacher does not normalise by its batch where its outputs are kept."""

    def make():
        trainer = DISTILLERS[method]()
        if options.get("keep_teacher"):
            trainer.model["teacher"].eval()
        return trainer

    return make


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", DISTILLERS)
def test_nothing_changes(method, options):
    assert traces(made_for(method, options), make_pixels(RECIPE, IMAGES), **options) == set()


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", DISTILLERS)
def test_the_next_step_is_the_same(method, autocast):
    """Of two global views; its loss, its gradients, and the centre, the statistics and the random states after it."""
    pixels = make_pixels(RECIPE, IMAGES)
    with_scoring, without = (next_step(DISTILLERS[method], pixels, score, autocast) for score in (True, False))
    assert with_scoring == without


@pytest.mark.parametrize("method", DISTILLERS)
def test_the_trainers_own_forward_leaves_a_trace(method, monkeypatch):
    """So that the tests above can fail: the same model, scored by its trainer's loss, without protection."""
    monkeypatch.setattr("hvs_data.forwards.encoding.unseen_refused", lambda *_: nullcontext())  # it would be refused

    def make():
        trainer = DISTILLERS[method]()

        class Forward(type(trainer.objective)):
            def encode(self, pixels, **extras):
                with torch.no_grad():
                    trainer.loss([view[:IMAGES] for view in (pixels, pixels)])
                return super().encode(pixels, **extras)

        trainer.objective.__class__ = Forward
        trainer.objective.modules = lambda: []
        return trainer

    pixels = make_pixels(RECIPE, IMAGES)
    assert {"buffers", "state_dict"} <= traces(make, pixels)
    assert next_step(make, pixels, True) != next_step(make, pixels, False)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", DISTILLERS)
def test_selection_never_asks_the_device(method, options):
    trainer = started(made_for(method, options))
    pixels = make_pixels(RECIPE, IMAGES)
    selector = hvs.HardViewSelector(trainer.objective, **options)
    with NoQuestions():
        selector(pixels, **trainer.select)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", DISTILLERS)
def test_selection_never_waits_for_cuda(method, options):
    trainer = started(made_for(method, options))
    trainer.model.cuda()
    pixels = [view.cuda() for view in make_pixels(RECIPE, IMAGES)]
    selector = hvs.HardViewSelector(trainer.objective, **options)
    selector(pixels, **trainer.select)  # makes the tables and compiles the kernel
    torch.cuda.set_sync_debug_mode("error")
    try:
        selector(pixels, **trainer.select)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_networks_without_batch_norm_give_the_same_choice_in_any_chunks():
    torch.manual_seed(0)
    student, teacher = (
        MultiCrop(nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(6, 20)).double()
        for _ in range(2)
    )
    objective = DINO(student, teacher, None, 0.04)
    pixels, rows = make_pixels(RECIPE, 30, dtype=torch.float64), make_rows(RECIPE, 30)
    slots = [hvs.HardViewSelector(objective, chunk=chunk).select(pixels, rows).slots for chunk in (None, 1, 7, 11, 100)]
    assert all(torch.equal(other, slots[0]) for other in slots[1:])


@pytest.mark.parametrize("around", [False, True], ids=["outside", "inside the trainer's autocast"])
def test_scoring_may_cast_by_itself(around):
    trainer = started(DISTILLERS["DINO"])
    pixels = make_pixels(RECIPE, IMAGES)
    types = []
    trainer.model["student"].head.register_forward_hook(lambda module, args, output: types.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.float16, enabled=around):
        before = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        for autocast, expected in ((None, torch.float16 if around else torch.float32), (torch.bfloat16, torch.bfloat16)):
            types.clear()
            hvs.HardViewSelector(trainer.objective, autocast=autocast).select(pixels, **trainer.select)
            assert set(types) == {expected}
            assert (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")) == before
    for wrong in ("bfloat16", torch.int8, True):
        with pytest.raises(SelectionError, match="autocast must be a floating type"):
            hvs.HardViewSelector(trainer.objective, autocast=wrong)


@pytest.mark.parametrize("method", DISTILLERS)
def test_scoring_that_casts_changes_nothing(method):
    pixels = make_pixels(RECIPE, IMAGES)
    assert traces(DISTILLERS[method], pixels, autocast=torch.bfloat16) == set()

    def gradients(score, around):
        trainer = started(DISTILLERS[method])
        seed(11)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
            if score:
                hvs.HardViewSelector(trainer.objective, autocast=torch.bfloat16).select(pixels, **trainer.select)
            trainer.loss(pixels[:2]).backward()
        return {name: None if value.grad is None else bits(value.grad) for name, value in trainer.model.named_parameters()}

    for around in (False, True):
        assert gradients(True, around) == gradients(False, around)


def test_masks_are_asked_for_by_those_who_take_them_only():
    """A masked recipe serves DINO as well."""
    pixels, rows = make_pixels(MASKED_RECIPE, IMAGES), make_rows(MASKED_RECIPE, IMAGES)
    trainer = started(DISTILLERS["DINO"])
    assert hvs.HardViewSelector(trainer.objective).select(pixels, rows).slots.shape == (IMAGES, 5)


def test_any_objective_may_ask_for_what_the_rows_know():
    class Boxes(hvs.Objective):
        extras = ("box", "blur_sigma")

        def encode(self, pixels, box, blur_sigma):
            assert box.shape == (len(pixels), 4) and blur_sigma.shape == (len(pixels),)
            return box.float(), blur_sigma

        def pair_losses(self, outputs):
            assert torch.equal(outputs[0], rows.box.float()) and torch.equal(outputs[1], rows.blur_sigma)
            return torch.zeros(len(outputs[0]), 4, 4)

    recipe = make_recipe(["view"] * 4, 0)
    rows = make_rows(recipe, IMAGES)
    for options in ({}, {"bn": "per_view", "chunk": 3}):
        hvs.HardViewSelector(Boxes(), **options).select(make_pixels(recipe, IMAGES), rows)
    with pytest.raises(SelectionError, match="Boxes takes 'box' of the candidates' rows, got no rows"):
        hvs.HardViewSelector(Boxes()).select(make_pixels(recipe, IMAGES))
