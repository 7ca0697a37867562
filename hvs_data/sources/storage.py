"""Pieces of large files, on this machine or behind a URL, read by many threads at once."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from hvs_data.errors import HvsError, MissingDependencyError, SourceError
from hvs_data.sources.retry import USUAL, Retries

T = TypeVar("T")

# Files kept open at a time by one source. Reading from one more costs an open() more, and nothing else.
OPEN_FILES = 64
# Seconds that one attempt at a remote read may take, where the file system can be told to stop.
REMOTE_TIMEOUT = 60.0

# What object stores and servers call the version of a file.
_VERSION_KEYS = ("etag", "versionid", "version_id", "generation", "md5hash", "contentmd5", "lastmodified", "mtime", "updated", "created")


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


# --- this machine ------------------------------------------------------------------------------------------------------


class LocalStorage:
    """Files by path. There is no shared position in a file, and no lock: threads, and processes after a fork, do not meet.

    Args:
        retries: how often and how patiently a read that failed is made again, which network drives need.
    """

    block = 2**14
    parallel = 8

    def __init__(self, retries: Retries = USUAL) -> None:
        self._retries = retries
        self._open: dict[str, _OpenFile] = {}

    def find(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) and not os.path.exists(pattern) else [pattern]

    def state(self, path: str) -> FileState:
        status = os.stat(path)
        return FileState(status.st_size, str(status.st_mtime_ns))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        return self._retries.call(self._read_once, path, offset, size)

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
                raise SourceError(f"expected {size} bytes at offset {offset} of {path}, got {len(data)}: it was cut; restore it")
            data += more
        return data

    def _opened(self, path: str) -> _OpenFile:
        file = _OpenFile(path)
        if len(self._open) >= OPEN_FILES:
            # whoever reads from the oldest one at this moment holds it, and it is closed when nobody does any more
            self._open.pop(next(iter(self._open.copy()), path), None)
        self._open[path] = file
        return file


class _OpenFile:
    """A file descriptor that is closed when nothing refers to it."""

    def __init__(self, path: str):
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


# --- behind a URL ------------------------------------------------------------------------------------------------------


class RemoteStorage:
    """Files of one fsspec file system, read by range; failures that may pass are tried again.

    Args:
        url: of any file in it.
        options: of the file system, such as keys.
        retries: how often and how patiently.
        timeout: seconds of one attempt, for file systems that are asynchronous inside (http, s3, gcs, abfs).

    Raises:
        MissingDependencyError: fsspec, or the package that it needs for this protocol, is not installed.
        SourceError: an unknown protocol, or options that it does not take.
    """

    block = 2**22
    parallel = 16

    def __init__(
        self, url: str, options: Mapping[str, Any] | None = None, retries: Retries = USUAL, timeout: float = REMOTE_TIMEOUT
    ):
        self._url = url
        self._options = dict(options or {})
        self._retries = retries
        self._timeout = timeout
        self._connected: tuple[int, Any] = (-1, None)
        self._filesystem()

    def find(self, pattern: str) -> list[str]:
        # in a web address "?" begins the query
        magic = "*" if pattern.startswith(("http://", "https://")) else "*?["
        if not any(character in pattern for character in magic):
            return [pattern]
        return sorted(self._ask("glob", pattern))

    def state(self, path: str) -> FileState:
        about = self._ask("info", path)
        if about.get("size") is None:
            raise SourceError(f"expected a server that tells the size of a file, got none for {shown(path)}; use another server or download it")
        known = {key.lower().replace("-", ""): value for key, value in about.items()}
        return FileState(int(about["size"]), next((f"{key}={known[key]}" for key in _VERSION_KEYS if known.get(key)), ""))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        return self._retries.call(self._read_once, path, offset, size) if size else b""

    def _read_once(self, path: str, offset: int, size: int) -> bytes:
        data = self._ask_once("cat_file", path, start=offset, end=offset + size)
        if len(data) > size:
            raise SourceError(
                f"expected {size} bytes at offset {offset} of {shown(path)}, got {len(data)}: the server does not answer range requests; use "
                "another server or download the file"
            )
        if len(data) < size:
            raise OSError(f"expected {size} bytes at offset {offset} of {shown(path)}, got {len(data)}")
        return data

    def _ask(self, method: str, path: str) -> Any:
        return self._retries.call(self._ask_once, method, path)

    def _ask_once(self, method: str, path: str, **arguments: Any) -> Any:
        """One call of the file system's method; whatever goes wrong is an OSError, as from a file."""
        filesystem = self._filesystem()
        try:
            if filesystem.async_impl:
                from fsspec.asyn import sync

                return sync(filesystem.loop, getattr(filesystem, f"_{method}"), path, timeout=self._timeout, **arguments)
            return getattr(filesystem, method)(path, **arguments)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{shown(path)} does not exist") from error
        except TimeoutError as error:
            raise TimeoutError(f"no answer in time for {shown(path)}") from error
        except (OSError, HvsError):
            raise
        except Exception as error:
            # clients have their own kinds: aiohttp's and botocore's are no OSErrors
            status = getattr(error, "status", None)
            kind = PermissionError if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429) else OSError
            raise kind(f"cannot read {shown(path)}: {type(error).__name__}: {without_query(str(error))}") from error

    def _filesystem(self) -> Any:
        """The file system, made anew in a process that was forked: its thread stayed behind."""
        process, filesystem = self._connected
        if process != os.getpid():
            filesystem = connect(self._url, self._options)[0]
            self._connected = (os.getpid(), filesystem)
        return filesystem


def connect(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL as that file system has it; errors as :class:`RemoteStorage`."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError("fsspec", "shards", f"reading {shown(url)}") from error
    try:
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise MissingDependencyError(_package_of(url), "shards", f"reading {shown(url)} ({error})") from error
    except (ValueError, TypeError) as error:
        raise SourceError(f"cannot open {shown(url)}: {error}; check the protocol and storage_options") from error


def _package_of(url: str) -> str:
    return {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hf": "huggingface_hub"}.get(
        url.partition("://")[0], "aiohttp"
    )


# --- both --------------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A file in its storage, and a name for it that does not depend on where all of a source's files lie."""

    storage: Storage
    path: str
    name: str

    def read_at(self, offset: int, size: int) -> bytes:
        return self.storage.read_at(self.path, offset, size)

    def state(self) -> FileState:
        return self.storage.state(self.path)


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
