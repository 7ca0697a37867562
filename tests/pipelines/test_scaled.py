"""Decoding at a fraction of the size: when, to which pixels, and where the boxes then lie."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hvs_data as hvs
from hvs_data.arguments.sizes import Size
from hvs_data.pipelines import decode as decoding
from hvs_data.pipelines.decode import decode_image, jpeg_size
from hvs_data.pipelines.scaled import boxes_in_decoded, denominator_for
from hvs_data.types import ViewParams


def jpeg(height: int, width: int, **options: object) -> bytes:
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * x / width, 255 * y / height, 127 + 100 * np.sin(x / 40) * np.cos(y / 60)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def rows_with(boxes: list[tuple[int, int, int, int]]) -> ViewParams:
    recipe = hvs.recipes.simsiam(candidates=len(boxes) + 1)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[9000], width=[9000]).views(range(len(boxes)))
    rows.box.copy_(torch.tensor([boxes], dtype=torch.int32))
    return rows


@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("height", "width"), [(400, 600), (403, 601), (8, 8), (1, 5)])
def test_pixels_are_those_of_pillows_draft(height: int, width: int, progressive: bool, denominator: int) -> None:
    data = jpeg(height, width, progressive=progressive)
    draft = Image.open(io.BytesIO(data))
    # Pillow asks libjpeg for the largest reduction that stays at or above a size
    draft.draft("RGB", (max(1, width // denominator), max(1, height // denominator)))
    pixels = decode_image(data, denominator=denominator)
    assert pixels.shape == (-(-height // denominator), -(-width // denominator), 3)
    if draft.size == pixels.shape[1::-1]:
        assert np.array_equal(pixels, np.asarray(draft))
    assert jpeg_size(data) == (height, width)


def test_what_is_no_jpeg_comes_in_full() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "PNG")
    assert jpeg_size(buffer.getvalue()) is None and jpeg_size(np.zeros((4, 4, 3), np.uint8)) is None and jpeg_size(b"\xff\xd8\xff") is None
    assert decode_image(buffer.getvalue(), denominator=8).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("boxes", "sizes", "denominator"),
    [
        ([(0, 0, 2000, 2000)], (224,), 8),
        ([(0, 0, 2000, 1791)], (224,), 4),  # 8 * 224 = 1792
        ([(0, 0, 2000, 2000), (0, 0, 500, 500)], (224, 224), 2),
        ([(0, 0, 2000, 2000), (0, 0, 500, 447)], (224, 224), 1),
        ([(0, 0, 2000, 2000), (0, 0, 500, 447)], (224, 96), 4),
        ([(0, 0, 10, 10)], (224,), 1),
        ([(0, 0, 900, 600)], ((112, 300),), 2),
        ([(0, 0, 600, 900)], ((112, 200),), 4),
    ],
)
def test_every_view_keeps_a_pixel_for_each_of_its_own(boxes: list, sizes: tuple[Size, ...], denominator: int) -> None:
    assert denominator_for(rows_with(boxes), sizes) == denominator


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([2, 4, 8]), st.data())
def test_boxes_stay_inside_and_where_they_were(height: int, width: int, denominator: int, data: st.DataObject) -> None:
    box_height, box_width = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - box_height)), data.draw(st.integers(0, width - box_width))
    rows = rows_with([(top, left, box_height, box_width)])
    small = torch.empty(-(-height // denominator), -(-width // denominator), 3, dtype=torch.uint8)
    moved = boxes_in_decoded(rows, torch.tensor([denominator]), [small.shape[:2]])
    assert moved.box.dtype == torch.int32
    start, length = moved.box[0, 0, :2].tolist(), moved.box[0, 0, 2:].tolist()
    # half a pixel of rounding at each end, and one more where the box would be empty
    for axis, (old_start, old_length) in enumerate([(top, box_height), (left, box_width)]):
        assert 0 <= start[axis] and length[axis] >= 1 and start[axis] + length[axis] <= small.shape[axis]
        assert abs(start[axis] - old_start / denominator) <= 1
        assert abs(start[axis] + length[axis] - (old_start + old_length) / denominator) <= 1.5


def test_rows_of_images_in_full_are_left_alone() -> None:
    rows = rows_with([(0, 0, 40, 50)])
    assert boxes_in_decoded(rows, torch.tensor([1]), [(48, 64)]) is rows


@pytest.mark.parametrize("score_size", [None, 20])
def test_a_loader_renders_close_to_the_exact_views(score_size: int | None) -> None:
    files = [jpeg(700 + 13 * n, 900 - 7 * n) for n in range(6)] + [jpeg(60, 70)]
    source = [(data, n) for n, data in enumerate(files)]
    plain = hvs.recipes.ColorJitter(p=0)
    recipe = hvs.recipes.simsiam(candidates=3, size=32).with_roles(jitter=plain, gray=0, blur=0)

    class Mean(hvs.Objective):
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    def batch(scaled: bool) -> hvs.Batch:
        loader = hvs.ViewLoader(source, recipe, batch_size=7, normalize=False, scaled_decode=scaled)
        if score_size is None:
            return next(iter(loader))
        selector = hvs.HardViewSelector(Mean(), score_size=score_size)
        selector.select = lambda views, params, slots=None, labels=None: first_pair(selector, views, params)  # type: ignore[method-assign]
        return next(iter(hvs.HardViewLoader(loader, selector)))

    def first_pair(selector: hvs.HardViewSelector, views: list, params: ViewParams) -> hvs.Selection:
        from dataclasses import replace

        selection = hvs.HardViewSelector.select(selector, views, params)
        pair = torch.tensor([[0, 1]]).expand(7, 2).clone()
        return replace(selection, pair=pair, **({"slots": pair} if hasattr(selection, "slots") else {}))

    exact, scaled = batch(False), batch(True)
    assert torch.equal(exact.params.box, scaled.params.box)  # rows count in full pixels in both
    differ = 0
    for a, b in zip(exact.views, scaled.views, strict=True):
        differ += int((a != b).flatten(1).any(1).sum())
        # A source pixel differs from the next by at most 255 / 700 in red and green, in blue by 100 / 40 across and 100 / 60 down. A corner
        # of the box moves by half a decoded pixel, at most 4 source pixels, each way, and a value by at most 17 levels; 4 more for JPEG.
        assert (a - b).abs().max() <= 21 / 255
    assert differ  # the fractions were used
    small = scaled.index == 6
    assert all(torch.equal(a[small], b[small]) for a, b in zip(exact.views, scaled.views, strict=True))


@pytest.mark.parametrize("keep", [False, True])
def test_what_only_pillow_reads_comes_in_full_among_others(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = jpeg(640, 800)
    fast = decoding._decode_jpeg
    monkeypatch.setattr(decoding, "_decode_jpeg", lambda data, *rest: None if data == odd else fast(data, *rest))
    assert decode_image(odd, denominator=2).shape == (640, 800, 3) and jpeg_size(odd) == (640, 800)
    files = [jpeg(600 + n, 800) for n in range(3)]
    recipe = hvs.recipes.simsiam(candidates=2, size=32)
    loader = hvs.ViewLoader([*files, odd], recipe, batch_size=4, scaled_decode=True, num_threads=1)
    products = loader.products(keep_images=keep)
    product = next(products)
    place = product.batch.index.tolist().index(3)
    image = hvs.decode([odd])
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[3], height=image.height, width=image.width)
    exact = hvs.render(image, rows)[0]
    assert torch.equal(exact, torch.stack([view[place] for view in product.batch.views]))
    if keep:
        again = product.render(product.batch.params)
        assert all(torch.equal(a, b) for a, b in zip(again, product.batch.views, strict=True))
    products.close()
