"""The hardness that every setting captures, all with the same weights and on the same images."""

# Axes: B image, K chosen view.

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

import hvs_data as hvs
from harness.pretraining import arms
from harness.selection.bench import LOOKED_AT, WARMED_UP, Bench
from harness.selection.hardness import Captured, Exact, captured, exact_losses
from harness.selection.settings import EXACT
from hvs_data.rows.layout import Layout


@dataclass(frozen=True)
class Capture:
    """What a setting captures.

    Attributes:
        chosen: by its choices.
        first_locals: by its pairs with the first local views in place of those that rows chose; None where rows chose none.
    """

    chosen: Captured
    first_locals: Captured | None


def captured_by(bench: Bench) -> dict[str, Capture]:
    """Of every setting, by name."""
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
        selections = [batch.selection for _, batch in zip(range(amounts.batches), fed, strict=False)]
        chosen = [selection.slots.cpu() for selection in selections]
        first = None
        if fed.selector.local_geometry.pairs:
            layout = exact[arm.candidates][0].layout
            plain = [its.slots.cpu() if its.scored else with_first_locals(its.slots.cpu(), layout) for its in selections]
            first = captured(plain, exact[arm.candidates], exact[4])
        found[name] = Capture(captured(chosen, exact[arm.candidates], exact[4]), first)
    return found


def with_first_locals(slots_BK: Tensor, layout: Layout) -> Tensor:
    """The same global views, and the first local ones."""
    locals_ = torch.tensor(layout.local_slots[: layout.emitted_locals]).expand(len(slots_BK), -1)
    return torch.cat([slots_BK[:, : layout.emitted_globals], locals_], dim=1)


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
