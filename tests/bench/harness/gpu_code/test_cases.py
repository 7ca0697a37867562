"""The renderer's compiled code, executed on the CPU, gives the views of the plain renderer: it goes here where it goes on a GPU."""

# Axes: B image, V view, H W pixels.

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from harness.data.sizes import known_sizes
from harness.gpu_code.cases import CANVAS, CASES, IMAGES, Case, rendering
from harness.gpu_code.counting import count
from harness.gpu_code.launches import recorded
from hvs_data.arguments.sizes import Size
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton.render import render_views
from hvs_data.recipes import Recipe
from hvs_data.types import ViewParams
from numba_rendering import stored, watched
from render_bounds import assert_within
from render_material import drawn_rows, photo
from triton_rendering import judged


def rendered(
    images: Sequence[Tensor], rows: ViewParams, size: Size, dtype: torch.dtype, architecture: int, *, channels_last: bool = False
) -> Tensor:
    """Pixels [B, V, 3, H, W] that the compiled code writes, checked for having been written, all of them and nothing beside them."""

    def render(canvas: Canvas, normalize: bool) -> None:
        with recorded(architecture) as launches:
            render_views(images, rows, canvas, normalize=normalize)
        for launch in launches:
            count(launch, {f"image {number}": image for number, image in enumerate(images)})

    shape = rows.num_views, len(images), size
    return watched(render, *shape, dtype, normalize=None, channels_last=channels_last, image_major=False)


@pytest.mark.parametrize(
    ("recipe", "dtype", "architecture", "channels_last"),
    [
        (hvs.recipes.simsiam(4), torch.float32, 80, False),
        (hvs.recipes.byol(4), torch.bfloat16, 90, True),
        (hvs.recipes.byol(4), torch.uint8, 100, False),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else str(value),
)
def test_compiled_code_renders_the_reference(recipe: Recipe, dtype: torch.dtype, architecture: int, channels_last: bool) -> None:
    images, size = [photo(70, 93, 0), photo(41, 30, 1)], (37, 50)
    rows = drawn_rows(recipe, images, seed=3)
    pixels = rendered(images, rows, size, dtype, architecture, channels_last=channels_last)
    expected, bound = judged(images, rows, size, normalize=dtype.is_floating_point)
    assert_within(pixels, *stored(expected, bound, dtype))


def test_a_case_is_a_batch_of_its_recipe() -> None:
    case = Case("small", hvs.recipes.dino(2, 3, 64, 32, local_views=3), ("local",), torch.float32)
    made = rendering(case, [(90, 120), (75, 50)], 90)
    assert made.views == 6 and made.output_bytes == 3 * 32 * 32 * 4
    # a local view has at most two fifths of its image
    assert 0 < made.crop_bytes <= 0.4 * 3 * (90 * 120 + 75 * 50) / 2
    assert len(made.memory[IMAGES]) == 3 * 90 * 120 and made.memory[CANVAS].numel() == 6 * 3 * 32 * 32
    assert all(launch.programs > 0 and launch.cubin for launch in made.launches)


def test_cases_are_those_that_are_trained_with() -> None:
    assert len({case.name for case in CASES}) == len(CASES) and any(case.usual for case in CASES)
    sizes = known_sizes()
    assert len(sizes) == 256 and sorted(sizes)[128] == (375, 500)
