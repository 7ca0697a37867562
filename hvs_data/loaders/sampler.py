"""What trainers look for under a loader's ``sampler``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import SequentialSampler


class InEpochs(Protocol):
    """What a sampler asks of its loader."""

    dataset: Any

    def set_epoch(self, epoch: int) -> None: ...

    def epoch_indices(self) -> Iterable[NDArray[np.int64]]: ...


class EpochSampler:
    """A loader's order in the form of ``torch.utils.data.DistributedSampler``. It steers the loader and is not read by it.

    Args:
        loader: the loader that it belongs to.
    """

    def __init__(self, loader: InEpochs):
        self._loader = loader

    def set_epoch(self, epoch: int) -> None:
        """As the loader's own ``set_epoch``."""
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        """Samples of a whole epoch on this rank."""
        return sum(len(indices) for indices in self._loader.epoch_indices())

    def __iter__(self) -> Iterator[int]:
        """Indices in the source of this rank's samples, in the order of the loader's next iteration, which is not begun by this."""
        for indices in self._loader.epoch_indices():
            yield from indices.tolist()


class InOrderSampler(EpochSampler, SequentialSampler):
    """The same of a loader that does not shuffle, for trainers that ask by the class whether one does."""

    def __init__(self, loader: InEpochs):
        super().__init__(loader)
        self.data_source = loader.dataset  # as torch's has it
