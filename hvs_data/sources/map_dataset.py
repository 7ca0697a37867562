"""Anything with a length and items: PyTorch, torchvision and Hugging Face datasets, lists and arrays of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs_data.drawing.arguments import item_of
from hvs_data.drawing.numbers import Numbers, drawing
from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL, ImageData, Sample, Source, checked_index, digest
from hvs_data.sources.contents import contents_of
from hvs_data.sources.folder import FileSource
from hvs_data.sources.labels import checked_label, checked_labels

IMAGE_KEYS = ("image", "img", "jpg")
# Their items are there, and no code of the user's makes them.
PLAIN_COLLECTIONS = (list, tuple, np.ndarray, Tensor)
# What reading a broken image raises; anything else from the first item means that this is no dataset of images.
_BROKEN_IMAGE = (OSError, ValueError, SyntaxError)


class MapSource(Source):
    """The items of a map-style dataset.

    Args:
        dataset: an object with ``__len__`` and ``__getitem__(int)``; see :func:`hvs_data.open_source` for its items. Its
            ``__getitem__`` is called from many threads at once. What it draws in a loader belongs to (seed, epoch, index); a parameter
            annotated as a generator is given one (:mod:`hvs_data.drawing.arguments`).
        labels: False: labels are not looked at, and every one is -1.
    """

    def __init__(self, dataset: Any, labels: bool = True):
        self.dataset = dataset
        self._labels = labels
        classes = getattr(dataset, "classes", ()) if labels else ()
        self.classes = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
        # as it is now: what a dataset opens or keeps while it is read does not count
        self._contents = contents_of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Sample:
        position = checked_index(index, len(self))
        name = self.name_of(position)
        try:
            item = item_of(self.dataset, position)
        except Exception as error:
            raise SourceError(f"cannot read {name}: {type(error).__name__}: {error}") from error
        return _sample_of(item, name, self._labels)

    def name_of(self, index: int) -> str:
        return f"{type(self.dataset).__name__}[{index}]"

    @property
    def fingerprint(self) -> str:
        """Of class, length, and what :mod:`hvs_data.sources.contents` tells."""
        return digest(self._contents.encode(), b"" if self._labels else b"without labels")


def open_map_dataset(dataset: Any, labels: bool = True) -> Source:
    """Source of a map-style dataset's images; see :func:`hvs_data.open_source`.

    Args:
        labels: False: without labels.

    Raises:
        SourceError: no dataset, an empty one, or one whose items hold no image that can be decoded.
    """
    if (files := plain_files(dataset, labels)) is not None:
        return files
    if _length_of(dataset) == 0:
        raise SourceError(f"expected a dataset that holds images, got an empty {type(dataset).__name__}; check how it is made")
    _check_first_item(dataset, labels)
    return MapSource(dataset, labels)


def _length_of(dataset: Any) -> int:
    kind = type(dataset).__name__
    if isinstance(dataset, (Mapping, bytes, bytearray, memoryview)) or not (
        hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        raise SourceError(
            "expected a folder, a list of paths, shards, a map-style dataset (an object with __len__ and __getitem__ that takes a number) "
            f"or a Source, got {kind}; pass one of these, such as one split of a dictionary of datasets or a DataLoader's .dataset"
        )
    try:
        return len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise SourceError(f"expected a map-style dataset, which has a length, got {kind}: {error}") from error


def _check_first_item(dataset: Any, labels: bool) -> None:
    """Refuse items of a kind that is never decoded before a run begins."""
    name = f"{type(dataset).__name__}[0]"
    try:
        # what it draws is not taken from the trainer's generators
        with nullcontext() if type(dataset) in PLAIN_COLLECTIONS else drawing(Numbers((0,))):
            item = item_of(dataset, 0)
    except _BROKEN_IMAGE:
        return  # one bad image is no reason to refuse the others
    except Exception as error:
        raise SourceError(f"expected a map-style dataset, whose items are found by number, but {name} raised {error!r}") from error
    _sample_of(item, name, labels)


def _sample_of(item: Any, name: str, labels: bool) -> Sample:
    """Image and label of a dataset's item.

    Raises:
        SourceError: no image, an image that is not of 8 bits, or a label that is not an integer.
    """
    image, label = _image_and_label(item, name)
    return Sample(_checked_image(image, name), checked_label(label, name) if labels else NO_LABEL)


def _image_and_label(item: Any, name: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        key = next((key for key in IMAGE_KEYS if key in item), None)
        if key is None:
            raise SourceError(f"{name}: expected a dictionary with a key of {IMAGE_KEYS}, got {list(item)}; rename the image's key")
        return item[key], item.get("label")
    if isinstance(item, (tuple, list)):
        if not item:
            raise SourceError(f"{name}: expected an image or (image, label, ...), got an empty {type(item).__name__}")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _checked_image(image: Any, name: str) -> ImageData:
    from PIL.Image import Image

    if isinstance(image, (np.ndarray, Tensor)):
        if image.dtype not in (torch.uint8, np.uint8) or image.ndim not in (1, 2, 3):
            raise SourceError(
                f"{name}: expected one image of dtype uint8, not transformed yet, got {image.dtype} of shape {tuple(image.shape)}; "
                "make the dataset without ToTensor, Normalize and the like, since augmenting is done here; where the data themselves have "
                "more than 8 bits, let the dataset scale them"
            )
    elif not isinstance(image, (bytes, bytearray, memoryview, Image)):
        raise SourceError(
            f"{name}: expected a Pillow image, encoded bytes, or a uint8 array or tensor, alone or as (image, label, ...) or under a "
            f"key of {IMAGE_KEYS}, got {type(image).__name__}; make the dataset give the image itself, not several views of it or its path"
        )
    return image


def _reads_plain_files(dataset: Any) -> bool:
    """Whether the items are the files of a torchvision ImageFolder and nothing else, so that its files can be read in its place."""
    # where torchvision is not loaded, nothing is of its classes
    torchvision = sys.modules.get("torchvision.datasets.folder")
    return (
        torchvision is not None
        and isinstance(dataset, torchvision.DatasetFolder)
        and all(getattr(type(dataset), name) is getattr(torchvision.DatasetFolder, name) for name in ("__getitem__", "__len__"))
        and dataset.loader is torchvision.default_loader
        and dataset.transform is None
        and dataset.target_transform is None
    )


def plain_files(dataset: Any, labels: bool = True) -> FileSource | None:
    """The files of a torchvision ImageFolder: read as bytes, they are decoded by the fast decoder instead of the dataset's.

    None for anything else, and where its items are not just the files.
    """
    if not _reads_plain_files(dataset):
        return None
    prefix = os.path.join(os.fspath(dataset.root), "")
    paths = (path.removeprefix(prefix) if path.startswith(prefix) else os.path.abspath(path) for path, _ in dataset.samples)
    if not labels:
        return FileSource(os.path.abspath(prefix), paths)
    label_N = checked_labels([label for _, label in dataset.samples], type(dataset).__name__)
    return FileSource(os.path.abspath(prefix), paths, label_N, dataset.classes)
