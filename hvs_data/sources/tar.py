"""Where the members of a tar archive lie: its headers are walked, its data are not touched and never written anywhere.

Formats: the old one of Unix V7, ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU's long names and large numbers. Source: POSIX.1-2017,
"pax", extended description; GNU tar 1.35 manual, "Basic Tar Format".

Archives that were put behind one another (``cat a.tar b.tar``) are walked as one, as by ``tar --ignore-zeros``.
"""

from __future__ import annotations

import os
import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
# Archives are written in records of so many bytes; what follows the end mark in the last one is undefined. Source: POSIX.1-2017, "pax".
RECORD = 20 * BLOCK
# Long names and extended headers are short; a header that claims more is broken, or meant to fill memory.
MAX_EXTENSION_BYTES = 2**20

_FILES = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever their size field says
_LINKS = (b"1", b"2")
_SYMBOLIC_LINK = b"2"
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
_OCTAL = re.compile(rb"[0-7]*")
_DECIMAL = re.compile(rb"\d{1,19}")
# In place of the offset and the size of a link to what is not in the archive.
NOWHERE = -1
# Links that lead to links.
_MOST_LINKS = 8
NO_END_MARK = "has no end mark: if it was cut between two members, those behind are missing"


class Member(NamedTuple):
    """A file in an archive: its name as it stands there, where its data begin, and how many bytes they are.

    A link is the file that it leads to, under its own name; both numbers are ``NOWHERE`` where that is not in the archive.
    """

    name: str
    offset: int
    size: int


class TarError(Exception):
    """An archive that cannot be walked any further.

    Attributes:
        offset: of the header, in bytes, where this was found.
        reason: what is wrong there.
    """

    def __init__(self, offset: int, reason: str):
        super().__init__(f"{reason} (offset {offset})")
        self.offset = offset
        self.reason = reason


class Window:
    """Bytes of a file, read in blocks: short pieces that lie close to each other cost one read.

    Args:
        read_at: (offset, size) -> that many bytes.
        size: of the file.
        block: bytes that are read at least, where there are as many.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int, block: int):
        self.size = size
        self._read_at = read_at
        self._block = block
        self._start, self._data = 0, b""

    def bytes(self, offset: int, size: int) -> bytes:
        """The bytes from an offset on; fewer at the end of the file."""
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        first = offset - self._start
        if first < 0 or first + size > len(self._data):
            self._data = self._read_at(offset, min(max(size, self._block), self.size - offset))
            self._start, first = offset, 0
        return self._data[first : first + size]


def members(window: Window, remarks: list[str] | None = None) -> Iterator[Member]:
    """The regular files of an archive, in its order, then its links to such files. Folders, devices and the like are passed over.

    Args:
        window: on the archive.
        remarks: takes what is odd and no damage.

    Raises:
        TarError: no tar archive, a broken header, a file that is stored in parts (sparse) or reaches past the end, or something behind
            the end mark that is no archive.
    """
    links: dict[bytes, bytes] = {}
    damage: TarError | None = None
    try:
        for entry in _entries(window, [] if remarks is None else remarks):
            if entry.is_file:
                yield Member(os.fsdecode(entry.name), entry.offset, entry.size)
            elif entry.kind in _LINKS:
                # a symbolic link is meant from its own folder on, a hard one from the archive's root
                folder = posixpath.dirname(entry.name) if entry.kind == _SYMBOLIC_LINK else b""
                links[entry.name] = posixpath.join(folder, entry.link)
    except TarError as error:
        damage = error
    if links:
        yield from _linked(window, links)
    if damage:
        raise damage


def _linked(window: Window, links: dict[bytes, bytes]) -> Iterator[Member]:
    """What links lead to. The archive is walked again for it: to remember all files for the few links that there are takes memory."""
    onward = {posixpath.normpath(name): posixpath.normpath(target) for name, target in links.items()}
    wanted = set(onward.values())
    places: dict[bytes, tuple[int, int]] = {}
    try:
        for entry in _entries(window, []):
            if entry.is_file and (name := posixpath.normpath(entry.name)) in wanted:
                places[name] = entry.offset, entry.size
    except TarError:
        pass  # the first walk says so
    for name in links:
        target = posixpath.normpath(name)
        for _ in range(_MOST_LINKS):
            target = onward.get(target, target)
        yield Member(os.fsdecode(name), *places.get(target, (NOWHERE, NOWHERE)))


class _Entry(NamedTuple):
    kind: bytes
    name: bytes
    link: bytes
    offset: int
    size: int

    @property
    def is_file(self) -> bool:
        return self.kind in _FILES and not self.name.endswith(b"/")


def _entries(window: Window, remarks: list[str]) -> Iterator[_Entry]:
    """All members, what extended headers say of them included, up to the end of the file."""
    start = offset = 0  # of the archive, where several follow one another, and of a header
    override: dict[str, bytes] = {}  # what an extended header says of the next member
    if window.size == 0:
        raise TarError(0, "an empty file")
    while offset < window.size:
        header = window.bytes(offset, BLOCK)
        if len(header) < BLOCK:
            raise TarError(offset, f"cut off within a header: {len(header)} of {BLOCK} bytes")
        if header.count(0) == BLOCK and not override:
            start = offset = _next_archive(window, start, offset)
            continue
        _check(header, offset)
        kind = header[156:157]
        size = _number(header[124:136], "size", offset)
        data = offset + BLOCK
        if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
            if size > MAX_EXTENSION_BYTES:
                raise TarError(offset, f"an extended header of {size} bytes, more than {MAX_EXTENSION_BYTES}")
            _check_end(data + size, window.size, offset, "an extended header")
            if kind == _PAX:
                override.update(_pax_records(window.bytes(data, size), offset))
            elif kind in (_GNU_NAME, _GNU_LINK):
                override["path" if kind == _GNU_NAME else "linkpath"] = window.bytes(data, size).partition(b"\0")[0]
        else:
            if "size" in override:
                size = _decimal(override["size"], offset)
            if kind == _GNU_SPARSE or any(key.startswith("GNU.sparse.") for key in override):
                raise TarError(offset, "a sparse file, which is stored in parts")
            name = override.get("path") or _name(header)
            link = override.get("linkpath") or header[157:257].partition(b"\0")[0]
            override = {}
            if kind in _WITHOUT_DATA:
                size = 0
            _check_end(data + size, window.size, offset, repr(os.fsdecode(name)))
            yield _Entry(kind, name, link, data, size)
        end = data + -(-size // BLOCK) * BLOCK
        _check_end(end, window.size, offset, "what fills the last block of a member")
        offset = end
    if override:
        raise TarError(window.size, "cut off behind an extended header")
    if header.count(0) < BLOCK:
        remarks.append(NO_END_MARK)


def _next_archive(window: Window, start: int, offset: int) -> int:
    """Where the next archive begins behind an end mark, or the size of the file.

    Raises:
        TarError: behind the end mark's record there is something, and it is no archive.
    """
    record_end = start + -(-(offset + 1 - start) // RECORD) * RECORD
    while offset + BLOCK <= window.size:
        block = window.bytes(offset, BLOCK)
        if block.count(0) < BLOCK:
            if _is_header(block):
                return offset
            if offset >= record_end:
                raise TarError(offset, "something behind the end of the archive that is no archive, or the broken header of one")
        offset += BLOCK
    return window.size  # less than a block holds no archive


def _is_header(block: bytes) -> bool:
    if block[257:262] == b"ustar":
        return True  # a broken one is told
    try:
        _check(block, 0)
    except TarError:
        return False
    return True


def _check(header: bytes, offset: int) -> None:
    """Compare the header with the sum of its bytes that stands in it, counted with blanks in its place."""
    stated = _number(header[148:156], "checksum", offset)
    # Adler-32's lower half is one more than that sum, modulo 65521: a single call in place of 512 additions
    found = zlib.adler32(header[156:], zlib.adler32(b"        ", zlib.adler32(header[:148]))) & 0xFFFF
    if found != (stated + 1) % 65521 and stated != _signed_sum(header):
        raise TarError(offset, "no tar header, or a broken one (its checksum does not fit)")


def _signed_sum(header: bytes) -> int:
    """As some old writers count it, bytes from 128 on as negative ones."""
    counted = header[:148] + b"        " + header[156:]
    return sum(counted) - 256 * sum(byte >= 128 for byte in counted)


def _number(field: bytes, what: str, offset: int) -> int:
    """A number in octal digits, or in GNU's form for large ones: a first byte of 128, and the number in binary."""
    if field[0] == 128:
        number = int.from_bytes(field[1:], "big")
    else:
        digits = field.partition(b"\0")[0].strip(b" ")
        if not _OCTAL.fullmatch(digits):
            raise TarError(offset, f"no tar header, or a broken one (the {what} field holds {field!r})")
        number = int(digits or b"0", 8)
    if number >= 2**63:
        raise TarError(offset, f"a {what} of {number}")
    return number


def _decimal(digits: bytes, offset: int) -> int:
    if not _DECIMAL.fullmatch(digits) or int(digits) >= 2**63:
        raise TarError(offset, f"an extended header with size={digits[:40]!r}")
    return int(digits)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    # GNU's own format, whose mark is another one, keeps times where ustar has the first part of a long name
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _pax_records(data: bytes, offset: int) -> Iterator[tuple[str, bytes]]:
    """The records ``LENGTH KEYWORD=VALUE`` of an extended header."""
    start = 0
    while start < len(data) and data[start]:
        digits, blank, _ = data[start : start + 20].partition(b" ")
        length = int(digits) if blank and _DECIMAL.fullmatch(digits) else 0
        record = data[start + len(digits) + 1 : start + length]
        keyword, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n" or start + length > len(data):
            raise TarError(offset, f"a broken extended header (a record that begins with {data[start : start + 20]!r})")
        yield keyword.decode("utf-8", "replace"), value
        start += length


def _check_end(end: int, size: int, offset: int, what: str) -> None:
    if end > size:
        raise TarError(offset, f"cut off within {what}, which would end at {end} of {size} bytes")
