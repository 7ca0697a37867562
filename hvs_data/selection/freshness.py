"""Whether the model has been trained since something was chosen with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.parameter import is_lazy


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
