"""What a tar shard holds, in WebDataset's layout: files of one key, such as ``0001.jpg`` and ``0001.cls``, are one sample."""

# Axes: N sample.

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL
from hvs_data.sources.folder import EXTENSIONS
from hvs_data.sources.labels import FIND
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.tar import NOWHERE, Member, TarError, Window, members

# What .cls says goes before what .json says.
LABEL_EXTENSIONS = ("cls", "json")
# Labels are numbers, and metadata beside them are short.
MAX_LABEL_BYTES = 2**20
# In place of a label that is there and is no whole number.
BAD_LABEL = np.iinfo(np.int64).min

# How files begin that are compressed as a whole, or no tar archive at all.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}
_IMAGES = tuple(extension.removeprefix(".") for extension in EXTENSIONS)

logger = logging.getLogger("hvs_data")


class Choice(NamedTuple):
    """Which files of a sample count, by their extension: all that follows the first dot, in lower case.

    Attributes:
        image: None: the usual ones.
        label: "auto": the usual ones; None: no labels.
    """

    image: str | None = None
    label: str | None = FIND

    @property
    def of_labels(self) -> tuple[str, ...]:
        """Extensions of labels, the one that goes before the others first."""
        return LABEL_EXTENSIONS if self.label == FIND else (self.label,) if self.label else ()


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
        SourceError: a shard that is damaged or compressed, or a sample in which it is not clear which file is the image.
    """
    _refuse_compressed(window, shard)
    images: dict[str, list[Member]] = {}
    labels: dict[str, tuple[int, int]] = {}  # by the name that images may share with them: rank of the extension, label
    remarks: list[str] = []
    try:
        for member in members(window, remarks):
            key, extension = split_name(member.name)
            if not extension or key.endswith("/") or not key:
                continue
            if _is_image(extension, choice):
                images.setdefault(key, []).append(member)
            else:
                _note_label(labels, window, member, choice)
        if remarks and _last_lacks_its_label(images, labels):
            raise TarError(window.size, "cut off before the label of its last image, as it has no end mark and other images have labels")
    except TarError as error:
        if _last_lacks_its_label(images, labels):
            images.popitem()  # it stands behind the damage
        lost = f"damaged at offset {error.offset}: {error.reason}"
        if damaged != "keep":
            keep = f'pass hvs.open_source(..., damaged_shards="keep") to go on with the {len(images)} samples before'
            raise SourceError(f"the shard {shard} is {lost}; restore it, or {keep if images else 'leave it out'}") from error
        logger.warning("the shard %s is %s; its %d samples before are kept", shard, lost, len(images))
    else:
        for remark in remarks:
            logger.warning("the shard %s %s; its %d samples are taken", shard, remark, len(images))
    chosen = [_the_image(key, files, shard) for key, files in images.items()]
    return ShardIndex(
        PackedStrings(member.name for member in chosen),
        np.array([member.offset for member in chosen], np.int64),
        np.array([member.size for member in chosen], np.int64),
        np.array([_label_of(member, labels) for member in chosen], np.int64),
    )


def _refuse_compressed(window: Window, shard: str) -> None:
    start = window.bytes(0, 8)
    for mark, kind in _COMPRESSED.items():
        if start.startswith(mark):
            raise SourceError(
                f"expected a tar shard that is not compressed, in which images are found by their place, got {kind} data in {shard}; "
                "decompress it: images hardly shrink any more"
            )


def _names_for_label(name: str) -> Iterator[str]:
    """What the label of an image may be called, without its extension: ``0.v1`` and then ``0`` for ``0.v1.jpg``."""
    key, extension = split_name(name)
    middle = extension.rpartition(".")[0]
    while middle:
        yield f"{key}.{middle}"
        middle = middle.rpartition(".")[0]
    yield key


def _label_of(image: Member, labels: dict[str, tuple[int, int]]) -> int:
    return next((labels[name][1] for name in _names_for_label(image.name) if name in labels), NO_LABEL)


def _last_lacks_its_label(images: dict[str, list[Member]], labels: dict[str, tuple[int, int]]) -> bool:
    """Whether the last image has no label, where others have."""
    last = images[next(reversed(images))] if images and labels else []
    return bool(last) and not any(name in labels for image in last for name in _names_for_label(image.name))


def _note_label(labels: dict[str, tuple[int, int]], window: Window, member: Member, choice: Choice) -> None:
    """Note what a file says, if it is one of labels. Two that contradict each other count as a bad label."""
    key, extension = split_name(member.name)
    for rank, wanted in enumerate(choice.of_labels):
        if extension != wanted and not extension.endswith(f".{wanted}"):
            continue
        middle = extension[: -len(wanted)].rstrip(".")
        name = f"{key}.{middle}" if middle else key
        label = _label(window, member, wanted)
        known, other = labels.get(name, (rank + 1, label))
        if rank <= known:
            labels[name] = rank, label if rank < known or label == other else BAD_LABEL
        return


def _is_image(extension: str, choice: Choice) -> bool:
    if choice.image:
        return extension == choice.image
    return extension.rpartition(".")[2] in _IMAGES


def _the_image(key: str, files: list[Member], shard: str) -> Member:
    """The only file, or the only one with a plain extension beside such as ``0001.mask.png``."""
    plain = files if len(files) == 1 else [file for file in files if split_name(file.name)[1] in _IMAGES] or files
    if len(plain) == 1:
        return plain[0]
    extensions = [split_name(file.name)[1] for file in plain]
    remedy = "write the shard anew, each name once"
    if len(set(extensions)) == len(extensions):
        remedy = (
            f'pass hvs.open_source(..., image="{extensions[0]}") to take that file alone of every sample, or, if each is a sample of its '
            "own, write the shard anew with names that differ before their first dot"
        )
    raise SourceError(
        f"expected one image a sample, got {', '.join(file.name for file in plain[:4])} with the key {key!r} in the shard {shard}; {remedy}"
    )


def _label(window: Window, member: Member, extension: str) -> int:
    if member.offset == NOWHERE or member.size > MAX_LABEL_BYTES:
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
