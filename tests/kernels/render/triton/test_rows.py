"""Tables of rows: which operations a row has and in which order, which rows are blurred, and that they arrive as they were made."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.reference import blur_radius
from hvs_data.types import RenderSpec
from render_material import PRESETS, drawn_rows, photo, plain_rows

pytest.importorskip("triton")

from hvs_data.kernels.render.triton import tables  # noqa: E402
from hvs_data.kernels.render.triton.filling import CUTOFF, count_bytes  # noqa: E402
from hvs_data.kernels.render.triton.rows import tables_of, to_device  # noqa: E402
from hvs_data.kernels.render.triton.taps import count_band_rows, count_taps  # noqa: E402

NAMES = {1: "brightness", 2: "contrast", 3: "saturation", 4: "hue", 5: "gray"}


def named(operations: int) -> list[str]:
    """The operations of a packed list."""
    found = []
    while operations:
        found.append(NAMES[operations & 7])
        operations >>= 3
    return found


def test_operations_stand_in_their_order_on_the_two_sides_of_the_contrast() -> None:
    cases = list(itertools.product(itertools.permutations(range(4)), itertools.product([False, True], repeat=5)))
    changes = torch.tensor([case[1] for case in cases])[None]
    params = plain_rows([[(0, 0, 4, 4)] * len(cases)])
    brightness, contrast, saturation, hue, gray = changes.unbind(-1)
    params = replace(
        params, order=torch.tensor([case[0] for case in cases], dtype=torch.uint8)[None], gray=gray,
        brightness=1.0 + brightness, contrast=1.0 + contrast, saturation=1.0 + saturation, hue=0.25 * hue,
    )  # fmt: skip
    arrays = tables_of([photo(4, 4)], params, Canvas.empty(len(cases), 1, 8, torch.float32), 0, tile_y=8).arrays
    for number, (order, changing) in enumerate(cases):
        expected = [NAMES[operation + 1] for operation in order if changing[operation]] + ["gray"] * changing[4]
        start = expected.index("contrast") if "contrast" in expected else len(expected)
        row = arrays["whole"][number]
        assert named(row[tables.BEFORE.value]) == expected[:start] and named(row[tables.AFTER.value]) == expected[start:]
        assert (number in arrays["contrast"]) == ("contrast" in expected)


@pytest.mark.parametrize("size", [1, 7, 32, 224])
def test_blurs_have_the_weights_of_their_sigma(size: int) -> None:
    sigmas = [0.0, 2.0**-149, 0.05, 0.3, 1.0, 2.0, 7.0, 3e38]
    params = plain_rows([[(0, 0, 9, 9)] * len(sigmas)], 224, RenderSpec(blur_kernel=23))
    params = replace(params, blur_sigma=torch.tensor([sigmas]))
    arrays = tables_of([photo(9, 9)], params, Canvas.empty(len(sigmas), 1, size, torch.float32), 0, tile_y=8).arrays
    limit = blur_radius(23, 224, size)
    for row, radius, weights in zip(arrays["blurred"], arrays["radius"], arrays["blur_weight"], strict=True):
        sigma = float(np.float32(sigmas[row])) * size / 224
        used = int(min(limit, np.ceil(CUTOFF * sigma)))
        taps = np.exp(-((np.arange(-used, used + 1) / sigma) ** 2) / 2)
        taps = (taps / taps.sum())[used:]
        # outer ones that weigh next to nothing are left out, and the others are rounded to float32
        assert 1 <= radius <= used and (taps[radius + 1 :] < 1.001e-9).all()
        np.testing.assert_allclose(weights[radius : 2 * radius + 1] / 2.0**126, taps[: radius + 1], rtol=2**-24 + 1e-12)
        # on both sides, and around them four rows that are blurred together find no others
        assert np.array_equal(weights[: radius + 1][::-1], weights[radius : 2 * radius + 1])
        assert len(weights[2 * radius + 1 :]) >= 3 and not weights[2 * radius + 1 :].any()
        assert arrays["whole"][row, tables.BLURRED.value] == 1
    left = set(range(len(sigmas))) - set(arrays["blurred"].tolist())
    assert 0 in left and 1 in left and (size > 1) == (7 not in left)
    assert not arrays["whole"][sorted(left), tables.BLURRED.value].any()


def test_the_radius_of_a_blur_is_rounded_as_the_reference_rounds_it() -> None:
    """Radius * size / slot size is a half and a whole number here; with a rounded quotient of the sizes it would fall short."""
    for kernel, slot_size, size in [(23, 22, 15), (23, 66, 45), (23, 44, 98), (31, 20, 82), (15, 14, 61)]:
        params = replace(plain_rows([[(0, 0, 4, 4)]], slot_size, RenderSpec(blur_kernel=kernel)), blur_sigma=torch.full((1, 1), 1e3))
        arrays = tables_of([photo(4, 4)], params, Canvas.empty(1, 1, size, torch.float32), 0, tile_y=8).arrays
        assert arrays["radius"].tolist() == [blur_radius(kernel, slot_size, size)]


@pytest.mark.parametrize("bicubic", [False, True])
def test_bands_hold_the_taps_of_a_tile(bicubic: bool) -> None:
    """Source rows from the first tap of a tile's first output to the last tap of its last one, for many pairs of sizes."""
    for source, size, tile in itertools.product([1, 2, 3, 50, 223, 224, 225, 1001], [1, 2, 7, 96, 224], [1, 8, 32]):
        taps = count_taps(source, size, bicubic)
        zoom = source / size
        support = (2 if bicubic else 1) * max(zoom, 1.0)
        centres = (np.arange(size) + 0.5) * zoom
        first = np.minimum(np.maximum((centres - support + 0.5).astype(int), 0), source - taps)
        rows = count_band_rows(source, size, bicubic, tile)
        spans = [first[min(start + tile, size) - 1] + taps - first[start] for start in range(0, size, tile)]
        assert max(spans) <= rows and rows % 2 == 0
        assert rows <= max(spans) + 4  # and little else


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("size", [16, (24, 80)])
def test_the_memory_of_a_part_is_counted_with_its_taps(size: int | tuple[int, int], bicubic: bool) -> None:
    """Taps of a large box take more than the scratch of its view."""
    images = [photo(20, 30), photo(700, 500)]
    params = plain_rows([[(0, 0, 20, 30), (3, 2, 9, 9)], [(0, 0, 700, 500), (0, 0, 1, 500)]], size)
    params = replace(params, spec=replace(params.spec, interpolation="bicubic" if bicubic else "bilinear"))
    params = replace(params, blur_sigma=torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    height, width = size if isinstance(size, tuple) else (size, size)
    made = tables_of(images, params, Canvas.empty(2, 2, size, torch.float32), 0, tile_y=8)
    tiles = -(-height // 8) * -(-width // 32)
    held = made.rows * (3 * 2 * height * width + 4 * (height + width) + 4 * tiles) + 4 * made.weights
    held += len(made.arrays["blurred"]) * 3 * 2 * height * width
    bytes_B = count_bytes(params.box.numpy(), params.blur_sigma.numpy(), np.array([height, width]), bicubic, 8, 32)
    assert bytes_B.sum() == held and bytes_B[1] > 2 * bytes_B[0] and made.packed.dtype == torch.uint8


def test_tables_arrive_as_they_were_made() -> None:
    images = [photo(20, 30), photo(7, 5)]
    params = drawn_rows(PRESETS["byol"], images)
    made = tables_of(images, params, Canvas.empty(4, 2, 16, torch.float32), 0, tile_y=8)
    arrived = to_device(made, torch.device("cpu"))
    for name, array in made.arrays.items():
        assert torch.equal(arrived[name], torch.from_numpy(array)) and arrived[name].data_ptr() % 16 == 0
    assert len({tensor.untyped_storage().data_ptr() for tensor in arrived.values()}) == 1
    whole, place = made.arrays["whole"], made.arrays["place"]
    assert (place[:, tables.ADDRESS.value] >= np.repeat([image.data_ptr() for image in images], 4)).all()
    assert set(whole[:4, tables.STEP.value]) == {90} and set(whole[4:, tables.STEP.value]) == {15}
    # weights of one row end where those of the next begin
    ends = place[:, tables.BAND.value] + whole[:, tables.BAND_ROWS.value] * 2
    assert (ends[:-1] == place[1:, tables.BAND.value]).all() and ends[-1] * 8 == place[0, tables.ACROSS.value]
    last = place[-1, tables.ACROSS.value] + whole[-1, tables.TAPS.value + 1] * 16
    assert last == made.weights
