"""Images of which no loss was finite: counted, and told of once."""

# Axes: B image, P pair.

from __future__ import annotations

import warnings
from collections import deque

from torch import Tensor

from hvs_data.selection.geometry import HostCopy


class UnfitImages:
    """Counts images whose losses are all NaN or infinite, without waiting for the device that it is on."""

    def __init__(self) -> None:
        self._count = 0
        self._pending: deque[tuple[int, int, HostCopy]] = deque()

    @property
    def count(self) -> int:
        """So far. Waits for losses that are still being computed."""
        self._absorb(wait=True)
        return self._count

    def note(self, step: int, loss_BP: Tensor) -> None:
        """Take note of the losses of a step, of all pairs that could be chosen.

        Warns:
            RuntimeWarning: once, as soon as one that is not finite is known of.
        """
        self._pending.append((step, len(loss_BP), HostCopy((~loss_BP.isfinite().any(1)).sum())))
        self._absorb(wait=False)

    def _absorb(self, wait: bool) -> None:
        while self._pending and (wait or self._pending[0][2].arrived):
            step, images, copied = self._pending.popleft()
            unfit = int(copied.numpy())
            if unfit and not self._count:
                warnings.warn(
                    f"expected finite losses of the candidates, got none for {unfit} of {images} images in step {step}; they get their "
                    "first legal pair, as do others from now on (selector.unfit_images counts them). Look for NaN in the model's weights, "
                    "and for overflow in low precision",
                    RuntimeWarning,
                    stacklevel=6,
                )
            self._count += unfit
