"""Parquet files with encoded images. Rows are stored in groups, and a group is the least that can be read."""

# Axes: G row group, F file.

from __future__ import annotations

import io
import logging
import os
import statistics
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import HvsError, MissingDependencyError, SourceError
from hvs_data.sources.base import NO_LABEL, Sample, Source, checked_index, digest
from hvs_data.sources.columns import (
    encoded_bytes,
    holds_images,
    image_column,
    is_binary,
    label_column,
    noted_classes,
    plain_binary,
    whole_numbers,
)
from hvs_data.sources.labels import FIND
from hvs_data.sources.places import Place, each, places
from hvs_data.sources.retry import USUAL, Retries
from hvs_data.sources.storage import what_to_do

# Bytes of decoded row groups that each reading thread keeps; the one in use is kept even if it is larger.
GROUP_CACHE_BYTES = 2**26
# A group is held in memory as a whole, so one of more is refused.
MAX_GROUP_BYTES = 2**31
# Above this, reading in random order is slow enough to be told.
_SLOW_GROUP_BYTES = 2**24
# The footer of a file describes its groups; a hundred thousand of them take less.
MAX_FOOTER_BYTES = 2**28
# Readers that each thread keeps open.
_OPEN_READERS = 8
_TAIL = 8

logger = logging.getLogger("hvs_data")


class _Footer(NamedTuple):
    """What a file says of itself: its size, a digest of its footer, and pyarrow's reading of it."""

    size: int
    digest: str
    metadata: Any


class _Group(NamedTuple):
    images: Any
    labels: NDArray[np.int64] | None
    nbytes: int


class _OfThread(threading.local):
    """What one thread has open and at hand. Nothing of it is shared, since pyarrow's readers are not made for that."""

    def __init__(self) -> None:
        self.readers: OrderedDict[int, Any] = OrderedDict()
        self.groups: OrderedDict[int, _Group] = OrderedDict()


class ParquetSource(Source):
    """Rows of Parquet files, in their order. Made by :func:`open_parquet`.

    Args:
        files: where they lie.
        footers: one a file.
        image: column of encoded images, bytes or a struct with a field ``bytes``.
        label: column of labels, or None.
        classes: their names.

    Attributes:
        first_G: int64 [G + 1], number of the first row of each group, and of all rows.
    """

    def __init__(self, files: Sequence[Place], footers: Sequence[_Footer], image: str, label: str | None, classes: tuple[str, ...]):
        self.files = list(files)
        self.classes = classes
        self._footers = list(footers)
        self._image, self._label = image, label
        groups = [(file, number) for file, footer in enumerate(footers) for number in range(footer.metadata.num_row_groups)]
        self._group_G = groups
        self.first_G = np.cumsum([0, *(footers[file].metadata.row_group(number).num_rows for file, number in groups)])
        self._first_F = np.cumsum([0, *(footer.metadata.num_rows for footer in footers)])
        self._of_thread = _OfThread()
        self._check_groups()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_of_thread"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._of_thread = _OfThread()  # a copy opens readers of its own

    def __len__(self) -> int:
        return int(self.first_G[-1])

    def read(self, index: int) -> Sample:
        position = checked_index(index, len(self))
        number = int(np.searchsorted(self.first_G, position, side="right")) - 1
        group = self._group(number)
        row = position - int(self.first_G[number])
        data = encoded_bytes(group.images[row], self.name_of(position))
        if data is None:
            raise SourceError(
                f"expected the bytes of an image in {self.name_of(position)}, got none; store the image itself, or remove the row"
            )
        return Sample(data, NO_LABEL if group.labels is None else int(group.labels[row]))

    def name_of(self, index: int) -> str:
        """The file, below the folder of all files, and the row in it."""
        position = range(len(self))[index]
        file = int(np.searchsorted(self._first_F, position, side="right")) - 1
        return f"{self.files[file].name}[{position - int(self._first_F[file])}]"

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and footers, in which sizes and extreme values of all columns stand."""
        told = [f"{file.name}\0{footer.size}\0{footer.digest}" for file, footer in zip(self.files, self._footers, strict=True)]
        return digest(f"{self._image}\0{self._label}".encode(), *map(os.fsencode, told))

    def _check_groups(self) -> None:
        size_G = [self._group_bytes(file, number) for file, number in self._group_G]
        largest = max(range(len(size_G)), key=size_G.__getitem__)
        remedy = "write the files with fewer rows a group (row_group_size=32), or as tar shards"
        if size_G[largest] > MAX_GROUP_BYTES:
            file, number = self._group_G[largest]
            raise SourceError(
                f"expected row groups of at most {MAX_GROUP_BYTES} bytes, got {size_G[largest]} in group {number} of "
                f"{self.files[file].name}; {remedy}"
            )
        typical = statistics.median(size_G)
        if typical > _SLOW_GROUP_BYTES:
            logger.warning(
                "row groups of %.0f MiB are read as a whole for every image in random order, which is slow; %s", typical / 2**20, remedy
            )

    def _group_bytes(self, file: int, number: int) -> int:
        """Bytes of a group's images, decompressed."""
        group = self._footers[file].metadata.row_group(number)
        columns = (group.column(position) for position in range(group.num_columns))
        return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.split(".")[0] == self._image)

    def _group(self, number: int) -> _Group:
        groups = self._of_thread.groups
        if number in groups:
            groups.move_to_end(number)
            return groups[number]
        group = self._read_group(*self._group_G[number])
        groups[number] = group
        while len(groups) > 1 and sum(kept.nbytes for kept in groups.values()) > GROUP_CACHE_BYTES:
            groups.popitem(last=False)
        return group

    def _read_group(self, file: int, number: int) -> _Group:
        try:
            reader = self._reader(file)
            is_struct = not is_binary(reader.schema_arrow.field(self._image).type)
            columns = [f"{self._image}.bytes" if is_struct else self._image, *([self._label] if self._label else [])]
            table = reader.read_row_group(number, columns=columns, use_threads=False)
            images = table.column(self._image)
            labels = whole_numbers(table.column(self._label)) if self._label else None
            return _Group(plain_binary(images.flatten()[0] if is_struct else images), labels, table.nbytes)
        except (OSError, HvsError):
            self._of_thread.readers.pop(file, None)
            raise
        except Exception as error:
            raise SourceError(
                f"cannot read row group {number} of {self.files[file].name}: {type(error).__name__}: {error}; restore it"
            ) from error

    def _reader(self, file: int) -> Any:
        import pyarrow.parquet as pq

        readers = self._of_thread.readers
        if file not in readers:
            footer = self._footers[file]
            # what is read ahead would be read by other threads
            readers[file] = pq.ParquetFile(_PlaceFile(self.files[file], footer.size), metadata=footer.metadata, pre_buffer=False)
            if len(readers) > _OPEN_READERS:
                readers.popitem(last=False)
        return readers[file]


def open_parquet(
    patterns: Sequence[str],
    *,
    image: str | None = None,
    label: str | None = FIND,
    storage_options: Mapping[str, Any] | None = None,
    retries: Retries = USUAL,
) -> ParquetSource:
    """Source of the images in Parquet files; see :func:`hvs_data.open_source`.

    Args:
        patterns: paths, URLs and patterns, braces expanded already.
        retries: of reading, here and later.

    Raises:
        SourceError: no files, broken ones, ones that cannot be reached, or no column of images.
        MissingDependencyError: pyarrow, or for a URL fsspec or the client for its protocol, is not installed.
    """
    try:
        import pyarrow.types as kinds
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "parquet", "reading Parquet files") from error
    try:
        files = places(patterns, storage_options, retries)
        footers = each(_read_footer, files)
    except OSError as error:
        raise SourceError(f"cannot open the Parquet files: {error}; {what_to_do(error)}") from error
    if not any(footer.metadata.num_rows for footer in footers):
        raise SourceError(f"expected rows in {files[0].name} and its like, got none; check how they were written")
    chosen: list[tuple[str, str | None]] = []
    classes: tuple[str, ...] = ()
    for file, footer in zip(files, footers, strict=True):
        schema = footer.metadata.schema.to_arrow_schema()
        images = [field.name for field in schema if holds_images(field.type)]
        whole = [field.name for field in schema if kinds.is_integer(field.type)]
        known = [name for name in whole if noted_classes(schema.metadata, name)]
        its = image_column(images, schema.names, image, file.name), label_column(whole, known, schema.names, label, file.name)
        if chosen and its != chosen[0]:
            raise SourceError(
                f"expected the same columns in all files, got {chosen[0]} in {files[0].name} and {its} in {file.name}; open them apart"
            )
        chosen.append(its)
        classes = classes or noted_classes(schema.metadata, its[1])
    return ParquetSource(files, footers, *chosen[0], classes)


def _read_footer(file: Place) -> _Footer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = file.state().size
    tail = file.read_at(size - _TAIL, _TAIL) if size >= _TAIL else b""
    if tail[4:] != b"PAR1":
        raise SourceError(f"expected a Parquet file, got {size} bytes that do not end like one in {file.name}; restore or remove it")
    length = int.from_bytes(tail[:4], "little")
    if length > min(MAX_FOOTER_BYTES, size - _TAIL):
        raise SourceError(
            f"expected a footer of at most {min(MAX_FOOTER_BYTES, size - _TAIL)} bytes in {file.name}, got {length}; restore it"
        )
    footer = file.read_at(size - _TAIL - length, length)
    try:
        return _Footer(size, digest(footer), pq.read_metadata(pa.BufferReader(b"PAR1" + footer + tail)))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"expected a Parquet file, got a broken footer in {file.name}: {error}; restore or remove it") from error


class _PlaceFile(io.RawIOBase):
    """A file of a storage with a position in it, as pyarrow wants one."""

    def __init__(self, file: Place, size: int):
        self._file, self._size, self._position = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._position, 0)
        data = self._file.read_at(self._position, left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        return data
