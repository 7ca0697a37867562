"""Examples of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hvs_data as hvs
from hvs_data.demo.examples import SHOWN_SIZE, examples_of
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import open_photos
from hvs_data.demo.training import pretrain
from hvs_data.sources.base import Source

from .conftest import TINY


@pytest.fixture(scope="module")
def batch(labelled: Path) -> hvs.Batch:
    return next(pretrain(open_photos(labelled).source, SimSiam(width=8, dimensions=16), TINY))[1]


@pytest.fixture(scope="module")
def photos(labelled: Path) -> Source:
    return open_photos(labelled).source


def test_examples_are_what_the_step_saw(batch: hvs.Batch, photos: Source) -> None:
    selection = batch.selection
    assert selection is not None
    index_of = {hvs.decode([photos.read(index).data])[0].numpy().tobytes(): index for index in range(24)}
    examples = examples_of(batch, photos, most=8)
    assert len(examples) == 8
    for example in examples:
        image = batch.index.tolist().index(index_of[example.photo.tobytes()])
        assert example.title == photos.classes[batch.labels[image]]
        assert example.pair == tuple(selection.pair[image].tolist())
        np.testing.assert_array_equal(example.box, batch.params.box[image])
        np.testing.assert_array_equal(example.losses, selection.losses[image])
        np.testing.assert_array_equal(example.iou, hvs.iou(batch.params)[image])
        params = batch.params.images([image])
        pixels = hvs.render([torch.from_numpy(example.photo)], params, size=SHOWN_SIZE, dtype=torch.uint8)[0]
        np.testing.assert_array_equal(example.views, pixels.permute(0, 2, 3, 1))


def test_examples_take_turns_among_the_classes(batch: hvs.Batch, photos: Source) -> None:
    titles = [example.title for example in examples_of(batch, photos, most=2)]
    assert len(set(titles)) == len(set(batch.labels.tolist()))


def test_photos_without_a_label_go_by_their_name(flat: Path) -> None:
    photos = open_photos(flat).source
    batch = next(pretrain(photos, SimSiam(width=8, dimensions=16), TINY))[1]
    assert [example.title for example in examples_of(batch, photos, most=3)] == [photos.name_of(int(index)) for index in batch.index[:3]]
