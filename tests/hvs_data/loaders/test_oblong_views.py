"""Views of another height than width, from files to the hardest pair."""

# Axes: B image, V view, H W pixels, G G' sides of a grid of patches.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.pipelines.decode import decode_image
from hvs_data.recipes import Masking
from small_simsiam import small_simsiam

SIZE = (16, 40)
RECIPE = hvs.recipes.simsiam(candidates=4, size=SIZE)


def loader(photos: Path, recipe: hvs.recipes.Recipe = RECIPE, **options: object) -> hvs.ViewLoader:
    return hvs.ViewLoader(photos, recipe, batch_size=5, num_threads=1, drop_last=True, **options)  # type: ignore[arg-type]


def test_a_view_is_its_row_rendered_alone(photos: Path) -> None:
    views = loader(photos)
    for batch in views:
        images = [torch.from_numpy(decode_image(views.dataset.read(index)[0])) for index in batch.index.tolist()]
        expected = hvs.render(images, batch.params)
        assert batch.params.size == (SIZE,) * 4 and expected.shape == (5, 4, 3, *SIZE)
        assert torch.equal(torch.stack(batch.views, 1), expected)


@pytest.mark.parametrize("options", [{}, {"score_size": 20}, {"score_size": 0.5, "prefilter": 3}, {"budget": "cheap"}], ids=str)
def test_the_hardest_pair_is_handed_out_at_its_own_size(photos: Path, options: dict[str, object]) -> None:
    seen = []

    class Watched(hvs.objectives.SimSiam):
        def encode(self, pixels: Tensor) -> object:
            seen.append(tuple(pixels.shape[-2:]))
            return super().encode(pixels)

    selector = hvs.HardViewSelector(Watched(small_simsiam()), **options)  # type: ignore[arg-type]
    batches = 0
    for batch, candidates in zip(hvs.HardViewLoader(loader(photos), selector), loader(photos), strict=True):
        for place, slot_B in enumerate(batch.selection.slots.T):
            for image, slot in enumerate(slot_B.tolist()):
                assert torch.equal(batch.views[place][image], candidates.views[slot][image])
        batches += 1
    assert batches == 4
    (scored,) = selector.score_sizes(["view"], [SIZE])
    assert not seen or set(seen) == {scored}
    assert scored == {"{}": SIZE, "{'budget': 'cheap'}": (6, 15)}.get(str(options), (8, 20))


def test_masks_lie_on_the_views_own_grid(photos: Path) -> None:
    recipe = hvs.recipes.ibot(4, 4, size=(32, 64), local_size=(16, 24), local_views=2, masking=Masking(8, ratio=0.4, variance=0.0))
    shapes = {((5, 3, 32, 64), "global1"), ((5, 3, 32, 64), "global2"), ((5, 3, 16, 24), "local")}
    for batch in loader(photos, recipe):
        assert {(tuple(view.shape), role) for view, role in zip(batch.views, batch.params.role, strict=True)} == shapes
        assert [mask.shape for mask in batch.masks or ()] == [(5, 4, 8)] * 4
        hidden = torch.stack(batch.masks or []).sum((2, 3))
        assert (hidden <= 0.4 * 32).all() and (hidden > 0).any()


def test_large_files_are_decoded_small_where_both_sides_allow(tmp_path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for number in range(5):
        Image.fromarray(noise).resize((900, 600)).save(tmp_path / f"{number}.jpg")
    recipe = hvs.recipes.simsiam(2, size=(16, 64)).with_roles(scale=(0.9, 1.0))
    full, small = (next(iter(loader(tmp_path, recipe, scaled_decode=scaled))) for scaled in (False, True))
    difference = (torch.stack(full.views) - torch.stack(small.views)).abs()
    assert 0 < difference.mean() < 0.1 and small.views[0].shape == (5, 3, 16, 64)
