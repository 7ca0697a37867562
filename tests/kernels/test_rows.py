"""Rows: the compiled loop against NumPy's arrays, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.rows import numba, reference
from hvs_data.kernels.rows.slots import Drawn, Slots
from hvs_data.recipes import ColorJitter, Erasing, Recipe, Role, dino, simsiam
from hvs_data.rows.sampling import slot_table

SIDE = st.integers(1, 2**31 - 1) | st.integers(1, 600)
SHARE = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@st.composite
def intervals(draw: st.DrawFn, least: float, most: float) -> tuple[float, float]:
    lo, hi = sorted((draw(st.floats(least, most)), draw(st.floats(least, most))))
    return lo, hi


@st.composite
def roles(draw: st.DrawFn) -> Role:
    size = draw(st.integers(1, 300))
    crop = draw(st.sampled_from(["random_resized", "random", "center"]))
    side = st.integers(1, 2**15) | st.integers(1, 300)
    strengths = {name: draw(st.floats(0, 2)) for name in ("brightness", "contrast", "saturation")}
    return Role(
        candidates=draw(st.integers(2, 5)),
        scale=draw(intervals(0.01, 1)),
        ratio=draw(intervals(0.2, 5)),
        sigma=draw(intervals(0.01, 5)),
        jitter=ColorJitter(p=draw(SHARE), hue=draw(st.floats(0, 0.5)), **strengths),
        quarters=draw(st.lists(st.integers(1, 3), min_size=1, unique=True)),
        posterize_bits=draw(st.integers(1, 7)),
        erase=draw(st.none() | st.builds(Erasing, SHARE, intervals(0.001, 1), intervals(0.05, 20))),
        size=size,
        crop=crop,
        resize=draw(st.none() | side | st.tuples(side, side)),
        padding=draw(st.integers(0, size - 1)) if crop == "random" else 0,
        **{name: draw(SHARE) for name in ("flip", "gray", "blur", "solarize", "vertical_flip", "turn", "posterize")},
    )


def both(slots: Slots, seed: int, epoch: int, index: list[int], sides: list[tuple[int, int]]) -> tuple[Drawn, Drawn]:
    height, width = np.array(sides, dtype=np.int64).T
    request = slots, seed, epoch, np.array(index, dtype=np.int64), height, width
    return numba.draw_rows(*request), reference.draw_rows(*request)


def assert_equal(ours: Drawn, expected: Drawn) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@settings(deadline=None)  # the first example compiles
@given(
    role=roles(),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    images=st.lists(st.tuples(st.integers(0, 2**63 - 1), SIDE, SIDE), min_size=1, max_size=5),
)
def test_any_role_and_size(role: Role, seed: int, epoch: int, images: list[tuple[int, int, int]]) -> None:
    recipe = Recipe("any", (role,))
    assert_equal(*both(slot_table(recipe), seed, epoch, [index for index, *_ in images], [(h, w) for _, h, w in images]))


def test_many_rows_of_photographs_and_of_slender_images() -> None:
    draw = np.random.default_rng(0)
    for recipe in (simsiam(candidates=4), dino()):
        sides = [(375, 500)] * 5000 + list(zip(draw.integers(1, 40, 2000), draw.integers(1, 900, 2000), strict=True))
        assert_equal(*both(slot_table(recipe), 7, 3, draw.integers(0, 2**62, len(sides)).tolist(), sides))
