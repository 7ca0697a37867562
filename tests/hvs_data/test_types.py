"""The data structures: indexing rows, ragged images, selections, batches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.recipes import Masking, dino, dinov2, ibot, simsiam
from hvs_data.types import Batch, ImageBatch, RenderSpec, Selection, ViewParams


@pytest.fixture
def params() -> ViewParams:
    """Rows of 5 images with 2 + 2 global and 8 local slots."""
    return hvs.sample_views(dino(candidates=4), seed=0, epoch=0, index=range(5), height=range(200, 205), width=range(300, 305))


def assert_rows(params: ViewParams, image: int, slot: int, source: ViewParams, source_image: int, source_slot: int) -> None:
    for name, value in params.tensors().items():
        assert torch.equal(value[image, slot], source.tensors()[name][source_image, source_slot]), name


# --- rows --------------------------------------------------------------------------------------------------------------


def test_slots_of_a_role(params: ViewParams) -> None:
    assert (params.batch_size, params.num_views) == (5, 12)
    assert (params.slots("global1"), params.slots("global2"), params.slots("local")) == ((0, 1), (2, 3), tuple(range(4, 12)))
    assert params.slots("view") == ()


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        ([4, 0, 0], [4, 0, 0]),
        ((3, 1), [3, 1]),
        ((2,), [2]),
        ([], []),
        (torch.tensor([2, 2]), [2, 2]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([1, 4]), [1, 4]),
    ],
    ids=str,
)
def test_images_indexes_the_image_axis(params: ViewParams, rows: Any, kept: list[int]) -> None:
    taken = params.images(rows)
    assert (taken.batch_size, taken.num_views) == (len(kept), 12)
    assert (taken.role, taken.size, taken.spec) == (params.role, params.size, params.spec)
    for position, image in enumerate(kept):
        for slot in range(12):
            assert_rows(taken, position, slot, params, image, slot)


@pytest.mark.parametrize("slots", [[0, 2], (11, 4, 4), range(4, 12), []], ids=str)
def test_views_indexes_the_slot_axis(params: ViewParams, slots: Any) -> None:
    taken = params.views(slots)
    assert (taken.batch_size, taken.num_views) == (5, len(slots))
    assert taken.role == tuple(params.role[slot] for slot in slots)
    assert taken.size == tuple(params.size[slot] for slot in slots)
    for image in range(5):
        for position, slot in enumerate(slots):
            assert_rows(taken, image, position, params, image, slot)


def test_take_gives_each_image_its_own_slots(params: ViewParams) -> None:
    slots = torch.tensor([[1, 3, 4], [0, 2, 11], [1, 2, 5], [3, 0, 4], [0, 3, 6]])
    taken = params.take(slots)
    assert (taken.batch_size, taken.num_views) == (5, 3)
    assert taken.role == ("global1", "global2", "local") and taken.size == (224, 224, 96)
    for image in range(5):
        for position in range(3):
            assert_rows(taken, image, position, params, image, int(slots[image, position]))


def test_rows_know_how_many_views_of_a_role_are_emitted(params: ViewParams) -> None:
    assert params.emitted == {"global1": 1, "global2": 1, "local": 8}
    assert params.images([1]).emitted == params.emitted == ViewParams.concatenate([params, params]).emitted
    # of what is left
    assert params.views([0, 2, 5, 4]).emitted == {"global1": 1, "global2": 1, "local": 2}
    assert params.views([4]).emitted == {"local": 1}
    assert params.take(torch.tensor([[0, 3]] * 5)).emitted == {"global1": 1, "global2": 1}


def test_take_of_no_images(params: ViewParams) -> None:
    taken = params.images([]).take(torch.zeros(0, 2, dtype=torch.int64))
    assert taken.box.shape == (0, 2, 4) and len(taken.role) == len(taken.size) == 2


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), r"shape \[5, K\], got \(5,\)"),
        (torch.zeros(4, 2, dtype=torch.int64), r"shape \[5, K\], got \(4, 2\)"),
        (torch.full((5, 2), 12), "slots from 0 to 11, got values from 12 to 12"),
        (torch.full((5, 2), -1), "slots from 0 to 11, got values from -1 to -1"),
        (torch.tensor([[0, 4]] * 4 + [[0, 0]]), r"sizes \[224, 96\] in column 1"),
    ],
)
def test_take_refuses_other_slots(params: ViewParams, slots: torch.Tensor, message: str) -> None:
    with pytest.raises(HvsError, match=message):
        params.take(slots)


def test_concatenate_is_undone_by_indexing(params: ViewParams) -> None:
    joined = ViewParams.concatenate([params.images([3, 1]), params.images([]), params.images(slice(0, 1))])
    expected = params.images([3, 1, 0])
    assert all(torch.equal(value, expected.tensors()[name]) for name, value in joined.tensors().items())
    assert (joined.role, joined.size, joined.spec) == (params.role, params.size, params.spec)


def test_concatenate_refuses_parts_that_differ(params: ViewParams) -> None:
    others = [params.views(range(11)), replace(params, spec=RenderSpec(blur_kernel=9)), replace(params, size=(64,) * 12)]
    for other in (*others, replace(params, emitted={})):
        with pytest.raises(HvsError, match="parts of one recipe.* in part 1"):
            ViewParams.concatenate([params, other])
    with pytest.raises(HvsError, match="at least one part"):
        ViewParams.concatenate([])


# --- images ------------------------------------------------------------------------------------------------------------


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_batch_is_a_sequence_of_ragged_images() -> None:
    arrays = [image(4, 5), image(1, 1), image(1, 900)]
    batch = ImageBatch([arrays[0], torch.from_numpy(arrays[1]), arrays[2]])
    assert len(batch) == 3 and batch.device == torch.device("cpu")
    assert batch.height.tolist() == [4, 1, 1] and batch.width.tolist() == [5, 1, 900]
    assert batch.height.dtype == batch.width.dtype == torch.int64
    for kept, array in zip(batch, arrays, strict=True):
        assert kept.dtype == torch.uint8 and np.array_equal(kept.numpy(), array)
    assert torch.equal(batch[-1], batch[2])
    with pytest.raises(IndexError):
        batch[3]
    part = batch[1:]
    assert isinstance(part, ImageBatch) and part.width.tolist() == [1, 900]
    assert "3 images" in repr(batch)


def test_an_empty_image_batch() -> None:
    batch = ImageBatch([])
    assert len(batch) == 0 and batch.height.shape == batch.width.shape == (0,) and batch.device == torch.device("cpu")


def test_contiguous_images_are_kept_and_others_copied() -> None:
    whole = image(6, 8)
    frozen = image(3, 3)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = ImageBatch([whole, whole[::-1], whole[:, ::2], torch.from_numpy(whole).flip(0), torch.from_numpy(whole)[::2], frozen])
    assert batch[0].data_ptr() == whole.ctypes.data
    assert all(kept.is_contiguous() for kept in batch)
    for kept, expected in zip(batch, [whole, whole[::-1], whole[:, ::2], whole[::-1], whole[::2], frozen], strict=True):
        assert np.array_equal(kept.numpy(), expected)


@pytest.mark.parametrize(
    ("wrong", "arrived"),
    [
        (np.zeros((4, 5), dtype=np.uint8), r"uint8 \(4, 5\)"),
        (np.zeros((0, 5, 3), dtype=np.uint8), r"uint8 \(0, 5, 3\)"),
        (np.zeros((4, 5, 3)), r"float64 \(4, 5, 3\)"),
        (np.zeros((4, 5, 3), dtype=">u2"), r">u2 \(4, 5, 3\)"),
        (torch.zeros(4, 5, 3, dtype=torch.int8), r"torch.int8 \(4, 5, 3\)"),
        ([[[0, 0, 0]]], "list"),
        (None, "NoneType"),
        (b"\xff\xd8", "bytes"),
    ],
)
def test_an_image_batch_refuses_other_things(wrong: Any, arrived: str) -> None:
    with pytest.raises(HvsError, match=rf"image 1: expected uint8, uint16 or float32 of shape \[H, W, C\].*got {arrived}; convert"):
        ImageBatch([image(2, 2), wrong])


def test_an_image_batch_lies_on_one_device() -> None:
    with pytest.raises(HvsError, match=r"one device, got \['cpu', 'meta'\]; move"):
        ImageBatch([image(2, 2), torch.zeros(2, 2, 3, dtype=torch.uint8, device="meta")])


# --- selections and batches --------------------------------------------------------------------------------------------


def selection_of(params: ViewParams | None) -> Selection:
    losses = torch.arange(5 * 12 * 12, dtype=torch.float32).reshape(5, 12, 12)
    pair = torch.tensor([[0, 2], [1, 3], [0, 3], [1, 2], [0, 2]])
    legal = torch.zeros(12, 12, dtype=torch.bool)
    legal[:2, 2:4] = True
    return Selection(pair, losses, legal, torch.tensor(0), params)


def test_a_selection_reads_loss_and_overlap_of_its_pair(params: ViewParams) -> None:
    selection = selection_of(params)
    overlap = hvs.iou(params)
    assert selection.loss.shape == (5,) and selection.iou is not None and selection.iou.shape == (5,)
    for number, (first, second) in enumerate(selection.pair.tolist()):
        assert selection.loss[number] == selection.losses[number, first, second]
        assert selection.iou[number] == overlap[number, first, second]


def test_a_selection_without_rows_knows_no_overlap() -> None:
    assert selection_of(None).iou is None


def test_of_two_views_the_chosen_slots_are_the_pair(params: ViewParams) -> None:
    selection = selection_of(params)
    assert selection.slots is selection.pair
    assert (selection.policy, selection.scored, selection.step, selection.teacher_outputs) == ("hardest", True, 0, None)


def test_the_loss_of_a_combination_is_the_loss_of_the_selection(params: ViewParams) -> None:
    selection = replace(selection_of(params), combination_loss=torch.arange(5.0))
    assert torch.equal(selection.loss, torch.arange(5.0))


def test_a_batch_of_masked_views_unpacks_with_their_masks() -> None:
    recipe = ibot(candidates=4, masking=Masking())
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=range(5), height=range(200, 205), width=range(300, 305))
    views, selection = [torch.zeros(5, 3, 8, 8)] * 10, selection_of(params)
    batch = Batch(views, torch.arange(5), torch.arange(5), params, selection=selection)
    unpacked_views, labels, masks = batch
    assert unpacked_views is views and labels is batch.labels and len(batch) == 3 and len(masks) == 2
    assert params.mask is not None
    for image, pair in enumerate(selection.pair.tolist()):
        for place, slot in enumerate(pair):
            assert torch.equal(masks[place][image], params.mask[image, slot])
    assert all(torch.equal(mask, expected) for mask, expected in zip(batch[2], masks, strict=True))
    # without selection every view that is not local has one
    masks = replace(batch, selection=None).masks
    assert masks is not None and len(masks) == 4
    assert all(torch.equal(mask, params.mask[:, slot]) for slot, mask in enumerate(masks))


def test_a_batch_unpacks_as_views_and_labels(params: ViewParams) -> None:
    views = [torch.zeros(5, 3, 8, 8), torch.ones(5, 3, 8, 8)]
    batch = Batch(views, torch.arange(5), torch.arange(10, 15), params)
    unpacked_views, labels = batch
    assert unpacked_views is views and labels is batch.labels
    assert batch[0] is views and batch[1] is batch.labels and len(batch) == 2
    with pytest.raises(IndexError):
        batch[2]
    assert batch.epoch == 0 and batch.selection is None and batch.masks is None


def test_to_moves_what_the_trainer_needs_and_leaves_rows_on_the_cpu(params: ViewParams) -> None:
    kept = {"teacher_outputs": (torch.zeros(10), [torch.zeros(10)], {"patch": torch.zeros(10)}), "combination_loss": torch.zeros(5)}
    selection = replace(selection_of(params), **kept)
    batch = Batch([torch.zeros(5, 3, 8, 8)] * 2, torch.arange(5), torch.arange(5), params, epoch=3, selection=selection)
    moved = batch.to("meta")
    assert moved.selection is not None
    chosen = moved.selection
    tensors = [*moved.views, moved.labels, moved.index, chosen.pair, chosen.losses, chosen.legal, chosen.non_finite, chosen.slots]
    first, (second,), third = chosen.teacher_outputs
    tensors += [first, second, third["patch"], chosen.loss]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.params is params and chosen.params is params and moved.epoch == 3
    assert {tensor.device.type for tensor in batch.views} == {"cpu"}
    assert replace(batch, selection=None).to("meta").selection is None


@pytest.mark.parametrize("recipe", [simsiam(candidates=4), dinov2(candidates=2)], ids=lambda recipe: recipe.name)
def test_rows_carry_what_a_renderer_needs_of_the_recipe(recipe: hvs.recipes.Recipe) -> None:
    recipe = replace(recipe, interpolation="bicubic", blur_kernel=5, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[9], width=[9])
    assert params.spec == RenderSpec("bicubic", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 5, 128 / 255)
