"""What a tar shard holds, in WebDataset's layout: files of one key, such as ``0001.jpg`` and ``0001.cls``, are one sample."""

# Axes: N sample.

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL
from hvs_data.sources.folder import EXTENSIONS
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.tar import Member, TarError, Window, members

LABEL_EXTENSIONS = ("cls", "json")
# Labels are numbers, and metadata beside them are short.
MAX_LABEL_BYTES = 2**20
# In place of a label that is there and is no whole number.
BAD_LABEL = np.iinfo(np.int64).min

_IMAGES = tuple(extension.removeprefix(".") for extension in EXTENSIONS)

logger = logging.getLogger("hvs_data")


class Choice(NamedTuple):
    """Which files of a sample count, by their extension: all that follows the first dot, in lower case. None: the usual ones."""

    image: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class ShardIndex:
    """The images of one shard, or of several one after another.

    Attributes:
        names: of the image's member: key, dot, extension.
        offset_N: int64, where its bytes begin.
        size_N: int64, how many they are.
        label_N: int64; -1 where there is none, ``BAD_LABEL`` where it is no whole number.
    """

    names: PackedStrings
    offset_N: NDArray[np.int64]
    size_N: NDArray[np.int64]
    label_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.names.nbytes + self.offset_N.nbytes + self.size_N.nbytes + self.label_N.nbytes

    @staticmethod
    def joined(parts: Sequence[ShardIndex]) -> ShardIndex:
        columns = zip(*((part.offset_N, part.size_N, part.label_N) for part in parts), strict=True)
        return ShardIndex(PackedStrings.joined([part.names for part in parts]), *map(np.concatenate, columns))


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member: the file name is parted at its first dot, folders belong to the key."""
    folder, slash, file = name.rpartition("/")
    key, _, extension = file.partition(".")
    return f"{folder}{slash}{key}", extension.lower()


def index_shard(window: Window, shard: str, choice: Choice, damaged: str) -> ShardIndex:
    """Walk a shard once and note where its images lie; labels are read on the way.

    Files whose name begins with a dot are passed over. Files of one key need not follow one another.

    Args:
        window: on the shard.
        shard: its name, for messages.
        damaged: "raise", or "keep" the samples before the damage.

    Raises:
        SourceError: a shard that is damaged, or a sample in which it is not clear which file is the image.
    """
    images: dict[str, list[Member]] = {}
    labels: dict[str, tuple[str, int]] = {}
    try:
        for member in members(window):
            key, extension = split_name(member.name)
            if not extension or key.endswith("/") or not key:
                continue
            if _is_image(extension, choice):
                images.setdefault(key, []).append(member)
            elif extension in ((choice.label,) if choice.label else LABEL_EXTENSIONS):
                # what .cls says goes before what .json says, whichever comes first
                if key not in labels or extension != "json":
                    labels[key] = (extension, _label(window, member, extension))
    except TarError as error:
        lost = f"damaged at offset {error.offset}: {error.reason}"
        if damaged != "keep":
            keep = 'hvs_data.open_source(..., damaged_shards="keep") goes on with'
            remedy = f"restore it, or: {keep} the {len(images)} samples before" if images else "restore it, or leave it out"
            raise SourceError(f"the shard {shard} is {lost}; {remedy}") from error
        logger.warning("the shard %s is %s; its %d samples before are kept", shard, lost, len(images))
    chosen = [_the_image(key, files, shard) for key, files in images.items()]
    return ShardIndex(
        PackedStrings(member.name for member in chosen),
        np.array([member.offset for member in chosen], np.int64),
        np.array([member.size for member in chosen], np.int64),
        np.array([labels[key][1] if key in labels else NO_LABEL for key in images], np.int64),
    )


def _is_image(extension: str, choice: Choice) -> bool:
    if choice.image:
        return extension == choice.image
    return extension.rpartition(".")[2] in _IMAGES


def _the_image(key: str, files: list[Member], shard: str) -> Member:
    """The only file, or the only one with a plain extension beside such as ``0001.mask.png``."""
    plain = files if len(files) == 1 else [file for file in files if split_name(file.name)[1] in _IMAGES]
    if len(plain) != 1:
        arrived = f"expected one image a sample, got {', '.join(file.name for file in files[:4])} with the key {key!r} in the shard {shard}"
        extensions = [split_name(file.name)[1] for file in files]
        if len(set(extensions)) < len(extensions):
            raise SourceError(f"{arrived}; write the shard anew, with names that differ before their first dot, or leave it out")
        raise SourceError(
            f"{arrived}; if these are several samples, write the shard anew with names that differ before their first dot, at which key "
            f'and extension are parted; if they are files of one sample, hvs_data.open_source(..., image="{extensions[0]}") takes the '
            f"{extensions[0]} files alone"
        )
    return plain[0]


def _label(window: Window, member: Member, extension: str) -> int:
    if member.size > MAX_LABEL_BYTES:
        return BAD_LABEL
    text = window.bytes(member.offset, member.size)
    try:
        return _whole_number(_of_json(text) if extension.endswith("json") else int(text.decode("ascii")))
    except (ValueError, RecursionError):
        return BAD_LABEL


def _of_json(text: bytes) -> object:
    """The value of "label"; NO_LABEL where there is none."""
    value = json.loads(text)
    if not isinstance(value, dict):
        return value  # a bare number
    label = value.get("label")
    return NO_LABEL if label is None else label


def _whole_number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and BAD_LABEL < value < 2**63:
        return value
    return BAD_LABEL
