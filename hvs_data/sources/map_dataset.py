"""Anything with a length and items: PyTorch, torchvision and Hugging Face datasets, lists and arrays of images."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs_data.drawing.arguments import item_of
from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
from hvs_data.errors import SourceError
from hvs_data.sources.bad_items import is_bad_image
from hvs_data.sources.base import NO_LABEL, ImageData, Sample, Source, checked_index, digest
from hvs_data.sources.contents import contents_of
from hvs_data.sources.folder import FileSource
from hvs_data.sources.labels import checked_label, checked_labels
from hvs_data.sources.owned import owned
from hvs_data.sources.parallel_reads import may_be_read_in_parallel, shared_by_reads
from hvs_data.threads.exclusive import one_at_a_time

IMAGE_KEYS = ("image", "img", "jpg")
# Their items are there, and no code of the user's makes them.
PLAIN_COLLECTIONS = (list, tuple, np.ndarray, Tensor)
# Items that are looked at, all over a dataset, before its kind is refused for what its first one is.
MOST_LOOKED_AT = 5

logger = logging.getLogger("hvs_data")

_announced: set[type] = set()


class MapSource(Source):
    """The items of a map-style dataset.

    Args:
        dataset: an object with ``__len__`` and ``__getitem__(int)``; see :func:`hvs_data.open_source` for its items. What it draws in a
            loader belongs to (seed, epoch, index); a parameter annotated as a generator is given one
            (:mod:`hvs_data.drawing.arguments`).
        labels: False: labels are not looked at, and every one is -1.
        deep: whether arrays and tensors may hold other numbers than uint8.
        parallel: whether ``__getitem__`` is called from many threads at once. Else one thread at a time reads, of all sources of this
            dataset and of those that hold the same datasets, files or other objects.
    """

    def __init__(self, dataset: Any, labels: bool = True, *, deep: bool = False, parallel: bool = False):
        self.dataset = dataset
        self.parallel = parallel
        self._deep = deep
        self._labels = labels
        classes = getattr(dataset, "classes", ()) if labels else ()
        self.classes = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
        # as it is now: what a dataset opens or keeps while it is read does not count
        self._contents = contents_of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Sample:
        if self.parallel:
            return _read(self.dataset, index, self._labels, self._deep)
        with one_at_a_time(*shared_by_reads(self.dataset)):
            data, label = _read(self.dataset, index, self._labels, self._deep)
            try:
                return Sample(owned(data), label)
            except Exception as error:  # of what Pillow had still to read
                raise _cannot_read(self.name_of(index), error) from error

    def name_of(self, index: int) -> str:
        return _name_of(self.dataset, index)

    @property
    def fingerprint(self) -> str:
        """Of class, length, and what :mod:`hvs_data.sources.contents` tells."""
        return digest(self._contents.encode(), b"" if self._labels else b"without labels")


def open_map_dataset(dataset: Any, labels: bool = True, *, deep: bool = False, parallel: bool | None = None) -> Source:
    """Source of a map-style dataset's images; see :func:`hvs_data.open_source`.

    Args:
        labels: False: without labels.
        deep: arrays and tensors may hold other numbers than uint8.

    Raises:
        SourceError: no dataset, an empty one, or one whose items hold no image that can be decoded.
    """
    if (files := plain_files(dataset, labels)) is not None:
        return files
    if _length_of(dataset) == 0:
        raise SourceError(f"expected a dataset that holds images, got an empty {type(dataset).__name__}; check how it is made")
    known = may_be_read_in_parallel(dataset)
    source = MapSource(dataset, labels, deep=deep, parallel=known if parallel is None else parallel)
    _check_items(source)
    if parallel is None and not known and type(dataset) not in _announced:
        _announced.add(type(dataset))
        logger.warning(
            "items of %s are read by one thread at a time; if several threads may ask for items at once, since it keeps no open file or "
            "the like, pass open_source(dataset, parallel=True), which is faster; parallel=False reads as now without this line",
            type(dataset).__name__,
        )
    return source


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


def _check_items(source: MapSource) -> None:
    """Refuse items of a kind that is never decoded before a run begins: if the first one is bad, and so are others all over the dataset."""
    refused = None
    for index in dict.fromkeys(np.linspace(0, len(source) - 1, MOST_LOOKED_AT).astype(int).tolist()):
        try:
            # what it draws is not taken from the trainer's generators
            with nullcontext() if type(source.dataset) in PLAIN_COLLECTIONS else drawing(Numbers((index,))):
                source.read(index)
            return
        except (SourceError, OSError) as error:
            # what cannot be read, for a cause, may be read later, and is replaced if it cannot
            if isinstance(error, SourceError) and error.__cause__ is None:
                refused = refused or error
        except (NotImplementedError, KeyError) as error:
            name = source.name_of(index)
            raise SourceError(f"expected a map-style dataset, whose items are found by number, but {name} raised {error!r}") from error
    if refused is not None:
        raise refused


def _read(dataset: Any, index: int, labels: bool, deep: bool) -> Sample:
    """An item's image and label.

    Raises:
        SourceError, OSError: a bad image.
        Exception: whatever the dataset raises by mistake, see :func:`is_bad_image`.
    """
    position = checked_index(index, len(dataset))
    name = _name_of(dataset, position)
    try:
        item = item_of(dataset, position)
    except Exception as error:
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, (TimeoutError, ConnectionError))):
            raise  # of the storage, not of a decoder: a loader asks again where that may help
        if is_bad_image(error, position):
            raise _cannot_read(name, error) from error
        error.add_note(_REMEDY.format(name=name, kind=type(error).__name__))
        raise
    return _sample_of(item, name, labels, deep)


_REMEDY = (
    "raised by {name}. A {kind} counts as a bug, which ends the run; for an image that cannot be read, raise an OSError or a ValueError, "
    "or return None: it is then replaced by another one. A map-style dataset has an item for every number from 0 to its length - 1."
)


def _cannot_read(name: str, error: Exception) -> SourceError:
    return SourceError(f"cannot read {name}: {type(error).__name__}: {error}")


def _name_of(dataset: Any, index: int) -> str:
    return f"{type(dataset).__name__}[{index}]"


def _sample_of(item: Any, name: str, labels: bool, deep: bool) -> Sample:
    """Image and label of a dataset's item.

    Raises:
        SourceError: no image, an image that is not of 8 bits where these are meant, or a label that is not an integer.
    """
    image, label = _image_and_label(item, name)
    return Sample(_checked_image(image, name, deep), checked_label(label, name) if labels else NO_LABEL)


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


def _checked_image(image: Any, name: str, deep: bool) -> ImageData:
    from PIL.Image import Image

    if isinstance(image, (np.ndarray, Tensor)):
        is_bytes = image.dtype in (torch.uint8, np.uint8)
        if image.ndim not in (1, 2, 3) or not (is_bytes or (deep and image.ndim > 1)):
            raise SourceError(
                f"{name}: expected one image of dtype uint8, not transformed yet, got {image.dtype} of shape {tuple(image.shape)}; "
                "make the dataset without ToTensor, Normalize and the like, since augmenting is done here; where the data themselves have "
                "more than 8 bits, tell the recipe which values are 0 and 1, recipe.with_channels(mean, std, value_range=(lo, hi)), and "
                "give the loader the dataset itself, or hvs.open_source(dataset, deep=True)"
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
