"""A tar shard as it is written: the same bytes for the same images, whoever writes them and when."""

from __future__ import annotations

import os
import tarfile
from contextlib import suppress
from types import TracebackType
from typing import Any

from hvs_data.packing.images import Stored
from hvs_data.sources.folder import EXTENSIONS
from hvs_data.sources.index_beside import save_beside
from hvs_data.sources.shard_index import Choice
from hvs_data.sources.tar import BLOCK, RECORD

_IMAGES = (*EXTENSIONS, ".npy", ".dcm")
HALF = ".half"  # ending of what is not complete


class ShardWriter:
    """One shard; use it in a ``with`` statement, at whose end the file stands complete, or is gone.

    Args:
        path: of the file.
        extension: of the images.
        choice: for which its index is written beside it.

    Attributes:
        images, given: how many are written, and their bytes in the source.
        size: bytes of the members.
    """

    def __init__(self, path: str, extension: str, choice: Choice):
        self.images = self.given = self.size = 0
        self._path, self._extension, self._choice = path, extension, choice
        self._taken: set[str] = set()

    def __enter__(self) -> ShardWriter:
        self._file = open(self._path + HALF, "wb")
        return self

    def takes(self, image: Stored, limit: int) -> bool:
        """Whether an image fits in a shard of so many bytes; a shard takes one in any case."""
        # headers, the label, a long name that is written once more beside each of both, what fills blocks, the end mark
        around = 8 * BLOCK + 4 * len(os.fsencode(image.name)) + RECORD
        return not self.images or self.size + image.nbytes + around <= limit

    def add(self, image: Stored, index: int) -> None:
        """Write an image, and its label beside it.

        Args:
            index: in its source, which makes its name one of a kind where it is not.
        """
        key = key_of(image.name, index, self._taken)
        self._taken.add(key)
        self._member(f"{key}.{self._extension}", image.head, image.body)
        if image.label != -1:
            self._member(f"{key}.cls", b"", str(image.label).encode())
        self.images += 1
        self.given += image.given

    def _member(self, name: str, head: bytes, body: Any) -> None:
        header = tarfile.TarInfo(name)  # mode 644, no owner, and no time
        header.size = len(head) + len(body)
        data = header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + head
        self._file.write(data)
        self._file.write(body)
        rest = -header.size % BLOCK
        self._file.write(bytes(rest))
        self.size += len(data) + len(body) + rest

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            # on a full disk closing fails as well; a file that is complete is on the disk by now
            with suppress(OSError):
                self._file.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path + HALF)

    def _complete(self) -> None:
        self._file.write(bytes(-(self.size + 2 * BLOCK) % RECORD + 2 * BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())  # else a machine that goes down may leave a name without its bytes
        save_beside(self._path, self._path + HALF, self._choice)
        os.replace(self._path + HALF, self._path)


def key_of(name: str, index: int, taken: set[str]) -> str:
    """The name of an image's members up to their first dot: its name in the source, as far as WebDataset's layout lets it be.

    Args:
        taken: keys that others of the shard have.
    """
    folder, _, file = name.replace("\\", "/").rpartition("/")
    stem, extension = os.path.splitext(file)
    if extension.lower() not in _IMAGES:
        stem = file
    parts = [part for part in folder.split("/") if part not in ("", ".", "..")]
    key = "/".join([*parts, stem.replace(".", "_") or str(index)])
    while key in taken:
        key += f"_{index}"
    return key
