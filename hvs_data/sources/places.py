"""From paths, URLs and patterns to files in their storages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from hvs_data.errors import SourceError
from hvs_data.sources.remote import RemoteStorage, connect
from hvs_data.sources.retry import USUAL, Retries
from hvs_data.sources.storage import FileState, LocalStorage, Storage, is_url, shown

T = TypeVar("T")


class Place(NamedTuple):
    """A file in its storage, and a name for it that does not depend on where all of a source's files lie."""

    storage: Storage
    path: str
    name: str

    def read_at(self, offset: int, size: int) -> bytes:
        return self.storage.read_at(self.path, offset, size)

    def view_at(self, offset: int, size: int) -> bytes | memoryview:
        return self.storage.view_at(self.path, offset, size)

    def state(self) -> FileState:
        return self.storage.state(self.path)


def places(patterns: Sequence[str], options: Mapping[str, Any] | None, retries: Retries = USUAL) -> list[Place]:
    """The files that paths, URLs and patterns of both (braces expanded already) stand for, in their order.

    Raises:
        SourceError: a pattern that fits no file, or a URL that cannot be used.
        OSError: a listing fails.
    """
    local = LocalStorage(retries)
    remote: dict[int, tuple[Any, RemoteStorage]] = {}
    found: list[tuple[Storage, str]] = []
    for pattern in patterns:
        storage: Storage = local
        path = pattern.removeprefix("file://")
        if is_url(path):
            filesystem, path = connect(path, options or {})
            if id(filesystem) not in remote:
                remote[id(filesystem)] = (filesystem, RemoteStorage(pattern, options, retries))
            storage = remote[id(filesystem)][1]
        else:
            path = os.path.abspath(os.path.expanduser(path))
        paths = storage.find(path)
        if not paths:
            raise SourceError(f"expected files that fit {shown(pattern)!r}, got none; check the path and the pattern")
        found += [(storage, path) for path in paths]
    names = _names([shown(path) for _, path in found])
    return [Place(storage, path, name) for (storage, path), name in zip(found, names, strict=True)]


def _names(paths: Sequence[str]) -> list[str]:
    """The paths from the last folder on that holds all of them."""
    common = os.path.commonprefix([path.rpartition("/")[0] + "/" for path in paths])
    start = common.rfind("/") + 1
    return [path[start:] for path in paths]


def each(function: Callable[[Place], T], files: Sequence[Place]) -> list[T]:
    """What the function returns for every file, in their order, several at a time.

    Where several processes begin with the same files at once, each starts at another one, so that they share what is cached.
    """
    from concurrent.futures import ThreadPoolExecutor

    threads = min(len(files), max(place.storage.parallel for place in files))
    first = os.getpid() * 2654435761 % len(files)  # Knuth's multiplier: neighbouring numbers land far apart
    with ThreadPoolExecutor(threads, thread_name_prefix="hvs-open") as pool:
        futures = {number % len(files): pool.submit(function, files[number % len(files)]) for number in range(first, first + len(files))}
        try:
            return [futures[number].result() for number in range(len(files))]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
