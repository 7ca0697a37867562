"""What a source of images is: a length, and a `read` that many threads may call at once."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

ImageData: TypeAlias = "bytes | bytearray | memoryview | np.ndarray | Tensor | Image"
NO_LABEL = -1


class Sample(NamedTuple):
    """One image of a source, not decoded yet.

    Attributes:
        data: what :func:`hvs_data.pipelines.decode.decode_image` takes: encoded bytes, a Pillow image, or an array or tensor.
        label: the class number; -1 where the source has none. Labels of other kinds are not carried.
    """

    data: ImageData
    label: int = NO_LABEL


class Source(ABC):
    """A fixed number of images that can be read in any order. Subclass it to read from anywhere else; see `docs/sources.md`.

    Attributes:
        classes: name of each label, in the order of the labels; empty where they are not known.
        is_mixture: whether epochs hold other than every image once, which a source around this one would not know.
    """

    classes: tuple[str, ...] = ()
    is_mixture: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """The image at an index in [0, len). Called from many threads at once.

        Raises:
            OSError, HvsError: this image cannot be read. A loader treats both as a bad image and goes on.
            IndexError: an index out of range.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that differs between sources with other images, to check that a resumed run reads the same ones."""

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`read`: a source is a map-style dataset, so that torch's ``Subset`` and ``ConcatDataset`` take it."""
        return self.read(index)

    def why_other(self, fingerprint: str) -> str:
        """What is known of how the source with another fingerprint differs from this one; empty where nothing is."""
        return ""

    def name_of(self, index: int) -> str:
        """What logs call an image, such as its path below the source's folder. Does not read it."""
        return f"[{index}]"

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"{type(self).__name__}({len(self)} images{classes})"


def checked_index(index: int, length: int) -> int:
    """The index as a plain int.

    Raises:
        IndexError: outside [0, length).
    """
    if not 0 <= index < length:
        raise IndexError(f"expected an index in [0, {length}), got {index}")
    return int(index)


def digest(*parts: bytes) -> str:
    """A short hexadecimal fingerprint of some bytes."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()[:16]
