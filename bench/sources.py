"""What 1.3 million samples cost: time to open, memory, the epoch's order, the first batch.

Names and index entries are simulated, as long as ImageNet's, and stand for the few real photographs of --data over and over; all that
handles them is what users run. Every number is taken in a process of its own, which has imported everything and done nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import photos
import tables
from footprint import MemoryWatch
from schema import MIN_REPEATS
from timing import Spread, ratio

import hvs_data as hvs
from hvs_data.loaders.order import EpochOrder
from hvs_data.sources import shards
from hvs_data.sources.folder import FileSource
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.shard_index import Choice, ShardIndex, index_shard
from hvs_data.sources.storage import LocalStorage
from hvs_data.sources.tar import Window

BENCH = "sources"
TESTS = ("tests/hvs_data/sources", "tests/hvs_data/loaders/test_order.py")
SAMPLES, SHARDS, WALKED = 1_300_000, 1282, 8
CLASSES, IMAGE_BYTES, NAME_LENGTH = 1000, 110_000, 30
BATCH, SIZE = 256, 224
CASES = ("file names", "tar shards, indices kept", "list of (path, label)")
UNITS = {"open": "s", "memory": "MiB", "bytes a sample": "B", "fingerprint": "s", "order of a batch": "ms", "order of an epoch": "s"}
MEMORY_TARGET = 128.0


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
    """All numbers of one case, in this process."""
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


def in_a_process(request: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--worker"], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{request['case']} could not be measured:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


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
    """Microseconds a sample, of shards that lie in the page cache."""
    seconds = 0.0
    for number in range(WALKED):
        path = str(folder / f"walked-{number}.sparse")
        if not os.path.exists(path):
            write_sparse_shard(Path(path), samples)
        took, index = timed(lambda path=path: walked(path))
        assert len(index) == samples and index.label_N[-1] == 123
        seconds += took
    return 1e6 * seconds / (WALKED * samples)


# --- the result --------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, paths: list[str], name: str, folder: Path) -> dict[str, Any]:
    waiting = os.getloadavg()[0]
    count = max(1, min(SHARDS, options.samples // 1000))
    prepare(folder, paths, options.samples, count)
    request = {"paths": paths, "samples": options.samples, "folder": str(folder)}
    taken: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(options.repeats):
        for case in CASES:
            print(case, file=sys.stderr, flush=True)
            taken[case].append(in_a_process({**request, "case": case}))
    walks = Spread(tuple([walk_rate(folder, min(1014, options.samples)) for _ in range(options.repeats + 1)][1:]))
    spread_of = {
        (case, what): Spread(tuple(repeat[what] for repeat in repeats))
        for case, repeats in taken.items()
        for what in UNITS
        if what in repeats[0]
    }
    bytes_of = {case: spread_of[case, "bytes a sample"] for case in CASES}
    memory = max(spread_of[case, "memory"].median for case in CASES[:2])
    at_full_size = options.samples == SAMPLES
    return {
        "bench": BENCH,
        "question": "what 1.3 million samples cost: opening, memory, order, first batch",
        "quick": options.quick,
        "conditions": common.conditions(
            data={name: photos.described(paths)},
            sizes={"samples": options.samples, "shards": count, "view": SIZE, "batch": BATCH, "characters_of_a_name": NAME_LENGTH},
            recipe="simsiam, 2 views, for the first batch",
            seeds=[0],
            repeats=options.repeats,
            settings={
                "samples": "simulated names and index entries that stand for the photographs over and over",
                "files": "from the page cache",
                "other work": f"{waiting:.1f} processes running or waiting on average in the minute before",
                "processes": "a new one for every number; memory is what it holds more than before opening",
            },
        ),
        "measurements": [
            {"group": case, "name": what, "unit": UNITS[what], **spread.as_json(), "details": {}, "differs": "nothing"}
            for (case, what), spread in spread_of.items()
        ]
        + [
            {
                "group": "tar shards, walked for the first time",
                "name": "a sample of an image and a label",
                "unit": "us",
                **walks.as_json(),
                "details": {"seconds_for_all": walks.median * options.samples / 1e6},
                "differs": "one thread; shards on a local disk, in the page cache, with holes in place of the images",
            }
        ],
        "ratios": [
            {"group": "bytes a sample", "name": f"{CASES[2]} / {case}", **ratio(bytes_of[CASES[2]], bytes_of[case]).as_json()}
            for case in CASES[:2]
        ],
        "footprints": [
            {"group": "first batch", "name": case, "batch_size": BATCH}
            | {key: taken[case][-1][key] for key in ("batch_mib", "peak_mib", "base_mib", "first_batch_cold_s", "cores_used")}
            for case in CASES[:2]
        ],
        "targets": [
            {
                "question": "memory of the source, the larger of names and shards",
                "target": f"at most {MEMORY_TARGET:g} MiB for {SAMPLES} samples",
                "measured": memory if at_full_size else None,
                "reached": memory <= MEMORY_TARGET if at_full_size else None,
                "note": "hvs_data's own",
            }
        ],
    }


def report(result: dict[str, Any]) -> str:
    rows = [[f"{entry['group']}: {entry['name']}", tables.figure(entry["median"]), entry["unit"]] for entry in result["measurements"]]
    rows += [[f"{entry['name']}: first batch", tables.figure(entry["first_batch_cold_s"]), "s"] for entry in result["footprints"]]
    return tables.table(["median", "", ""], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of images; by default the demo's example photos")
    parser.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    parser.add_argument("--no-check", action="store_true", help="measure even if the tests of what is measured fail")
    parser.add_argument("--samples", type=int, help=f"({SAMPLES})")
    parser.add_argument("--repeats", type=int, help=f"({MIN_REPEATS})")
    parser.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(measure(json.load(sys.stdin))))
        return 0
    options.samples = options.samples or (20_000 if options.quick else SAMPLES)
    options.repeats = options.repeats or (2 if options.quick else MIN_REPEATS)
    if not options.no_check:
        common.refuse_if_tests_fail(TESTS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "photos").mkdir()
        if not options.data:
            photos.write_example_photos(Path(folder) / "photos")
        paths = photos.photo_paths(options.data or Path(folder) / "photos")
        name = Path(options.data).resolve().name if options.data else photos.EXAMPLE
        result = run(options, paths, name, Path(folder))
    path = common.write_result(result, options.out or (common.QUICK_RESULTS if options.quick else common.RESULTS))
    print(report(result))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
