"""What does selection cost, and how much of the hardness does it capture? Whole training steps, setting by setting.

    python bench/selection.py [--data FOLDER_OR_SHARDS] [--method simsiam|simclr|dino]

Trains for a while on exactly selected pairs, so that the network is neither random nor finished. From there it measures, for every
setting of ``settings.py``: a training step's time over that of vanilla's, in alternation and with the loader; the hardness captured, as
exact losses at full size tell it; and peak memory. Takes about half an hour on two cores that do nothing else. The weights are kept, so
that measuring again does not train again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of a network that spin while they wait take the cores of the loader's

import arms  # noqa: E402
import common  # noqa: E402
import methods  # noqa: E402
import peak_memory  # noqa: E402
import probes  # noqa: E402
import torch  # noqa: E402
from frontier import SELECTION, frontier, report  # noqa: E402
from hardness import Captured, Exact, captured, exact_losses  # noqa: E402
from schema import MIN_REPEATS, check_form  # noqa: E402
from settings import EXACT, settings  # noqa: E402
from steps import StepTimes, cost, side_by_side  # noqa: E402
from timing import Spread  # noqa: E402
from training import PRECISIONS, Setup, Training  # noqa: E402

import hvs_data as hvs  # noqa: E402
from hvs_data.sources.base import Source  # noqa: E402

VANILLA = "vanilla"
WORK = common.ROOT / "build" / "bench" / "selection"
TESTS = (
    "tests/bench/test_hardness.py",
    "tests/hvs_data/selection/test_selector.py",
    "tests/hvs_data/loaders/test_hard_view_loader.py",
)
TARGET_COST, TARGET_SHARE = 1.10, 0.9
# epochs that are not trained on: of the images that are looked at, and those by which settings that learn are warmed up
LOOKED_AT, WARMED_UP = 1_000_000, 1_000_001
SIZES = {
    "simsiam": methods.Sizes(view=64, width=32, stem_stride=2, batch=32, learning_rate=0.05),
    "simclr": methods.Sizes(view=64, width=32, stem_stride=2, batch=32, learning_rate=0.1),
    "dino": methods.Sizes(view=64, width=12, batch=32, learning_rate=1e-3),
}
# ResNet-50 and ViT-S/16 (of DINO 4 + 16 candidates for 2 + 8 views), for a GPU
PUBLISHED_SIZES = {
    "simsiam": methods.Sizes(view=224, batch=256, learning_rate=0.05, published=True),
    "simclr": methods.Sizes(view=224, batch=256, learning_rate=0.3, published=True),
    "dino": methods.Sizes(view=224, batch=128, learning_rate=2.5e-4, published=True),
}


@dataclass(frozen=True)
class Amounts:
    """How much is done.

    Attributes:
        trained: steps of exact selection before anything is measured, of a schedule of four times as many.
        timed: steps of one round; a multiple of every ``every``, and of the steps that a prefilter of two fits in.
        repeats: rounds.
        batches: that captured hardness is taken from; a multiple of every ``every``.
        warm_up: batches before those, for settings that learn; a multiple of every ``every`` and of the steps that a prefilter fits in.
    """

    trained: int = 200
    timed: int = 16
    repeats: int = 5
    batches: int = 48
    warm_up: int = 48


QUICK = Amounts(trained=4, timed=6, repeats=2, batches=6, warm_up=6)


@dataclass(frozen=True)
class Bench:
    """Everything that a command line asks for.

    Attributes:
        setup: method, sizes, precision, device.
        source, data: the images, and a name for them.
        amounts: how much is done.
        settings: by name.
        seed: of everything that is drawn.
        work: folder of the weights.
    """

    setup: Setup
    source: Source
    data: str
    amounts: Amounts
    settings: dict[str, arms.Arm]
    seed: int
    work: Path

    @property
    def snapshot(self) -> Path:
        """Where the weights lie."""
        its = self.setup
        network = "published" if its.sizes.published else f"w{its.sizes.width}"
        name = f"{its.method}-{its.precision}-{its.sizes.view}px-{network}-b{its.sizes.batch}-{self.amounts.trained}steps"
        return self.work / f"{name}-{len(self.source)}images-seed{self.seed}.pt"

    def trained(self) -> None:
        """Have the weights, those from before if there are any."""
        if self.snapshot.exists():
            return
        training = Training(self.setup, self.settings[EXACT], self.source, 4 * self.amounts.trained, self.seed)
        for step in training.run():
            if step % 50 == 0:
                print(f"  trained {step} steps, loss {training.columns['loss'][-1]:.3f}", file=sys.stderr, flush=True)
            if step == self.amounts.trained:
                break
        training.save(self.snapshot)

    def training(self, setting: str) -> Training:
        """A training in this setting that starts from the weights."""
        arm = arms.ARMS[VANILLA] if setting == VANILLA else self.settings[setting]
        training = Training(self.setup, arm, self.source, 4 * self.amounts.trained, self.seed)
        training.load(self.snapshot, with_loader=False)
        return training

    def candidates(self, count: int, epoch: int) -> hvs.ViewLoader:
        """A loader of the candidates of the images that are looked at, the same ones whatever their number."""
        method = methods.build(self.setup.method, self.setup.sizes, self.seed)
        loader = hvs.ViewLoader(
            self.source,
            method.recipe(count),
            self.setup.sizes.batch,
            self.setup.device,
            self.seed,
            drop_last=True,
            num_threads=self.setup.loader_threads,
            channels_last=True,
        )
        loader.set_epoch(epoch)
        return loader


def captured_by(bench: Bench) -> dict[str, Captured]:
    """The hardness that every setting captures, all with the same weights, on the same images."""
    amounts, exact = bench.amounts, {}
    found = {}
    for name, arm in bench.settings.items():
        print(f"  hardness: {name}", file=sys.stderr, flush=True)
        for count in {4, arm.candidates} - set(exact):
            exact[count] = _exact(bench, count)
        training = bench.training(name)
        loader = bench.candidates(arm.candidates, WARMED_UP)
        fed = arms.feed(arm, loader, training.method, bench.seed, bench.setup.dtype)
        if fed.selector.prefilter is not None:  # its weights are fitted to the losses of steps before
            for _ in zip(range(amounts.warm_up), fed, strict=False):
                pass
        loader.set_epoch(LOOKED_AT)
        chosen = [batch.selection.slots.cpu() for _, batch in zip(range(amounts.batches), fed, strict=False)]
        found[name] = captured(chosen, exact[arm.candidates], exact[4])
    return found


def _exact(bench: Bench, count: int) -> list[Exact]:
    loader = bench.candidates(count, LOOKED_AT)
    return exact_losses(loader, bench.training(EXACT).method.objective(), bench.setup.dtype, bench.amounts.batches)


def usable(bench: Bench) -> tuple[dict[str, arms.Arm], dict[str, str]]:
    """Settings that can be made here, and why others cannot."""
    fine, not_run = {}, {}
    for name, arm in bench.settings.items():
        try:
            bench.training(name)
        except (hvs.HvsError, TypeError) as error:
            not_run[name] = str(error).replace("/", " ")[:300]
        else:
            fine[name] = arm
    return fine, not_run


def timed(bench: Bench) -> dict[str, list[StepTimes]]:
    """Times of a step of vanilla and of every setting."""
    trainings = {name: bench.training(name) for name in (VANILLA, *bench.settings)}
    return side_by_side(trainings, bench.amounts.timed, bench.amounts.repeats)


def entry(bench: Bench, name: str, times: dict[str, list[StepTimes]], hardness: Captured | None, peaks: dict[str, float]) -> dict[str, Any]:
    """A setting's line of the result."""
    arm = arms.ARMS[VANILLA] if name == VANILLA else bench.settings[name]

    def shares(part: str) -> float:
        return Spread(tuple(getattr(its, part) for its in times[name])).median

    return {
        "name": name,
        "selector": arm.in_words(bench.setup.sizes.view),
        "candidates": arm.candidates,
        "cost": cost(times, name, VANILLA).as_json(),
        "seconds": {part: shares(part) for part in ("wait", "select", "train")},
        "captured": None if hardness is None else hardness.share.value,
        "captured_error": None if hardness is None else hardness.share.standard_error,
        "of_four": 0.0 if hardness is None else hardness.of_four.value,
        "of_four_error": 0.0 if hardness is None else hardness.of_four.standard_error,
        "peak_mib": peaks.get(name),
        "peak_of_vanilla": peaks[name] / peaks[VANILLA] if name in peaks else None,
    }


def run(bench: Bench, arguments: list[str], quick: bool) -> dict[str, Any]:
    """Measure everything; the whole result."""
    print("training on exactly selected pairs", file=sys.stderr, flush=True)
    bench.trained()
    fine, not_run = usable(bench)
    bench.settings.clear()
    bench.settings.update(fine)
    for name, why in not_run.items():
        print(f"  cannot run {name}: {why}", file=sys.stderr, flush=True)
    hardness = captured_by(bench)
    print("times of a step", file=sys.stderr, flush=True)
    times = timed(bench)
    print("peak memory", file=sys.stderr, flush=True)
    measured = [VANILLA, EXACT] if quick else [VANILLA, *bench.settings]
    peaks = {name: peak_memory.measure(arguments, name) for name in measured}
    entries = [entry(bench, name, times, hardness.get(name), peaks) for name in (VANILLA, *bench.settings)]
    best = frontier([(its["cost"]["median"], its["of_four"]) for its in entries])
    amounts, sizes = bench.amounts, bench.setup.as_json()["sizes"]
    images = amounts.batches * bench.setup.sizes.batch
    return {
        "bench": f"selection_{bench.setup.method}{_suffix(bench.setup)}",
        "question": "what selection costs in units of a vanilla training step, and how much of the hardness it captures",
        "quick": quick,
        "conditions": common.conditions(
            data={bench.data: probes.described([bench.source])},
            sizes={
                **{name: value for name, value in sizes.items() if value >= 1},
                "trained_steps": amounts.trained,
                "timed_steps": amounts.timed,
                "images_looked_at": images,
                "parameters": sum(weight.numel() for weight in bench.training(EXACT).method.encoder.parameters()),
            },
            recipe=bench.setup.method + ("" if bench.setup.sizes.published else " at the size of small images, without blur"),
            seeds=[bench.seed],
            repeats=amounts.repeats,
            settings={
                "torch threads": str(torch.get_num_threads()),
                "loader threads": str(bench.setup.loader_threads),
                "precision of the training": bench.setup.precision,
                "network": bench.setup.method,
                "weights": f"after {amounts.trained} steps on exactly selected pairs, of a schedule of {4 * amounts.trained}",
                "memory": "resident memory of a process that makes some steps; on CUDA what torch allocates",
            },
        ),
        "settings": [{**its, "on_frontier": on} for its, on in zip(entries, best, strict=True)],
        "not_run": not_run,
        "target": target(entries),
    }


def _suffix(setup: Setup) -> str:
    """What tells the files of one method's results apart."""
    return ("_published" if setup.sizes.published else "") + ("_bf16" if setup.dtype is torch.bfloat16 else "")


def target(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The point of 1.10 x and 0.9 of the exact n = 4 gap: the cheapest setting that reaches it, else the one that misses least."""

    def missed(its: dict[str, Any]) -> float:
        return max(0.0, its["cost"]["median"] / TARGET_COST - 1) + max(0.0, 1 - its["of_four"] / TARGET_SHARE)

    nearest = min((its for its in entries if its["name"] != VANILLA), key=lambda its: (missed(its), its["cost"]["median"]))
    return {
        "cost": TARGET_COST,
        "captured": TARGET_SHARE,
        "nearest": nearest["name"],
        "reached": missed(nearest) == 0,
    }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--data", help="photographs: a folder, tar shards, or a folder of shards; by default the demo's example photos")
    made.add_argument("--method", choices=list(methods.METHODS), default="simsiam")
    made.add_argument("--precision", choices=list(PRECISIONS), default="float32", help="of the training; float32 by default")
    made.add_argument("--settings", nargs="+", help="only these, and the exact one")
    made.add_argument("--published", action="store_true", help="networks, views and batches of the publications; meant for a GPU")
    made.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    made.add_argument("--no-check", action="store_true", help="time even if the tests of what is timed fail")
    made.add_argument("--width", type=int, help="channels of the network's first stage")
    made.add_argument("--batch-size", type=int, help="images of a step (32)")
    made.add_argument("--trained", type=int, help="steps before anything is measured (200)")
    made.add_argument("--repeats", type=int, help=f"rounds that count (5; at least {MIN_REPEATS} unless --quick)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, help="threads of the network, and as many of the loader; by default the cores")
    made.add_argument("--device", default="cpu")
    made.add_argument("--work", type=Path, default=WORK, help="folder of the weights (build/bench/selection)")
    made.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    return made


def bench_of(arguments: Sequence[str]) -> Bench:
    """What a command line asks for. Sets the number of torch's threads."""
    options = parser().parse_args(arguments)
    threads = options.threads or common.cores()
    torch.set_num_threads(threads)
    amounts = QUICK if options.quick else Amounts()
    amounts = replace(amounts, trained=options.trained or amounts.trained, repeats=options.repeats or amounts.repeats)
    its = (PUBLISHED_SIZES if options.published else SIZES)[options.method]
    its = replace(its, width=8, batch=4) if options.quick else its
    sizes = replace(its, width=options.width or its.width, batch=options.batch_size or its.batch)
    every = settings(options.method)
    names = [name for name in every if options.settings is None or name == EXACT or name in options.settings]
    setup = Setup(options.method, sizes, options.precision, options.device, threads)
    source, name = probes.opened(options.data), probes.name_of(options.data)
    return Bench(setup, source, name, amounts, {its: every[its] for its in names}, options.seed, options.work)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    if not options.no_check:
        common.refuse_if_tests_fail(TESTS)
    bench = bench_of(arguments)
    result = run(bench, arguments, options.quick)
    folder = options.out or (common.QUICK_RESULTS if options.quick else common.RESULTS)
    path = common.write_result(result, folder, check=lambda its: check_form(its, SELECTION))
    print(report(json.loads(path.read_text())))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
