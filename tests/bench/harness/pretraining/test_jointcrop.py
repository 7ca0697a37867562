"""JointCrop's areas and boxes."""

from __future__ import annotations

import numpy as np
import pytest

import hvs_data as hvs
from harness.pretraining.jointcrop import joint_areas, joint_boxes


def drawn(count: int, scale: tuple[float, float], height: int = 400, width: int = 300, epoch: int = 0) -> np.ndarray:
    recipe = hvs.recipes.simsiam(size=16).with_roles(scale=scale)
    sides = {"height": np.full(count, height), "width": np.full(count, width)}
    return joint_boxes(recipe, seed=5, epoch=epoch, index=np.arange(count), **sides)


def test_areas_are_drawn_as_published() -> None:
    draw = np.random.default_rng(0)
    count, scale = 200_000, (0.2, 1.0)
    share_B2 = joint_areas(scale, draw.random(count), draw.random(count))
    assert (share_B2 > scale[0] - 1e-12).all() and (share_B2 < scale[1] + 1e-12).all()
    log_ratio = np.log(share_B2[:, 1] / share_B2[:, 0]) / np.log(scale[1] / scale[0] - 0.01)
    # uniform on [-1, 1]: mean 0 with an error of sqrt(1/3) / sqrt(count) = .0013, variance 1/3 with one of sqrt(4/45) / sqrt(count) = .0007
    assert abs(log_ratio.mean()) < 5 * 0.0013 and abs(log_ratio.var() - 1 / 3) < 5 * 0.0007
    assert np.abs(log_ratio).max() <= 1 + 1e-12


def test_boxes_have_the_areas_and_lie_in_the_image() -> None:
    box = drawn(20_000, (0.08, 0.5))
    top, left, height, width = np.moveaxis(box, 2, 0)
    assert (top >= 0).all() and (left >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= 400).all() and (left + width <= 300).all()
    share = height * width / (400 * 300)
    # sides are rounded to whole pixels, of at least 81 (.08 of the area at a ratio of 3/4): by at most half a pixel each
    assert share.min() > 0.08 * (1 - 2 * 0.5 / 81) and share.max() < 0.5 * (1 + 2 * 0.5 / 81)
    aspect = width / height
    assert aspect.min() > 3 / 4 * (1 - 1.5 / 81) and aspect.max() < 4 / 3 * (1 + 1.5 / 81)


def test_pairs_differ_more_in_area_than_independent_ones() -> None:
    joint = drawn(20_000, (0.2, 1.0)).astype(np.float64)
    sides = {"height": np.full(20_000, 400), "width": np.full(20_000, 300)}
    alone = hvs.sample_views(hvs.recipes.simsiam(size=16), seed=5, epoch=0, index=np.arange(20_000), **sides).box.double().numpy()

    def spread(box: np.ndarray) -> float:
        area = box[..., 2] * box[..., 3]
        return float(np.abs(np.log(area[:, 1] / area[:, 0])).mean())

    # the ratio is uniform on [0, ln 4.99], mean .80, less where a large box fits in no shape; independent areas differ by .53
    assert spread(joint) > spread(alone) + 0.15


def test_boxes_depend_on_the_image_and_the_epoch_alone() -> None:
    box = drawn(50, (0.2, 1.0))
    np.testing.assert_array_equal(box[:7], drawn(7, (0.2, 1.0)))
    assert (drawn(50, (0.2, 1.0), epoch=1) != box).any(axis=(1, 2)).all()


def test_an_area_of_which_no_shape_fits_takes_the_whole_image() -> None:
    # 20 x 500 pixels: a quarter of the area at a ratio of 4/3 or less is at least 43 pixels high
    box = drawn(30, (0.25, 1.0), height=20, width=500)
    assert (box == np.array([0, 0, 20, 500])).all()


def test_joint_areas_need_two_views_of_one_role() -> None:
    for recipe in (hvs.recipes.simsiam(candidates=4, size=16), hvs.recipes.byol(size=16)):
        with pytest.raises(ValueError, match="two views of one role"):
            joint_boxes(recipe, seed=0, epoch=0, index=np.arange(2), height=np.full(2, 9), width=np.full(2, 9))
    with pytest.raises(ValueError, match="scale"):
        joint_areas((1.0, 1.0), np.zeros(1), np.zeros(1))
