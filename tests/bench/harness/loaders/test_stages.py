"""Counts behind the bounds of the stage table, and rows with operations switched off."""

from __future__ import annotations

import pytest
import torch

import hvs_data as hvs
from hvs_data.recipes.spec import ColorJitter
from hvs_data.types import ViewParams

pytest.importorskip("albumentations", reason="the bench extra is not installed")
from harness.loaders import stages  # noqa: E402


def rows(size: int = 16, side: int = 64, **changes: object) -> ViewParams:
    recipe = hvs.recipes.simsiam(size=size).with_roles(scale=(1, 1), ratio=(1, 1), **changes)
    index = torch.arange(3)
    return hvs.sample_views(recipe, seed=0, epoch=0, index=index, height=torch.full((3,), side), width=torch.full((3,), side))


def test_rows_without_operations_keep_their_boxes() -> None:
    drawn = rows(jitter=ColorJitter(1.0), gray=1.0, blur=1.0, solarize=1.0)
    plain = stages.without(drawn, color=True, blur=True)
    assert torch.equal(plain.box, drawn.box) and torch.equal(plain.flip, drawn.flip)
    assert not plain.gray.any() and not plain.solarize.any() and not plain.blur_sigma.any() and not plain.hue.any()
    assert (plain.brightness == 1).all() and (plain.contrast == 1).all() and (plain.saturation == 1).all()
    assert torch.equal(stages.without(drawn, color=True).blur_sigma, drawn.blur_sigma)
    assert torch.equal(stages.without(drawn, blur=True).brightness, drawn.brightness)
    assert not stages.without(drawn, blur=True).blur_sigma.any()


def test_operations_of_a_resize_are_counted_tap_by_tap() -> None:
    plain = stages.without(rows(), color=True, blur=True)
    views = plain.batch_size * plain.num_views
    # 64 -> 16: 8 taps of a triangle of support 4. First pass 16 rows of 64 pixels, second 16 rows of 16; three channels; then the store.
    assert stages.operations(plain, 16) == views * (3 * (8 * 16 * 64 + 8 * 16 * 16) + stages.STORE_OPERATIONS * 16 * 16)


def test_operations_of_colour_and_blur_are_counted_where_they_are_drawn() -> None:
    drawn = rows(jitter=ColorJitter(1.0), gray=1.0, blur=1.0, sigma=(1.0, 1.0))
    views, pixels = drawn.batch_size * drawn.num_views, 16 * 16
    plain = stages.operations(stages.without(drawn, color=True, blur=True), 16)
    color = stages.operations(stages.without(drawn, blur=True), 16) - plain
    blur = stages.operations(stages.without(drawn, color=True), 16) - plain
    assert color == views * pixels * (stages.JITTER_OPERATIONS + stages.GRAY_OPERATIONS)
    # sigma 1: four taps to either side, two operations for each two of them, and the centre; two passes, three channels
    assert blur == views * pixels * 3 * 2 * 9


def test_a_bound_is_the_larger_of_its_two_parts() -> None:
    core = stages.Core(bytes_per_second=1e9, operations_per_second=1e10)
    both = stages.Stage(lambda: None, "view", count=10, bytes=1e6, operations=1e6)
    assert both.bound(core) == pytest.approx(100)  # 1e6 bytes at 1e9/s are 1 ms, for ten views
    more = stages.Stage(lambda: None, "view", count=10, bytes=1e6, operations=1e8)
    assert more.bound(core) == pytest.approx(1000)
    assert stages.Stage(lambda: None, "view", count=10).bound(core) is None
