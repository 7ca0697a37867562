"""Datasets of the Hugging Face library, read as they lie in Arrow: encoded images, not decoded by the library."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

import numpy as np

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL, Sample, Source, checked_index, digest
from hvs_data.sources.columns import encoded_bytes, holds_images, image_column, label_column, whole_numbers
from hvs_data.sources.labels import FIND
from hvs_data.sources.map_dataset import open_map_dataset
from hvs_data.sources.regular import read_file
from hvs_data.types.images import EncodedImage

# Images whose bytes go into the fingerprint, evenly spaced.
FINGERPRINT_IMAGES = 64


class HuggingFaceSource(Source):
    """The rows of a ``datasets.Dataset``, in its order.

    Args:
        dataset: as it is; nothing in it is changed.
        image: column of the images.
        label: column of the labels, or None.

    Attributes:
        labels: int64 [N]; -1 where there is none.
    """

    def __init__(self, dataset: Any, image: str, label: str | None):
        from datasets import Image

        self.dataset = dataset
        arrow = dataset.with_format("arrow")
        images = arrow.select_columns([image])
        feature = dataset.features[image]
        self._mode, self._upright = None, False
        if isinstance(feature, Image):
            images = images.cast_column(image, Image(decode=False))
            # what the library does when it decodes an image
            self._mode, self._upright = (feature.mode, True) if feature.decode else (None, False)
        self._images = images
        self.labels = np.full(len(dataset), NO_LABEL, np.int64)
        if label is not None:
            self.labels = whole_numbers(arrow.select_columns([label])[:].column(0))
            self.classes = tuple(getattr(dataset.features[label], "names", None) or ())

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Sample:
        position = checked_index(index, len(self))
        return Sample(self._as_the_dataset_has_it(self._bytes(position)), int(self.labels[position]))

    def _as_the_dataset_has_it(self, data: bytes) -> bytes:
        upright = self._upright and _may_be_turned(data)
        return EncodedImage(data, upright, self._mode) if upright or self._mode else data

    def _bytes(self, position: int) -> bytes:
        name = self.name_of(position)
        try:
            value = self._images[position].column(0)[0]
        except Exception as error:
            raise SourceError(f"cannot read {name}: {type(error).__name__}: {error}") from error
        stored = encoded_bytes(value if hasattr(value, "as_buffer") else value["bytes"], name) if value.is_valid else None
        if stored is not None:
            return stored
        # the library notes the path alone where the images of a folder were not copied
        path = value["path"].as_py() if value.is_valid and not hasattr(value, "as_buffer") else None
        if not path:
            raise SourceError(f"expected an image in {name}, got none; remove the row, such as by dataset.filter")
        return read_file(path)

    def name_of(self, index: int) -> str:
        return f"Dataset[{range(len(self))[index]}]"

    @cached_property
    def fingerprint(self) -> str:
        """Of the length, all labels, and the bytes of a few images. The library's own differs between copies of the same data."""
        return digest(len(self).to_bytes(8, "little"), self.labels.tobytes(), *map(self._told, self._some_rows()))

    def _some_rows(self) -> list[int]:
        return np.unique(np.linspace(0, len(self) - 1, FINGERPRINT_IMAGES).astype(np.int64)).tolist()

    def _told(self, position: int) -> bytes:
        try:
            return self._bytes(position)
        except (OSError, SourceError):
            return b""  # one that cannot be read now will not be read later either


def _may_be_turned(data: bytes) -> bool:
    """Whether an image may have metadata that turn it: of a JPEG file, whether it has the segment of Exif and XMP before its pixels."""
    if data[:2] != b"\xff\xd8":
        return True
    place = 2
    while data[place : place + 1] == b"\xff" and (marker := data[place + 1 : place + 2]) != b"\xda":
        if marker == b"\xe1" or place + 4 > len(data):
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data[place : place + 2] != b"\xff\xda"  # an odd one is looked at when it is decoded


def open_hugging_face(
    data: Any, *, image: str | None = None, label: str | None = FIND, deep: bool = False, parallel: bool | None = None
) -> Source | None:
    """Source of a Hugging Face dataset; see :func:`hvs_data.open_source`. None for anything else.

    Raises:
        SourceError: a dictionary of datasets, one that streams, an empty one, or one without a column of images.
    """
    # where the library is not loaded, nothing is of its classes
    library = sys.modules.get("datasets")
    kinds = {name: getattr(library, name, ()) for name in ("Dataset", "DatasetDict", "IterableDatasetDict", "IterableDataset")}
    kind = next((name for name, of in kinds.items() if isinstance(data, of)), None)
    if kind is None:
        return None
    if kind in ("DatasetDict", "IterableDatasetDict"):
        raise SourceError(
            f"expected one split of a dataset, got a {kind} of {list(data)}; pass one of them, such as data[{next(iter(data), '')!r}]"
        )
    if kind == "IterableDataset":
        raise SourceError(
            "expected a dataset whose images are found by number, got an IterableDataset, which streams; load it without streaming=True"
        )
    return _open_dataset(data, image, label, deep, parallel)


def _open_dataset(dataset: Any, image: str | None, label: str | None, deep: bool, parallel: bool | None) -> Source:
    from datasets import ClassLabel, Image

    if not len(dataset):
        raise SourceError("expected a dataset that holds images, got an empty Dataset; check how it is made")
    features = dataset.features
    schema = features.arrow_schema
    by_kind = [name for name, feature in features.items() if isinstance(feature, Image)]
    images = by_kind or [field.name for field in schema if holds_images(field.type)]
    if image is None and label in (None, FIND) and (dataset.format["type"] == "custom" or not images):
        # a transform of the user's own makes the images, or they are arrays
        return open_map_dataset(dataset, labels=label is not None, deep=deep, parallel=parallel)
    names = list(features)
    whole = [field.name for field in schema if str(field.type).removeprefix("u").startswith("int")]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    return HuggingFaceSource(
        dataset, image_column(images, names, image, "the dataset"), label_column(whole, classes, names, label, "the dataset")
    )
