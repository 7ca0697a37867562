"""Opening what is open already, and sources of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.sources.base import Sample, Source, checked_index, digest


class Ramp(Source):
    """Images of one grey level each."""

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> Sample:
        return Sample(np.full((2, 3, 3), checked_index(index, len(self)), np.uint8))

    @property
    def fingerprint(self) -> str:
        return "ramp"


def test_a_source_is_passed_on() -> None:
    source = Ramp()
    assert hvs.open_source(source) is source
    assert source.classes == () and repr(source) == "Ramp(4 images)"


def test_a_sample_has_no_label_and_a_plain_name() -> None:
    assert Ramp().read(2)[1:] == (-1,) and Ramp().name_of(2) == "[2]"


def test_a_source_that_misses_a_part_cannot_be_made() -> None:
    class Nameless(Source):
        def __len__(self) -> int:
            return 1

    with pytest.raises(TypeError, match="fingerprint.*read"):
        Nameless()  # type: ignore[abstract]


@pytest.mark.parametrize("data", [Ramp(), ["a.jpg"], np.zeros((2, 4, 4, 3), np.uint8)], ids=lambda data: type(data).__name__)
def test_a_layout_is_for_folders(data: Any) -> None:
    with pytest.raises(SourceError, match="expected a folder with layout='flat', got .*; leave layout out"):
        hvs.open_source(data, layout="flat")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            Ramp(),
            {"image": "jpg"},
            "expected a folder or tar shards or Parquet files or a Hugging Face dataset with image='jpg', got Ramp; leave image out",
        ),
        (["a.jpg"], {"label": "cls"}, "with label='cls', got list; leave label out"),
        (
            np.zeros((2, 4, 4, 3), np.uint8),
            {"storage_options": {"key": "secret"}},
            r"expected tar shards or Parquet files with storage_options={\.\.\.}, got ndarray",
        ),
        (
            "a.parquet",
            {"damaged_shards": "keep"},
            "expected tar shards with damaged_shards='keep', got 'a.parquet'; leave damaged_shards out",
        ),
        ("a.parquet", {"index_cache": "x"}, "expected tar shards with index_cache='x'"),
        ("a.tar", {"layout": "flat"}, "expected a folder with layout='flat', got 'a.tar'; leave layout out"),
        ("folder", {"index_cache": "x"}, "expected tar shards with index_cache='x', got 'folder'"),
    ],
    ids=str,
)
def test_an_option_that_means_nothing_is_refused(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(data, **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{a.tar,b.parquet}", "files of one kind in {a.tar,b.parquet}, got 'a.tar' and 'b.parquet'; open them apart"),
        (["a.tar", "b.jpg"], "files of one kind in a list of 2 paths, got 'a.tar' and 'b.jpg'"),
        (["a.jpg", "b.tar"], "files of one kind"),
        (["a.tar", 3], "files of one kind"),
        (["a.tar", "b.tgz"], "tar shards that are not compressed.*got 'b.tgz'; decompress"),
        ("a.tar.gz", "tar shards that are not compressed.*got 'a.tar.gz'"),
        ("a-{0..3}.tar.zst", "got 'a-0.tar.zst'"),
    ],
)
def test_files_of_a_kind_are_opened_together(data: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(data)


@pytest.mark.parametrize("data", ["", " ", "\n"])
def test_an_empty_path_is_no_folder(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a variable that is not set took the working folder."""
    (tmp_path / "1.jpg").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match='expected a path, got .*variable that is not set; .* "." for this folder'):
        hvs.open_source(data)
    assert len(hvs.open_source(".")) == len(hvs.open_source(Path())) == 1


@pytest.mark.parametrize("option", ["image", "label", "index_cache"])
def test_an_empty_name_is_none(option: str) -> None:
    with pytest.raises(SourceError, match=f"expected a name as {option}, got an empty text"):
        hvs.open_source("a.tar", **{option: ""})


def test_the_protocol_has_public_names() -> None:
    assert hvs.Source is Source and hvs.Sample is Sample


class Database:
    """What the page's example reads from."""

    def count(self) -> int:
        return 5

    def fetch(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((8, 9, 3), index, np.uint8), index % 2

    def version(self) -> str:
        return "5 grey images"

    def key(self, index: int) -> str:
        return f"grey/{index}"


def test_the_example_of_the_page_works() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    names: dict[str, Any] = {"database": Database()}
    exec(example, names)
    loader = names["loader"]
    assert loader.dataset.name_of(3) == "grey/3" and loader.dataset.classes == ("cat", "dog")
    (batch,) = hvs.ViewLoader(loader.dataset, hvs.recipes.simsiam(size=16), batch_size=5, num_threads=1, engine="reference")
    assert sorted(zip(batch.index.tolist(), batch.labels.tolist(), strict=True)) == [(index, index % 2) for index in range(5)]


def test_digests_tell_parts_apart() -> None:
    assert len({digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc"), digest(b"abc", b"")}) == 4
