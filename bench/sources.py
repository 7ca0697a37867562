"""What 1.3 million samples cost: time to open, memory, the epoch's order, the first batch.

    python bench/sources.py [--data FOLDER]

Names and index entries are simulated, as long as ImageNet's, and repeat the few real photographs of --data; the code is what users run.
Every number is taken in a process of its own, which has imported everything and done nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data import photos
from harness.loaders.many_samples import BATCH, CASES, NAME_LENGTH, SIZE, UNITS, measure, prepare, walk_rate
from harness.measuring import results
from harness.measuring.processes import in_a_process
from harness.measuring.schema import MIN_REPEATS
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.measuring.timing import Spread, ratio
from harness.reporting import tables

BENCH = "sources"
TESTS = ("tests/hvs_data/sources", "tests/hvs_data/loaders/test_order.py")
SAMPLES, SHARDS = 1_300_000, 1282
MEMORY_TARGET = 128.0


def run(options: argparse.Namespace, paths: list[str], name: str, folder: Path) -> dict[str, Any]:
    waiting = os.getloadavg()[0]
    count = max(1, min(SHARDS, options.samples // 1000))
    prepare(folder, paths, options.samples, count)
    request = {"paths": paths, "samples": options.samples, "folder": str(folder)}
    taken: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(options.repeats):
        for case in CASES:
            print(case, file=sys.stderr, flush=True)
            taken[case].append(in_a_process(measure, {**request, "case": case}))
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
        "conditions": results.conditions(
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
    options = parser.parse_args(arguments)
    options.samples = options.samples or (20_000 if options.quick else SAMPLES)
    options.repeats = options.repeats or (2 if options.quick else MIN_REPEATS)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    with photos.photographs(options.data) as (name, paths), tempfile.TemporaryDirectory() as folder:
        result = run(options, paths, name, Path(folder))
    path = results.write_result(result, options.out)
    print(report(result))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
