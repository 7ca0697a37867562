"""Tar shards in WebDataset's layout, read in any order: an index says where every image lies, and one read fetches it."""

# Axes: N sample, S shard.

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL, Sample, Source, checked_index, digest
from hvs_data.sources.index_beside import load_beside
from hvs_data.sources.index_cache import VERSION, IndexCache, default_folder
from hvs_data.sources.labels import FIND, WITHOUT
from hvs_data.sources.places import Place, each, places
from hvs_data.sources.regular import MAX_FILE_BYTES
from hvs_data.sources.retry import USUAL, Retries
from hvs_data.sources.shard_index import BAD_LABEL, Choice, ShardIndex, index_shard
from hvs_data.sources.storage import FileState, what_to_do
from hvs_data.sources.tar import NOWHERE, Window

DAMAGED = ("raise", "keep")
# Pixels that are not compressed: read where they lie.
_RAW = (".ppm", ".pgm", ".npy")

logger = logging.getLogger("hvs_data")


class ShardSource(Source):
    """Images of tar shards, given out as encoded bytes, or as a view of the mapped file where pixels are not compressed.

    Made by :func:`open_shards`.

    Args:
        shards: the files.
        size_S: bytes of each.
        index_S: what each holds.

    Attributes:
        index: of all shards, one after another.
        first_S: int64 [S + 1], number of the first sample of each shard, and of all samples.
        labels: int64 [N]; -1 where there is none.
    """

    def __init__(self, shards: Sequence[Place], size_S: Sequence[int], index_S: Sequence[ShardIndex]):
        self.shards = list(shards)
        self.size_S = np.array(size_S, np.int64)
        self.first_S = np.cumsum([0, *map(len, index_S)])
        self.index = ShardIndex.joined(index_S)
        if not len(self.index):
            raise SourceError(
                f"expected samples with an image in {_listed(self.shards)}, got none; check the extensions, and pass "
                'hvs.open_source(..., image="EXTENSION") for an unusual one'
            )
        if (self.index.label_N == BAD_LABEL).all():
            raise SourceError(
                f"expected whole numbers as labels in {_listed(self.shards)}, got none; {WITHOUT}, or label=EXTENSION of the files "
                'that hold class numbers, which are .cls, or "label" in .json, if it is left out'
            )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.index.label_N

    def read(self, index: int) -> Sample:
        position = checked_index(index, len(self))
        offset, size, label = (int(column[position]) for column in (self.index.offset_N, self.index.size_N, self.index.label_N))
        if size > MAX_FILE_BYTES:
            raise SourceError(f"expected an image of at most {MAX_FILE_BYTES} bytes, got {size} in {self.name_of(position)}; remove it")
        if offset == NOWHERE:
            raise SourceError(f"expected an image in {self.name_of(position)}, got a link to nothing in the shard; store the file itself")
        if label == BAD_LABEL:
            raise SourceError(
                f"expected a whole number as the label of {self.name_of(position)}, got something else; repair its .cls or .json, or "
                f"{WITHOUT}"
            )
        shard = self._shard_of(position)
        is_raw = self.index.names[position].lower().endswith(_RAW)
        return Sample(shard.view_at(offset, size) if is_raw else shard.read_at(offset, size), label)

    def name_of(self, index: int) -> str:
        """The shard, below the folder of all shards, and the member in it."""
        position = range(len(self))[index]
        return f"{self._shard_of(position).name}/{self.index.names[position]}"

    def _shard_of(self, position: int) -> Place:
        return self.shards[int(np.searchsorted(self.first_S, position, side="right")) - 1]

    @cached_property
    def fingerprint(self) -> str:
        names = "\0".join(shard.name for shard in self.shards)
        columns = (self.size_S, self.first_S, self.index.offset_N, self.index.size_N, self.index.label_N)
        return digest(os.fsencode(names), self.index.names.tobytes(), *(column.tobytes() for column in columns))


def open_shards(
    patterns: Sequence[str],
    *,
    image: str | None = None,
    label: str | None = FIND,
    storage_options: Mapping[str, Any] | None = None,
    index_cache: str | os.PathLike[str] | None = None,
    damaged_shards: str = "raise",
    retries: Retries = USUAL,
) -> ShardSource:
    """Source of the images in tar shards; see :func:`hvs_data.open_source`.

    Args:
        patterns: paths, URLs and patterns, braces expanded already.
        retries: of reading, here and later.

    Raises:
        SourceError: no shards, a damaged one, one that cannot be reached, or no images.
        MissingDependencyError: a URL, and fsspec or the client for its protocol is not installed.
    """
    if damaged_shards not in DAMAGED:
        raise SourceError(f"expected damaged_shards to be one of {DAMAGED}, got {damaged_shards!r}")
    choice = Choice(*(None if extension is None else extension.removeprefix(".").lower() for extension in (image, label)))
    cache = IndexCache(os.fspath(index_cache) if index_cache is not None else default_folder())

    def opened(shard: Place) -> tuple[int, ShardIndex]:
        state = shard.state()
        if (beside := load_beside(shard, state.size, choice)) is not None:
            return state.size, beside

        def build() -> ShardIndex:
            return index_shard(Window(shard.read_at, state.size, shard.storage.block), shard.name, choice, damaged_shards)

        key = _key(shard, state, choice, damaged_shards)
        return state.size, cache.get(key, build) if key else build()

    try:
        shards = places(patterns, storage_options, retries)
        size_S, index_S = zip(*each(opened, shards), strict=True)
    except OSError as error:
        raise SourceError(f"cannot open the shards: {error}; {what_to_do(error)}") from error
    source = ShardSource(shards, size_S, index_S)
    if label not in (None, FIND) and (source.labels == NO_LABEL).all():
        raise SourceError(f"expected labels in files .{choice.label} of {_listed(shards)}, got none; correct label=, or {WITHOUT}")
    return source


def _key(shard: Place, state: FileState, choice: Choice, damaged: str) -> str | None:
    """Under which the shard's index is kept: all that it depends on. None where a changed shard could not be told from this one."""
    if not state.version:
        logger.info("the index of %s is not kept, as its server does not tell when or whether it changed", shard.name)
        return None
    told = [VERSION, os.fsencode(shard.path).hex(), *state, *choice, damaged]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _listed(shards: Sequence[Place]) -> str:
    return ", ".join(shard.name for shard in shards[:3]) + (f" and {len(shards) - 3} more" if len(shards) > 3 else "")
