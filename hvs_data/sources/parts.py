"""Sources made of other sources: some images of one, several one after another, one without its labels."""

# Axes: N image, P part.

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Subset

from hvs_data.errors import SourceError
from hvs_data.sources.base import Sample, Source, checked_index, digest
from hvs_data.sources.map_dataset import plain_files


class PickedSource(Source):
    """Images of a source by their indices in it, in the order given; one may come several times.

    Args:
        source: where they come from.
        index_N: their indices; negative ones count from the end.

    Raises:
        SourceError: an index that the source does not have, or none at all.
    """

    def __init__(self, source: Source, index_N: Any):
        self.source = source
        self.classes = source.classes
        self.index_N = _whole_indices(index_N, len(source))

    def __len__(self) -> int:
        return len(self.index_N)

    def read(self, index: int) -> Sample:
        return self.source.read(int(self.index_N[checked_index(index, len(self))]))

    def name_of(self, index: int) -> str:
        return self.source.name_of(int(self.index_N[index]))

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.source.fingerprint.encode(), self.index_N.tobytes())


class JoinedSource(Source):
    """The images of several sources, one source after another. Labels stay as they are in each.

    Attributes:
        first_P: int64 [P + 1], number of the first image of each part, and of all images.
    """

    def __init__(self, parts: Sequence[Source]):
        self.parts = list(parts)
        self.first_P = np.cumsum([0, *map(len, self.parts)])
        names = {part.classes for part in self.parts}
        self.classes = names.pop() if len(names) == 1 else ()

    def __len__(self) -> int:
        return int(self.first_P[-1])

    def read(self, index: int) -> Sample:
        part, position = self._place(checked_index(index, len(self)))
        return self.parts[part].read(position)

    def name_of(self, index: int) -> str:
        part, position = self._place(range(len(self))[index])
        return f"{part}:{self.parts[part].name_of(position)}"

    def _place(self, index: int) -> tuple[int, int]:
        part = int(np.searchsorted(self.first_P, index, side="right")) - 1
        return part, index - int(self.first_P[part])

    @cached_property
    def fingerprint(self) -> str:
        return digest(*(part.fingerprint.encode() for part in self.parts))


class WithoutLabels(Source):
    """The images of a source, with -1 as every label."""

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Sample:
        return Sample(self.source.read(index).data)

    def name_of(self, index: int) -> str:
        return self.source.name_of(index)

    @cached_property
    def fingerprint(self) -> str:
        return digest(b"without labels", self.source.fingerprint.encode())


def open_parts(data: Any, labels: bool = True) -> Source | None:
    """Source of a torch ``Subset`` or ``ConcatDataset`` of sources, of plain ImageFolders, or of such; None for anything else."""
    # classes derived from them may do more
    if isinstance(data, Source):
        if data.is_mixture:
            raise SourceError(f"expected a source in a Subset or ConcatDataset, got {data!r}; make the mixture of these instead")
        return data if labels else WithoutLabels(data)
    if (files := plain_files(data, labels)) is not None:
        return files
    if type(data) is Subset:
        source = open_parts(data.dataset, labels)
        return None if source is None else PickedSource(source, data.indices)
    if type(data) is ConcatDataset:
        parts = [open_parts(part, labels) for part in data.datasets]
        known = [part for part in parts if part is not None]
        return JoinedSource(known) if known and len(known) == len(parts) else None
    return None


def _whole_indices(indices: Any, length: int) -> NDArray[np.int64]:
    index_N = np.asarray(indices)
    if not index_N.size or index_N.ndim != 1 or index_N.dtype.kind not in "iu":
        raise SourceError(f"expected a list of indices of images, got {index_N.dtype} of shape {index_N.shape}; check how it is made")
    index_N = index_N.astype(np.int64)
    wrong = np.flatnonzero((index_N < -length) | (index_N >= length))
    if wrong.size:
        raise SourceError(f"expected indices in [0, {length}), got {int(index_N[wrong[0]])} at position {int(wrong[0])}; correct it")
    return np.where(index_N < 0, index_N + length, index_N)
