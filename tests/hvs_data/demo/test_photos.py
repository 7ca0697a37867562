"""Folders of photos, parts of a source, and the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.demo.photos import Part, hold_out, open_photos

LABELS = np.array([0] * 9 + [1] * 3 + [-1] * 5 + [2] * 4 + [0] * 3)


def test_a_labelled_folder(labelled: Path) -> None:
    photos = open_photos(labelled)
    assert photos.classes == ("green & <ripe>", "red")
    assert photos.labels.tolist() == [0] * 12 + [1] * 12
    assert str(labelled) in photos.title


def test_a_flat_folder_and_a_layout(flat: Path, labelled: Path) -> None:
    assert open_photos(flat).labels.tolist() == [-1] * 11
    assert open_photos(labelled, layout="flat").labels.tolist() == [-1] * 24


def test_a_quarter_of_every_class_is_held_out() -> None:
    train, held = hold_out(LABELS, seed=0)
    assert sorted([*train, *held]) == list(range(len(LABELS)))
    assert np.array_equal(train, np.sort(train)) and np.array_equal(held, np.sort(held))
    # 12 // 4 of class 0, none of the three of class 1 or of those without a label, 4 // 4 of class 2
    assert sorted(LABELS[held]) == [0, 0, 0, 2]


def test_the_split_is_fixed_by_the_seed() -> None:
    splits = [hold_out(LABELS, seed)[1].tolist() for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({tuple(split) for split in splits}) > 1


def test_a_part_reads_the_photos_of_the_whole(labelled: Path) -> None:
    whole = open_photos(labelled).source
    part = Part(whole, [20, 3])
    assert len(part) == 2 and part.classes == whole.classes
    assert [part.read(0), part.read(1)] == [whole.read(20), whole.read(3)]
    assert [part.name_of(0), part.name_of(1)] == [whole.name_of(20), whole.name_of(3)]
    assert hvs.open_source(part) is part
    with pytest.raises(IndexError):
        part.read(2)


def test_parts_of_other_photos_have_other_fingerprints(labelled: Path, flat: Path) -> None:
    whole, other = open_photos(labelled).source, open_photos(flat).source
    prints = [Part(whole, [0, 1]).fingerprint, Part(whole, [1, 0]).fingerprint, Part(other, [0, 1]).fingerprint]
    assert len(set(prints)) == 3
    assert Part(whole, [0, 1]).fingerprint == prints[0]
