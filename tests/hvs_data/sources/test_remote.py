"""Shards and Parquet files behind URLs: a web server of this machine and fsspec's file system in memory, sound, failing and slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hvs_data as hvs
from http_files import HttpFiles, serve
from hvs_data.errors import MissingDependencyError, SourceError
from hvs_data.sources import retry
from hvs_data.sources.places import places
from hvs_data.sources.remote import RemoteStorage
from hvs_data.sources.retry import Retries
from hvs_data.sources.shards import open_shards
from hvs_data.sources.storage import shown
from source_contract import check_after_fork, check_samples, check_threads, parquet, photos, shards

pytest.importorskip("fsspec")

PHOTOS = photos(12)
QUICK = Retries(attempts=4, first_wait=0.001)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "sleep", lambda seconds: time.sleep(min(seconds, 0.01)))


# --- a web server ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpFiles]:
    pytest.importorskip("aiohttp")
    (tmp_path / "data").mkdir()
    shards(tmp_path / "data", PHOTOS)
    with serve() as files:
        files.files = {path.name: path.read_bytes() for path in (tmp_path / "data").glob("*.tar")}
        yield files


def shards_of(server: HttpFiles, **options: Any) -> Any:
    return hvs.open_source(server.url + "train-{0000..0002}.tar", **options)


def test_shards_of_a_web_server(server: HttpFiles, tmp_path: Path) -> None:
    source = shards_of(server)
    check_samples(source, PHOTOS)
    assert source.name_of(0) == f"train-0000.tar/{PHOTOS[0].key}.jpg"
    check_threads(source, PHOTOS)
    # the same fingerprint as on a disk: a run may move from one to the other
    assert source.fingerprint == hvs.open_source(tmp_path / "data" / "train-{0000..0002}.tar").fingerprint


def test_one_image_is_one_request_of_its_bytes(server: HttpFiles) -> None:
    source = shards_of(server)
    del server.requests[:]
    source.read(0)
    offset, size = int(source.index.offset_N[0]), int(source.index.size_N[0])
    assert server.requests == [("GET", "train-0000.tar", f"bytes={offset}-{offset + size - 1}")]


def test_the_index_is_kept_until_the_file_changes(server: HttpFiles) -> None:
    shards_of(server)
    del server.requests[:]
    check = shards_of(server)
    assert [request for request in server.requests if request[0] == "GET"] == []
    server.etag = '"2"'
    assert shards_of(server).fingerprint == check.fingerprint
    assert len([request for request in server.requests if request[0] == "GET"]) == 3


def test_an_index_is_not_kept_where_a_change_could_not_be_told(server: HttpFiles, cache: Path) -> None:
    server.etag = None
    check_samples(shards_of(server), PHOTOS)
    assert not cache.exists()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_connects_anew(server: HttpFiles) -> None:
    check_after_fork(shards_of(server), PHOTOS)


@pytest.mark.parametrize("failure", [500, 503, 429, 408, "drop", 0.3], ids=str)
def test_failures_that_pass_are_waited_for(failure: int | float | str, server: HttpFiles) -> None:
    storage = RemoteStorage(server.url + "train-0000.tar", retries=QUICK, timeout=0.1)
    data = server.files["train-0000.tar"]
    server.failures.extend([failure] * 3)
    assert storage.read_at(server.url + "train-0000.tar", 512, 2000) == data[512:2512]
    assert not server.failures


@pytest.mark.parametrize("failure", [500, "drop", 0.3], ids=str)
def test_failures_that_stay_are_an_os_error_after_a_bounded_time(failure: int | float | str, server: HttpFiles) -> None:
    storage = RemoteStorage(server.url + "train-0000.tar", retries=QUICK, timeout=0.1)
    server.failures.extend([failure] * 40)
    begin = time.monotonic()
    with pytest.raises(OSError, match=r"127.0.0.1:\d+/train-0000.tar|payload|disconnected|closed") as caught:
        storage.read_at(server.url + "train-0000.tar?signature=secret", 512, 2000)
    # four attempts of at most 0.1 s and waits of at most 0.01 s, beside what a busy machine takes
    assert time.monotonic() - begin < 10
    assert len(server.failures) == 36 and "secret" not in str(caught.value)


@pytest.mark.parametrize("failure", [401, 403, 404, 410])
def test_a_refusal_is_final(failure: int, server: HttpFiles) -> None:
    source = shards_of(server)
    server.failures.extend([failure] * 5)
    with pytest.raises(OSError):
        source.read(0)
    assert len(server.failures) == 4


def test_a_loader_lives_through_a_failing_server(server: HttpFiles) -> None:
    source = shards_of(server)
    server.failures.extend([503, "drop", 500, 0.05])  # fewer than the attempts at one image, should they all meet it
    loader = hvs.ViewLoader(source, hvs.recipes.simsiam(size=16), batch_size=4, num_threads=3, engine="reference")
    assert sorted(int(index) for batch in loader for index in batch.index) == list(range(12))
    assert not len(loader.quarantine) and not server.failures


def test_a_server_without_ranges_is_told(server: HttpFiles) -> None:
    server.ranges = False
    storage = RemoteStorage(server.url, retries=QUICK)
    with pytest.raises(SourceError, match="got .*: the server does not answer range requests; use another server or download"):
        storage.read_at(server.url + "train-0000.tar", 512, 100)


def test_a_missing_shard_is_named_without_its_keys(server: HttpFiles) -> None:
    with pytest.raises(SourceError, match=r"cannot open the shards: .*/gone.tar does not exist; check") as caught:
        hvs.open_source(server.url + "gone.tar?signature=secret")
    assert "secret" not in str(caught.value)


def test_a_damaged_shard_behind_a_url(server: HttpFiles) -> None:
    server.files["train-0002.tar"] = server.files["train-0002.tar"][:1600]
    with pytest.raises(SourceError, match="the shard train-0002.tar is damaged at offset"):
        shards_of(server)


def test_few_requests_index_a_shard(server: HttpFiles) -> None:
    shards_of(server)
    assert [name for method, name, _ in server.requests if method == "GET"].count("train-0000.tar") == 1


def test_parquet_files_of_a_web_server(server: HttpFiles, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "tables").mkdir()
    parquet(tmp_path / "tables", PHOTOS)
    server.files = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    source = hvs.open_source(server.url + "part-{0,1}.parquet")
    server.failures.extend([503, "drop"])
    check_samples(source, PHOTOS)
    check_threads(source, PHOTOS, threads=4)
    assert not server.failures


# --- fsspec's file system in memory ------------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    """The file system, with shards below a folder of this test's own name."""
    import fsspec

    filesystem = fsspec.filesystem("memory")
    (tmp_path / "data").mkdir()
    shards(tmp_path / "data", PHOTOS)
    for path in (tmp_path / "data").iterdir():
        filesystem.pipe(f"/{tmp_path.name}/{path.name}", path.read_bytes())
    yield filesystem
    filesystem.rm(f"/{tmp_path.name}", recursive=True)


class Faulty:
    """In place of a file system's ``cat_file``: every third call fails or is late."""

    def __init__(self, original: Any, error: Exception):
        self.original, self.error, self.calls, self.failed = original, error, 0, 0
        self.lock = threading.Lock()

    def __call__(self, *arguments: Any, **options: Any) -> bytes:
        with self.lock:
            self.calls += 1
            fails = self.calls % 3 == 0
            self.failed += fails
        if fails:
            time.sleep(0.002)
            raise self.error
        return self.original(*arguments, **options)


class ClientError(Exception):
    """As clients of object stores have them: no OSError."""


@pytest.mark.parametrize(
    "error", [OSError("reset"), TimeoutError("late"), ClientError("slow down"), ConnectionResetError(104, "reset")], ids=repr
)
def test_errors_now_and_then_are_not_noticed(error: Exception, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(memory.cat_file, error)
    monkeypatch.setattr(memory, "cat_file", faulty)
    source = open_shards([f"memory://{tmp_path.name}/*.tar"], retries=Retries(attempts=12, first_wait=0.001))
    check_samples(source, PHOTOS)
    check_threads(source, PHOTOS, threads=4)
    assert faulty.failed > 20


def test_an_error_that_stays_is_an_os_error(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_shards([f"memory://{tmp_path.name}/*.tar"], retries=QUICK)

    def fail(*arguments: Any, **options: Any) -> bytes:
        raise ClientError("slow down")

    monkeypatch.setattr(memory, "cat_file", fail)
    with pytest.raises(OSError, match="cannot read .*train-0000.tar: ClientError: slow down"):
        source.read(0)


def test_a_short_answer_is_asked_for_again(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_shards([f"memory://{tmp_path.name}/*.tar"], retries=QUICK)
    original, short = memory.cat_file, [True, True]
    monkeypatch.setattr(memory, "cat_file", lambda *a, **o: original(*a, **o)[: -1 if short and short.pop() else None])
    assert source.read(0).data == PHOTOS[0].data and not short


def test_a_pattern_of_a_remote_folder_is_sorted_and_must_fit(memory: Any, tmp_path: Path) -> None:
    assert [place.name for place in places([f"memory://{tmp_path.name}/t*.tar"], None)] == [f"train-000{n}.tar" for n in range(3)]
    with pytest.raises(SourceError, match=r"expected files that fit 'memory://.*/x\*.tar', got none"):
        hvs.open_source(f"memory://{tmp_path.name}/x*.tar")


def test_local_and_remote_shards_in_one_list(memory: Any, tmp_path: Path) -> None:
    source = hvs.open_source([f"memory://{tmp_path.name}/train-000{{0,1}}.tar", tmp_path / "data" / "train-0002.tar"])
    check_samples(source, PHOTOS)


# --- URLs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/a?b.tar", "/data/a?b.tar"),
        ("http://host/a.tar?X-Amz-Signature=1", "http://host/a.tar"),
        ("ftp://user:word@host/a.tar", "ftp://host/a.tar"),
        ("http://host/a@b.tar", "http://host/a@b.tar"),
        ("s3://bucket/a.tar", "s3://bucket/a.tar"),
    ],
)
def test_messages_show_no_keys(path: str, expected: str) -> None:
    assert shown(path) == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nosuch://bucket/a.tar", "cannot open nosuch://bucket/a.tar: .*nosuch.*; check the protocol"),
        ("s3://bucket/train", "expected tar shards .* at a URL, got 's3://bucket/train'; name them"),
        ("http://host/a.tar.gz?x=1", "not compressed.*got 'http://host/a.tar.gz'; decompress"),
        ("pipe:curl http://host/a.tar", "got the command 'pipe:curl .*no commands are run"),
        ("pipe:rm -r x", "expected a path or a URL, got the command"),
    ],
)
def test_a_url_that_cannot_be_used(path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(path)


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match="s3://bucket/a.tar.*needs the package 's3fs'"):
        hvs.open_source("s3://bucket/a.tar")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'fsspec'.*hvs_data\[shards\]"):
        hvs.open_source("memory://a.tar")


def test_storage_options_reach_the_file_system(server: HttpFiles) -> None:
    options = {"client_kwargs": {"headers": {"X-Key": "mine"}}}
    source = shards_of(server, storage_options=options)
    assert source.read(0).data == PHOTOS[0].data and server.keys == ["mine"] * len(server.requests)
    shards_of(server)
    assert server.keys[-1] is None
