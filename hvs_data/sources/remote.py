"""Pieces of files behind URLs, through fsspec."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from hvs_data.errors import HvsError, MissingDependencyError, SourceError
from hvs_data.sources.retry import USUAL, Retries
from hvs_data.sources.storage import FileState, shown, without_query
from hvs_data.threads.exclusive import after_fork

# Seconds that one attempt at a read may take, where the file system can be told to stop.
REMOTE_TIMEOUT = 60.0

# What object stores and servers call the version of a file.
_VERSION_KEYS = ("etag", "versionid", "version_id", "generation", "md5hash", "contentmd5", "lastmodified", "mtime", "updated", "created")


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

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, retries: Retries = USUAL, timeout: float = REMOTE_TIMEOUT):
        self._url = url
        self._options = dict(options or {})
        self._retries = retries
        self._timeout = timeout
        self._connected: tuple[int, Any] = (-1, None)
        self._filesystem()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connected": (-1, None)}  # its thread and sockets stay here

    def find(self, pattern: str) -> list[str]:
        # in a web address "?" begins the query
        magic = "*" if pattern.startswith(("http://", "https://")) else "*?["
        if not any(character in pattern for character in magic):
            return [pattern]
        return sorted(self._ask("glob", pattern))

    def state(self, path: str) -> FileState:
        about = self._ask("info", path)
        if about.get("size") is None:
            raise SourceError(
                f"expected a server that tells the size of a file, got none for {shown(path)}; use another server or download it"
            )
        known = {key.lower().replace("-", ""): value for key, value in about.items()}
        return FileState(int(about["size"]), next((f"{key}={known[key]}" for key in _VERSION_KEYS if known.get(key)), ""))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        return self._retries.call(self._read_once, path, offset, size) if size else b""

    view_at = read_at

    def _read_once(self, path: str, offset: int, size: int) -> bytes:
        data = self._ask_once("cat_file", path, start=offset, end=offset + size)
        if len(data) > size:
            raise SourceError(
                f"expected {size} bytes at offset {offset} of {shown(path)}, got {len(data)}: the server does not answer range requests; "
                "use another server or download the file"
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


def _leave_thread_behind() -> None:
    """In a process that was forked: fsspec is to start its thread anew; versions before 2025.5 wait for the parent's, for ever."""
    asynchronous = sys.modules.get("fsspec.asyn")
    if asynchronous is not None:
        asynchronous.reset_lock()


after_fork(_leave_thread_behind)


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
