"""Opening and reading regular files, and nothing that is none: a pipe is waited on for ever, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat

from hvs_data.errors import SourceError

# No image below the default pixel limit needs more, at 16 bits and uncompressed; it keeps a mislabelled archive out of memory.
MAX_FILE_BYTES = 2**30

# Without blocking, which means nothing for regular files: a pipe would wait here for somebody to write. Windows knows no such thing, and
# has to be told that files hold bytes.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor of a regular file, behind any links, and its size in bytes.

    Raises:
        OSError: it cannot be opened, or is a folder.
        SourceError: anything else that is no regular file, or a path that holds a NUL.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:
        raise SourceError(f"cannot open {path!r}: {error}; correct the path") from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise SourceError(f"expected a regular file, got {kind} in {path}; remove it")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def read_file(path: str) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: the file cannot be read, or is a folder.
        SourceError: it is larger than ``MAX_FILE_BYTES`` or grows past that, is no regular file, or the path holds a NUL.
    """
    descriptor, size = open_regular(path)
    with open(descriptor, "rb", buffering=0) as file:
        if size > MAX_FILE_BYTES:
            raise SourceError(f"expected an image file of at most {MAX_FILE_BYTES} bytes, got {size} in {path}; remove it")
        parts: list[bytes] = []
        # a file that is being written may grow meanwhile, and some of the kernel's say that they are empty
        left = MAX_FILE_BYTES + 1
        while left and (part := file.read(min(left, 2**16 if parts else size + 1))):
            parts.append(part)
            left -= len(part)
        if not left:
            raise SourceError(f"expected an image file of at most {MAX_FILE_BYTES} bytes, got more from {path}, which grows; remove it")
    return parts[0] if len(parts) == 1 else b"".join(parts)
