"""Walking tar archives: every format that Python's tarfile writes, GNU tar's where it is installed, and broken ones."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvs_data.sources import tar
from hvs_data.sources.tar import BLOCK, MAX_EXTENSION_BYTES, NO_END_MARK, NOWHERE, RECORD, Member, TarError, Window, members
from source_contract import add

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def window(data: bytes, block: int = 700) -> Window:
    return Window(lambda offset, size: data[offset : offset + size], len(data), block)


def archive(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in files.items():
            add(tar, name, data, **fields)
    return buffer.getvalue()


def walked(data: bytes, block: int = 700) -> dict[str, bytes | None]:
    """Contents by name; None for a link to nothing."""
    return {name: None if offset == NOWHERE else data[offset : offset + size] for name, offset, size in members(window(data, block))}


FILES = {
    "a.jpg": b"x" * 700,
    "empty.cls": b"",
    "block.bin": b"y" * BLOCK,
    "folder/" * 12 + "deep.jpg": b"deep",
    "naïve café.png": b"utf-8",
}


@pytest.mark.parametrize("block", [1, 512, 10_000])
@pytest.mark.parametrize("format", FORMATS)
def test_members_are_found(format: str, block: int) -> None:
    files = FILES if format == "ustar" else {**FILES, "n" * 300 + ".jpg": b"long", "é" * 150: b"long and not ASCII"}
    assert walked(archive(files, FORMATS[format]), block) == files


@pytest.mark.parametrize("format", FORMATS)
@given(
    files=st.dictionaries(st.text("ab/é.", min_size=1, max_size=140).filter(lambda name: not name.endswith("/")), st.binary(max_size=1200))
)
def test_members_are_those_that_tarfile_finds(format: str, files: dict[str, bytes]) -> None:
    try:
        data = archive(files, FORMATS[format])
    except ValueError:
        return  # ustar cannot hold every name
    with tarfile.open(fileobj=io.BytesIO(data)) as reference:
        expected = [Member(entry.name, entry.offset_data, entry.size) for entry in reference if entry.isreg()]
    # tarfile drops slashes at the end of a name, and an old header's at the beginning are kept by both
    assert list(members(window(data))) == expected


def test_other_members_are_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "1.jpg", b"one")
        for kind in (tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo(f"other-{kind!r}")
            entry.type, entry.linkname = kind, "1.jpg"
            archive.addfile(entry)
        add(archive, "2.jpg", b"two")
        add(archive, "contiguous.jpg", b"three", type=tarfile.CONTTYPE)
    assert walked(buffer.getvalue()) == {"1.jpg": b"one", "2.jpg": b"two", "contiguous.jpg": b"three"}


def links(format: int, targets: dict[str, tuple[bytes, str]]) -> bytes:
    """Two files, and links by name: their kind, and where they lead."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        add(tar, "a/1.jpg", b"one")
        for name, (kind, target) in targets.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        add(tar, "b/" * 70 + "2.jpg", b"two")
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["GNU", "pax"])
def test_a_link_is_the_file_that_it_leads_to(format: str) -> None:
    """What was linked when the archive was made is stored once: the other names are links, which were passed over."""
    far = "b/" * 70 + "2.jpg"
    found = walked(
        links(
            FORMATS[format],
            {
                "hard.jpg": (tarfile.LNKTYPE, "a/1.jpg"),
                "hard, elsewhere.jpg": (tarfile.LNKTYPE, "./a/1.jpg"),
                "a/symbolic.jpg": (tarfile.SYMTYPE, "1.jpg"),
                "c/symbolic.jpg": (tarfile.SYMTYPE, "../a/1.jpg"),
                "to what comes later.jpg": (tarfile.SYMTYPE, far),
                "to a link.jpg": (tarfile.LNKTYPE, "c/symbolic.jpg"),
                "to nothing.jpg": (tarfile.SYMTYPE, "/etc/passwd"),
                "to itself.jpg": (tarfile.SYMTYPE, "to itself.jpg"),
            },
        )
    )
    assert found.pop("a/1.jpg") == b"one" and found.pop(far) == b"two"
    assert found == {
        "hard.jpg": b"one",
        "hard, elsewhere.jpg": b"one",
        "a/symbolic.jpg": b"one",
        "c/symbolic.jpg": b"one",
        "to what comes later.jpg": b"two",
        "to a link.jpg": b"one",
        "to nothing.jpg": None,
        "to itself.jpg": None,
    }


def test_extended_headers_say_the_size_and_long_links_say_nothing() -> None:
    large = archive({"a.jpg": b"z" * 900}, pax_headers={"size": "900", "comment": "=\n="})
    assert walked(large) == {"a.jpg": b"z" * 900}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 400
        tar.addfile(link)
        add(tar, "b.jpg", b"after")
    assert walked(buffer.getvalue()) == {"b.jpg": b"after", "link": None}


def test_a_global_header_is_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "all of it"}) as tar:
        add(tar, "a.jpg", b"a")
    assert walked(buffer.getvalue()) == {"a.jpg": b"a"}


def test_numbers_in_binary() -> None:
    assert tar._number(tarfile.itn(2**40, 12, tarfile.GNU_FORMAT), "size", 0) == 2**40
    data = archive({"a.jpg": b"abc"}, tarfile.GNU_FORMAT)
    header = bytearray(data[:BLOCK])
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")
    assert walked(with_checksum(header) + data[BLOCK:]) == {"a.jpg": b"abc"}


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_checksums_of_old_writers_count_signed_bytes() -> None:
    data = archive({"é.jpg": b"abc"}, tarfile.GNU_FORMAT)
    header = bytearray(data[:BLOCK])
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(byte - 256 * (byte > 127) for byte in header)
    assert walked(bytes(header) + data[BLOCK:]) == {"é.jpg": b"abc"}


def test_a_checksum_past_the_modulus_is_checked_right() -> None:
    # bytes of 255 sum to more than 65521, the modulus of Adler-32
    header = bytearray(archive({"a.jpg": b"abc"}, tarfile.GNU_FORMAT)[:BLOCK])
    header[157:257] = b"\xff" * 100
    header[265:500] = b"\xff" * 235
    whole = with_checksum(header)
    assert sum(whole) > 65521
    assert list(members(window(whole + b"abc" + b"\0" * 509))) == [Member("a.jpg", BLOCK, 3)]


def test_an_archive_ends_at_its_mark_or_with_the_file() -> None:
    data = archive({"a.jpg": b"abc"})
    assert walked(data + b"anything at all") == {"a.jpg": b"abc"}  # less than a header
    assert walked(data + bytes(3 * RECORD)) == {"a.jpg": b"abc"}
    # what fills the last record is undefined
    assert walked(data[: 4 * BLOCK] + b"\x55" * (RECORD - 4 * BLOCK)) == {"a.jpg": b"abc"}
    remarks: list[str] = []
    assert len(list(members(window(data), remarks))) == 1 and not remarks
    assert len(list(members(window(data[: 2 * BLOCK]), remarks))) == 1 and remarks == [NO_END_MARK]


@pytest.mark.parametrize("between", [0, 1, 7, RECORD // BLOCK], ids=lambda blocks: f"{blocks} blocks of zeros between")
@pytest.mark.parametrize("first", FORMATS)
def test_archives_behind_one_another_are_one(first: str, between: int) -> None:
    """`cat a.tar b.tar`: the walk ended at the first end mark, and what stands behind it was lost."""
    parts = archive({"a.jpg": b"abc"}, FORMATS[first]), archive({"b.jpg": b"d" * 700}), archive({"c" * 150: b"e"}, tarfile.GNU_FORMAT)
    whole = bytes(between * BLOCK).join(parts)
    assert walked(whole) == {"a.jpg": b"abc", "b.jpg": b"d" * 700, "c" * 150: b"e"}


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs a tar command")
@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_archives_of_the_tar_command(format: str, tmp_path: Path) -> None:
    files = {"a.jpg": b"a" * 600, "sub/b.jpg": b"b"} | ({} if format == "v7" else {"sub/" * 20 + "c.jpg": b"c"})
    if format in ("oldgnu", "gnu", "posix"):
        files["d" * 200 + ".jpg"] = b"d"
    for name, data in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    os.symlink("a.jpg", tmp_path / "in" / "link.jpg")
    os.link(tmp_path / "in" / "a.jpg", tmp_path / "in" / "same.jpg")
    done = subprocess.run(["tar", f"--format={format}", "-cf", tmp_path / "x.tar", "-C", tmp_path / "in", "."], capture_output=True)
    if done.returncode:
        pytest.skip(f"this tar command knows no {format}")
    files["link.jpg"] = files["same.jpg"] = files["a.jpg"]
    assert walked((tmp_path / "x.tar").read_bytes()) == {f"./{name}": data for name, data in files.items()}


# --- broken archives ---------------------------------------------------------------------------------------------------

WHOLE = archive({"a.jpg": b"x" * 700, "b.jpg": b"y" * 700})
SECOND = 3 * BLOCK  # the second header


def changed(position: int, value: bytes, fix: bool = False) -> bytes:
    data = bytearray(WHOLE)
    data[SECOND + position : SECOND + position + len(value)] = value
    if fix:
        data[SECOND : SECOND + BLOCK] = with_checksum(data[SECOND : SECOND + BLOCK])
    return bytes(data)


def extended(kind: bytes, records: bytes, size: int | None = None) -> bytes:
    """The archive with an extended header before the second member."""
    header = bytearray(WHOLE[:BLOCK])
    header[156:157] = kind
    header[124:136] = b"%011o\0" % (len(records) if size is None else size)
    return WHOLE[:SECOND] + with_checksum(header) + records + b"\0" * (-len(records) % BLOCK) + WHOLE[SECOND:]


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "empty file"),
        (b"\xff\xd8\xff" * 300, 0, "no tar header"),
        (b"short", 0, "cut off within a header: 5 of 512 bytes"),
        (WHOLE[: SECOND + 100], SECOND, "cut off within a header: 100 of 512 bytes"),
        (WHOLE[: SECOND + BLOCK + 699], SECOND, "cut off within 'b.jpg', which would end at 2748 of 2747 bytes"),
        (WHOLE[: SECOND + BLOCK + 700], SECOND, "cut off within what fills the last block of a member"),
        (WHOLE[: SECOND + 3 * BLOCK - 1], SECOND, "cut off within what fills the last block of a member"),
        (extended(b"x", b"10 path=c\n")[: SECOND + 2 * BLOCK], SECOND + 2 * BLOCK, "cut off behind an extended header"),
        (WHOLE + b"\x55" * BLOCK, len(WHOLE), "something behind the end of the archive that is no archive"),
        (WHOLE + changed(0, b"c")[SECOND:], len(WHOLE), "its checksum does not fit"),
        (changed(0, b"c"), SECOND, "its checksum does not fit"),
        (changed(124, b"77777777777\0", fix=True), SECOND, "cut off within 'b.jpg'"),
        (changed(124, b"0000000008 \0", fix=True), SECOND, "the size field holds"),
        (changed(124, b"-0000000007\0", fix=True), SECOND, "the size field holds"),
        (changed(124, b"0o000000007\0", fix=True), SECOND, "the size field holds"),
        (changed(124, b"\xff" * 12, fix=True), SECOND, "the size field holds"),
        (changed(124, b"\x80" + b"\xff" * 11, fix=True), SECOND, "a size of "),
        (changed(156, b"S", fix=True), SECOND, "a sparse file"),
        (extended(b"x", b"24 GNU.sparse.major=1\n\0\0"), SECOND, "a broken extended header"),
        (extended(b"x", b"22 GNU.sparse.major=1\n"), SECOND + 2 * BLOCK, "a sparse file"),
        (extended(b"x", b"x"), SECOND, "a broken extended header"),
        (extended(b"x", b"9 path=b"), SECOND, "a broken extended header"),
        (extended(b"x", b"0 a=b\n"), SECOND, "a broken extended header"),
        (extended(b"x", b"99999999999999999999 a=b\n"), SECOND, "a broken extended header"),
        (extended(b"x", b"11 size=-7\n"), SECOND + 2 * BLOCK, "an extended header with size=b'-7'"),
        (extended(b"x", b"28 size=9999999999999999999\n"), SECOND + 2 * BLOCK, "an extended header with size="),
        (extended(b"x", b"", MAX_EXTENSION_BYTES + 1), SECOND, f"more than {MAX_EXTENSION_BYTES}"),
        (extended(b"L", b"", MAX_EXTENSION_BYTES), SECOND, "cut off within an extended header"),
    ],
)
def test_damage_is_found_where_it_is(data: bytes, offset: int, reason: str) -> None:
    found = []
    with pytest.raises(TarError) as caught:
        for member in members(window(data)):
            found.append(member.name)
    assert caught.value.offset == offset and reason in caught.value.reason
    # where only what fills the last block is missing, the member is whole
    whole = offset >= len(WHOLE) or "fills the last block" in reason
    assert found == (["a.jpg", "b.jpg"] if whole else ["a.jpg"] if offset >= SECOND else [])


def test_broken_archives_of_any_kind_end_in_a_tar_error() -> None:
    """Bytes changed at random: the walk ends, stays within the file, and raises nothing else. 4,000 archives, seed 0."""
    draw = np.random.default_rng(0)
    sound = [archive(FILES, format) for format in FORMATS.values()] + [extended(b"x", b"12 path=c.x\n"), extended(b"L", b"long name\0")]
    for _ in range(4000):
        data = bytearray(sound[draw.integers(len(sound))])
        for position in draw.integers(0, len(data), draw.integers(1, 9)):
            data[position] = draw.integers(256)
        if draw.random() < 0.5:  # past the checksum, where the rest is read
            header = BLOCK * int(draw.integers(0, len(data) // BLOCK))
            data[header : header + BLOCK] = with_checksum(data[header : header + BLOCK])
        data = data[: draw.integers(len(data)) if draw.random() < 0.2 else len(data)]
        try:
            for member in members(window(bytes(data))):
                if member.offset == NOWHERE:
                    continue
                assert 0 <= member.offset <= member.offset + member.size <= len(data)
        except TarError as error:
            assert 0 <= error.offset <= len(data)
