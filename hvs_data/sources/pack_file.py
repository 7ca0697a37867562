"""The file ``pack.json`` in a folder of packed shards: what is in them, how they were made, and how far that has come."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from hvs_data.errors import SourceError

NAME = "pack.json"
VERSION = 1


@dataclass(frozen=True)
class PackedShard:
    """A shard that is complete.

    Attributes:
        name: of its file.
        images: in it.
        bytes: of the file.
        given: bytes of its images as the source gave them.
        stop: index in the source behind its last image.
    """

    name: str
    images: int
    bytes: int
    given: int
    stop: int


@dataclass
class PackFile:
    """All that is known of a packing. Two of the same source with the same settings are equal, whatever happened on the way.

    Attributes:
        settings: of the packing, and the fingerprint of its source.
        image: extension of the images in the shards that has to be named when they are opened; None for a usual one.
        classes: names of the labels.
        shards: that are complete.
        bad: index in the source, and reason, of images that are left out.
        remarks: what was done how often, such as re-encoding, by its name.
        complete: whether all images are in the shards.
    """

    settings: dict[str, Any]
    image: str | None = None
    classes: tuple[str, ...] = ()
    shards: list[PackedShard] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    remarks: dict[str, int] = field(default_factory=dict)
    complete: bool = False

    @property
    def stop(self) -> int:
        """Index in the source of the first image that is in no shard yet."""
        return self.shards[-1].stop if self.shards else 0

    def text(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"


def load(folder: str) -> PackFile | None:
    """What the file in a folder says; None where there is none.

    Raises:
        SourceError: another version, or a broken file.
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        if told.pop("version") != VERSION:
            raise SourceError(f"expected version {VERSION} of {path}, got another one; pack anew, or open the shards by their pattern")
        shards = [PackedShard(**shard) for shard in told.pop("shards")]
        bad = [(int(index), str(reason)) for index, reason in told.pop("bad")]
        return PackFile(classes=tuple(map(str, told.pop("classes"))), shards=shards, bad=bad, **told)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"expected what hvs-data pack wrote in {path}, got {error!r}; open the shards by their pattern") from error


def load_complete(folder: str) -> PackFile | None:
    """As :func:`load`, of a packing that has come to its end.

    Raises:
        SourceError: one that has not, besides.
    """
    packing = load(folder)
    if packing is not None and not packing.complete:
        raise SourceError(
            f"expected packed shards that are complete in {folder}, got the first {len(packing.shards)}; run the same hvs-data pack again, "
            "which goes on with them"
        )
    return packing
