"""Labelled images, of which some are held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import images


def test_a_quarter_of_each_class_is_held_out_always_the_same(classes: Path) -> None:
    split = images.open_split(str(classes))
    assert (len(split.train), len(split.test), split.classes) == (36, 12, 2)
    again = images.open_split(str(classes))
    assert split.test.fingerprint == again.test.fingerprint
    names = {split.test.name_of(place) for place in range(12)} & {split.train.name_of(place) for place in range(36)}
    assert names == set()
    few = images.open_split(str(classes), most=20)
    assert len(few.train) + len(few.test) == 20 and len(few.test) in (4, 5)  # a quarter of each class, rounded down
    with pytest.raises(SystemExit, match="labelled"):
        images.open_split(str(classes / "0"))
