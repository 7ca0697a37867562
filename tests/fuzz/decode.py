"""Decodes damaged files by the hundred thousand and checks each against Pillow, in a process that may crash.

    python tests/fuzz/decode.py --count 100000 --seed 0        # from number 0 on
    python tests/fuzz/decode.py --count 1 --first 4711 --save  # one file again; writes it below build/fuzz

A file is made of (seed, number) alone, so that every finding can be made again. Prints a table; exit status 1 if a promise was broken.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from isolated import run_isolated  # noqa: E402
from mutations import mutated  # noqa: E402
from verdicts import KEPT  # noqa: E402

MOST_SHOWN = 20


def fuzz(seed, first, count, *, seconds=10.0, headroom_mib=1024):
    """Outcomes of so many damaged files.

    Returns:
        Numbers of verdicts by (format, verdict), of the broken promises each with its number, the slowest file's seconds, and the most
        memory taken beyond that of the start, in MiB.
    """
    tasks = [(seed, number) for number in range(first, first + count)]
    verdicts, broken, slowest, grown = Counter(), [], 0.0, 0.0
    outcomes = run_isolated("verdicts:verdict_on_mutation", tasks, seconds=seconds, headroom_mib=headroom_mib)
    for task, outcome in zip(tasks, outcomes, strict=True):
        if "died" in outcome:
            broken.append((task[1], outcome["died"], outcome["trace"]))
            continue
        kind, verdict = outcome["result"]
        slowest, grown = max(slowest, outcome["seconds"]), max(grown, outcome["grown_mib"])
        if verdict in KEPT:
            verdicts[kind, verdict] += 1
        else:
            broken.append((task[1], verdict, kind))
    return verdicts, broken, slowest, grown


def main():
    parser = argparse.ArgumentParser(description="Decode damaged image files and compare with Pillow.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write the files below build/fuzz")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    verdicts, broken, slowest, grown = fuzz(arguments.seed, arguments.first, arguments.count)
    kinds = sorted({kind for kind, _ in verdicts})
    print(f"| {'of these files':<36} | {' | '.join(f'{kind:>8}' for kind in kinds)} |")
    for verdict in KEPT:
        print(f"| {verdict:<36} | {' | '.join(f'{verdicts[kind, verdict]:>8}' for kind in kinds)} |")
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"{arguments.count} files from number {arguments.first} of seed {arguments.seed} in {minutes:.1f} min: {len(broken)} broken "
        f"promises, slowest {slowest:.2f} s, memory grown by at most {grown:.0f} MiB"
    )
    for number, what, detail in broken[:MOST_SHOWN]:
        print(json.dumps({"number": number, "what": what, "detail": detail[-1500:]}, indent=1))
    saved = range(arguments.first, arguments.first + arguments.count) if arguments.save else [number for number, _, _ in broken]
    for number in saved:
        path = ROOT / "build" / "fuzz" / f"{arguments.seed}-{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(arguments.seed, number)[1])
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
