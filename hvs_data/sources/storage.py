"""Pieces of large files, on this machine or behind a URL, read by many threads at once."""

from __future__ import annotations

import errno
import glob
import os
import sys
from typing import Any, NamedTuple, Protocol

import torch

from hvs_data.errors import SourceError
from hvs_data.sources.regular import open_regular
from hvs_data.sources.retry import USUAL, Retries

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Files kept open at a time by one source. Reading from one more costs an open() more, and nothing else.
OPEN_FILES = 64
# Files kept mapped at a time, which takes addresses alone.
MAPPED_FILES = 1024
# Nor more than this share of what the process may have open, which others need too.
_SHARE_OF_LIMIT = 4
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)


class FileState(NamedTuple):
    """Size of a file in bytes, and a text that changes when its contents do; the text is empty where nothing is known."""

    size: int
    version: str


class Storage(Protocol):
    """Something that holds files.

    Attributes:
        block: bytes that are as cheap to read as a few of them.
        parallel: files that are worth being read at a time.
    """

    block: int
    parallel: int

    def find(self, pattern: str) -> list[str]:
        """Sorted paths of the files that a pattern with ``*``, ``?`` or ``[]`` fits; a path without these is itself, unchecked."""

    def state(self, path: str) -> FileState:
        """Raises OSError."""

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises OSError, or SourceError where the file is no longer, or never was, as long as that."""

    def view_at(self, path: str, offset: int, size: int) -> bytes | memoryview:
        """The same bytes where they lie, if the file can be mapped into memory; writing to them changes no file. Raises as ``read_at``."""


class LocalStorage:
    """Files by path. There is no shared position in a file, and no lock: threads, and processes after a fork, do not meet.

    A copy, or what is unpickled elsewhere, opens files of its own: the number of an open file means nothing there.

    Args:
        retries: how often and how patiently a read that failed is made again, which network drives need.
    """

    block = 2**14
    parallel = 8

    def __init__(self, retries: Retries = USUAL) -> None:
        self._retries = retries
        self._open: dict[str, _OpenFile] = {}
        self._mapped: dict[str, memoryview] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_mapped": {}}

    def find(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) and not os.path.exists(pattern) else [pattern]

    def state(self, path: str) -> FileState:
        status = os.stat(path)
        return FileState(status.st_size, str(status.st_mtime_ns))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        return self._retries.call(self._read_once, path, offset, size)

    def view_at(self, path: str, offset: int, size: int) -> bytes | memoryview:
        if not size:
            return b""
        try:
            mapped = self._mapped.get(path) or self._map(path)
            length = min(len(mapped), os.stat(path).st_size)  # as it was when it was mapped, and as it is now
        except (OSError, RuntimeError, UnicodeError):
            return self.read_at(path, offset, size)  # a file system without maps, too many of them, or a name that torch cannot take
        if offset + size > length:
            raise _cut(path, offset, size, max(0, length - offset))
        return mapped[offset : offset + size]

    def _map(self, path: str) -> memoryview:
        descriptor, size = open_regular(path)
        os.close(descriptor)
        # private to this process: pixels that are a view of it may be handed to what asks for memory that can be written. Of torch, since
        # Python's own keeps a file open for every map, as long as anybody has a view of it
        mapped = torch.from_file(path, shared=False, size=size, dtype=torch.uint8).numpy().data
        while len(self._mapped) >= MAPPED_FILES:
            # whoever has a view of the oldest one holds it
            self._mapped.pop(next(iter(self._mapped.copy()), path), None)
        self._mapped[path] = mapped
        return mapped

    def _read_once(self, path: str, offset: int, size: int) -> bytes:
        file = self._open.get(path) or self._opened(path)
        try:
            return self._read(file, path, offset, size)
        except OSError:
            self._open.pop(path, None)  # a network drive may have forgotten the file that was opened
            raise

    @staticmethod
    def _read(file: _OpenFile, path: str, offset: int, size: int) -> bytes:
        data = os.pread(file.descriptor, size, offset)
        while len(data) < size:
            more = os.pread(file.descriptor, size - len(data), offset + len(data))
            if not more:
                raise _cut(path, offset, size, len(data))
            data += more
        return data

    def _opened(self, path: str) -> _OpenFile:
        try:
            file = _OpenFile(path)
        except OSError as error:
            if error.errno not in _TOO_MANY_OPEN or not self._open:
                raise
            self._open.clear()  # what is kept open only spares time
            file = _OpenFile(path)
        while len(self._open) >= _most_open():
            # whoever reads from the oldest one at this moment holds it, and it is closed when nobody does any more
            self._open.pop(next(iter(self._open.copy()), path), None)
        self._open[path] = file
        return file


def _cut(path: str, offset: int, size: int, found: int) -> SourceError:
    return SourceError(f"expected {size} bytes at offset {offset} of {path}, got {found}: it was cut; restore it")


class _OpenFile:
    """A file descriptor that is closed when nothing refers to it. A copy opens the file anew, so that each closes its own."""

    def __init__(self, path: str):
        self.descriptor = -1
        self._path = path
        if not hasattr(os, "pread"):
            raise SourceError(
                f"expected a system on which threads read one file at different places (os.pread: Linux, macOS), got {sys.platform}; "
                "unpack the shards into a folder, or run in the Windows Subsystem for Linux"
            )
        self.descriptor = open_regular(path)[0]

    def __reduce__(self) -> tuple[type[_OpenFile], tuple[str]]:
        return _OpenFile, (self._path,)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _most_open() -> int:
    """Files that a source may keep open under the limit that holds now."""
    if resource is None:
        return OPEN_FILES
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if limit == resource.RLIM_INFINITY else max(1, min(OPEN_FILES, limit // _SHARE_OF_LIMIT))


def what_to_do(error: OSError) -> str:
    """The remedy for a file that cannot be opened."""
    if error.errno in _TOO_MANY_OPEN:
        return "raise the limit on open files (ulimit -n), or close some"
    return "check the path and whether it can be read from here"


def is_url(path: str) -> bool:
    return "://" in path


def without_query(path: str) -> str:
    """A URL without what follows its path, where signed ones have their keys; other paths unchanged."""
    return path.partition("?")[0] if is_url(path) else path


def shown(path: str) -> str:
    """A path as messages show it: without the keys and passwords that a URL may hold."""
    path = without_query(path)
    protocol, mark, rest = path.partition("://")
    user, at, host = rest.partition("/")[0].rpartition("@")
    return f"{protocol}://{rest[len(user) + len(at) :]}" if mark and at else path
