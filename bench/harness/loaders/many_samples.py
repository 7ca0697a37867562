"""A source of very many samples: time to open it and to draw an epoch's order, its memory, and the first batch.

Names and index entries are simulated, as long as ImageNet's, and repeat a few real photographs; the code is what users run.
"""

from __future__ import annotations

import gc
import json
import os
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hvs_data as hvs
from harness.measuring.memory import MemoryWatch
from hvs_data.loaders.order import EpochOrder
from hvs_data.sources import shards
from hvs_data.sources.folder import FileSource
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.shard_index import Choice, ShardIndex, index_shard
from hvs_data.sources.storage import LocalStorage
from hvs_data.sources.tar import Window

WALKED = 8  # shards
CLASSES, IMAGE_BYTES, NAME_LENGTH = 1000, 110_000, 30
BATCH, SIZE = 256, 224
CASES = ("file names", "tar shards, indices kept", "list of (path, label)")
UNITS = {"open": "s", "memory": "MiB", "bytes a sample": "B", "fingerprint": "s", "order of a batch": "ms", "order of an epoch": "s"}


# --- what is opened ----------------------------------------------------------------------------------------------------


def long_name(name: str) -> str:
    """The same file under a name as long as ImageNet's, such as n01440764/n01440764_10026.JPEG."""
    return "./" * max(0, (NAME_LENGTH - len(name)) // 2) + name


def prepare(folder: Path, paths: Sequence[str], samples: int, count: int) -> None:
    """Links to one archive of the photographs, and a kept index for each of them as of a shard of ``samples / count`` images."""
    with tarfile.open(folder / "0.tar", "w") as archive:
        for number, path in enumerate(paths):
            archive.add(path, f"{number:05}.jpg")
    for number in range(1, count):
        os.link(folder / "0.tar", folder / f"{number}.tar")
    real = walked(str(folder / "0.tar"))

    def simulated(window: Window, name: str, *others: Any) -> ShardIndex:
        shard = int(name.removesuffix(".tar"))
        entries = np.arange(samples * shard // count, samples * (shard + 1) // count)
        which = entries % len(real)
        names = PackedStrings(f"n{entry % CLASSES:08}_{entry:09}.JPEG".rjust(NAME_LENGTH, "x") for entry in entries.tolist())
        return ShardIndex(names, real.offset_N[which], real.size_N[which], entries % CLASSES)

    walk, shards.index_shard = shards.index_shard, simulated
    shards.open_shards([pattern_of(folder)], index_cache=folder / "cache")
    shards.index_shard = walk


def walked(path: str) -> ShardIndex:
    storage = LocalStorage()
    window = Window(lambda offset, size: storage.read_at(path, offset, size), os.path.getsize(path), storage.block)
    return index_shard(window, os.path.basename(path), Choice(), "raise")


def pattern_of(folder: Path | str) -> str:
    return os.path.join(folder, "*.tar")


def opener(case: str, request: dict[str, Any]) -> Callable[[], Any]:
    root = os.path.commonpath([os.path.dirname(path) for path in request["paths"]])
    names, samples = [os.path.relpath(path, root) for path in request["paths"]], request["samples"]
    labels = np.arange(samples) % CLASSES
    if case == "file names":
        long = [long_name(name) for name in names]
        return lambda: FileSource(root, (long[number % len(long)] for number in range(samples)), labels)
    if case == "list of (path, label)":
        return lambda: [(f"{root}/{long_name(names[number % len(names)])}", int(labels[number])) for number in range(samples)]
    return lambda: hvs.open_source(pattern_of(request["folder"]), index_cache=os.path.join(request["folder"], "cache"))


# --- one process -------------------------------------------------------------------------------------------------------


def measure(request: dict[str, Any]) -> dict[str, float]:
    """All numbers of one case, in this process: those of ``UNITS``, and of the first batch."""
    for name in hvs.__all__:
        getattr(hvs, name)
    open_case = opener(request["case"], request)
    watch = MemoryWatch()
    gc.collect()
    base, found = watch.now(), {}
    found["open"], source = timed(open_case)
    gc.collect()
    found["memory"] = (watch.now() - base) / 2**20
    found["bytes a sample"] = (watch.now() - base) / len(source)
    if isinstance(source, list):
        return found
    found["fingerprint"], _ = timed(lambda: source.fingerprint)
    order = EpochOrder(len(source), seed=0, epoch=0)
    found["order of a batch"] = 1e3 * timed(lambda: order(np.arange(BATCH)))[0]
    found["order of an epoch"], _ = timed(lambda: order(np.arange(len(source))))
    return found | first_batch(source, watch)


def first_batch(source: Any, watch: MemoryWatch) -> dict[str, float]:
    """Memory and time from the open source to the first batch, with what is compiled on the way."""
    base, busy = watch.now(), watch.processor_seconds()
    with watch:
        loader = hvs.ViewLoader(source, hvs.recipes.simsiam(candidates=2, size=SIZE), batch_size=BATCH)
        iterator = iter(loader)
        seconds, batch = timed(lambda: next(iterator))
        busy = watch.processor_seconds() - busy
        iterator.close()
    return {
        "first_batch_cold_s": seconds,
        "batch_mib": sum(view.nbytes for view in batch.views) / 2**20,
        "peak_mib": (watch.peak - base) / 2**20,
        "base_mib": base / 2**20,
        "cores_used": busy / seconds,
        "state_bytes": len(json.dumps(loader.state_dict())),
    }


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


# --- walking a shard for the first time --------------------------------------------------------------------------------


def write_sparse_shard(path: Path, samples: int) -> None:
    """Headers and labels as they are, holes in place of the images."""
    with open(path, "wb") as file:
        for number in range(samples):
            key = f"n{number % CLASSES:08}_{number:09}"
            for extension, size, data in (("jpg", IMAGE_BYTES, b""), ("cls", 3, b"123")):
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = size
                file.write(entry.tobuf() + data)
                file.seek(-(-size // 512) * 512 - len(data), os.SEEK_CUR)
        file.write(b"\0" * 1024)


def walk_rate(folder: Path, samples: int) -> float:
    """Microseconds a sample, of shards in the page cache."""
    seconds = 0.0
    for number in range(WALKED):
        path = str(folder / f"walked-{number}.sparse")
        if not os.path.exists(path):
            write_sparse_shard(Path(path), samples)
        took, index = timed(lambda path=path: walked(path))
        assert len(index) == samples and index.label_N[-1] == 123
        seconds += took
    return 1e6 * seconds / (WALKED * samples)
