"""What a trainer got against what it should have got: the hardest pairs under its weights of that step, or the views of a plain dataset."""

# Axes: B image, V view.

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import hvs_data as hvs


class Witness:
    """Checks, at the first training forward of every batch, that the trainer's pairs are the hardest under the weights that it has then.

    Nothing of the selector is used: the candidates are rendered anew from the batch's rows, copies of the modules are run on them, and
    every pair's loss is worked out by the test's own formula.

    Args:
        loader: its format is wrapped.
        modules: the networks that a pair's loss needs, by name. The trainer's training forward must begin with the first of them.
        pair_losses: from copies of the modules in the state of the step, in training mode, and the candidates, a list of V tensors
            [B, 3, S, S], to the loss of every pair [B, V, V]; pairs that are not legal may hold anything. With it may come a tolerance
            of this step, which then holds in place of the other.
        tolerance: on a pair's loss, for sums in another order.
        context: entered around ``pair_losses``, such as the autocast of the trainer.

    Attributes:
        checked: batches that were checked so far.
        gained: mean loss of the chosen pairs minus that of the first legal ones, one number a batch.
    """

    def __init__(
        self,
        loader: hvs.HardViewLoader,
        modules: Mapping[str, nn.Module],
        pair_losses: Callable[[Mapping[str, nn.Module], list[Tensor]], Tensor | tuple[Tensor, float]],
        *,
        tolerance: float = 1e-5,
        context: Callable[[], Any] = torch.no_grad,
    ):
        self.checked = 0
        self.gained: list[float] = []
        self._modules = dict(modules)
        self._pair_losses = pair_losses
        self._tolerance = tolerance
        self._context = context
        self._pending: hvs.Batch | None = None
        self._source = loader.dataset
        self._format = loader.format
        loader.format = self._handed_out
        next(iter(self._modules.values())).register_forward_pre_hook(self._entered)

    def _handed_out(self, batch: hvs.Batch) -> Any:
        assert self._pending is None, f"batch {batch.selection.step} was asked for before the trainer's forward of the one before it"
        self._pending = batch
        return batch if self._format is None else self._format(batch)

    def _entered(self, module: nn.Module, arguments: Any) -> None:
        if self._pending is None or not torch.is_grad_enabled() or not module.training:
            return
        batch, self._pending = self._pending, None
        copies = {name: copy.deepcopy(module).train() for name, module in self._modules.items()}
        with torch.no_grad(), self._context():
            found = self._pair_losses(copies, candidates_of(batch, self._source))
        losses_BVV, tolerance = found if isinstance(found, tuple) else (found, self._tolerance)
        losses_BVV = losses_BVV.double().cpu()
        selection = batch.selection
        image_B = torch.arange(len(losses_BVV))
        chosen_B = losses_BVV[image_B, selection.pair[:, 0], selection.pair[:, 1]]
        legal_BP = losses_BVV[:, selection.legal]
        assert (chosen_B >= legal_BP.amax(1) - tolerance).all(), f"step {selection.step}: some image has a harder pair"
        self.gained.append(float((chosen_B - legal_BP[:, 0]).mean()))
        self.checked += 1


def candidates_of(batch: hvs.Batch, source: Any) -> list[Tensor]:
    """All candidates of a batch at their own sizes, from its rows and the source's files: V tensors [B, 3, S, S]."""
    images = hvs.decode([source.read(index).data for index in batch.index.tolist()])
    dtype = batch.views[0].dtype
    return [hvs.render(images, batch.params.views([slot]), size=size, dtype=dtype)[:, 0] for slot, size in enumerate(batch.params.size)]


class PlainViews(Dataset):
    """The views of some batches as a dataset of tensors, in their order: an item is ``(views, label)``, as from an ImageFolder.

    Args:
        batches: of one loader, each of the same size, so that a DataLoader without shuffling puts the same images together.
    """

    def __init__(self, batches: Iterable[hvs.Batch]):
        batches = list(batches)
        self.views = [torch.cat(views) for views in zip(*(batch.views for batch in batches), strict=True)]
        self.labels = torch.cat([batch.labels for batch in batches])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[list[Tensor], Tensor]:
        return [view[number] for view in self.views], self.labels[number]
