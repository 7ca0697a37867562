"""What is kept of shards between runs: walked once, and built anew where it is broken, old or of another shard."""

from __future__ import annotations

import os
import pickle
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.sources import index_cache, shard_index
from hvs_data.sources.index_cache import IndexCache
from hvs_data.sources.shard_index import ShardIndex
from source_contract import check_samples, photos, shards, write_tar

PHOTOS = photos(12)
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are walked."""
    walked: list[str] = []
    original = shard_index.index_shard

    def counting(window: Any, shard: str, *others: Any) -> ShardIndex:
        walked.append(shard)
        return original(window, shard, *others)

    monkeypatch.setattr("hvs_data.sources.shards.index_shard", counting)
    return walked


def test_a_shard_is_walked_once(tmp_path: Path, walks: list[str], cache: Path) -> None:
    pattern = shards(tmp_path, PHOTOS)
    first = hvs.open_source(pattern)
    assert sorted(walks) == ["train-0000.tar", "train-0001.tar", "train-0002.tar"]
    second = hvs.open_source(pattern)
    assert len(walks) == 3
    check_samples(second, PHOTOS)
    assert first.fingerprint == second.fingerprint
    assert sorted(path.suffix for path in cache.iterdir()) == [".index"] * 3
    # each a few dozen bytes a sample
    assert all(path.stat().st_size < 700 for path in cache.iterdir())


def test_a_shard_that_changed_is_walked_again(tmp_path: Path, walks: list[str]) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    hvs.open_source(path)
    write_tar(path, list(reversed(PHOTOS)))
    os.utime(path, ns=(1, 1))
    check_samples(hvs.open_source(path), list(reversed(PHOTOS)))
    os.utime(path, ns=(2, 2))
    hvs.open_source(path)
    hvs.open_source(path, image="jpg")
    hvs.open_source(path, label="cls")
    hvs.open_source(path, damaged_shards="keep")
    assert len(walks) == 6


def test_a_folder_of_ones_own(tmp_path: Path, walks: list[str], cache: Path) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    for _ in range(2):
        hvs.open_source(path, index_cache=tmp_path / "mine")
    assert len(walks) == 1 and len(list((tmp_path / "mine").iterdir())) == 1 and not cache.exists()


def broken(change: Callable[[bytes], bytes]) -> Any:
    return pytest.param(change, id=change.__name__)


def cut(content: bytes) -> bytes:
    return content[:-7]


def empty(content: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def pickled(content: bytes) -> bytes:

    return pickle.dumps({"offset": [1]})


@pytest.mark.parametrize("change", [broken(cut), broken(empty), broken(flipped), broken(pickled)])
def test_a_broken_index_is_built_anew(
    change: Callable[[bytes], bytes], tmp_path: Path, walks: list[str], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    hvs.open_source(path)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(change(content))
    check_samples(hvs.open_source(path), PHOTOS)
    assert len(walks) == 2 and "built anew, as the file is broken" in caplog.text
    assert file.read_bytes() == content


def test_an_index_of_another_version_or_shard_is_none(
    tmp_path: Path, walks: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    hvs.open_source(path)
    monkeypatch.setattr(index_cache, "VERSION", index_cache.VERSION + 1)
    hvs.open_source(path)
    assert len(walks) == 2
    (file,) = cache.iterdir()
    other = "0" * 64
    file.rename(cache / f"{other}.index")
    assert len(IndexCache(str(cache)).get(other, lambda: ShardIndex.joined([empty_index()] * 2))) == 0


def empty_index() -> ShardIndex:
    none = np.zeros(0, np.int64)
    return ShardIndex(index_cache.PackedStrings(()), none, none, none)


@pytest.mark.parametrize("obstacle", ["a file in its place", "a full disk"])
def test_a_cache_that_cannot_be_written(
    obstacle: str, tmp_path: Path, walks: list[str], cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = shards(tmp_path, PHOTOS)
    if obstacle == "a full disk":
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    else:
        cache.parent.write_text("no folder")
    for _ in range(2):
        check_samples(hvs.open_source(pattern), PHOTOS)
    assert len(walks) == 6
    assert caplog.text.count("indices of shards cannot be kept in") == 2
    assert not cache.is_dir() or list(cache.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_others_may_read_an_index_as_the_umask_has_it(umask: int, mode: int, tmp_path: Path, cache: Path) -> None:
    """Files of the tempfile module are their owner's alone, in a cache that a group shares, too."""
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    before = os.umask(umask)
    try:
        hvs.open_source(path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in cache.iterdir()] == [mode]


@pytest.mark.parametrize("variable", ["HVS_DATA_CACHE", "XDG_CACHE_HOME", None])
def test_a_user_without_a_home(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder named "~" was made where the program ran."""
    path = write_tar(tmp_path / "s.tar", PHOTOS)
    for name in ("HVS_DATA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user has no entry among the users
    if variable:
        monkeypatch.setenv(variable, "~/mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    check_samples(hvs.open_source(path), PHOTOS)
    assert list((tmp_path / "here").iterdir()) == []
    assert "this user has no home folder; they are built anew in every process; name another folder by HVS_DATA_CACHE" in caplog.text
    check_samples(hvs.open_source(path, index_cache=tmp_path / "kept"), PHOTOS)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_home_folder_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HVS_DATA_CACHE", "~/kept")  # nobody but a shell replaces it
    monkeypatch.chdir(tmp_path)
    hvs.open_source(write_tar(tmp_path / "s.tar", PHOTOS))
    assert len(list((tmp_path / "home" / "kept" / "shards").iterdir())) == 1 and not (tmp_path / "~").exists()


def test_threads_that_open_at_once_share_the_work(tmp_path: Path, walks: list[str], cache: Path) -> None:
    pattern = shards(tmp_path, PHOTOS)
    with ThreadPoolExecutor(8) as pool:
        sources = list(pool.map(hvs.open_source, [pattern] * 8))
    assert len(walks) == 3 and len({source.fingerprint for source in sources}) == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".index"] * 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_ranks_that_start_at_once_walk_each_shard_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, told = shards(tmp_path, PHOTOS), tmp_path / "told"
    original = shard_index.index_shard

    def tell(line: str) -> None:
        with open(told, "a") as file:  # one short write: lines of several processes do not mix
            file.write(f"{line}\n")

    def slow(window: Any, shard: str, *others: Any) -> ShardIndex:
        tell(f"walked {shard}")
        time.sleep(0.2)  # long enough for the others to come
        return original(window, shard, *others)

    monkeypatch.setattr("hvs_data.sources.shards.index_shard", slow)
    ranks = []
    for _ in range(3):
        rank = os.fork()
        if rank == 0:
            try:
                tell(hvs.open_source(pattern).fingerprint)
            finally:
                os._exit(0)
        ranks.append(rank)
    for rank in ranks:
        os.waitpid(rank, 0)
    lines = told.read_text().splitlines()
    assert sorted(lines)[-3:] == [f"walked train-000{number}.tar" for number in range(3)]
    assert len(lines) == 6 and len(set(lines)) == 4
    assert sorted(path.suffix for path in cache.iterdir()) == [".index"] * 3
