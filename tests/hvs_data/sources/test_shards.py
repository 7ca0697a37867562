"""Tar shards: which files are a sample, where labels come from, and what damage does."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import pickle
import resource
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.sources.regular import MAX_FILE_BYTES
from hvs_data.sources.shard_index import split_name
from hvs_data.sources.shards import ShardSource
from hvs_data.sources.storage import OPEN_FILES
from source_contract import add, check_samples, encoded, photos, write_tar

PHOTOS = photos(12)
pytestmark = pytest.mark.usefixtures("cache")


def tar_of(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            add(archive, name, data)
    return path


def opened(tmp_path: Path, files: Sequence[tuple[str, bytes]], **options: Any) -> Any:
    return hvs.open_source(tar_of(tmp_path / "s.tar", files), **options)


def listed(source: Any) -> list[tuple[str, bytes, int]]:
    return [(source.name_of(index), *source.read(index)) for index in range(len(source))]


# --- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("x/y.z/a.JPG", ("x/y.z/a", "jpg")),
        ("./a.seg.png", ("./a", "seg.png")),
        ("a", ("a", "")),
        ("x/.hidden.jpg", ("x/", "hidden.jpg")),
    ],
)
def test_a_name_is_parted_at_its_first_dot(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def test_files_of_one_key_are_a_sample(tmp_path: Path) -> None:
    files = [
        ("b/1.cls", b"3"),
        ("b/1.jpg", b"one"),
        ("a/1.JPEG", b"two"),
        ("a/1.txt", b"a caption"),
        ("a/1.cls", b" 4\n"),
        ("c.png", b"three"),
        ("d.webp", b"four"),
        ("no-image.cls", b"9"),
        ("no-image.npy", b"\x93NUMPY"),
        ("README", b"no extension"),
        ("._b.jpg", b"of another system"),
        ("d.cls", b"-1"),
    ]
    source = opened(tmp_path, files)
    assert isinstance(source, ShardSource) and source.classes == ()
    assert listed(source) == [
        ("s.tar/b/1.jpg", b"one", 3),
        ("s.tar/a/1.JPEG", b"two", 4),
        ("s.tar/c.png", b"three", -1),
        ("s.tar/d.webp", b"four", -1),
    ]
    assert repr(source) == "ShardSource(4 images)"


def test_files_of_one_key_need_not_follow_one_another(tmp_path: Path) -> None:
    files = [("a.jpg", b"a"), ("b.jpg", b"b"), ("b.cls", b"1"), ("a.cls", b"0")]
    assert [(data, label) for _, data, label in listed(opened(tmp_path, files))] == [(b"a", 0), (b"b", 1)]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (b'{"label": 7}', 7),
        (b'{"label": null}', -1),
        (b'{"caption": "a cat"}', -1),
        (b"5", 5),
        (b'{"label": -1, "label": 2}', 2),
    ],
)
def test_labels_of_json(text: bytes, label: int, tmp_path: Path) -> None:
    assert opened(tmp_path, [("a.jpg", b"a"), ("a.json", text)]).read(0) == (b"a", label)


@pytest.mark.parametrize("first", ["cls", "json"])
def test_cls_goes_before_json(first: str, tmp_path: Path) -> None:
    files = [("a.cls", b"1"), ("a.json", b'{"label": 2}')]
    source = opened(tmp_path, [("a.jpg", b"a"), *(files if first == "cls" else reversed(files))])
    assert source.read(0).label == 1


@pytest.mark.parametrize(
    ("extension", "text"),
    [
        ("cls", b"cat"),
        ("cls", b""),
        ("cls", b"1.5"),
        ("cls", b"\xff\xfe"),
        ("cls", b"9" * 5000),
        ("cls", str(-(2**63)).encode()),
        ("cls", b" " * (2**20) + b"1"),
        ("json", b'{"label": "cat"}'),
        ("json", b'{"label": 1.0}'),
        ("json", b'{"label": true}'),
        ("json", b'{"label": [1]}'),
        ("json", b'{"label": 99999999999999999999}'),
        ("json", b'{"label": '),
        ("json", b"[" * 100_000),
        ("json", b'{"label": __import__("os").getpid()}'),
    ],
)
def test_a_label_that_is_no_whole_number_costs_its_sample(extension: str, text: bytes, tmp_path: Path) -> None:
    source = opened(tmp_path, [("a.jpg", b"a"), (f"a.{extension}", text), ("b.jpg", b"b"), ("b.cls", b"1")])
    with pytest.raises(SourceError, match="expected a whole number as the label of s.tar/a.jpg"):
        source.read(0)
    assert source.read(1) == (b"b", 1)


def test_labels_that_are_all_of_another_kind_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected whole numbers as labels in s.tar, got none; pass .*label=None.* go without"):
        opened(tmp_path, [("a.jpg", b"a"), ("a.cls", b"cat"), ("b.jpg", b"b"), ("b.cls", b"dog")])


def test_labels_are_left_alone_on_request(tmp_path: Path) -> None:
    """Labels of another kind kept a source from being opened, though pretraining needs none."""
    files = [("a.jpg", b"a"), ("a.cls", b"cat"), ("b.jpg", b"b"), ("b.json", b'{"label": 3}')]
    source = opened(tmp_path, files, label=None)
    assert listed(source) == [("s.tar/a.jpg", b"a", -1), ("s.tar/b.jpg", b"b", -1)]
    assert opened(tmp_path, files).labels.tolist()[1] == 3  # the index of another choice is another one


def test_an_extension_that_no_label_has_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected labels in files .clss of s.tar, got none; correct label=, or pass .*label=None"):
        opened(tmp_path, [("a.jpg", b"a"), ("a.cls", b"1")], label="clss")


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        ([("0.v1.jpg", b"0"), ("0.v1.cls", b"1")], [1]),
        ([("0.V1.JPG", b"0"), ("0.v1.cls", b"1")], [1]),
        ([("0.v1.cls", b"1"), ("0.v1.json", b"2"), ("0.v1.jpg", b"0")], [1]),
        ([("0.v1.json", b"2"), ("0.cls", b"1"), ("0.v1.jpg", b"0")], [2]),
        ([("0.v1.jpg", b"0"), ("0.cls", b"1")], [1]),
        ([("d.1/0.a.b.jpg", b"0"), ("d.1/0.a.cls", b"1")], [1]),
        ([("0.jpg", b"0"), ("0.mask.cls", b"1")], [-1]),
        ([("0.v1.jpg", b"0"), ("0.v2.cls", b"1")], [-1]),
        ([("0.jpg", b"0"), ("0.cls", b"1"), ("0.mask.png", b"m"), ("0.mask.cls", b"2")], [1]),
    ],
)
def test_a_label_is_named_as_its_image_is(files: list[tuple[str, bytes]], labels: list[int], tmp_path: Path) -> None:
    """WebDataset parts names at their first dot: ``0.v1.jpg`` and ``0.v1.cls`` are one sample, whose label was not found."""
    assert opened(tmp_path, files).labels.tolist() == labels


def test_labels_that_contradict_each_other_cost_their_sample(tmp_path: Path) -> None:
    files = [("a.jpg", b"a"), ("a.cls", b"1"), ("a.cls", b"2"), ("b.jpg", b"b"), ("b.cls", b"3"), ("b.cls", b"3")]
    source = opened(tmp_path, files)
    assert source.read(1).label == 3
    with pytest.raises(SourceError, match="whole number as the label of s.tar/a.jpg"):
        source.read(0)


def test_an_image_beside_others_of_its_key(tmp_path: Path) -> None:
    files = [("a.jpg", b"photo"), ("a.seg.png", b"mask"), ("b.left.jpg", b"left")]
    assert [data for _, data, _ in listed(opened(tmp_path, files))] == [b"photo", b"left"]
    files = [("a.jpg", b"photo"), ("a.png", b"mask"), ("a.cls", b"1"), ("a.target.txt", b"6")]
    with pytest.raises(SourceError, match=r'one image a sample, got a.jpg, a.png with the key .a. in the shard s.tar; .*image="jpg"'):
        opened(tmp_path, files)
    assert listed(opened(tmp_path, files, image="PNG", label=".target.txt")) == [("s.tar/a.png", b"mask", 6)]
    files = [("photo.v1.jpg", b"1"), ("photo.v2.jpg", b"2")]
    with pytest.raises(SourceError, match='got photo.v1.jpg, photo.v2.jpg .*image="v1.jpg".* that file alone of every sample, or, if each'):
        opened(tmp_path, files)
    assert [data for _, data, _ in listed(opened(tmp_path, files, image="v1.jpg"))] == [b"1"]


@pytest.mark.parametrize("options", [{}, {"image": "jpg"}, {"damaged_shards": "keep"}], ids=str)
@pytest.mark.parametrize("second", ["a.jpg", "a.JPG"])
def test_a_name_that_comes_twice_is_told_with_a_remedy_that_helps(second: str, options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="one image a sample, got a.jpg, a.(jpg|JPG) .*; write the shard anew, each name once$"):
        opened(tmp_path, [("a.jpg", b"1"), (second, b"2")], **options)


def test_an_unusual_extension_is_named(tmp_path: Path) -> None:
    files = [("a.img", b"photo"), ("a.cls", b"1")]
    with pytest.raises(SourceError, match="expected samples with an image in s.tar, got none; .*pass .*image="):
        opened(tmp_path, files)
    assert opened(tmp_path, files, image="img").read(0) == (b"photo", 1)


# --- many shards -------------------------------------------------------------------------------------------------------


def test_shards_follow_one_another_and_may_be_empty(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", [("a.jpg", b"0")])
    tar_of(tmp_path / "1.tar", [])
    tar_of(tmp_path / "2.tar", [("a.jpg", b"2"), ("b.jpg", b"3")])
    source = hvs.open_source(str(tmp_path / "{0..2}.tar"))
    assert listed(source) == [("0.tar/a.jpg", b"0", -1), ("2.tar/a.jpg", b"2", -1), ("2.tar/b.jpg", b"3", -1)]
    again = hvs.open_source([tmp_path / "2.tar", str(tmp_path / "{0,2}.tar")])
    assert [data for _, data, _ in listed(again)] == [b"2", b"3", b"0", b"2", b"3"]


def test_names_and_fingerprints_do_not_depend_on_the_place(tmp_path: Path) -> None:
    for place in ("here", "there/deep"):
        for part in ("a", "b"):
            (tmp_path / place / part).mkdir(parents=True)
            tar_of(tmp_path / place / part / "x.tar", [("1.jpg", part.encode())])
    here, there = (hvs.open_source(str(tmp_path / place / "{a,b}" / "x.tar")) for place in ("here", "there/deep"))
    assert here.fingerprint == there.fingerprint
    assert [here.name_of(index) for index in range(2)] == ["a/x.tar/1.jpg", "b/x.tar/1.jpg"]


def test_a_glob_is_sorted_and_must_fit(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        tar_of(tmp_path / f"{name}.tar", [("1.jpg", name.encode())])
    assert [data for _, data, _ in listed(hvs.open_source(str(tmp_path / "[ab].tar")))] == [b"a", b"b"]
    with pytest.raises(SourceError, match=r"expected files that fit .*x\*.tar', got none"):
        hvs.open_source(str(tmp_path / "x*.tar"))


def test_relative_paths_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar_of(tmp_path / "s.tar", [("1.jpg", b"1")])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = [hvs.open_source(path) for path in ("s.tar", "~/s.tar", f"file://{tmp_path}/s.tar")]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [source.read(0).data for source in sources] == [b"1"] * 3


@pytest.mark.parametrize("extension", ["jpg", "ppm"], ids=["read", "mapped"])
def test_few_files_are_open_however_many_shards(extension: str, tmp_path: Path) -> None:
    count = OPEN_FILES + 20
    for number in range(count):
        tar_of(tmp_path / f"{number:03}.tar", [(f"1.{extension}", str(number).encode())])
    before = len(os.listdir("/proc/self/fd"))
    source = hvs.open_source(str(tmp_path / f"{{000..{count - 1:03}}}.tar"))
    order = np.random.default_rng(0).integers(0, count, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert [sample.data for sample in pool.map(source.read, order)] == [str(index).encode() for index in order]
    # threads that miss at the same moment may each leave one more behind
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_FILES + 8
    del source
    assert len(os.listdir("/proc/self/fd")) <= before


# --- what cannot be opened or read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gone.tar", "gone-{0..1}.tar"])
def test_a_shard_that_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open the shards: .*No such file.*gone.*; check the path"):
        hvs.open_source(tmp_path / name)


def test_a_damaged_shard_is_named_and_may_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    with tarfile.open(path) as archive:
        member = archive.getmember(f"{PHOTOS[7].key}.jpg")
    os.truncate(path, member.offset_data + 10)
    with pytest.raises(
        SourceError, match=rf"the shard s.tar is damaged at offset {member.offset}: cut off within .*with the 7 samples before"
    ):
        hvs.open_source(path)
    with caplog.at_level(logging.WARNING):
        source = hvs.open_source(path, damaged_shards="keep")
    check_samples(source, PHOTOS[:7])
    assert f"s.tar is damaged at offset {member.offset}" in caplog.text and "7 samples before are kept" in caplog.text
    with pytest.raises(SourceError, match="one of .'raise', 'keep'., got 'ignore'"):
        hvs.open_source(path, damaged_shards="ignore")


def boundaries(path: Path) -> list[int]:
    """Where each member of an archive ends, in bytes."""
    with tarfile.open(path) as archive:
        return [member.offset_data + -(-member.size // 512) * 512 for member in archive]


def test_a_shard_that_was_cut_anywhere_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cut inside what fills a block, or between an image and its label, passed, and labels were lost without a word."""
    whole = write_tar(tmp_path / "whole.tar", PHOTOS).read_bytes()
    ends = boundaries(tmp_path / "whole.tar")
    for end in (ends[2], ends[3] - 1, ends[3] - 500, ends[4], ends[4] - 1, ends[4] - 300):
        (tmp_path / "s.tar").write_bytes(whole[:end])
        with pytest.raises(SourceError, match="the shard s.tar is damaged at offset .*cut off"):
            hvs.open_source(tmp_path / "s.tar")
        check_samples(hvs.open_source(tmp_path / "s.tar", damaged_shards="keep"), PHOTOS[: (end + 512) // ends[1]])
    (tmp_path / "s.tar").write_bytes(whole[: ends[3]])
    caplog.clear()
    check_samples(hvs.open_source(tmp_path / "s.tar"), PHOTOS[:2])  # nothing tells it from a shard of two samples, but the end mark
    assert "the shard s.tar has no end mark: if it was cut between two members, those behind are missing; its 2 samples" in caplog.text


def test_shards_behind_one_another_are_read_as_one(tmp_path: Path) -> None:
    parts = [write_tar(tmp_path / f"{number}.tar", PHOTOS[5 * number : 5 * number + 5]).read_bytes() for number in range(3)]
    (tmp_path / "all.tar").write_bytes(b"".join(parts))
    check_samples(hvs.open_source(tmp_path / "all.tar"), PHOTOS)


def test_images_and_labels_that_are_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        add(archive, "0.jpg", b"photo")
        add(archive, "0.cls", b"7")
        for name, kind, target in (("1.jpg", tarfile.LNKTYPE, "0.jpg"), ("1.cls", tarfile.SYMTYPE, "0.cls")):
            add(archive, name, b"", type=kind, linkname=target)
        for name in ("2.jpg", "3.cls"):
            add(archive, name, b"", type=tarfile.SYMTYPE, linkname="nowhere")
        add(archive, "3.jpg", b"another")
    source = hvs.open_source(tmp_path / "s.tar")
    assert [source.name_of(index) for index in range(4)] == [f"s.tar/{name}.jpg" for name in "0312"]
    assert source.read(0) == source.read(2) == (b"photo", 7)
    for index, message in (
        (1, "a whole number as the label of s.tar/3.jpg"),
        (3, "an image in s.tar/2.jpg, got a link to nothing in the shard"),
    ):
        with pytest.raises(SourceError, match=message):
            source.read(index)


@pytest.mark.parametrize("kind", ["gzip", "bz2", "lzma"])
def test_a_shard_that_is_compressed_whatever_its_name_says(kind: str, tmp_path: Path) -> None:
    data = importlib.import_module(kind).compress(write_tar(tmp_path / "s.tar", PHOTOS).read_bytes())
    (tmp_path / "s.tar").write_bytes(data)
    with pytest.raises(SourceError, match="a tar shard that is not compressed.*got (gzip|bzip2|xz) data in s.tar; decompress it"):
        hvs.open_source(tmp_path / "s.tar")


def test_a_name_with_braces_is_a_file_that_is_there(tmp_path: Path) -> None:
    write_tar(tmp_path / "x{1,2}.tar", PHOTOS)
    check_samples(hvs.open_source(tmp_path / "x{1,2}.tar"), PHOTOS)
    check_samples(hvs.open_source([tmp_path / "x{1,2}.tar"]), PHOTOS)


@pytest.mark.parametrize("extension", ["jpg", "ppm"], ids=["read", "mapped"])
def test_a_low_limit_on_open_files(extension: str, tmp_path: Path) -> None:
    """OPEN_FILES ignored the limit, and the error pointed at the path."""
    for number in range(60):
        tar_of(tmp_path / f"{number:02}.tar", [(f"1.{extension}", str(number).encode())])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 30, hard))
    try:
        source = hvs.open_source(str(tmp_path / "*.tar"))
        assert [source.read(index).data for index in range(60)] == [str(index).encode() for index in range(60)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # counting takes a descriptor, and the source may hold all
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 2, hard))
        check = [source.read(index).data for index in range(60)]
        assert check == [str(index).encode() for index in range(60)]
        del source
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(SourceError, match="Too many open files.*; raise the limit on open files"):
            hvs.open_source(str(tmp_path / "0{0..3}.tar"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    source = hvs.open_source(write_tar(tmp_path / "s.tar", PHOTOS))
    source = copy.copy(hvs.open_source(tmp_path / "s.tar"))
    (tmp_path / "s.tar").unlink()
    os.mkfifo(tmp_path / "s.tar")
    with pytest.raises(SourceError, match="expected a regular file, got a pipe"):
        pickle.loads(pickle.dumps(source)).read(0)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(encoded(0))
    with pytest.raises(SourceError, match="the shard s.tar is damaged at offset 0: .*header"):
        hvs.open_source(tmp_path / "s.tar")


def test_a_member_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    huge = tarfile.TarInfo("huge.jpg")
    huge.size = MAX_FILE_BYTES + 1
    with open(path, "wb") as file:  # a hole takes no room on the disk
        file.write(huge.tobuf())
        file.seek(-(-huge.size // 512) * 512, os.SEEK_CUR)
        small = tarfile.TarInfo("small.jpg")
        small.size = 5
        file.write(small.tobuf() + b"small".ljust(512, b"\0"))
    source = hvs.open_source(path)
    with pytest.raises(SourceError, match=f"at most {MAX_FILE_BYTES} bytes, got {MAX_FILE_BYTES + 1} in s.tar/huge.jpg"):
        source.read(0)
    assert source.read(1).data == b"small"


def test_a_shard_that_was_cut_while_in_use(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    source = hvs.open_source(path)
    os.truncate(path, 2000)
    with pytest.raises(SourceError, match="expected .* bytes at offset .*s.tar, got 0: it was cut"):
        source.read(11)
    assert source.read(0).data == PHOTOS[0].data


def test_a_shard_that_vanished_is_an_os_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    source = hvs.open_source(path)
    path.unlink()
    # the index was built through a file that is still open
    assert source.read(3).data == PHOTOS[3].data
    source = hvs.open_source(write_tar(tmp_path / "t.tar", PHOTOS))
    source = hvs.open_source(tmp_path / "t.tar")
    (tmp_path / "t.tar").unlink()
    with pytest.raises(FileNotFoundError):
        source.read(3)


def test_a_local_read_that_fails_for_a_moment_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hvs.open_source(write_tar(tmp_path / "s.tar", PHOTOS))
    original, failures = os.pread, [OSError(116, "Stale file handle"), OSError(5, "Input/output error")]

    def pread(*arguments: Any) -> bytes:
        if failures:
            raise failures.pop()
        return original(*arguments)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert source.read(3).data == PHOTOS[3].data and not failures


def test_short_reads_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hvs.open_source(write_tar(tmp_path / "s.tar", PHOTOS))
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: original(descriptor, min(size, 100), offset))
    check_samples(source, PHOTOS)


def test_names_in_an_archive_are_never_paths(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    files = [("../outside.jpg", b"1"), (str(outside), b"2"), ("a/../../b.jpg", b"3"), ("nul\0.jpg", b"4")]
    before = sorted(tmp_path.rglob("*"))
    source = opened(tmp_path, files, index_cache=tmp_path / "index")
    # a name ends at its first NUL, and so has no extension
    assert [data for _, data, _ in listed(source)] == [b"1", b"2", b"3"]
    written = set(tmp_path.rglob("*")) - set(before) - {tmp_path / "s.tar", tmp_path / "index"}
    assert len(written) == 1 and next(iter(written)).suffix == ".index"
