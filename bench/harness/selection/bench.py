"""What the benches of selection measure: settings of the selector, all from the same weights of a network trained for a while."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import hvs_data as hvs
from harness.data import images
from harness.measuring import machine, results
from harness.measuring.schema import MIN_REPEATS
from harness.pretraining import arms, methods
from harness.pretraining.training import PRECISIONS, Setup, Training
from harness.selection.settings import EXACT, settings
from hvs_data.sources.base import Source

VANILLA = "vanilla"
WORK = results.ROOT / "build" / "bench" / "selection"
# epochs that are not trained on: of the images on which hardness is measured, and of those that warm up settings that learn
LOOKED_AT, WARMED_UP = 1_000_000, 1_000_001
SIZES = {
    "simsiam": methods.Sizes(view=64, width=32, stem_stride=2, batch=32, learning_rate=0.05),
    "simclr": methods.Sizes(view=64, width=32, stem_stride=2, batch=32, learning_rate=0.1),
    "dino": methods.Sizes(view=64, width=12, batch=32, learning_rate=1e-3),
    "dinov2": methods.Sizes(view=64, width=12, batch=16, learning_rate=1e-3),
}
# ResNet-50 and ViT-S/16 (of DINO and DINOv2 4 + 16 candidates for 2 + 8 views), for a GPU
PUBLISHED_SIZES = {
    "simsiam": methods.Sizes(view=224, batch=256, learning_rate=0.05, published=True),
    "simclr": methods.Sizes(view=224, batch=256, learning_rate=0.3, published=True),
    "dino": methods.Sizes(view=224, batch=128, learning_rate=2.5e-4, published=True),
    "dinov2": methods.Sizes(view=224, batch=64, learning_rate=2.5e-4, published=True),
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
        """Train the weights, unless they were kept from an earlier run."""
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
        """A loader of candidates for measuring hardness: the same images in the same order for any number of candidates."""
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


def suffix(setup: Setup) -> str:
    """What tells the files of one method's results apart."""
    return ("_published" if setup.sizes.published else "") + ("_bf16" if setup.dtype is torch.bfloat16 else "")


def parser() -> argparse.ArgumentParser:
    """The command line of ``bench/selection.py`` and ``bench/hardness.py``."""
    made = argparse.ArgumentParser(description="What does selection cost, and how much of the hardness does it capture?")
    made.add_argument("--data", help="photographs: a folder, tar shards, or a folder of shards; by default the demo's example photos")
    made.add_argument("--method", choices=list(SIZES), default="simsiam")
    made.add_argument("--precision", choices=list(PRECISIONS), default="float32", help="of the training; float32 by default")
    made.add_argument("--settings", nargs="+", help="only these, and the exact one")
    made.add_argument("--published", action="store_true", help="networks, views and batches of the publications; meant for a GPU")
    made.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    made.add_argument("--no-check", action="store_true", help="time even if the tests of what is timed fail")
    made.add_argument("--width", type=int, help="channels of the network's first stage")
    made.add_argument("--batch-size", type=int, help="images of a step (32)")
    made.add_argument("--trained", type=int, help="steps before anything is measured (200)")
    made.add_argument("--repeats", type=int, help=f"rounds that count (5; at least {MIN_REPEATS} unless --quick)")
    made.add_argument("--batches", type=int, help="that hardness is taken from, and that warm up settings that learn (48; a multiple of 8)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, help="threads of the network, and as many of the loader; by default the cores")
    made.add_argument("--device", default="cpu")
    made.add_argument("--work", type=Path, default=WORK, help="folder of the weights (build/bench/selection)")
    made.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    return made


def bench_of(arguments: Sequence[str]) -> Bench:
    """What a command line asks for. Sets the number of torch's threads."""
    options = parser().parse_args(arguments)
    threads = options.threads or machine.cores()
    torch.set_num_threads(threads)
    amounts = QUICK if options.quick else Amounts()
    amounts = replace(
        amounts,
        trained=options.trained or amounts.trained,
        repeats=options.repeats or amounts.repeats,
        batches=options.batches or amounts.batches,
        warm_up=options.batches or amounts.warm_up,
    )
    its = (PUBLISHED_SIZES if options.published else SIZES)[options.method]
    its = replace(its, width=8, batch=4) if options.quick else its
    sizes = replace(its, width=options.width or its.width, batch=options.batch_size or its.batch)
    every = settings(options.method)
    names = [name for name in every if options.settings is None or name == EXACT or name in options.settings]
    setup = Setup(options.method, sizes, options.precision, options.device, threads)
    source, name = images.opened(options.data), images.name_of(options.data)
    return Bench(setup, source, name, amounts, {its: every[its] for its in names}, options.seed, options.work)
