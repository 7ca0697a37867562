"""Images from whatever ``--data`` names, and a split of those with labels."""

# Axes: N image.

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import hvs_data as hvs
from harness.data import photos
from harness.data.cifar10 import is_cifar10, open_cifar10
from hvs_data.demo.groceries import Groceries
from hvs_data.demo.photos import Part, hold_out
from hvs_data.sources.base import Source


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        train: those that are trained and fitted on.
        test: those held out.
        classes: how many there are.
    """

    train: Source
    test: Source
    classes: int


def open_split(data: str | None, most: int | None = None, seed: int = 0) -> Split:
    """Open labelled images and hold out a quarter of each class, the same for every run; of CIFAR-10, its own test set.

    Args:
        data: a folder of classes, or of tar shards, or of CIFAR-10, or whatever :func:`hvs_data.open_source` takes.
        most: use so many images at most, drawn by the seed; of CIFAR-10, of those to train on and of the test's each.
        seed: of both draws.

    Raises:
        SystemExit: images without labels.
    """
    draw = np.random.default_rng(seed)
    if data is not None and is_cifar10(Path(data)):
        train, test = (Part(part, np.sort(draw.permutation(len(part))[:most])) for part in open_cifar10(Path(data)))
        return Split(train, test, len(train.classes))
    source = opened(data)
    label_N = labels_of(source)
    index_N = np.sort(draw.permutation(len(source))[:most])
    if (label_N[index_N] < 0).any() or len(np.unique(label_N[index_N])) < 2:
        raise SystemExit(
            f"expected labelled images of two classes or more in {Path(data).name!r}: one sub-folder a class, or tar shards with .cls"
        )
    train_n, test_n = hold_out(label_N[index_N], seed)
    return Split(Part(source, index_N[train_n]), Part(source, index_N[test_n]), len(np.unique(label_N[index_N])))


def opened(data: str | None) -> Source:
    """A source; a folder of tar shards stands for all of them, and None for the demo's example photos."""
    if data is None:
        return hvs.open_source(Groceries())
    shards = sorted(str(path) for path in Path(data).glob("*.tar")) if Path(data).is_dir() else []
    return hvs.open_source(shards or data)


def name_of(data: str | None) -> str:
    """What results call a source."""
    if data and is_cifar10(Path(data)):
        return "cifar10"
    return Path(data).resolve().name if data else photos.EXAMPLE


def labels_of(source: Source) -> NDArray[np.int64]:
    """Labels [N]; -1 where there is none. Reads every sample where the source does not list them."""
    listed = getattr(source, "labels", None)
    if listed is not None:
        return np.asarray(listed, dtype=np.int64)
    return np.array([source.read(place).label for place in range(len(source))], dtype=np.int64)


def described(sources: Sequence[Source]) -> dict[str, float]:
    """Number and typical size of images, as ``photos.described`` gives them for files, from a sample of 200."""
    kilobytes, pixels = [], []
    for source in sources:
        for place in np.linspace(0, len(source) - 1, min(len(source), 200)).astype(int).tolist():
            data = source.read(place).data
            if isinstance(data, np.ndarray):
                height, width, _ = data.shape
                pixels.append(height * width)
                kilobytes.append(data.nbytes / 1e3)
                continue
            with Image.open(io.BytesIO(data)) as image:
                pixels.append(image.width * image.height)
            kilobytes.append(len(data) / 1e3)
    return {
        "images": sum(map(len, sources)),
        "median_megapixels": round(median(pixels) / 1e6, 4),
        "median_kilobytes": round(median(kilobytes), 1),
    }
