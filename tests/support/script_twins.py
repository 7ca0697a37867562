"""Example scripts run in this process: under a witness, and beside the script that each was before, on the same views."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.utils.data
from torch import Tensor, nn

import hvs_data as hvs
from example_scripts import EXAMPLES, SmallResNet, recorded_losses
from hvs_data.loaders.sampler import EpochSampler
from witness import PlainViews, Witness


@dataclass
class Run:
    """What a script did.

    Attributes:
        losses: one a step.
        witness: of the loader, where one was asked for.
        batches: that the trainer was handed, where they were asked for.
        epochs: that it named to ``sampler.set_epoch``.
    """

    losses: list[float] = field(default_factory=list)
    witness: Witness | None = None
    batches: list[hvs.Batch] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


def run_script(path: Path, *arguments: Any, seed: int = 0, replaced: tuple[Any, ...] = ()) -> Run:
    """Run a script from the same seed each time, with some things in other modules replaced; looking ahead is an error."""
    run, was_joined = Run(), dist.is_initialized()
    name_epoch = EpochSampler.set_epoch

    def noting(sampler: EpochSampler, epoch: int) -> None:
        run.epochs.append(epoch)
        name_epoch(sampler, epoch)

    torch.manual_seed(seed)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error", hvs.StaleSelectionWarning)
        for context in (
            mock.patch.object(sys, "argv", [str(path), *map(str, arguments)]),
            mock.patch.object(sys, "path", [str(path.parent), *sys.path]),  # as Python does for a script
            mock.patch.object(EpochSampler, "set_epoch", noting),
            mock.patch("torchvision.models.resnet18", SmallResNet),
            one_thread(),
            *replaced,
        ):
            stack.enter_context(context)
        run.losses = stack.enter_context(recorded_losses())
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            if dist.is_initialized() and not was_joined:
                dist.destroy_process_group()
    return run


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_witnessed(
    script: str,
    *arguments: Any,
    modules_of: Callable[[Any], Mapping[str, nn.Module]],
    pair_losses: Callable[[Mapping[str, nn.Module], list[Tensor]], Tensor],
    with_batch: Callable[[hvs.Batch, hvs.HardViewLoader], None] = lambda batch, loader: None,
) -> Run:
    """A script of docs/examples whose every batch is checked by a :class:`Witness`.

    Args:
        modules_of: from the script's objective to what the witness takes as ``modules``.
        pair_losses: as of the witness.
        with_batch: called with each batch before it is handed out, for formulas that need more than views.
    """
    found: list[Witness] = []

    def make(*given: Any, **options: Any) -> hvs.HardViewLoader:
        loader = original(*given, **options)
        format = loader.format

        def handed_out(batch: hvs.Batch) -> Any:
            with_batch(batch, loader)
            return batch if format is None else format(batch)

        loader.format = handed_out
        found.append(Witness(loader, modules_of(loader.selector.objective), pair_losses))
        return loader

    original = hvs.HardViewLoader
    run = run_script(EXAMPLES / script, *arguments, replaced=(mock.patch.object(hvs, "HardViewLoader", make),))
    (run.witness,) = found
    return run


def run_with_random_pairs(script: str, *arguments: Any) -> Run:
    """A script of docs/examples whose selector chooses without asking the model; its batches are kept."""
    batches: list[hvs.Batch] = []

    def make(loader: Any, selector: hvs.HardViewSelector, **options: Any) -> hvs.HardViewLoader:
        again = hvs.HardViewSelector(selector.objective, policy="random", score_locals=selector.score_locals)
        hard = original(loader, again, **options)
        format = hard.format

        def kept(batch: hvs.Batch) -> Any:
            batches.append(batch)
            return batch if format is None else format(batch)

        hard.format = kept
        return hard

    original = hvs.HardViewLoader
    run = run_script(EXAMPLES / script, *arguments, replaced=(mock.patch.object(hvs, "HardViewLoader", make),))
    run.batches = batches
    return run


class PlainMaskedViews(PlainViews):
    """With iBOT's masks: an item is ``(views, label, masks)``."""

    def __init__(self, batches: list[hvs.Batch]):
        super().__init__(batches)
        self.masks = [torch.cat(masks) for masks in zip(*(batch.masks for batch in batches), strict=True)]

    def __getitem__(self, number: int) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        return *super().__getitem__(number), [mask[number] for mask in self.masks]

    def set_epoch(self, epoch: int) -> None:
        """As official iBOT's dataset has it."""


def run_before(script: str, batches: list[hvs.Batch], *arguments: Any, collate: Callable[[list[Any]], Any] | None = None) -> Run:
    """The script as it was before hvs_data, whose DataLoader holds the views of these batches of one epoch, in their order.

    Args:
        collate: in place of the script's own, from items of :class:`PlainViews`.
    """
    views = PlainViews(batches) if batches[0].masks is None else PlainMaskedViews(batches)

    def make(dataset: Any, batch_size: int, **options: Any) -> Any:
        alone = torch.utils.data.DistributedSampler(views, num_replicas=1, rank=0, shuffle=False)
        # a generator of its own, as a DataLoader draws a number of torch's at each start, which no training on the same views should see
        return original(views, batch_size, sampler=alone, collate_fn=collate, generator=torch.Generator())

    original = torch.utils.data.DataLoader
    return run_script(EXAMPLES / "before" / script, *arguments, replaced=(mock.patch.object(torch.utils.data, "DataLoader", make),))
