"""Rows: pinned exactly, equal in distribution to torchvision's own samplers, and dependent on nothing but their keys."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import ColorJitter as TorchvisionColorJitter
from torchvision.transforms import RandomResizedCrop

import hvs_data as hvs
from hvs_data.errors import RecipeError
from hvs_data.recipes import ColorJitter, Masking, Recipe, Role, byol, dino, dinov2, ibot, moco_v3, simclr, simsiam
from hvs_data.recipes.spec import SHARED
from hvs_data.types import ViewParams, pairwise_iou

# Seeds are fixed, so a test of distributions passes always or never; ALPHA is the chance that a right sampler was unlucky.
ALPHA = 1e-4
TORCHVISION_DRAWS = 100_000


def rows(recipe: Recipe, height: int, width: int, count: int = 1, seed: int = 0, epoch: int = 0) -> ViewParams:
    """Rows of `count` images of one size, with indices from 0."""
    return hvs.sample_views(recipe, seed=seed, epoch=epoch, index=np.arange(count), height=[height] * count, width=[width] * count)


def equal(first: ViewParams, second: ViewParams) -> bool:
    pairs = zip(first.tensors().items(), second.tensors().values(), strict=True)
    return all(value.dtype == other.dtype and torch.equal(value, other) for (_, value), other in pairs)


# --- what the rows are -------------------------------------------------------------------------------------------------

# (seed, epoch) = (0x0123456789ABCDEF, 3); image 0 has index 0 and 375 x 500 pixels, image 1 index 2**40 + 7 and 40 x 333.
# A row: box, order, (brightness, contrast, saturation, hue), blur sigma, flip, grey, solarize. Floats are exact as float32.
GOLDEN: dict[str, tuple[Recipe, list[list[Any]]]] = {
    "simsiam": (
        simsiam(candidates=4),
        [
            [
                ((0, 88, 375, 345), "1023", (0.9438233, 1.3530452, 0.68376094, -0.09304739), 1.0649694, False, True, False),
                ((26, 169, 282, 259), "2031", (1.0138974, 1.2456665, 0.9053711, 0.03990873), 0.0, True, False, False),
                ((8, 139, 341, 302), "0312", (0.98815775, 0.93912, 1.3996346, -0.0799392), 0.0, False, False, False),
                ((31, 33, 339, 366), "2301", (0.9638306, 0.6655341, 1.3604927, 0.09441509), 0.0, True, False, False),
            ],
            [
                ((0, 140, 40, 53), "0123", (0.6024146, 1.2932458, 1.3295747, 0.038714588), 0.0, False, True, False),
                ((0, 140, 40, 53), "0213", (0.98885286, 0.64275855, 0.7090135, -0.017859304), 0.30422097, True, False, False),
                ((0, 140, 40, 53), "0123", (1.0, 1.0, 1.0, 0.0), 1.1478764, True, False, False),
                ((0, 140, 40, 53), "3120", (1.0784174, 1.0399178, 0.747506, 0.01878722), 0.0, True, False, False),
            ],
        ],
    ),
    "byol": (
        byol(),
        [
            [
                ((9, 95, 362, 333), "1023", (0.9438233, 1.3530452, 0.8418805, -0.09304739), 1.0649694, False, True, False),
                ((106, 113, 267, 214), "3021", (1.2858597, 1.3467665, 1.111581, -0.04012484), 0.0, False, False, False),
            ],
            [
                ((0, 140, 40, 53), "0123", (0.6024146, 1.2932458, 1.1647874, 0.038714588), 0.82105845, False, True, False),
                ((0, 15, 39, 33), "3210", (1.3708098, 0.82365155, 1.0579307, 0.08800059), 0.0, True, False, False),
            ],
        ],
    ),
    "dinov2 as run, two of its eight local views": (
        dinov2(variant="as_run"),
        [
            [
                ((93, 176, 266, 313), "1023", (0.9438233, 1.3530452, 0.8418805, -0.09304739), 0.0, False, True, False),
                ((37, 90, 338, 270), "3021", (1.2858597, 1.3467665, 1.111581, -0.04012484), 1.3220255, False, False, False),
                ((2, 1, 189, 241), "3120", (0.72347397, 1.3033488, 1.010325, -0.057794865), 1.7739687, True, False, False),
                ((158, 198, 214, 211), "3120", (0.9898559, 1.1895672, 0.9552503, 0.077927336), 0.0, True, True, False),
            ],
            [
                ((0, 140, 40, 53), "0123", (0.6024146, 1.2932458, 1.1647874, 0.038714588), 0.0, False, True, False),
                ((0, 140, 40, 53), "3210", (1.3708098, 0.82365155, 1.0579307, 0.08800059), 0.0, True, False, False),
                ((8, 278, 32, 33), "2310", (0.6586735, 0.8975323, 0.84171134, 0.09495074), 1.3352565, False, False, False),
                ((3, 152, 29, 38), "0123", (1.2093368, 1.0801784, 0.8100001, 0.099445164), 1.1578147, False, False, False),
            ],
        ],
    ),
}


@pytest.mark.parametrize(("recipe", "golden"), GOLDEN.values(), ids=GOLDEN)
def test_rows_of_one_key_never_change(recipe: Recipe, golden: list[list[Any]]) -> None:
    params = hvs.sample_views(recipe, seed=0x0123456789ABCDEF, epoch=3, index=[0, 2**40 + 7], height=[375, 40], width=[500, 333])
    for image, views in enumerate(golden):
        for slot, (box, order, factors, sigma, flip, gray, solarize) in enumerate(views):
            assert params.box[image, slot].tolist() == list(box)
            assert "".join(map(str, params.order[image, slot].tolist())) == order
            drawn = [getattr(params, name)[image, slot] for name in ("brightness", "contrast", "saturation", "hue", "blur_sigma")]
            assert torch.equal(torch.stack(drawn), torch.tensor([*factors, sigma], dtype=torch.float32))
            effects = (params.flip[image, slot].item(), params.gray[image, slot].item(), params.solarize[image, slot].item())
            assert effects == (flip, gray, solarize)


def test_shapes_types_and_labels() -> None:
    recipe = dino(candidates=4, local_candidates=9, size=160, local_size=64)
    params = rows(recipe, 300, 400, count=3)
    expected = {
        torch.int32: {"box"},
        torch.uint8: {"order"},
        torch.bool: {"flip", "gray", "solarize"},
        torch.float32: {"brightness", "contrast", "saturation", "hue", "blur_sigma"},
        torch.int64: {"key"},
    }
    assert set(params.tensors()) == set().union(*expected.values())
    for name, value in params.tensors().items():
        assert name in expected[value.dtype]
        assert value.shape == ((3, 13, 4) if name in ("box", "order") else (3, 13))
        assert value.is_contiguous() and value.device.type == "cpu"
    assert params.role == ("global1",) * 2 + ("global2",) * 2 + ("local",) * 9
    assert params.size == (160,) * 4 + (64,) * 9
    assert params.spec == recipe.spec
    assert torch.equal(params.order.sort(dim=-1).values, torch.arange(4, dtype=torch.uint8).expand(3, 13, 4))


def test_an_empty_batch_has_rows_too() -> None:
    params = hvs.sample_views(simsiam(candidates=4), seed=0, epoch=0, index=[], height=[], width=[])
    assert params.box.shape == (0, 4, 4) and params.flip.shape == (0, 4) and params.num_views == 4


def test_what_is_not_drawn_is_the_identity() -> None:
    nothing = Recipe("plain", (Role(flip=0, gray=0, blur=0, solarize=0, jitter=ColorJitter(p=0)),))
    params = rows(nothing, 300, 400, count=2000)
    for value in (params.brightness, params.contrast, params.saturation):
        assert torch.equal(value, torch.ones(2000, 2))
    for value in (params.hue, params.blur_sigma, params.flip, params.gray, params.solarize):
        assert not value.any()
    assert torch.equal(params.order, torch.arange(4, dtype=torch.uint8).expand(2000, 2, 4))


def test_what_is_certain_is_always_drawn() -> None:
    everything = Recipe("all", (Role(flip=1, gray=1, blur=1, solarize=1, sigma=(1.5, 1.5), jitter=ColorJitter(p=1)),))
    params = rows(everything, 300, 400, count=2000)
    for value in (params.flip, params.gray, params.solarize, params.blur_sigma == 1.5, params.brightness != 1):
        assert value.all()


def test_a_half_width_above_1_never_makes_a_factor_negative() -> None:
    recipe = Recipe("strong", (Role(jitter=ColorJitter(1, 3, 3, 3, 0.5)),))
    params = rows(recipe, 300, 400, count=2000)
    for factor in (params.brightness, params.contrast, params.saturation):
        assert factor.min() >= 0 and factor.max() <= 4
        assert stats.kstest(factor.flatten().numpy(), stats.uniform(0, 4).cdf).pvalue > ALPHA


# --- identity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [simsiam(candidates=4), dinov2(candidates=4)], ids=["one role", "three roles"])
def test_rows_do_not_depend_on_the_batch_or_its_order(recipe: Recipe) -> None:
    generator = np.random.default_rng(0)
    index = generator.permutation(10_000)[:200]
    height, width = generator.integers(1, 900, 200), generator.integers(1, 900, 200)

    def draw(chosen: Any) -> ViewParams:
        return hvs.sample_views(recipe, seed=5, epoch=2, index=index[chosen], height=height[chosen], width=width[chosen])

    whole = draw(slice(None))
    for chosen in (generator.permutation(200), generator.permutation(200)[:31], np.array([7, 7, 0])):
        assert equal(draw(chosen), whole.images(torch.from_numpy(chosen)))
    for image in range(20):
        assert equal(draw([image]), whole.images([image]))


@pytest.mark.parametrize("more", [4, 8, 64])
def test_the_first_candidates_of_a_role_do_not_depend_on_their_number(more: int) -> None:
    few, many = (rows(dino(candidates=count, local_candidates=4 * count), 300, 400, count=50) for count in (2, more))
    for role in ("global1", "global2", "local"):
        kept = len(few.slots(role))
        assert equal(few.views(few.slots(role)), many.views(many.slots(role)[:kept]))


def test_every_part_of_the_key_matters() -> None:
    recipe = Recipe("twins", (Role("global1", emitted=1), Role("global2", emitted=1)))
    seen = set()
    seeds, epochs, indices = (0, 1, 2**32, 2**64 - 1), (0, 1, 2**32 - 1), (0, 1, 2**32, 2**63 - 1)
    for seed, epoch in itertools.product(seeds, epochs):
        params = hvs.sample_views(recipe, seed=seed, epoch=epoch, index=indices, height=[375] * 4, width=[500] * 4)
        views = torch.cat([params.box, torch.stack([params.brightness, params.hue, params.blur_sigma], dim=-1)], dim=-1).flatten(0, 1)
        seen |= {tuple(view) for view in views.tolist()}
    assert len(seen) == len(seeds) * len(epochs) * len(indices) * recipe.num_views


def test_rows_of_the_largest_roles_do_not_collide() -> None:
    role = Role("global1", candidates=2**16, jitter=ColorJitter(p=1))
    params = rows(Recipe("twins", (role, replace(role, name="global2"))), 375, 500)
    views = torch.stack([params.brightness, params.contrast, params.saturation, params.hue], dim=-1)[0]
    assert len(set(map(tuple, views.tolist()))) == 2**17


def test_the_images_size_moves_nothing_but_the_box() -> None:
    small, large = rows(simclr(), 40, 30, count=100).tensors(), rows(simclr(), 3000, 4000, count=100).tensors()
    assert not torch.equal(small.pop("box"), large.pop("box"))
    assert all(torch.equal(value, large[name]) for name, value in small.items())


def test_all_that_is_drawn_of_a_view_is_of_its_color_or_of_its_crop() -> None:
    drawn = rows(replace(simsiam(), masking=Masking()), 300, 400).tensors()
    color, crop = (set(SHARED[kind]) for kind in ("color", "crop"))
    assert not color & crop and drawn.keys() - color - crop == {"mask", "key"}


@pytest.mark.parametrize("shared", ["color", "crop"])
@pytest.mark.parametrize(
    "recipe", [simsiam(6), byol(6), ibot(6, 5, 32, 16, local_views=2, masking=Masking(8))], ids=["one role", "two roles", "multi-crop"]
)
def test_views_of_a_role_share_what_its_first_view_draws_and_nothing_else(recipe: Recipe, shared: str) -> None:
    sharing = recipe.with_shared(shared)
    params, own = rows(sharing, 300, 400, count=50), rows(sharing.with_roles(shared=None), 300, 400, count=50)
    assert params.role[:6] == ("global1",) * 3 + ("global2",) * 3 and params.emitted["global1"] == params.emitted["global2"] == 1
    first_V = [0, 0, 0, 3, 3, 3, *range(6, recipe.num_views)]
    differing = {name: value for name, value in own.tensors().items() if not torch.equal(value, value[:, first_V])}
    assert differing.keys() >= own.tensors().keys() - {"solarize"}  # which one of the recipes has not
    for name, value in params.tensors().items():
        expected = own.tensors()[name]
        assert torch.equal(value, expected[:, first_V] if name in SHARED[shared] else expected), name


def test_the_halves_of_one_role_are_rows_of_that_role_without_sharing() -> None:
    role = Role("global1", candidates=3, emitted=1)
    halves = rows(simsiam(6).with_shared("crop").with_roles(shared=None), 300, 400, count=50)
    assert equal(halves, rows(Recipe("two", (role, replace(role, name="global2"))), 300, 400, count=50))
    assert equal(halves.views([0, 1, 2]), rows(simsiam(6), 300, 400, count=50).views([0, 1, 2]))


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_more_candidates_that_share_leave_the_first_ones_alone(shared: str) -> None:
    few, many = (rows(simsiam(count).with_shared(shared), 300, 400, count=50) for count in (4, 12))
    for role in ("global1", "global2"):
        assert equal(few.views(few.slots(role)), many.views(many.slots(role)[:2]))


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda values: np.array(values, dtype=np.uint16)])
def test_every_kind_of_integer_array_gives_the_same_rows(kind: Any) -> None:
    recipe = moco_v3(candidates=4)
    expected = hvs.sample_views(recipe, seed=1, epoch=0, index=np.array([3, 9]), height=np.array([20, 300]), width=np.array([400, 50]))
    keys: dict[str, Any] = {"seed": np.int64(1), "epoch": np.int64(0), "index": kind([3, 9])}
    drawn = hvs.sample_views(recipe, **keys, height=kind([20, 300]), width=kind([400, 50]))
    assert equal(drawn, expected)


@pytest.mark.parametrize("shared", [None, "color", "crop"])
def test_parameters_of_a_view_and_views_of_an_image_are_uncorrelated(shared: str | None) -> None:
    role = Role("global1", emitted=1, jitter=ColorJitter(p=0.5), solarize=0.3, shared=shared)
    recipe = Recipe("twins", (role, replace(role, name="global2")))
    params = rows(recipe, 1000, 1000, count=20_000)
    measured = [params.box[..., 0], params.box[..., 1], params.box[..., 2] * params.box[..., 3], params.box[..., 2] / params.box[..., 3]]
    measured += [params.brightness, params.contrast, params.saturation, params.hue, params.order[..., 0], params.flip, params.gray]
    measured += [params.blur_sigma > 0, params.blur_sigma, params.brightness != 1, params.solarize]
    columns = torch.stack([value.to(torch.float64) for value in measured], dim=-1).flatten(1)
    correlation = torch.corrcoef(columns.T)
    # Related by design, within one view: position and size of a crop, whether blurred and how much, whether jittered and the order.
    per_view = columns.shape[1] // params.num_views
    related = torch.block_diag(*[torch.ones(per_view, per_view)] * params.num_views).bool()
    names = ["top", "left", "area", "aspect", "b", "c", "s", "h", "order", "flip", "gray", "blurred", "sigma", "jittered", "solarized"]
    groups = [{"top", "left", "area", "aspect"}, {"blurred", "sigma"}, {"jittered", "order"}]
    within = torch.tensor([[a == b or any({a, b} <= group for group in groups) for b in names] for a in names])
    crop = {"top", "left", "area", "aspect", "flip"}
    one_draw = torch.tensor([shared is not None and (name in crop) == (shared == "crop") for name in names])
    # a view's own parameters, and what it shares with the other view of its role, but not with the other role
    of_one_role = torch.tensor([[a == b for b in params.role] for a in params.role])
    same_role = torch.kron(of_one_role.int(), torch.ones(per_view, per_view, dtype=torch.int)).bool()
    related |= same_role & (one_draw[:, None] & one_draw).repeat(params.num_views, params.num_views)
    related &= within.repeat(params.num_views, params.num_views)
    unrelated = correlation[~related].abs()
    # sqrt(n) r is nearly standard normal; Bonferroni over the pairs
    bound = stats.norm.isf(ALPHA / unrelated.numel()) / 20_000**0.5
    assert per_view == len(names) and unrelated.numel() > 2500
    assert unrelated.max() < bound


# --- distributions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "mean_of_two", "smallest_of_six"), [(0.08, 0.381, 0.182), (0.2, 0.474, 0.285), (0.25, 0.511, 0.328), (0.4, 0.609, 0.453)]
)
def test_overlap_of_200_000_boxes(scale: float, mean_of_two: float, smallest_of_six: float) -> None:
    images = 50_000
    params = rows(simsiam(candidates=4).with_roles(scale=(scale, 1)), 375, 500, count=images)
    pairs = torch.triu_indices(4, 4, offset=1)
    overlap = pairwise_iou(params.box)[:, pairs[0], pairs[1]].to(torch.float64)
    smallest = overlap.min(dim=1).values
    for value, one_draw, published in ((overlap.mean(dim=1), overlap[:, 0], mean_of_two), (smallest, smallest, smallest_of_six)):
        # Images are independent, pairs of one image are not: our error is that of a mean over images. The published mean is one of
        # 200,000 draws, rounded to three places.
        error = (value.var() / images + one_draw.var() / 200_000) ** 0.5
        assert abs(value.mean() - published) < stats.norm.isf(ALPHA / 2) * error + 0.0005


def torchvision_crops(height: int, width: int, role: Role, count: int) -> np.ndarray:
    """int64 [count, 4]: (top, left, height, width)."""
    image = torch.empty(1, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return np.array([RandomResizedCrop.get_params(image, list(role.scale), list(role.ratio)) for _ in range(count)])


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, (0.08, 1.0)), (100, 300, (0.2, 1.0)), (64, 64, (0.05, 0.4))],
    ids=["photograph", "mostly rejected", "small"],
)
def test_boxes_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    recipe = simsiam().with_roles(scale=scale)
    theirs = torchvision_crops(height, width, recipe.roles[0], TORCHVISION_DRAWS)
    ours = rows(recipe, height, width, count=100_000).box.flatten(0, 1).numpy().astype(np.int64)
    measures = {
        "area": lambda box: box[:, 2] * box[:, 3],
        "aspect": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "height": lambda box: box[:, 2],
        "width": lambda box: box[:, 3],
        "bottom margin": lambda box: height - box[:, 0] - box[:, 2],
        "right margin": lambda box: width - box[:, 1] - box[:, 3],
    }
    for name, measure in measures.items():
        # ties make the test conservative
        assert stats.ks_2samp(measure(ours), measure(theirs), method="asymp").pvalue > ALPHA / len(measures), name


def test_every_position_of_a_box_is_equally_likely() -> None:
    # scale and ratio leave one shape, 80 x 80 in 84 x 83: 5 x 4 positions, first and last included
    recipe = simsiam().with_roles(scale=(6400 / (84 * 83),) * 2, ratio=(1, 1))
    box = rows(recipe, 84, 83, count=50_000).box.flatten(0, 1)
    assert (box[:, 2:] == 80).all()
    counts = torch.bincount(box[:, 0] * 4 + box[:, 1], minlength=20)
    assert counts.numel() == 20
    assert stats.chisquare(counts.numpy()).pvalue > ALPHA


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (20, 2000, (0.2, 1.0), (3 / 4, 4 / 3)),
        (2000, 20, (0.08, 1.0), (3 / 4, 4 / 3)),
        (1, 100, (0.2, 1.0), (3 / 4, 4 / 3)),
        (99, 1, (0.2, 1.0), (3 / 4, 4 / 3)),
        (7, 1001, (0.4, 1.0), (3 / 4, 4 / 3)),
        (1, 1, (0.2, 1.0), (3 / 4, 4 / 3)),
        (100, 100, (1.0, 1.0), (3 / 4, 4 / 3)),
        (300, 310, (0.99, 1.0), (1.0, 1.0)),
        (310, 301, (0.99, 1.0), (1.0, 1.0)),
        (50, 60, (0.9, 1.0), (2.0, 3.0)),
    ],
)
def test_the_fallback_is_exactly_torchvisions(height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    recipe = simsiam().with_roles(scale=scale, ratio=ratio)
    theirs = torchvision_crops(height, width, recipe.roles[0], 50)
    # no try of these shapes can give another box than the fallback's
    assert (theirs == theirs[0]).all()
    ours = rows(recipe, height, width, count=500).box
    assert torch.equal(ours, torch.from_numpy(theirs[0]).to(torch.int32).expand_as(ours))


def test_the_fallback_is_as_frequent_as_torchvisions() -> None:
    recipe = simsiam().with_roles(scale=(0.2, 1))
    theirs = torchvision_crops(100, 300, recipe.roles[0], TORCHVISION_DRAWS // 2)
    ours = rows(recipe, 100, 300, count=100_000).box.flatten(0, 1).numpy()
    fallback = np.array([0, 83, 100, 133])
    hits = [[(boxes == fallback).all(axis=1).sum(), (boxes != fallback).any(axis=1).sum()] for boxes in (ours, theirs)]
    assert min(hits[0] + hits[1]) > 1000
    assert stats.chi2_contingency(hits).pvalue > ALPHA


@pytest.mark.parametrize("jitter", [ColorJitter(1, 0.4, 0.4, 0.2, 0.1), ColorJitter(1, 1.5, 0.8, 0.8, 0.5)], ids=["mild", "strong"])
def test_jitter_is_distributed_as_torchvisions(jitter: ColorJitter) -> None:
    params = rows(Recipe("jitter", (Role(jitter=jitter),)), 30, 40, count=100_000)
    theirs = TorchvisionColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    ranges = (theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = [TorchvisionColorJitter.get_params(*ranges) for _ in range(TORCHVISION_DRAWS)]
    for position, (name, (lo, hi)) in enumerate(zip(("brightness", "contrast", "saturation", "hue"), ranges, strict=True), start=1):
        ours = getattr(params, name).flatten().numpy()
        # a float32 is the nearest to a number inside the range
        assert np.float32(lo) <= ours.min() and ours.max() <= np.float32(hi)
        assert stats.ks_2samp(ours, [draw[position] for draw in draws], method="asymp").pvalue > ALPHA / 4, name
    places = torch.tensor([64, 16, 4, 1])
    ours_counts = torch.bincount((params.order.flatten(0, 1) * places).sum(dim=-1))
    their_counts = torch.bincount((torch.stack([draw[0] for draw in draws]) * places).sum(dim=-1), minlength=ours_counts.numel())
    drawn = ours_counts > 0
    assert drawn.sum() == 24 and (their_counts[~drawn] == 0).all()
    assert stats.chisquare(ours_counts[drawn].numpy()).pvalue > ALPHA
    assert stats.chi2_contingency(torch.stack([ours_counts[drawn], their_counts[drawn]]).numpy()).pvalue > ALPHA


@pytest.mark.parametrize("recipe", [simsiam(candidates=4), byol(candidates=4), dinov2(variant="as_run"), moco_v3()], ids=lambda r: r.name)
def test_probabilities(recipe: Recipe) -> None:
    params = rows(recipe, 30, 40, count=30_000)
    jittered = (params.brightness != 1) | (params.hue != 0)
    tests = 5 * len(recipe.roles)
    for role in recipe.roles:
        slots = list(params.slots(role.name))
        happened = {
            "flip": (params.flip, role.flip),
            "gray": (params.gray, role.gray),
            "solarize": (params.solarize, role.solarize),
            "blur": (params.blur_sigma > 0, role.blur),
            "jitter": (jittered, role.jitter.p),
        }
        for name, (event, p) in happened.items():
            count, trials = int(event[:, slots].sum()), event[:, slots].numel()
            assert stats.binomtest(count, trials, p).pvalue > ALPHA / tests, (role.name, name, count / trials)
        sigma = params.blur_sigma[:, slots]
        if role.blur > 0:
            lo, hi = role.sigma
            assert stats.kstest(sigma[sigma > 0].numpy(), stats.uniform(lo, hi - lo).cdf).pvalue > ALPHA / tests


# --- the edges ---------------------------------------------------------------------------------------------------------

sides = st.integers(1, 2**20) | st.integers(1, 8) | st.sampled_from([1, 2, 2**20, 2**31 - 1])
fractions = st.floats(1e-6, 1)
shapes = st.floats(0.01, 100)


@given(
    sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=20), scale=st.tuples(fractions, fractions), ratio=st.tuples(shapes, shapes)
)
def test_every_box_lies_inside_its_image(sizes: list[tuple[int, int]], scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    height, width = np.array(sizes).T
    recipe = simsiam(candidates=4).with_roles(scale=tuple(sorted(scale)), ratio=tuple(sorted(ratio)))
    box = hvs.sample_views(recipe, seed=0, epoch=0, index=np.arange(len(sizes)), height=height, width=width).box.to(torch.int64)
    top, left, box_height, box_width = box.unbind(-1)
    assert (top >= 0).all() and (left >= 0).all() and (box_height >= 1).all() and (box_width >= 1).all()
    assert (top + box_height <= torch.from_numpy(height)[:, None]).all()
    assert (left + box_width <= torch.from_numpy(width)[:, None]).all()


KEYS: dict[str, Any] = {"seed": 0, "epoch": 0, "index": [0, 1], "height": [3, 4], "width": [5, 6]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"seed": value}, "seed must be a whole number") for value in (-1, 2**64, 1.0, True, None, "0")),
        *(({"epoch": value}, "epoch must be a whole number") for value in (-1, 2**32, 0.0, False, None)),
        *(({name: 3}, f"{name} must be integers of shape") for name in ("index", "height", "width")),
        *(({name: [1.0, 2.0]}, f"{name} must be integers of shape") for name in ("index", "height", "width")),
        *(({name: [True, True]}, f"{name} must be integers of shape") for name in ("index", "height", "width")),
        *(({name: [[1], [2]]}, f"{name} must be integers of shape") for name in ("index", "height", "width")),
        *(({name: [1, 2, 3]}, "one shape") for name in ("index", "height", "width")),
        ({"index": [0, -1]}, "index must lie between 0 and"),
        ({"index": np.array([0, 2**64 - 1], dtype=np.uint64)}, "index must lie between 0 and"),
        *(({name: [1, value]}, f"{name} must lie between 1 and") for name in ("height", "width") for value in (0, -5, 2**31)),
    ],
)
def test_wrong_keys_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        hvs.sample_views(simsiam(), **{**KEYS, **changes})
    expected, got, rest = str(caught.value).partition("got ")
    assert expected and got and "; " in rest


def test_something_else_than_a_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match="recipe must be a Recipe, got 'simsiam'; make one with"):
        hvs.sample_views("simsiam", **KEYS)  # type: ignore[arg-type]
