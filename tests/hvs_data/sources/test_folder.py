"""Folders and lists of files: which ones count, in which order, with which labels, and what reading them gives."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.sources import regular
from hvs_data.sources.folder import EXTENSIONS, FileSource
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.regular import MAX_FILE_BYTES


def fill(root: Path, names: Iterable[str]) -> Path:
    """Files that hold their own names; a name that ends in "/" is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    return root


def listed(source: Any) -> list[tuple[str, int]]:
    samples = [(source.name_of(index), source.read(index)) for index in range(len(source))]
    for name, sample in samples:
        assert sample.data == os.fsencode(name)
    return [(name, sample.label) for name, sample in samples]


# --- layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["auto", "classes"])
def test_one_folder_a_class(layout: str, tmp_path: Path) -> None:
    fill(tmp_path, ["dog/2.jpg", "dog/10.jpg", "cat/z.png", "cat/deep/er/a.jpg", "cat/deep.jpg", "Bee/1.webp"])
    source = hvs.open_source(tmp_path, layout=layout)
    assert isinstance(source, FileSource) and source.classes == ("Bee", "cat", "dog")
    expected = [("Bee/1.webp", 0), ("cat/deep.jpg", 1), ("cat/z.png", 1), ("cat/deep/er/a.jpg", 1), ("dog/10.jpg", 2), ("dog/2.jpg", 2)]
    assert listed(source) == expected
    assert source.labels.dtype == np.int64 and source.labels.tolist() == [label for _, label in expected]


@pytest.mark.parametrize("layout", ["auto", "flat"])
def test_a_flat_folder(layout: str, tmp_path: Path) -> None:
    fill(tmp_path, ["b.jpg", "a.png", "10.jpg", "2.jpg", "empty/", "notes/read.txt"])
    source = hvs.open_source(str(tmp_path), layout=layout)
    assert source.classes == ()
    assert listed(source) == [("10.jpg", -1), ("2.jpg", -1), ("a.png", -1), ("b.jpg", -1)]


def test_images_beside_folders_of_images_need_a_layout(tmp_path: Path) -> None:
    fill(tmp_path, ["front.jpg", "cat/1.jpg", "a/b/2.jpg"])
    with pytest.raises(SourceError, match=r'got both, such as front.jpg and a/b/2.jpg; pass .*layout="classes".*layout="flat"'):
        hvs.open_source(tmp_path)
    assert listed(hvs.open_source(tmp_path, layout="classes")) == [("a/b/2.jpg", 0), ("cat/1.jpg", 1)]
    assert listed(hvs.open_source(tmp_path, layout="flat")) == [("front.jpg", -1), ("a/b/2.jpg", -1), ("cat/1.jpg", -1)]
    assert listed(hvs.open_source(tmp_path, label=None)) == [("front.jpg", -1), ("a/b/2.jpg", -1), ("cat/1.jpg", -1)]
    source = hvs.open_source(tmp_path, layout="classes", label=None)
    assert listed(source) == [("a/b/2.jpg", -1), ("cat/1.jpg", -1)] and source.classes == ()


def test_order_and_labels_are_those_of_image_folder(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets.folder")
    # names that sort otherwise once they are joined to paths: "-" and "." come before "/"
    classes = ["cat", "cat-2", "cat.3", "Dog", "n01440764", "10", "9"]
    files = ("x10.jpg", "x9.JPG", "X1.png", "sub/1.jpg", "sub/z.jpg", "sub/a/1.jpg", "sub-a/1.jpg", "z/1.jpg", "sub.jpg")
    fill(tmp_path, [f"{name}/{file}" for name in classes for file in files])
    reference = folder.DatasetFolder(str(tmp_path), loader=None, extensions=EXTENSIONS)
    source = hvs.open_source(tmp_path)
    assert source.classes == tuple(reference.classes)
    assert listed(source) == [(os.path.relpath(path, tmp_path), label) for path, label in reference.samples]


def test_extensions_count_in_any_case_and_nothing_else_does(tmp_path: Path) -> None:
    images = [f"{stem}{extension}" for extension in EXTENSIONS for stem in ("a", "b")]
    names = [name.upper() if name.startswith("b") else name for name in images]
    fill(tmp_path, [*names, "a.txt", "a.jpg.part", "jpg", "a.npy", "a.tar", "a.pdf", "a.mp4"])
    assert [name for name, _ in listed(hvs.open_source(tmp_path))] == sorted(names)


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    fill(tmp_path, ["cat/1.jpg", "cat/._1.jpg", "cat/.thumbs/1.jpg", ".cache/1.jpg", ".jpg"])
    assert listed(hvs.open_source(tmp_path)) == [("cat/1.jpg", 0)]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, ["scan.jpg/page.png"])
    assert listed(hvs.open_source(tmp_path)) == [("scan.jpg/page.png", 0)]


def test_the_home_folder_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["photos/1.jpg", "elsewhere/"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sources = [hvs.open_source("~/photos"), hvs.open_source("photos"), hvs.open_source(Path("photos"))]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [source.read(0).data for source in sources] == [b"photos/1.jpg"] * 3


def test_names_that_are_not_text(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(name)
    source = hvs.open_source(tmp_path)
    assert source.read(0).data == os.fsencode(source.name_of(0)) == name


# --- links -------------------------------------------------------------------------------------------------------------


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", ["cat/1.jpg", "dog/2.jpg"])
    fill(tmp_path / "store", ["3.jpg", "4.jpg"])
    (root / "cat" / "more").symlink_to(tmp_path / "store")
    (root / "dog" / "more").symlink_to(tmp_path / "store")
    (root / "cat" / "loop").symlink_to(root / "cat")
    (root / "cat" / "up").symlink_to(root)
    (tmp_path / "store" / "around").symlink_to(root / "cat")
    (root / "dog" / "5.jpg").symlink_to(tmp_path / "store" / "3.jpg")
    source = hvs.open_source(root)
    names = [source.names[index] for index in range(len(source))]
    below_cat = ["cat/1.jpg", "cat/more/3.jpg", "cat/more/4.jpg"]
    # from dog, the way through the store leads to cat, which is not above dog
    around = ["dog/more/around/1.jpg"]
    assert names == [*below_cat, "dog/2.jpg", "dog/5.jpg", "dog/more/3.jpg", "dog/more/4.jpg", *around]
    assert source.labels.tolist() == [0] * 3 + [1] * 5


def test_a_link_may_be_the_folder_itself(tmp_path: Path) -> None:
    fill(tmp_path / "real", ["cat/1.jpg"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert listed(hvs.open_source(tmp_path / "link")) == [("cat/1.jpg", 0)]


def test_broken_links_are_listed_and_fail_when_read(tmp_path: Path) -> None:
    fill(tmp_path, ["1.jpg"])
    (tmp_path / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "3.jpg").symlink_to(tmp_path / "3.jpg")
    source = hvs.open_source(tmp_path)
    assert len(source) == 3 and source.read(0).data == b"1.jpg"
    for index in (1, 2):
        with pytest.raises(OSError):
            source.read(index)


def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    fill(tmp_path, ["1.jpg"])
    os.mkfifo(tmp_path / "2.jpg")
    assert listed(hvs.open_source(tmp_path)) == [("1.jpg", -1)]


# --- what cannot be opened ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "opened", "layout", "message"),
    [
        ([], "nowhere", "auto", "'.*nowhere', which does not exist .looked for .*check the path"),
        ([], "", "auto", "expected image files below .*got none"),
        (["empty/", "other/"], "", "auto", "expected image files below .*got none"),
        (["cat/a.txt", "b.txt"], "", "auto", r"expected image files below .*\.jpg .*got none"),
        (["cat/a.txt", "b.txt"], "", "flat", "expected image files below .*got none"),
        (["a.jpg"], "", "classes", "expected image files in sub-folders of .*got none"),
        ([".hidden/a.jpg"], "", "auto", "not hidden.*got none"),
        (["cat/1.jpg", "dog/", "emu/a.txt"], "", "auto", 'each one is a class, got none in dog, emu; remove them, or pass .*layout="flat"'),
        (["a.jpg"], "a.jpg", "auto", "got the file .*a.jpg; pass the folder that holds it"),
        (["0.tar", "1.tar"], "", "auto", r"got none; for shards pass a pattern, such as .*/\*\.tar"),
        (["sub/0.parquet", "1.parquet"], "", "classes", r"got none; for shards pass a pattern, such as .*/\*\.parquet"),
        ([], "s3://bucket/train", "auto", "expected tar shards .*at a URL, got 's3://bucket/train'; name them"),
        (["a.jpg"], "", "tree", r"layout to be one of \('auto', 'classes', 'flat'\), got 'tree'"),
    ],
)
def test_the_error_says_what_to_do(names: list[str], opened: str, layout: str, message: str, tmp_path: Path) -> None:
    fill(tmp_path, names)
    with pytest.raises(SourceError, match=message):
        hvs.open_source(opened if "://" in opened else tmp_path / opened, layout=layout)


def test_a_folder_with_an_odd_name_is_a_folder(tmp_path: Path) -> None:
    assert len(hvs.open_source(fill(tmp_path / "photos {1..2}.tar", ["1.jpg"]))) == 1


def test_a_class_that_cannot_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["cat/1.jpg", "dog/1.jpg"])
    original = os.scandir

    def refuse_dogs(path: str) -> Any:
        # the test may run as a user to whom nothing is forbidden
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", refuse_dogs)
    with pytest.raises(SourceError, match="cannot list the folder .*dog: .*Permission denied; make it readable or remove it"):
        hvs.open_source(tmp_path)


# --- reading -----------------------------------------------------------------------------------------------------------


def test_a_file_that_vanished_is_an_os_error(tmp_path: Path) -> None:
    source = hvs.open_source(fill(tmp_path, ["1.jpg", "2.jpg"]))
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        source.read(0)
    assert source.read(1).data == b"2.jpg"


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    source = hvs.open_source(fill(tmp_path, ["1.jpg"]))
    os.truncate(tmp_path / "1.jpg", MAX_FILE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(SourceError, match=f"at most {MAX_FILE_BYTES} bytes, got {MAX_FILE_BYTES + 1} in .*1.jpg"):
        source.read(0)


@pytest.mark.parametrize("index", [-1, 2, 10**9])
def test_an_index_out_of_range_is_an_index_error(index: int, tmp_path: Path) -> None:
    source = hvs.open_source(fill(tmp_path, ["1.jpg", "2.jpg"]))
    with pytest.raises(IndexError, match=rf"index in \[0, 2\), got {index}"):
        source.read(index)


def test_an_index_of_any_integer_type(tmp_path: Path) -> None:
    source = hvs.open_source(fill(tmp_path, ["1.jpg", "2.jpg"]))
    assert source.read(np.int64(1)) == (b"2.jpg", -1)


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    source = hvs.open_source(fill(tmp_path, [f"{n % 3}/{n}.jpg" for n in range(60)]))
    order = np.random.default_rng(0).integers(0, 60, 2000).tolist()
    with ThreadPoolExecutor(16) as pool:
        samples = list(pool.map(source.read, order))
    assert [sample.data.decode() for sample in samples] == [source.names[index] for index in order]


def test_what_is_opened_says_so(tmp_path: Path) -> None:
    assert repr(hvs.open_source(fill(tmp_path / "a", ["1/1.jpg", "2/1.jpg"]))) == "FileSource(2 images, 2 classes)"
    assert repr(hvs.open_source(fill(tmp_path / "b", ["1.jpg"]))) == "FileSource(1 images)"


# --- lists of paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_of_paths_keeps_its_order(container: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["b.jpg", "a.jpg", "c.raw", "elsewhere/"])
    monkeypatch.chdir(tmp_path)
    source = hvs.open_source(container(["b.jpg", Path("a.jpg"), tmp_path / "c.raw", "gone.jpg"]))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [source.read(index).data for index in range(3)] == [b"b.jpg", b"a.jpg", b"c.raw"]
    assert [source.read(index).label for index in range(3)] == [-1] * 3
    assert source.name_of(0) == "b.jpg"
    with pytest.raises(FileNotFoundError):
        source.read(3)


def test_a_folder_in_a_list_of_paths_is_told_with_a_remedy_that_helps(tmp_path: Path) -> None:
    """It was read as a file, and all that came of it was that no image can be read."""
    folders = [fill(tmp_path / "b", ["x/1.jpg"]), fill(tmp_path / "a", ["x/1.jpg"])]
    with pytest.raises(SourceError, match=r"got the folder .*/b at position 0; open folders one by one .*ConcatDataset\(\[hvs.open_source"):
        hvs.open_source(folders)
    source = hvs.open_source(ConcatDataset([hvs.open_source(folder) for folder in folders]))
    assert [(source.name_of(index), source.read(index)) for index in range(2)] == [
        ("0:x/1.jpg", (b"x/1.jpg", 0)),
        ("1:x/1.jpg", (b"x/1.jpg", 0)),
    ]
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(IsADirectoryError):
        hvs.open_source([tmp_path / "a.jpg"]).read(0)


@pytest.mark.parametrize("paths", [[""], ["a.jpg", ""]])
def test_an_empty_path_in_a_list_is_told(paths: list[str]) -> None:
    with pytest.raises(SourceError, match=f"got an empty one at position {len(paths) - 1}"):
        hvs.open_source(paths)


# --- what is no regular file -------------------------------------------------------------------------------------------


def made_pipe(path: Path) -> str:
    os.mkfifo(path)
    return "a pipe"


def made_socket(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # its name must be short
    return "No such device"


def linked_device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "a device"


def linked_pipe(path: Path) -> str:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))
    return "a pipe"


@pytest.mark.parametrize("make", [made_pipe, made_socket, linked_device, linked_pipe], ids=lambda make: make.__name__)
def test_only_regular_files_are_read(make: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe was waited on for ever, and a device without an end filled memory."""
    monkeypatch.chdir(tmp_path)
    message = make(tmp_path / "x.jpg")
    with pytest.raises((SourceError, OSError), match=message):
        hvs.open_source([tmp_path / "x.jpg"]).read(0)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "MAX_FILE_BYTES", 10**6)
    path = tmp_path / "x.jpg"
    path.write_bytes(b"12345")
    original = os.fstat

    def growing(descriptor: int) -> os.stat_result:
        status = original(descriptor)
        with path.open("ab") as file:
            file.write(bytes(more))
        return status

    monkeypatch.setattr(os, "fstat", growing)
    more = 10**5
    assert hvs.open_source([path]).read(0).data == b"12345" + bytes(more)
    more = 2 * 10**6
    with pytest.raises(SourceError, match="at most 1000000 bytes, got more from .*, which grows"):
        path.write_bytes(b"12345")
        hvs.open_source([path]).read(0)


def test_files_of_the_kernel_say_that_they_are_empty() -> None:
    assert hvs.open_source(["/proc/self/cmdline"]).read(0).data == Path("/proc/self/cmdline").read_bytes()


def test_a_path_that_is_none_fails_when_read() -> None:
    with pytest.raises(SourceError, match="cannot open 'a.0b.jpg'|cannot open .*null"):
        hvs.open_source(["a\0b.jpg"]).read(0)


def test_a_url_of_an_image_is_told_from_a_path() -> None:
    with pytest.raises(SourceError, match="expected paths of this machine in a list of image files, got a URL at position 1; download it"):
        hvs.open_source(["a.jpg", "http://host/b.jpg"])


def test_a_list_of_paths_holds_paths_only() -> None:
    with pytest.raises(SourceError, match="expected paths only in a list of paths, got int at position 1"):
        hvs.open_source(["a.jpg", 3])


# --- fingerprints ------------------------------------------------------------------------------------------------------


def test_a_fingerprint_follows_names_and_labels_and_not_the_place(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    first = hvs.open_source(fill(tmp_path / "first", names)).fingerprint
    assert len(first) == 16 and int(first, 16) >= 0
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    assert hvs.open_source(tmp_path / "copy").fingerprint == first
    others = {
        "added": [*names, "b/2.jpg"],
        "removed": names[1:],
        "renamed": ["a/1.jpg", "a/3.jpg", "b/1.jpg"],
        "moved": ["a/1.jpg", "b/1.jpg", "b/2.jpg"],
    }
    prints = {hvs.open_source(fill(tmp_path / kind, changed)).fingerprint for kind, changed in others.items()}
    without_labels = hvs.open_source(tmp_path / "first", layout="flat").fingerprint
    assert len(prints | {first, without_labels}) == 6


def test_absolute_paths_that_moved_are_told_apart_from_others(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    here, there = (hvs.open_source([fill(tmp_path / place, names) / name for name in names]) for place in ("here", "there"))
    assert here.fingerprint != there.fingerprint
    assert (
        there.why_other(here.fingerprint) == f"the files are named alike, but their paths began with another folder than {tmp_path}/there/"
    )
    other = hvs.open_source([tmp_path / "there" / name for name in reversed(names)])
    for source, fingerprint in ((other, here.fingerprint), (there, other.fingerprint), (here, "0" * 16)):
        assert source.why_other(fingerprint) == ""
    assert hvs.open_source(tmp_path / "here").why_other(here.fingerprint) == ""


# --- many names in little memory ---------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9))
def test_packed_strings_are_a_list(strings: list[str]) -> None:
    packed = PackedStrings(iter(strings))
    assert len(packed) == len(strings)
    assert [packed[index] for index in range(len(packed))] == strings
    for index in (len(strings), -len(strings) - 1):
        with pytest.raises(IndexError):
            packed[index]


@given(st.lists(st.lists(st.text("ab/", max_size=3), max_size=4), min_size=2, max_size=2))
def test_packed_bytes_tell_lists_apart(lists: list[list[str]]) -> None:
    one, other = lists
    assert (PackedStrings(one).tobytes() == PackedStrings(other).tobytes()) == (one == other)
