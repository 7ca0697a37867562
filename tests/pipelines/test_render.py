"""``hvs_data.render``: engines against each other, number formats, memory order, threads, bad requests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.kernels.render.reference import render_reference
from hvs_data.types import ImageBatch, ViewParams


def images_of(*sizes: tuple[int, int]) -> ImageBatch:
    draw = np.random.default_rng(0)
    coarse = [draw.integers(0, 256, (h // 8 + 2, w // 8 + 2, 3)) for h, w in sizes]
    return ImageBatch([np.kron(c, np.ones((8, 8, 1)))[:h, :w].astype(np.uint8) for c, (h, w) in zip(coarse, sizes, strict=True)])


def rows_of(images: ImageBatch, recipe: hvs.recipes.Recipe) -> ViewParams:
    return hvs.sample_views(recipe, seed=1, epoch=2, index=torch.arange(len(images)), height=images.height, width=images.width)


IMAGES = images_of((60, 80), (33, 47), (90, 31))
ROWS = rows_of(IMAGES, hvs.recipes.moco_v3(candidates=4, size=32))

# Both engines compute in float32, in values of at most 1 before they are normalised. The longest chain is that of an image that is resized
# (60 taps at most), coloured (hue: slope 3), contrasted with a mean of 1,024 pixels and blurred; tests of the two renderers derive
# each part and judge each against float64. Together they stay below 2 ** -13 but where solarize flips a value beside its threshold.
AGREEMENT = 2.0**-13
# the largest 1 / std
SCALE = 1 / 0.224


def far_from_threshold(params: ViewParams, size: int) -> Tensor:
    """Which values do not lie so close to solarize's threshold that rounding decides: [B, V, 3, S, S]."""
    from dataclasses import replace

    plain = render_reference(IMAGES, replace(params, solarize=torch.zeros_like(params.solarize)), size, normalize=False)
    near = (plain - params.spec.solarize_threshold).abs() < 2 * AGREEMENT
    return ~(near & params.solarize[..., None, None, None])


@pytest.mark.parametrize("engine", ["auto", "fused", "reference"])
@pytest.mark.parametrize("size", [32, 21])
def test_every_engine_renders_the_reference(engine: str, size: int) -> None:
    expected = render_reference(IMAGES, ROWS, size)
    actual = hvs.render(IMAGES, ROWS, size=size, engine=engine)
    assert actual.shape == (3, 4, 3, size, size) and actual.dtype == torch.float32
    excess = (actual.double() - expected).abs() - AGREEMENT * SCALE
    assert bool((excess[far_from_threshold(ROWS, size)] <= 0).all())


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_number_formats_and_memory_orders(engine: str, channels_last: bool, dtype: torch.dtype) -> None:
    unit = hvs.render(IMAGES, ROWS, 32, engine, normalize=False)
    actual = hvs.render(IMAGES, ROWS, 32, engine, dtype, normalize=False, channels_last=channels_last)
    assert actual.dtype == dtype and actual.shape == unit.shape
    if dtype == torch.uint8:
        assert bool(((actual.double() - unit.double() * 255).abs() <= 0.5 + 255 * 2**-22).all())
    else:
        assert torch.equal(actual, unit.to(dtype))
    fused = actual.flatten(0, 1)
    assert fused.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert fused.untyped_storage().data_ptr() == actual.untyped_storage().data_ptr()


def test_views_are_normalised_where_the_type_can_hold_them() -> None:
    mean, std = (torch.tensor(values)[:, None, None] for values in (ROWS.spec.mean, ROWS.spec.std))
    unit = hvs.render(IMAGES, ROWS, 32, normalize=False)
    # one rounding of the quotient's parts each, in values of at most 2.7
    assert torch.allclose(hvs.render(IMAGES, ROWS, 32), (unit - mean) / std, rtol=0, atol=2.7 * 8 * 2**-24)
    assert torch.equal(hvs.render(IMAGES, ROWS, 32, dtype=torch.uint8), hvs.render(IMAGES, ROWS, 32, dtype=torch.uint8, normalize=False))


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_do_not_change_a_bit(num_threads: int) -> None:
    images = images_of(*[(40 + 3 * k, 70 - 2 * k) for k in range(11)])
    rows = rows_of(images, hvs.recipes.simsiam(candidates=3, size=24))
    assert torch.equal(hvs.render(images, rows, num_threads=num_threads), hvs.render(images, rows, num_threads=3))


def test_the_size_is_the_slots_own_unless_one_is_given() -> None:
    assert hvs.render(IMAGES, ROWS).shape[-1] == 32
    assert hvs.render(IMAGES, ROWS, size=5).shape[-1] == 5
    rows = rows_of(IMAGES, hvs.recipes.dino(size=32, local_size=16))
    assert hvs.render(IMAGES, rows.views(rows.slots("local"))).shape == (3, 8, 3, 16, 16)
    assert hvs.render(IMAGES, rows, size=8).shape == (3, 10, 3, 8, 8)
    assert hvs.render(IMAGES, rows, size=[8, 5]).shape == (3, 10, 3, 8, 5)
    with pytest.raises(HvsError, match=r"expected a size.*\[32, 16\]"):
        hvs.render(IMAGES, rows)


def test_lists_of_arrays_are_images_too() -> None:
    assert torch.equal(hvs.render([image.numpy() for image in IMAGES], ROWS), hvs.render(IMAGES, ROWS))


def test_no_images_give_no_views() -> None:
    assert hvs.render(ImageBatch([]), ROWS.images(slice(0, 0))).shape == (0, 4, 3, 32, 32)


def test_auto_says_what_it_chose_once(caplog: pytest.LogCaptureFixture) -> None:
    from hvs_data.pipelines import engine

    engine._announce.cache_clear()
    with caplog.at_level("INFO", logger="hvs_data"):
        for _ in range(3):
            hvs.render(IMAGES, ROWS)
    assert [record.getMessage() for record in caplog.records] == ["engine=\"auto\" renders with the engine 'fused' on cpu"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "opencv"}, "engine must be one of"),
        ({"extra_stage": "blur"}, "extra_stage must be a function"),
        ({"size": 0}, "size must be at least 1"),
        ({"size": 32.0}, "size must be at least 1"),
        ({"size": (32, 0)}, "size must be at least 1"),
        ({"dtype": torch.float64}, "dtype must be one of"),
        ({"dtype": torch.uint8, "normalize": True}, "do not fit into uint8"),
        ({"num_threads": 0}, "num_threads"),
        ({"params": ROWS.images([0, 1])}, "rows of 3 images"),
        ({"images": IMAGES[:2], "params": ROWS.images([1, 0])}, "pixels of their image only"),
        ({"images": [torch.zeros(3, 8, 8)] * 3}, "of 3 channels, as the recipe.s mean and std have, got 8"),
    ],
)
def test_requests_that_cannot_be_done_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(HvsError, match=message):
        hvs.render(**{"images": IMAGES, "params": ROWS, **arguments})
