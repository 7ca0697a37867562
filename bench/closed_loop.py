"""Does the hardness that cheap settings capture last when the network trains on what they choose?

    python bench/closed_loop.py [--data FOLDER_OR_SHARDS] [--method simsiam|simclr|dino]

``selection.py`` measures on one network, trained on exact choices. Here each setting trains a network of its own, from the first step on
its own choices; after some steps, the exact losses under that network tell how hard those choices are. Nothing is timed, so the machine
may do other things meanwhile. About twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in selection.py

import torch

import hvs_data as hvs
from harness.data import images
from harness.measuring import machine, results
from harness.measuring.schema import RESULT, check_form, flag, number, text
from harness.pretraining import arms
from harness.pretraining.training import PRECISIONS, Setup, Training
from harness.reporting.tables import table
from harness.selection.bench import LOOKED_AT, SIZES
from harness.selection.hardness import captured, exact_losses
from harness.selection.settings import MANY_VIEWS, settings

SHOWN = ("8/16 size", "balanced, 8 views", "balanced, 16 views", "cheap, 8 views", "cheap, 16 views", "cheap, 32 views")
CHECKPOINTS = (25, 50, 100, 200, 400)
BATCHES = 16
FORM = {
    "bench": text,
    "question": text,
    "quick": flag,
    "conditions": RESULT["conditions"],
    "curves": [{"name": text, "selector": text, "points": [{"step": number(1), "of_four": number(), "error": number(0)}]}],
}


def choices(training: Training, arm: arms.Arm, loader: hvs.ViewLoader, batches: int) -> list[torch.Tensor]:
    """What the selector of a training would choose now from a loader's candidates: slots [B, K], a tensor for each batch."""
    fed = arms.feed(arm, loader, training.method, 0, training.setup.dtype)
    fed.selector.load_state_dict({**training.loader.selector.state_dict(), "seed": fed.selector.seed})
    return [batch.selection.slots.cpu() for _, batch in zip(range(batches), fed, strict=False)]


def curve(setup: Setup, arm: arms.Arm, source: Any, checkpoints: Sequence[int], batches: int, seed: int) -> list[dict[str, float]]:
    """The hardness captured after so many steps of training on an arm's own choices, in units of the exact choice's among four."""
    # the schedule is longer than what is trained, so that the learning rate is still high at the last checkpoint
    training = Training(setup, arm, source, 2 * max(checkpoints), seed)

    def looked_at(count: int) -> hvs.ViewLoader:
        options = {"drop_last": True, "num_threads": setup.loader_threads, "channels_last": True}
        loader = hvs.ViewLoader(source, training.method.recipe(count), setup.sizes.batch, setup.device, seed, **options)
        loader.set_epoch(LOOKED_AT)
        return loader

    points = []
    for step in training.run():
        if step in checkpoints:
            exact = {
                count: exact_losses(looked_at(count), training.method.objective(), setup.dtype, batches) for count in {4, arm.candidates}
            }
            gained = captured(choices(training, arm, looked_at(arm.candidates), batches), exact[arm.candidates], exact[4]).of_four
            points.append({"step": step, "of_four": gained.value, "error": gained.standard_error})
            print(f"  {step} steps: {gained.value:.2f} ({gained.standard_error:.2f})", file=sys.stderr, flush=True)
        if step == max(checkpoints):
            break
    return points


def report(result: dict[str, Any]) -> str:
    steps = [point["step"] for point in result["curves"][0]["points"]]
    cells = [[its["name"], *(f"{point['of_four']:.2f} ({point['error']:.2f})" for point in its["points"])] for its in result["curves"]]
    return table(["trained on its own choices for steps", *map(str, steps)], cells)


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--data", help="photographs: a folder, tar shards, or a folder of shards; by default the demo's example photos")
    made.add_argument("--method", choices=list(SIZES), default="simsiam")
    made.add_argument("--precision", choices=list(PRECISIONS), default="float32")
    made.add_argument("--settings", nargs="+", default=list(SHOWN), help="of harness/selection/settings.py")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, help="threads of the network, and as many of the loader; by default the cores")
    made.add_argument("--device", default="cpu")
    made.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    made.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    options = made.parse_args(arguments)
    threads = options.threads or machine.cores()
    torch.set_num_threads(threads)
    sizes = replace(SIZES[options.method], width=8, batch=4) if options.quick else SIZES[options.method]
    checkpoints, batches = ((2, 4), 3) if options.quick else (CHECKPOINTS, BATCHES)
    setup = Setup(options.method, sizes, options.precision, options.device, threads)
    source, every = images.opened(options.data), {**settings(options.method), **MANY_VIEWS}
    if unknown := sorted(set(options.settings) - set(every)):
        made.error(f"expected settings among {', '.join(every)}, got {', '.join(unknown)}")
    curves = []
    for name in options.settings:
        print(name, file=sys.stderr, flush=True)
        points = curve(setup, every[name], source, checkpoints, batches, options.seed)
        curves.append({"name": name, "selector": every[name].in_words(sizes.view), "points": points})
    result = {
        "bench": f"closed_loop_{options.method}",
        "question": "the hardness that settings capture under networks that train on their own choices",
        "quick": options.quick,
        "conditions": results.conditions(
            data={images.name_of(options.data): images.described([source])},
            sizes={
                **{name: value for name, value in setup.as_json()["sizes"].items() if value >= 1},
                "images_looked_at": batches * sizes.batch,
            },
            recipe=options.method,
            seeds=[options.seed],
            repeats=1,
            settings={"network": options.method, "precision of the training": options.precision},
        ),
        "curves": curves,
    }
    path = results.write_result(result, options.out, check=lambda its: check_form(its, FORM))
    print(f"{report(result)}\n\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
