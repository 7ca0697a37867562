"""Formats against what the trainers' own code takes: shapes, order, and pixels that come back from normalisation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import hvs_data as hvs
from hvs_data import formats
from hvs_data.errors import HvsError
from hvs_data.recipes.masking import Masking
from hvs_data.types import ImageBatch

IMAGES, SIZE = 3, 16


def batch_of(recipe=None, normalize=None, dtype=torch.float32):
    recipe = recipe or hvs.recipes.simsiam(size=SIZE)
    draw = torch.Generator().manual_seed(0)
    images = ImageBatch([torch.randint(0, 256, (20, 24, 3), dtype=torch.uint8, generator=draw) for _ in range(IMAGES)])
    index = torch.arange(IMAGES)
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=index, height=images.height, width=images.width)
    views = []
    for slot, size in enumerate(params.size):
        views.append(hvs.render(images, params.views([slot]), size=size, engine="reference", normalize=normalize, dtype=dtype)[:, 0])
    normalized = dtype != torch.uint8 if normalize is None else normalize
    return hvs.Batch(views, torch.tensor([4, 5, 6]), index + 10, params, normalized=normalized)


def test_tuples_and_lists_hold_the_batchs_own_tensors():
    batch = batch_of()
    views, labels = formats.views_and_labels(batch)
    assert type(formats.views_and_labels(batch)) is tuple and views is batch.views and labels is batch.labels
    index, views, labels = formats.with_index(batch)
    assert type(formats.with_index(batch)) is list and index is batch.index and views is batch.views and labels is batch.labels


def test_one_view_is_handed_out_as_it_is():
    batch = batch_of(hvs.recipes.evaluation(SIZE))
    images, labels = formats.images_and_labels(batch)
    assert images is batch.views[0] and images.shape == (IMAGES, 3, SIZE, SIZE) and labels is batch.labels
    with pytest.raises(HvsError, match="images_and_labels expects one view of an image, got 2; take views_and_labels"):
        formats.images_and_labels(batch_of())


def test_names_are_those_of_the_source():
    class Source:
        def name_of(self, index):
            return f"cat/{index}.jpg"

    views, labels, names = formats.with_names(Source())(batch_of())
    assert names == ["cat/10.jpg", "cat/11.jpg", "cat/12.jpg"] and len(views) == 2 and labels.tolist() == [4, 5, 6]


def test_dicts():
    batch = batch_of()
    assert formats.as_dict(batch) == {"views": batch.views, "labels": batch.labels, "index": batch.index}
    named = formats.named_views("pixel_values", "other", labels=None)(batch)
    assert list(named) == ["pixel_values", "other"] and named["other"] is batch.views[1]
    assert formats.named_views("a", "b", labels="y")(batch)["y"] is batch.labels
    with pytest.raises(HvsError, match="a name for each of the 2 views"):
        formats.named_views("one")(batch)


def test_views_as_stable_pretraining_collates_them():
    batch = batch_of()
    (first, second) = formats.stable_pretraining(batch)["views"]
    assert first["image"] is batch.views[0] and second["image"] is batch.views[1]
    assert first["label"] is second["label"] is batch.labels and first["sample_idx"] is batch.index


def test_views_as_stable_pretraining_names_them_in_multi_crop():
    """Candidates by their own slots; chosen views by their place, as a pair, extra views and then local ones."""
    batch = batch_of(hvs.recipes.dino(candidates=4, local_candidates=3, local_views=3, size=SIZE, local_size=8))
    named = formats.stable_pretraining(batch)["views"]
    assert list(named) == ["global_1", "global_2", "global_3", "global_4", "local_1", "local_2", "local_3"]
    assert [sample["image"] for sample in named.values()] == batch.views
    for globals_chosen, extra in ((2, 0), (2, 1), (3, 0), (3, 1)):
        count = globals_chosen + extra
        views = batch.views[:count] + batch.views[4:]
        selection = SimpleNamespace(global_views=globals_chosen, extra_views=extra)
        chosen = hvs.Batch(views, batch.labels, batch.index, batch.params, selection=selection)
        globals_ = ["global_1", "global_2", "global_3", "global_4"][:count]
        assert list(formats.stable_pretraining(chosen)["views"]) == [*globals_, "local_1", "local_2", "local_3"]


def test_stacked_and_view_major_put_each_view_where_its_name_says():
    batch = batch_of()
    stacked, labels = formats.stacked(batch)
    flat, _ = formats.view_major(batch)
    assert stacked.shape == (IMAGES, 2, 3, SIZE, SIZE) and flat.shape == (2 * IMAGES, 3, SIZE, SIZE) and labels is batch.labels
    for slot in range(2):
        for image in range(IMAGES):
            assert stacked[image, slot].equal(batch.views[slot][image]) and flat[slot * IMAGES + image].equal(batch.views[slot][image])


@pytest.mark.parametrize("shape", [formats.stacked, formats.view_major])
def test_views_of_several_sizes_cannot_be_one_tensor(shape):
    with pytest.raises(HvsError, match="views of one size"):
        shape(batch_of(hvs.recipes.dino(size=SIZE, local_size=8, local_views=1)))


def test_masks_follow_their_views():
    batch = batch_of(hvs.recipes.ibot(size=SIZE, local_size=8, local_views=1, masking=Masking(patch_size=4)))
    views, labels, masks = formats.with_masks(batch)
    assert len(views) == 3 and len(masks) == 2 and all(mask.equal(other) for mask, other in zip(masks, batch.masks, strict=True))
    assert all(mask.equal(other) for mask, other in zip(formats.as_dict(batch)["masks"], masks, strict=True))
    with pytest.raises(HvsError, match="a recipe with masking"):
        formats.with_masks(batch_of())


def test_unnormalized_views_are_those_of_a_loader_that_does_not_normalise():
    plain = batch_of(normalize=False)
    restored = formats.unnormalized(batch_of())
    # x = (v - mean) / std errs by half an ulp of values up to 2.7 (1.2e-7) in each of three operations, and so does the way back, times 255
    for view, expected in zip(restored.views, plain.views, strict=True):
        torch.testing.assert_close(view, expected * 255, rtol=0, atol=255 * 6 * 1.2e-7)
    assert not restored.normalized
    for again in (formats.unnormalized(restored.__class__(**{**vars(plain)})), formats.unnormalized(plain)):
        assert again.views[0].equal(plain.views[0] * 255)


def test_bytes_stay_what_they_are():
    batch = batch_of(dtype=torch.uint8)
    assert formats.unnormalized(batch).views[1].equal(batch.views[1].float())


def test_a_preprocessor_as_mmpretrains_gives_the_normalised_views_again():
    batch = batch_of()
    data = formats.mmpretrain(batch)
    assert data["data_samples"] is None
    mean, std = ([255 * value for value in values] for values in (batch.params.spec.mean, batch.params.spec.std))
    for view, expected in zip(data["inputs"], batch.views, strict=True):
        normalised = (view - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        # errors of the way back, 255 * 6 * 1.2e-7, over a std of 57, and three more operations on values up to 2.7
        assert F.l1_loss(normalised, expected, reduction="none").max() < 255 * 6 * 1.2e-7 / 57 + 3 * 2.4e-7
