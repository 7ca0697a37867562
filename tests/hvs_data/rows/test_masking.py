"""Masks against the published algorithm, written out one patch at a time, and their dependence on identity alone."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import hvs_data as hvs
from hvs_data import RecipeError
from hvs_data.arguments.sizes import Size, height_width
from hvs_data.recipes import Masking, Recipe, Role, ibot, simsiam
from hvs_data.rows.masking import sample_masks

ALPHA = 1e-4
GRID = 14


def masks(masking: Masking, images: int, grid: Size = GRID, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return sample_masks(masking, seed=seed, epoch=epoch, index=np.arange(images), slots=np.array([0, 65536], dtype=np.uint64), grid=grid)


def published_mask(masking: Masking, grid: Size, draw: random.Random) -> np.ndarray:
    """iBOT's ImageFolderMask with blocks: rectangles until the share is reached, ten tries for each."""
    ratio, variance = draw.choice(list(zip(masking.ratio, masking.variance, strict=True)))
    rows, columns = height_width(grid)
    wanted = draw.uniform(ratio - variance, ratio + variance) * rows * columns
    hidden: set[tuple[int, int]] = set()
    while len(hidden) < wanted:
        for _ in range(10):
            area = draw.uniform((min(rows, columns) // 3) ** 2, wanted - len(hidden))
            aspect = math.exp(draw.uniform(math.log(masking.aspect[0]), math.log(masking.aspect[1])))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= rows or width >= columns:
                continue
            top, left = draw.randint(0, rows - height), draw.randint(0, columns - width)
            new = {(row, column) for row in range(top, top + height) for column in range(left, left + width)} - hidden
            if 0 < len(new) <= wanted - len(hidden):
                hidden |= new
                break
        else:
            break
    mask = np.zeros((rows, columns), dtype=bool)
    for place in hidden:
        mask[place] = True
    return mask


@pytest.mark.parametrize(
    ("masking", "grid"),
    [
        (Masking(), 14),
        (Masking(ratio=0.3, variance=0.0), 14),
        (Masking(ratio=(0.1, 0.5), variance=0.05, aspect=(0.9, 1.1)), 9),
        (Masking(), (8, 22)),
    ],
    ids=["published", "one share", "other", "oblong"],
)
def test_blocks_are_distributed_as_published(masking: Masking, grid: Size) -> None:
    draw = random.Random(0)
    theirs = np.stack([published_mask(masking, grid, draw) for _ in range(4000)])
    ours = masks(masking, 4000, grid)
    ours = ours.reshape(-1, *height_width(grid))

    def runs(masks_NGG: np.ndarray) -> np.ndarray:
        """Changes between neighbours in a row: few for rectangles, many for single patches."""
        return (masks_NGG[:, :, 1:] != masks_NGG[:, :, :-1]).sum(axis=(1, 2))

    measures = {"share": lambda m: m.mean(axis=(1, 2)), "runs": runs, "rows": lambda m: m.any(axis=2).sum(axis=1)}
    for name, measure in measures.items():
        # ties make the test conservative
        assert stats.ks_2samp(measure(ours), measure(theirs), method="asymp").pvalue > ALPHA / len(measures), name
    # how often each patch is hidden; patches of one mask are correlated, so patch by patch, with Bonferroni's correction
    for row, column in np.ndindex(height_width(grid)):
        counts = [[m[:, row, column].sum(), (~m[:, row, column]).sum()] for m in (ours, theirs)]
        assert stats.chi2_contingency(counts).pvalue > ALPHA / math.prod(height_width(grid))


def test_random_masks_hide_exactly_their_share() -> None:
    drawn = masks(Masking(ratio=0.4, variance=0.0, shape="random"), 2000).reshape(-1, GRID, GRID)
    assert (drawn.sum(axis=(1, 2)) == math.floor(0.4 * GRID * GRID)).all()
    counts, patches = drawn.sum(axis=0).ravel(), GRID * GRID
    # Of n patches m are hidden, so a patch's count over N masks has the variance N m/n (1 - m/n), and two of them the covariance that
    # makes all counts add up: the sum of squared deviations over that variance and n / (n - 1) is chi-squared with n - 1 degrees.
    variance = counts.mean() * (1 - counts.mean() / len(drawn)) * patches / (patches - 1)
    assert stats.chi2.sf(((counts - counts.mean()) ** 2).sum() / variance, patches - 1) > ALPHA


@pytest.mark.parametrize("shape", ["block", "random"])
def test_shares_are_drawn_in_two_steps(shape: str) -> None:
    drawn = masks(Masking(ratio=(0.0, 0.5), variance=(0.0, 0.25), shape=shape), 4000).reshape(-1, GRID * GRID).sum(axis=1)
    assert stats.binomtest(int((drawn == 0).sum()), drawn.size, 0.5).pvalue > ALPHA
    # blocks stop below their share now and then, and never go beyond it
    assert drawn.max() <= 0.75 * GRID * GRID
    if shape == "random":
        shares = drawn[drawn > 0]
        assert stats.kstest((shares + 0.5) / GRID**2, stats.uniform(0.25, 0.5).cdf).statistic < stats.kstwo.isf(ALPHA, shares.size) + 1 / 98


def test_a_mask_depends_on_its_identity_alone() -> None:
    masking = Masking()
    whole = masks(masking, 40, seed=2**40 + 3, epoch=7)
    keys: dict[str, Any] = {"seed": 2**40 + 3, "epoch": 7, "grid": GRID}
    for image in (0, 13, 39):
        for place, slot in enumerate((0, 65536)):
            alone = sample_masks(masking, index=np.array([image]), slots=np.array([slot], dtype=np.uint64), **keys)
            assert np.array_equal(alone[0, 0], whole[image, place])


def test_no_two_keys_share_their_masks() -> None:
    masking = Masking(ratio=0.5, variance=0.0, shape="random")
    seen = {
        mask.tobytes()
        for seed in (0, 1, 2**32, 2**64 - 1)
        for epoch in (0, 1, 2**32 - 1)
        for mask in masks(masking, 50, seed=seed, epoch=epoch).reshape(-1, GRID, GRID)
    }
    high = sample_masks(masking, seed=0, epoch=0, index=np.array([2**40, 2**62]), slots=np.array([0], dtype=np.uint64), grid=GRID)
    seen |= {mask.tobytes() for mask in high.reshape(-1, GRID, GRID)}
    assert len(seen) == 4 * 3 * 50 * 2 + 2


def test_the_definition_is_pinned() -> None:
    """A change of these would give other masks to a run that is resumed."""
    pinned = masks(Masking(ratio=0.4, variance=0.1), 2, grid=6, seed=1, epoch=2)
    assert ["".join("#" if patch else "." for patch in row) for row in pinned[1, 0]] == PINNED_BLOCKS
    pinned = masks(Masking(ratio=0.4, variance=0.1, shape="random"), 2, grid=6, seed=1, epoch=2)
    assert ["".join("#" if patch else "." for patch in row) for row in pinned[1, 0]] == PINNED_RANDOM


PINNED_BLOCKS = ["..####", ".#####", "..####", "......", "......", "......"]
PINNED_RANDOM = ["..#..#", "#.##..", ".#...#", "..#...", ".###.#", "....#."]


def test_epochs_before_the_first_have_no_masks() -> None:
    masking = Masking(ratio=0.5, variance=0.0, start_epoch=3)
    assert not masks(masking, 10, epoch=2).any()
    assert masks(masking, 10, epoch=3).any(axis=(2, 3)).all()


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("shape", ["block", "random"])
def test_grids_of_few_patches(grid: int, shape: str) -> None:
    for ratio in (0.0, 0.5, 1.0):
        drawn = masks(Masking(ratio=ratio, variance=0.0, shape=shape), 20, grid=grid)
        assert drawn.shape == (20, 2, grid, grid)
        assert (drawn.sum(axis=(2, 3)) <= ratio * grid**2).all()


# --- in rows -----------------------------------------------------------------------------------------------------------


def rows(recipe: Recipe, index: Any = range(6), epoch: int = 0) -> hvs.ViewParams:
    return hvs.sample_views(recipe, seed=5, epoch=epoch, index=list(index), height=[50] * len(index), width=[60] * len(index))


MASKED = ibot(candidates=4, local_candidates=9, masking=Masking())


def test_rows_have_masks_for_all_but_local_views() -> None:
    params = rows(MASKED)
    assert params.mask is not None and params.mask.dtype == torch.bool and params.mask.shape == (6, 13, 14, 14)
    assert params.mask[:, :4].any() and not params.mask[:, 4:].any()


def test_masks_change_nothing_else_of_a_row() -> None:
    masked, plain = rows(MASKED).tensors(), rows(replace(MASKED, masking=None)).tensors()
    masked.pop("mask")
    assert masked.keys() == plain.keys() and all(torch.equal(masked[name], plain[name]) for name in plain)


def test_a_mask_travels_with_its_view() -> None:
    params = rows(MASKED)
    assert params.mask is not None
    slots = torch.tensor([[1, 2, 4], [0, 3, 12], [1, 3, 5], [0, 2, 4], [1, 2, 6], [0, 3, 7]])
    taken = params.take(slots).mask
    assert taken is not None
    for image, place in np.ndindex(6, 3):
        assert torch.equal(taken[image, place], params.mask[image, slots[image, place]])
    parts = [params.images([2, 3]), params.images([0])]
    joined = hvs.ViewParams.concatenate(parts).mask
    assert joined is not None and torch.equal(joined, params.mask[[2, 3, 0]])
    views = params.views([3, 0]).mask
    assert views is not None and torch.equal(views, params.mask[:, [3, 0]])


def test_a_view_has_the_same_mask_in_any_batch_and_number_of_candidates() -> None:
    few, many = rows(ibot(masking=Masking())), rows(MASKED, [4, 1, 77])
    assert few.mask is not None and many.mask is not None
    assert torch.equal(few.mask[1, 0], many.mask[1, 0]) and torch.equal(few.mask[4, 1], many.mask[0, 2])
    assert not torch.equal(rows(MASKED, epoch=1).mask, rows(MASKED).mask)  # type: ignore[arg-type]


def test_rows_with_other_masks_are_not_concatenated() -> None:
    others = [replace(MASKED, masking=None), replace(MASKED, masking=Masking(patch_size=32))]
    for other in others:
        with pytest.raises(hvs.HvsError, match="parts of one recipe.* in part 1"):
            hvs.ViewParams.concatenate([rows(MASKED), rows(other)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 0}, "patch_size must be a whole number of at least 1, got 0"),
        ({"patch_size": 16.0}, "patch_size"),
        ({"start_epoch": -1}, "start_epoch"),
        ({"ratio": 0.3, "variance": 0.4}, "0 <= ratio - variance"),
        ({"ratio": 0.9, "variance": 0.2}, r"ratio \+ variance <= 1"),
        ({"ratio": (0.1, 0.2, 0.3)}, "one variance for each ratio"),
        ({"ratio": math.nan, "variance": 0}, "ratio"),
        ({"ratio": ()}, "ratio must be a number or a sequence of numbers"),
        ({"ratio": "0.3"}, "ratio must be a number"),
        ({"variance": True}, "variance must be a number"),
        ({"aspect": (0.5, 0.1)}, "aspect must satisfy 0 < lo <= hi"),
        ({"aspect": 0.3}, "aspect must satisfy"),
        ({"shape": "rand"}, r"shape must be one of \('block', 'random'\), got 'rand'"),
    ],
)
def test_masking_that_means_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Masking(**arguments)


def test_a_recipe_refuses_masking_that_does_not_fit() -> None:
    with pytest.raises(RecipeError, match="masking must be a Masking or None, got True"):
        simsiam(masking=True)
    with pytest.raises(RecipeError, match=r"at least a patch \(16 pixels\).*sizes \[8\]"):
        simsiam(size=8, masking=Masking())
    roles = Role("global1", size=224), Role("global2", size=96)
    with pytest.raises(RecipeError, match=r"views of one size.*sizes \[224, 96\]"):
        Recipe("two sizes", roles, masking=Masking())
    assert Masking(ratio=0.3, variance=0.1) == Masking(ratio=(0.3,), variance=(0.1,))
    assert (simsiam(size=33, masking=Masking()).mask_grid, simsiam().mask_grid) == (2, 0)
    assert simsiam(size=(33, 64), masking=Masking()).mask_grid == (2, 4)
    with pytest.raises(RecipeError, match=r"at least a patch \(16 pixels\).*sizes \[\(8, 40\)\]"):
        simsiam(size=(8, 40), masking=Masking())
