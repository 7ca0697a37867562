"""Turns, vertical flips and posterize: the reference against torchvision, the Numba renderer and what finishes for others against it."""

# Axes: B image, G image of a group, V view, C channel, H W pixels.

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from hvs_data.errors import HvsError
from hvs_data.kernels.render.reference import render_reference
from hvs_data.pipelines.finishing import finish_views
from hvs_data.types import ViewParams
from numba_rendering import assert_judged, rendered
from render_material import photo, plain_rows

IMAGE = photo(29, 37)
BOXES = [(0, 0, 29, 37), (3, 5, 20, 31), (28, 36, 1, 1), (4, 0, 1, 37)]
SIZES = [1, 2, 7, 16, 31]


def rows_of(flip: list[bool], vertical_flip: list[bool], turn: list[int], posterize: list[int]) -> ViewParams:
    rows = plain_rows([[BOXES[v % len(BOXES)] for v in range(len(flip))]], 32)
    switches = {"flip": torch.tensor([flip]), "vertical_flip": torch.tensor([vertical_flip])}
    return replace(rows, **switches, **{n: torch.tensor([v], dtype=torch.uint8) for n, v in (("turn", turn), ("posterize", posterize))})


EVERY = rows_of(*zip(*itertools.product([False, True], [False, True], range(4), [8, 1, 4, 7]), strict=True))  # type: ignore[arg-type]


def torchvisions(view: Tensor, rows: ViewParams, v: int) -> Tensor:
    """A plain view as torchvision flips, turns and posterizes it."""
    view = tv.horizontal_flip(view) if rows.flip[0, v] else view
    view = tv.vertical_flip(view) if rows.vertical_flip[0, v] else view  # type: ignore[index]
    view = tv.rotate(view, 90.0 * int(rows.turn[0, v]))  # type: ignore[index]
    bits = int(rows.posterize[0, v])  # type: ignore[index]
    return tv.posterize(view, bits) if bits < 8 else view


@pytest.mark.parametrize("size", SIZES)
def test_the_reference_does_as_torchvision(size: int) -> None:
    plain = render_reference([IMAGE], plain_rows([BOXES], 32), size, normalize=False)
    view = render_reference([IMAGE], EVERY, size, normalize=False)
    for v in range(EVERY.num_views):
        assert torch.equal(view[0, v], torchvisions(plain[0, v % len(BOXES)], EVERY, v))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_numba_renderer_does_as_the_reference(size: int, channels_last: bool) -> None:
    assert_judged([IMAGE], EVERY, size)
    planar = rendered([IMAGE], EVERY, size)
    assert torch.equal(rendered([IMAGE], EVERY, size, channels_last=channels_last, image_major=True), planar)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_with_all_other_operations(data: st.DataObject) -> None:
    def drawn(values: st.SearchStrategy) -> Tensor:
        return torch.tensor([data.draw(st.lists(values, min_size=3, max_size=3))])

    rows = rows_of(*(drawn(values)[0].tolist() for values in (st.booleans(), st.booleans(), st.integers(0, 3), st.integers(1, 8))))
    rows = replace(rows, gray=drawn(st.booleans()), solarize=drawn(st.booleans()), blur_sigma=drawn(st.floats(0, 3, width=32)))
    rows = replace(rows, **{name: drawn(st.floats(0, 2, width=32)) for name in ("brightness", "contrast", "saturation")})
    assert_judged([photo(29, 37, 1)], rows, data.draw(st.integers(1, 33)))


@pytest.mark.parametrize("extreme", [0, 255])
def test_extreme_values_are_posterized_within_their_range(extreme: int) -> None:
    image = torch.full_like(IMAGE, extreme)
    pixels = rendered([image], EVERY, 8, normalize=False)
    kept = EVERY.posterize.double()  # type: ignore[union-attr]
    highest = torch.where(kept < 8, 1 - 2.0**-kept, 1.0) * (extreme > 0)
    assert torch.allclose(pixels.double(), highest[:, :, None, None, None].expand_as(pixels), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_what_finishes_the_views_of_other_engines_does_as_the_reference(size: int) -> None:
    plain = replace(EVERY, turn=None, vertical_flip=None, posterize=None)
    x_VGCHW = render_reference([IMAGE], plain, size, normalize=False).transpose(0, 1).float().contiguous()
    finish_views(x_VGCHW, EVERY)
    expected = render_reference([IMAGE], EVERY, size, normalize=False, compute_dtype=torch.float64).transpose(0, 1).float()
    near = (x_VGCHW - expected).abs() > 1e-6
    assert near.float().mean() < 2e-3  # values that rounding to float32 has put on the other side of a step
    assert torch.equal(x_VGCHW[::4], expected[::4])  # not posterized


def test_finishing_of_rows_with_one_of_the_operations() -> None:
    for name in ("turn", "vertical_flip", "posterize"):
        alone = replace(EVERY, **{other: None for other in ("turn", "vertical_flip", "posterize") if other != name})
        x_VGCHW = rendered([IMAGE], replace(alone, **{name: None}), 16, normalize=False).transpose(0, 1).contiguous()
        finish_views(x_VGCHW, alone)
        assert torch.equal(x_VGCHW, rendered([IMAGE], alone, 16, normalize=False).transpose(0, 1)), name


@pytest.mark.parametrize("size", [(7, 24), (24, 7), (1, 9)])
def test_views_that_are_not_square(size: tuple[int, int]) -> None:
    halves = replace(EVERY, turn=EVERY.turn // 2 * 2)  # type: ignore[operator]
    plain = render_reference([IMAGE], plain_rows([BOXES], 32), size, normalize=False)
    view = render_reference([IMAGE], halves, size, normalize=False)
    for v in range(halves.num_views):
        assert torch.equal(view[0, v], torchvisions(plain[0, v % len(BOXES)], halves, v))
    assert_judged([IMAGE], halves, size)
    unposterized = replace(halves, posterize=None)
    x_VGCHW = rendered([IMAGE], replace(unposterized, turn=None, vertical_flip=None), size).transpose(0, 1).contiguous()
    finish_views(x_VGCHW, unposterized)
    assert torch.equal(x_VGCHW, rendered([IMAGE], unposterized, size, channels_last=True).transpose(0, 1))
    for render in (render_reference, rendered):
        with pytest.raises(HvsError, match="turned by a quarter must be square, got the size"):
            render([IMAGE], EVERY, size)
