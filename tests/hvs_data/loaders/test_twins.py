"""Twins of the chosen views: the same crops at other sizes, against torchvision and the renderer itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import hvs_data as hvs
from hvs_data.errors import HvsError, RecipeError
from hvs_data.recipes import Role, Twin

IMAGES = 10


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (int(h), int(w), 3), dtype=np.uint8) for h, w in draw.integers(40, 70, (IMAGES, 2))]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], index


def recipe_of(*twins, **options):
    return hvs.recipes.dino(candidates=4, local_candidates=4, local_views=2, size=24, local_size=12, twins=twins, **options)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 20))


def selector_of(**options):
    return hvs.HardViewSelector(hvs.objectives.DINO(network(1), network(2), None, 0.04), **options)


def hard_loader(pictures, recipe, selector=None, **options):
    views = hvs.ViewLoader(Pictures(pictures), recipe, batch_size=5, seed=3, **options)
    return hvs.HardViewLoader(views, selector_of() if selector is None else selector)


def crop_of(rows, picture, image, slot, size):
    """The box and the flip of a row by torchvision, in float64: [3, S, S] on the 0-1 scale, normalised as ImageNet's."""
    top, left, height, width = rows.box[image, slot].tolist()
    pixels = torch.from_numpy(picture).permute(2, 0, 1).double() / 255
    mode = v2.InterpolationMode.BICUBIC
    view = F.resized_crop(pixels, top, left, height, width, [size, size], interpolation=mode, antialias=True).clamp(0, 1)
    view = view.flip(2) if rows.flip[image, slot] else view
    return F.normalize(view, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("options", [{}, {"score_size": 12}, {"every": 2}, {"prefilter": 2}], ids=str)
def test_an_undistorted_twin_is_the_chosen_crop(pictures, options):
    loader = hard_loader(pictures, recipe_of(Twin(40)), selector_of(**options))
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        ((first, second),) = batch.twins
        rows = batch.params.take(batch.selection.slots)
        for slot, twin in enumerate((first, second)):
            assert twin.shape == (5, 3, 40, 40)
            for image, index in enumerate(batch.index.tolist()):
                expected = crop_of(rows, pictures[index], image, slot, 40)
                # a float32 sum of up to 17 x 17 taps of weights that add up to less than 2, over a deviation of .22
                np.testing.assert_allclose(twin[image], expected, rtol=0, atol=2 * 40 * 2.0**-24 / 0.22)


def test_nothing_else_changes(pictures):
    plain, twinned = (list(hard_loader(pictures, recipe)) for recipe in (recipe_of(), recipe_of(Twin(40), Twin(16, distorted=True))))
    for one, other in zip(plain, twinned, strict=True):
        assert one.twins == [] and [len(twin) for twin in other.twins] == [2, 2]
        assert torch.equal(one.selection.slots, other.selection.slots)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_a_distorted_twin_of_the_same_size_is_the_view(pictures):
    recipe = recipe_of(Twin(24, distorted=True))
    for batch in hard_loader(pictures, recipe):
        assert all(torch.equal(twin, view) for twin, view in zip(batch.twins[0], batch.views[:2], strict=True))
    # at another size: as the views of a recipe of that size, the blur, which grows along, aside
    sharp = recipe_of(Twin(40, distorted=True)).with_roles(blur=0.0)
    at_40 = replace(sharp, roles=tuple(replace(role, size=40 if role.size == 24 else 12) for role in sharp.roles))
    whole = hvs.ViewLoader(Pictures(pictures), at_40, batch_size=5, seed=3)
    for batch, all_views in zip(hard_loader(pictures, sharp), whole, strict=True):
        for place, twin in enumerate(batch.twins[0]):
            chosen = [all_views.views[slot][image] for image, slot in enumerate(batch.selection.slots[:, place].tolist())]
            assert torch.equal(twin, torch.stack(chosen))


def test_without_a_selector_every_global_view_has_one(pictures):
    recipe = recipe_of(Twin((20, 30)))
    (batch, _) = hvs.ViewLoader(Pictures(pictures), recipe, batch_size=5, seed=3)
    assert [twin.shape for twin in batch.twins[0]] == [(5, 3, 20, 30)] * 4
    selector = selector_of(extra_views=1)
    (batch, _) = hard_loader(pictures, recipe, selector)
    assert len(batch.twins[0]) == 3 and len(batch.views) == 5
    assert [twin.device.type for twin in batch.to("meta").twins[0]] == ["meta"] * 3


def test_what_would_change_twins_is_refused(pictures):
    with pytest.raises(HvsError, match="from images of full size, got scaled_decode=True"):
        hvs.ViewLoader(Pictures(pictures), recipe_of(Twin(40)), batch_size=5, scaled_decode=True)
    with pytest.raises(HvsError, match="rendered without extra_stage, got one; pass Twin"):
        hvs.ViewLoader(Pictures(pictures), recipe_of(Twin(40)), batch_size=5, extra_stage=lambda view: view)
    staged = hvs.ViewLoader(Pictures(pictures), recipe_of(Twin(24, distorted=True)), batch_size=5, extra_stage=lambda view: 1 - view)
    batch = next(iter(staged))
    assert all(torch.equal(twin, view) for twin, view in zip(batch.twins[0], batch.views[:4], strict=True))
    for wrong in (Twin(40), (40,), None):
        with pytest.raises(RecipeError, match="twins must hold Twins and nothing else"):
            hvs.recipes.Recipe("wrong", (Role(),), twins=wrong)
    with pytest.raises(RecipeError, match="size must be a whole number"):
        Twin(0)


def test_files_hold_twins(tmp_path):
    recipe = recipe_of(Twin(40), Twin((16, 24), distorted=True))
    for name in ("recipe.json", "recipe.toml"):
        hvs.recipes.save(recipe, tmp_path / name)
        assert hvs.recipes.load(tmp_path / name) == recipe
