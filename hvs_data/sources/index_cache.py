"""Indices of shards kept in files, so that a shard is walked once and not in every run.

A file holds, in this order: a line that names the form and its version; a line of JSON with the key and the number of samples; the
columns of the index as little-endian numbers; the text of the names; and SHA-256 of all that. Nothing in it is executed or unpickled,
and a file that is broken, of another version or of another key counts as none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.shard_index import ShardIndex

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# To be raised when what stands in the file, or how samples are found in a shard, changes.
VERSION = 2
FOLDER_VARIABLE = "HVS_DATA_CACHE"

_MAGIC = b"hvs_data shard index\n"
_DIGEST_BYTES = 32
# The two lines before the columns are shorter.
_MOST_ABOUT = 1024
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # Windows has no flags

logger = logging.getLogger("hvs_data")


def default_folder() -> str:
    """``$HVS_DATA_CACHE/shards``, else ``hvs_data/shards`` in the user's folder for caches. It begins with "~" where no such is known."""
    base = os.environ.get(FOLDER_VARIABLE)
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "hvs_data")
    return os.path.join(base, "shards")


class IndexCache:
    """Indices by key, shared by all processes that use the same folder.

    Args:
        folder: made on first use, and a leading "~" stands for the home folder. If it cannot be written, or the user has no home,
            indices are built for this process only, and a log line says so. What is written there others may read, as the umask has it.
    """

    def __init__(self, folder: str):
        self.folder = os.path.expanduser(folder)
        self._warned = threading.Event()

    def get(self, key: str, build: Callable[[], ShardIndex]) -> ShardIndex:
        """The index kept under a key; else the one that is built, which is kept. One process builds it while others wait.

        Args:
            key: hexadecimal digits.
            build: called at most once; what it raises is raised.
        """
        if self.folder.startswith("~"):
            self._warn("this user has no home folder")  # else a folder of that name would be made here
            return build()
        path = os.path.join(self.folder, f"{key}.index")
        index = load_index(path, key)
        if index is not None:
            return index
        with self._locked(path + ".lock"):
            index = load_index(path, key)  # another process may have built it in the meantime
            if index is None:
                index = build()
                self._save(path, key, index)
        return index

    def _save(self, path: str, key: str, index: ShardIndex) -> None:
        """Write beside the file and rename, so that nobody ever reads half of it."""
        try:
            os.makedirs(self.folder, exist_ok=True)
            part = f"{path}.{uuid.uuid4().hex}.part"
            with open(part, "xb") as file:  # not by tempfile, whose files nobody else may read
                try:
                    file.write(packed_index(key, index))
                    file.close()
                    os.replace(part, path)
                except BaseException:
                    os.unlink(part)
                    raise
        except OSError as error:
            self._warn(str(error))

    def _warn(self, reason: str) -> None:
        if not self._warned.is_set():
            self._warned.set()
            logger.warning(
                "indices of shards cannot be kept in %s: %s; they are built anew in every process; name another folder by %s or "
                "hvs.open_source(..., index_cache=FOLDER)",
                self.folder,
                reason,
                FOLDER_VARIABLE,
            )

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        """Keep other processes and threads from building the same index. Where files cannot be locked, work is done twice."""
        if fcntl is None:
            yield
            return
        descriptor = -1
        try:
            os.makedirs(self.folder, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            logger.debug("no lock on %s: %s", path, error)
        try:
            yield
        finally:
            if descriptor >= 0:
                # whoever waits for this lock looks for the index first, and so needs no file
                try:
                    os.unlink(path)
                except OSError:
                    pass
                os.close(descriptor)


def packed_index(key: str, index: ShardIndex) -> bytes:
    about = json.dumps({"version": VERSION, "key": key, "samples": len(index)}).encode() + b"\n"
    columns = (index.names.ends, index.offset_N, index.size_N, index.label_N)
    content = b"".join([_MAGIC, about, *(column.astype("<i8").tobytes() for column in columns), index.names.block])
    return content + hashlib.sha256(content).digest()


def load_index(path: str, key: str) -> ShardIndex | None:
    """The index in a file; None where there is none of this key and version, or a broken one."""
    try:
        with open(path, "rb", buffering=0) as file:
            # its own pages, given back as a whole once all indices are joined: small blocks of the heap would stay with the process
            content = mmap.mmap(-1, max(os.fstat(file.fileno()).st_size, 1), **_PRIVATE)
            size = file.readinto(content)
    except OSError:
        return None
    try:
        return _unpacked(memoryview(content)[:size], key)
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("the index %s is built anew, as the file is broken: %s", path, error)
        return None


def _unpacked(content: memoryview, key: str) -> ShardIndex | None:
    end = len(content) - _DIGEST_BYTES
    if hashlib.sha256(content[: max(end, 0)]).digest() != content[end:]:
        raise ValueError("its checksum does not fit")
    magic, about, _ = bytes(content[: min(end, _MOST_ABOUT)]).split(b"\n", 2)
    fields = json.loads(about)
    if magic + b"\n" != _MAGIC or fields["version"] != VERSION or fields["key"] != key:
        return None
    samples = int(fields["samples"])
    start = len(magic) + len(about) + 2
    columns = np.frombuffer(content[start:end], "<i8", 4 * samples).astype(np.int64, copy=False).reshape(4, samples)
    return ShardIndex(PackedStrings.of_bytes(content[start + columns.nbytes : end], columns[0]), *columns[1:])
