"""Parquet files: which columns, what is read when, and what is refused."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import hvs_data as hvs
from hvs_data.errors import MissingDependencyError, SourceError
from hvs_data.sources import parquet as module
from hvs_data.sources.parquet import ParquetSource
from source_contract import arrow_table, check_samples, check_threads, encoded, parquet, photos

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PHOTOS = photos(23)


def written(path: Path, columns: dict[str, Any], schema: Any = None, **options: Any) -> Path:
    pq.write_table(pa.table(columns, schema=schema), path, **options)
    return path


# --- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [{"image": 0, "other": 1}, {"other": 1, "img": 0}, {"jpg": 0, "other": 1}, {"photo": 0}], ids=str)
def test_the_column_of_images_is_found(columns: dict[str, int], tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {name: [encoded(seed)] for name, seed in columns.items()})
    assert hvs.open_source(path).read(0) == (encoded(0), -1)


@pytest.mark.parametrize(
    ("kind", "stored"),  # pyarrow writes no dictionaries of views
    [(kind, stored) for kind in ("binary", "large_binary") for stored in ("plain", "as a dictionary", "in a struct")]
    + [("binary_view", "plain"), ("binary_view", "in a struct")],
)
def test_bytes_however_they_are_stored(kind: str, stored: str, tmp_path: Path) -> None:
    """Other types than the two usual ones counted as none with images."""
    if "view" in kind and int(pa.__version__.partition(".")[0]) < 18:
        pytest.skip("this pyarrow writes no views to Parquet")
    values = pa.array([encoded(0), encoded(1), None, encoded(1)], getattr(pa, kind)())
    if stored == "as a dictionary":
        values = values.dictionary_encode()
    if stored == "in a struct":
        values = pa.StructArray.from_arrays([values, pa.array(["a", "b", "c", "d"])], ["bytes", "path"])
    source = hvs.open_source(written(tmp_path / "x.parquet", {"image": values}))
    assert [source.read(index).data for index in (0, 1, 3)] == [encoded(0), encoded(1), encoded(1)]
    with pytest.raises(SourceError, match=r"the bytes of an image in x.parquet\[2\], got none"):
        source.read(2)


LABELS = {
    "text": ["cat", "dog"],
    "float": [0.5, float("nan")],
    "bool": [True, False],
    "list": [[1], [2]],
    "null": [None, None],
    "whole": [1, 2],
    "absent": None,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_are_left_alone_on_request(kind: str, tmp_path: Path) -> None:
    """A column of another kind kept a table from being opened, and nothing switched it off."""
    columns = {"image": [b"1", b"2"], **({} if LABELS[kind] is None else {"label": LABELS[kind]})}
    path = written(tmp_path / "x.parquet", columns)
    source = hvs.open_source(path, label=None)
    assert [source.read(index) for index in range(2)] == [(b"1", -1), (b"2", -1)]
    if kind not in ("whole", "absent"):
        with pytest.raises(SourceError, match=r"whole numbers in the column 'label'.*pass hvs.open_source\(..., label=None\)"):
            hvs.open_source(path)


def test_a_label_past_64_bits_costs_its_group(tmp_path: Path) -> None:
    labels = pa.array([2**63, 1], pa.uint64())
    source = hvs.open_source(written(tmp_path / "x.parquet", {"image": [b"1", b"2"], "label": labels}, row_group_size=1))
    assert source.read(1) == (b"2", 1)
    with pytest.raises(SourceError, match="expected labels that fit 64 bits"):
        source.read(0)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["label", "labels"])
def test_labels_of_any_width_and_missing_ones(name: str, kind: str, tmp_path: Path) -> None:
    labels = pa.array([3, None, 0], getattr(pa, kind)())
    source = hvs.open_source(written(tmp_path / "x.parquet", {"image": [b"0", b"1", b"2"], name: labels}))
    assert [source.read(index).label for index in range(3)] == [3, -1, 0]


def test_columns_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"image": [b"a"], "depth": [b"b"], "label": [1], "coarse": [2]})
    assert hvs.open_source(path, image="depth", label="coarse").read(0) == (b"b", 2)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [b"1"], "b": [b"2"]}, {}, r"one column of encoded images in x.parquet, got the columns \['a', 'b'\], .*pass .*image=NAME"),
        ({"a": [1]}, {}, r"one column of encoded images .*none of them with images"),
        ({"image": ["text"]}, {}, "none of them with images"),
        ({"image": [b"1"]}, {"image": "photo"}, "expected a column 'photo' in x.parquet"),
        ({"image": [b"1"], "n": [1]}, {"image": "n"}, "encoded images in the column 'n' of x.parquet, got another kind"),
        ({"image": [b"1"], "label": ["cat"]}, {}, "whole numbers in the column 'label' of x.parquet, got another kind; pass .*label=None"),
        ({"image": [b"1"], "label": [1.0]}, {}, "whole numbers in the column 'label'"),
        ({"image": [b"1"]}, {"label": "class"}, "expected a column 'class' of labels in x.parquet"),
        ({"image": pa.array([], pa.binary())}, {}, "expected rows in x.parquet"),
    ],
    ids=lambda value: None if isinstance(value, dict) else "",
)
def test_a_choice_that_is_not_clear_is_refused(columns: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(written(tmp_path / "x.parquet", columns), **options)


def test_names_of_classes_are_those_that_the_hugging_face_library_notes(tmp_path: Path) -> None:
    def noting(features: Any) -> Any:
        table = pa.table({"image": [b"1"], "kind": [1]})
        return table.replace_schema_metadata({"huggingface": features if isinstance(features, str) else json.dumps(features)})

    notes = {"info": {"features": {"image": {"_type": "Image"}, "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    pq.write_table(noting(notes), tmp_path / "x.parquet")
    source = hvs.open_source(tmp_path / "x.parquet")
    assert source.classes == ("cat", "dog") and source.read(0).label == 1
    for odd in ("__import__('os').abort()", "[1]", {"info": {"features": {"kind": {"names": [1, 2]}}}}, "[" * 10_000):
        pq.write_table(noting(odd), tmp_path / "x.parquet")
        source = hvs.open_source(tmp_path / "x.parquet", label="kind")
        assert source.classes == () and source.read(0).label == 1


def test_files_with_other_columns_are_opened_apart(tmp_path: Path) -> None:
    written(tmp_path / "0.parquet", {"image": [b"1"], "label": [1]})
    written(tmp_path / "1.parquet", {"image": [b"1"]})
    with pytest.raises(SourceError, match=r"the same columns in all files, got \('image', 'label'\) in 0.parquet and .*1.parquet; open"):
        hvs.open_source(str(tmp_path / "*.parquet"))


# --- row groups --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(file, row group) of all that is read."""
    found: list[tuple[int, int]] = []
    original = ParquetSource._read_group

    def counting(self: ParquetSource, file: int, number: int) -> Any:
        found.append((file, number))
        return original(self, file, number)

    monkeypatch.setattr(ParquetSource, "_read_group", counting)
    return found


def test_row_groups_are_read_when_they_are_needed(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    source = hvs.open_source(parquet(tmp_path, PHOTOS))
    assert source.fingerprint and source.name_of(12) == "part-1.parquet[1]" and not reads
    source.read(12)
    assert reads == [(1, 0)]
    check_samples(source, PHOTOS)
    # eleven rows and twelve, in groups of five
    assert sorted(reads) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_thread_keeps_as_many_bytes_as_it_may(tmp_path: Path, reads: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    source = hvs.open_source(parquet(tmp_path, PHOTOS))
    group = source._group(0)
    # the images of five rows are there, and little more
    assert sum(len(photo.data) for photo in PHOTOS[:5]) <= group.nbytes <= sum(len(photo.data) for photo in PHOTOS[:5]) + 200
    monkeypatch.setattr(module, "GROUP_CACHE_BYTES", int(2.5 * group.nbytes))
    del reads[:]
    for index in (0, 5, 0, 11, 0, 5, 16):
        source.read(index)
    # 0 and 5 are at hand until 11 takes the place of 5, which was used before 0
    assert reads == [(0, 1), (1, 0), (0, 1), (1, 1)]
    monkeypatch.setattr(module, "GROUP_CACHE_BYTES", 1)
    source.read(0)
    del reads[:]
    source.read(1)
    assert not reads and len(source._of_thread.groups) == 1


def test_threads_keep_their_own(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    source = hvs.open_source(parquet(tmp_path, PHOTOS))
    for _ in range(2):
        thread = threading.Thread(target=source.read, args=(0,))
        thread.start()
        thread.join()
    assert reads == [(0, 0)] * 2
    check_threads(source, PHOTOS)


def test_large_row_groups_are_told_and_huge_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pattern = parquet(tmp_path, PHOTOS)
    hvs.open_source(pattern)
    assert not caplog.text
    monkeypatch.setattr(module, "_SLOW_GROUP_BYTES", 1000)
    hvs.open_source(pattern)
    assert "read as a whole for every image in random order, which is slow; write the files with fewer rows" in caplog.text
    monkeypatch.setattr(module, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(SourceError, match="row groups of at most 1000 bytes, got .* in group 0 of part-1.parquet; write"):
        hvs.open_source(pattern)


# --- what cannot be read -----------------------------------------------------------------------------------------------


def test_a_row_without_an_image_is_a_source_error(tmp_path: Path) -> None:
    structs = pa.array([{"bytes": b"1"}, {"bytes": None}, None], pa.struct([("bytes", pa.binary())]))
    for values in (structs, pa.array([b"1", None, None])):
        source = hvs.open_source(written(tmp_path / "x.parquet", {"image": values}))
        assert source.read(0).data == b"1"
        for index in (1, 2):
            with pytest.raises(SourceError, match=rf"the bytes of an image in x.parquet\[{index}\], got none"):
                source.read(index)


def test_an_image_too_large_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.sources.columns.MAX_FILE_BYTES", 3)
    source = hvs.open_source(written(tmp_path / "x.parquet", {"image": [b"123", b"1234"]}))
    assert source.read(0).data == b"123"
    with pytest.raises(SourceError, match=r"at most 3 bytes, got 4 in x.parquet\[1\]"):
        source.read(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes that do not end like one in x.parquet"),
        (b"PAR1", "got 4 bytes that do not end like one"),
        (encoded(0), "do not end like one"),
        (b"PAR1" + (2**31).to_bytes(4, "little") + b"PAR1", "a footer of at most 4 bytes in x.parquet, got 2147483648"),
        (b"PAR1" + b"\xff" * 64 + (64).to_bytes(4, "little") + b"PAR1", "a broken footer in x.parquet"),
    ],
)
def test_a_file_that_is_no_parquet_file(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        hvs.open_source(tmp_path / "x.parquet")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open the Parquet files: .*gone.parquet.*; check the path"):
        hvs.open_source(tmp_path / "gone.parquet")


def test_a_broken_row_group_costs_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(arrow_table(PHOTOS), path, row_group_size=5, compression="NONE")
    group = pq.read_metadata(path).row_group(1)
    image = next(group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "image")
    start = image.dictionary_page_offset or image.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    source = hvs.open_source(path)
    assert source.read(0).data == PHOTOS[0].data
    for _ in range(2):
        with pytest.raises((SourceError, OSError)):
            source.read(6)
    assert source.read(11).data == PHOTOS[11].data


def test_a_file_that_was_cut_while_in_use(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(arrow_table(PHOTOS), path, row_group_size=5)
    source = hvs.open_source(path)
    os.truncate(path, 10)
    with pytest.raises(SourceError, match="it was cut"):
        source.read(0)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = written(tmp_path / "x.parquet", {"image": [b"1"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.types", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'pyarrow'.*hvs_data\[parquet\]"):
        hvs.open_source(path)
