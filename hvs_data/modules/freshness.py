"""Whether the model has been trained since something was chosen with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from weakref import WeakSet, ref

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hvs_data.types.batch import Batch


class StaleSelectionWarning(UserWarning):
    """Views were chosen with weights that the model had at another step than the one that trains on them."""


def weights_version(modules: Iterable[nn.Module]) -> int:
    """A number that grows with every change of a parameter in place, such as a step of an optimizer. It is kept by torch on the host."""
    return sum(parameter._version for parameter in _parameters(modules))


def _parameters(modules: Iterable[nn.Module]) -> Iterable[Tensor]:
    return {id(parameter): parameter for module in modules for parameter in module.parameters()}.values()


class LookAhead:
    """Finds out whether a trainer asks for batches before it has trained on those that it has.

    Between two batches, a trainer that does not look ahead runs at least one backward pass; one that fetches k batches ahead asks for
    k + 1 of them before its first, and for one after each from then on. What counts the backward passes is a hook on the parameters,
    which is gone after the first few.

    Args:
        modules: the model's, as an objective lists them.
    """

    _ENOUGH = 4  # passes after which nothing more is to be learned

    def __init__(self, modules: Iterable[nn.Module]):
        # those that lazy modules have still to make take no hooks; the optimizer's steps show with them too
        made = [parameter for parameter in _parameters(modules) if not is_lazy(parameter)]
        self._parameters = [parameter for parameter in made if parameter.requires_grad]
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._gradient_came) for parameter in self._parameters]
        self._version = -1
        self._came = True
        self._runs: list[int] = []  # batches asked for between two signs of training

    def _gradient_came(self, parameter: Tensor) -> None:
        self._came = True

    def asked(self) -> None:
        """A batch is asked for.

        Warns:
            StaleSelectionWarning: once, as soon as looking ahead shows.
        """
        if not self._hooks:
            return
        # gradients that FSDP2 puts in place call no hook; there the optimizer's steps are what shows
        version = sum(parameter._version for parameter in self._parameters)
        if self._came or version != self._version:
            self._runs.append(0)
        self._runs[-1] += 1
        self._came, self._version = False, version
        if len(self._runs) > self._ENOUGH:
            self.close()
            # what is going on still may get longer
            first, later = self._runs[0], self._runs[1:-1]
            if first > 1 and max(later) == 1:
                warnings.warn(
                    f"expected the trainer to train on a batch before it asks for the next one, got {first} requests before the first "
                    f"backward pass and one after each since: it fetches {first - 1} ahead, and trains on views that were chosen with "
                    f"weights {first - 1} steps old. Switch its prefetching off, and keep the loader's length where it wraps the loader",
                    StaleSelectionWarning,
                    stacklevel=4,
                )

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


class KeptBatches:
    """Finds out whether batches of an iteration are trained on after its end, as ``list(loader)`` and ``itertools.cycle`` keep them.

    What shows it is a gradient that comes after the end, before any loader was asked for another batch, while all batches of the
    iteration are still there. Loops that let batches go are told by their third, and nothing is watched from then on.

    Args:
        modules: the model's, as an objective lists them.
    """

    _waiting: ClassVar[WeakSet[KeptBatches]] = WeakSet()

    def __init__(self, modules: Iterable[nn.Module]):
        self._parameters = [parameter for parameter in _parameters(modules) if parameter.requires_grad]
        self._batches: list[ref[Tensor]] | None = []
        self._hooks: list[Any] = []

    @classmethod
    def asked(cls) -> None:
        """A batch is asked for, of any loader: what was kept before was perhaps kept to be looked at."""
        for waiting in list(cls._waiting):
            waiting._stop()

    def handed_out(self, made: Any) -> None:
        """A batch whose views were chosen by the model is handed out, in whatever form."""
        tensor = _first_tensor(made)
        if self._batches is None or tensor is None:
            return
        self._batches.append(ref(tensor))
        # when a loop asks for its third batch, it has let go of its first
        if len(self._batches) > 2 and self._batches[-3]() is None:
            self._batches = None

    def close(self) -> None:
        """The iteration has ended."""
        if self._all_there() and not self._hooks:
            self._hooks = [parameter.register_post_accumulate_grad_hook(self._gradient_came) for parameter in self._parameters]
            self._waiting.add(self)

    def _all_there(self) -> bool:
        return self._batches is not None and len(self._batches) > 1 and all(tensor() is not None for tensor in self._batches)

    def _gradient_came(self, parameter: Tensor) -> None:
        kept = len(self._batches or ()) if self._all_there() else 0
        self._stop()
        if kept:
            warnings.warn(
                f"expected the trainer to train on a batch before it asks for the next one, got {kept} batches that were all kept, and a "
                "backward pass after the last of them, as with list(loader) or itertools.cycle(loader): their views were chosen with the "
                "weights of the time at which they were fetched. Iterate over the loader itself, anew in each epoch",
                StaleSelectionWarning,
                stacklevel=2,
            )

    def _stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._batches = [], None
        self._waiting.discard(self)


def _first_tensor(made: Any) -> Tensor | None:
    """One of the tensors that a format made of a batch."""
    if isinstance(made, Tensor):
        return made
    items = made.views if isinstance(made, Batch) else made.values() if isinstance(made, Mapping) else made
    if not isinstance(made, (Batch, Mapping, list, tuple)):
        return None
    return next((tensor for item in items if (tensor := _first_tensor(item)) is not None), None)
