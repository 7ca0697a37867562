"""Does a loader leak? 100,000 batches of small photographs, with epochs that are broken off, bad files and restarted iterations.

    python bench/soak.py [--data FOLDER] [--batches 100000]

Writes ``bench/results/<machine>/soak.json`` and a plot of memory, open files, threads and throughput beside it. Exit status 1 if
something grew.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import hvs_data as hvs
from harness.data import photos
from harness.measuring import machine, results
from harness.measuring.schema import RESULT, check_form, flag, number, text
from hvs_data.demo.charts import Line, line_chart

BENCH = "soak"
IMAGES, SIDE, VIEW, SCORED, BATCH = 256, 48, 24, 12, 4
BROKEN = 3
# What memory may differ between two long stretches of a run that does not grow: a few blocks of the allocator's arenas.
MOST_GROWTH_MIB = 16.0

# How iterations end, in turn.
KINDS = ("broken off", "ended by an exception", "two at once", "whole", "whole", "whole")

SAMPLE = {
    "batches": number(0),
    "seconds": number(0),
    "batches_per_s": number(0),
    "resident_mib": number(0),
    "open_files": number(0),
    "threads": number(1),
    "processes": number(0),
}
SOAK = {
    "bench": text,
    "question": text,
    "quick": flag,
    "conditions": RESULT["conditions"],
    "samples": [SAMPLE],
    "epochs": {kind: number(0) for kind in KINDS},
    "counters": {"read": number(0), "replaced": number(0), "bad": number(0), "retries": number(0)},
    "growth": {"resident_mib": number(), "open_files": number(), "threads": number(), "processes": number()},
    "steady": flag,
}


class Pixels(hvs.Objective):
    """Scores views by their pixels, without a model, since only the loader is tested."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)


class TrainerError(Exception):
    """A trainer's own."""


def write_small_photos(paths: Sequence[str], folder: Path) -> None:
    """Photographs at a size at which 100,000 batches take minutes, and a few files that are broken."""
    for position, path in enumerate(photos.repeated(list(paths), IMAGES)):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIDE + position % 9, SIDE - position % 5))
        small.save(folder / f"{position:04}.jpg", quality=90)
    for position in range(BROKEN):
        broken = folder / f"{position * 70:04}.jpg"
        broken.write_bytes(broken.read_bytes()[:300])


def held() -> dict[str, float]:
    """What this process holds now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = [task.read_text().split() for task in Path("/proc/self/task").glob("*/children")]
    return {
        "resident_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "open_files": len(os.listdir("/proc/self/fd")) - 1,  # one is of this look
        "threads": int(status["Threads"]),
        "processes": sum(map(len, children)),
    }


def batches(loaders: Sequence[Any], epochs: dict[str, int], draw: random.Random) -> Iterator[None]:
    """For ever, one item a batch: whole epochs for the most part, and all that trainers do instead."""
    for kind in cycle(KINDS):
        loader = draw.choice(loaders)
        epochs[kind] += 1
        stop = draw.randrange(len(loader))
        if kind == "two at once":
            for _ in zip(loader, draw.choice(loaders), strict=False):
                yield
                yield
            continue
        with suppress(TrainerError):
            for number_of_batch, _ in enumerate(loader):
                yield
                if number_of_batch == stop and kind == "broken off":
                    break
                if number_of_batch == stop and kind == "ended by an exception":
                    raise TrainerError


def soak(folder: Path, count: int, every: int, seed: int = 0) -> dict[str, Any]:
    """Take so many batches; look at what the process holds after every ``every`` ones."""
    draw = random.Random(seed)
    plain = hvs.ViewLoader(folder, hvs.recipes.simsiam(size=VIEW), BATCH, seed=seed, max_bad_share=0.05)
    candidates = hvs.ViewLoader(folder, hvs.recipes.simsiam(candidates=4, size=VIEW), BATCH, seed=seed, max_bad_share=0.05)
    hard = hvs.HardViewLoader(candidates, hvs.HardViewSelector(Pixels(), score_size=SCORED))
    epochs = dict.fromkeys(KINDS, 0)
    samples: list[dict[str, float]] = []
    begun = last = time.perf_counter()
    stream = batches([plain, hard], epochs, draw)
    for taken in range(1, count + 1):
        next(stream)
        if taken % every == 0:
            gc.collect()
            now = time.perf_counter()
            speed = {"batches": taken, "seconds": round(now - begun, 2), "batches_per_s": round(every / (now - last), 1)}
            samples.append({**speed, **held()})
            last = time.perf_counter()
    counters = {name: plain.counters[name] + candidates.counters[name] for name in plain.counters}
    return {"samples": samples, "epochs": epochs, "counters": counters, "growth": growth(samples)}


def growth(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """By how much the last third of a run holds more than the second one, typically; the first one warms up.

    Threads and open files come and go, so it is the fewest of them that a leak raises.
    """
    third = max(len(samples) // 3, 1)
    kinds = {"resident_mib": median, "open_files": min, "threads": min, "processes": min}

    def typical(name: str, part: Sequence[dict[str, float]]) -> float:
        return kinds[name]([sample[name] for sample in part])

    return {name: round(typical(name, samples[-third:]) - typical(name, samples[-2 * third : -third]), 2) for name in kinds}


def is_steady(grown: dict[str, float]) -> bool:
    return grown["resident_mib"] <= MOST_GROWTH_MIB and all(grown[name] <= 0 for name in ("open_files", "threads", "processes"))


STYLE = (
    "svg{font:11px system-ui,sans-serif;background:#fff}text{fill:#444}.grid{stroke:#e4e4e4}.axis{stroke:#999}polyline{fill:none}"
    ".faint{opacity:.25}.average{stroke-width:1.8}"
)


def plot(samples: Sequence[dict[str, float]]) -> str:
    """Four charts as one SVG file."""
    x = [sample["batches"] / 1000 for sample in samples]
    panels = [
        ("resident memory, MiB", "resident_mib", "#2a6fdb"),
        ("batches a second", "batches_per_s", "#2a9d63"),
        ("open files", "open_files", "#c2571a"),
        ("threads", "threads", "#8a4fbf"),
    ]
    charts = []
    for position, (label, name, color) in enumerate(panels):
        line = Line("", torch.tensor([sample[name] for sample in samples], dtype=torch.float64).numpy(), color)
        chart = line_chart(x, [line], x_label="batches, thousands", y_label=label)
        place = f'x="{position % 2 * 380}" y="{position // 2 * 260}" width="360" height="250"'
        charts.append(chart.replace("<svg ", f"<svg {place} ", 1))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 510"><style>{STYLE}</style>{"".join(charts)}</svg>\n'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photographs; by default the demo's example photos")
    parser.add_argument("--batches", type=int, help="100,000 by default")
    parser.add_argument("--quick", action="store_true", help="a thousand batches, to try whether everything works")
    parser.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    options = parser.parse_args(arguments)
    count = options.batches or (1000 if options.quick else 100_000)
    every = max(count // 200, 10)
    torch.set_num_threads(1)
    with photos.photographs(options.data) as (name, paths), tempfile.TemporaryDirectory() as folder:
        small = Path(folder)
        write_small_photos(paths, small)
        intact = [path for path in photos.photo_paths(small) if os.path.getsize(path) > 300]
        described = photos.described(intact)
        found = soak(small, count, every)
    result = {
        "bench": BENCH,
        "question": "whether memory, open files, threads or processes grow over many batches",
        "quick": options.quick,
        "conditions": results.conditions(
            data={f"{name}, scaled down": described},
            sizes={"batches": count, "between_looks": every, "view": VIEW, "scored": SCORED, "batch": BATCH, "broken_files": BROKEN},
            recipe="simsiam, two views; and four candidates with selection",
            seeds=[0],
            repeats=1,
            settings={"threads": f"{machine.cores()} loader threads", "torch threads": "1"},
        ),
        **found,
        "steady": is_steady(found["growth"]),
    }
    path = results.write_result(result, options.out, check=lambda it: check_form(it, SOAK))
    path.with_suffix(".svg").write_text(plot(found["samples"]))
    samples = found["samples"]
    print(f"{count} batches in {samples[-1]['seconds']:.0f} s; growth {found['growth']}")
    print(f"epochs {found['epochs']}; counters {found['counters']}")
    print(f"{'steady' if result['steady'] else 'NOT STEADY'}; written to {os.path.relpath(path)}")
    return 0 if result["steady"] else 1


if __name__ == "__main__":
    sys.exit(main())
