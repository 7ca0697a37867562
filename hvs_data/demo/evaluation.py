"""How well nearest neighbours in the encoder's features name the class of photos that were not trained on."""

# Axes: N photo.

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import Part, Photos
from hvs_data.demo.records import Accuracy
from hvs_data.demo.settings import Settings
from hvs_data.evaluation import knn_accuracy

NEIGHBOURS = 5
BATCH = 128
MOST_FITTED, MOST_HELD_OUT = 2000, 1000  # photos that are looked at


class NeighbourTest:
    """Measures the encoder before and after the training, where the photos have labels.

    Args:
        photos: all.
        train_N, held_N: indices of those that are trained on, and of those held out.
        settings: of the run.
        skipped: why nothing is to be measured; empty where it is.

    Attributes:
        accuracy: what was measured so far.
    """

    def __init__(self, photos: Photos, train_N: NDArray[np.int64], held_N: NDArray[np.int64], settings: Settings, skipped: str):
        self._size = settings.size
        self._fitted = Part(photos.source, _some_of(train_N[photos.labels[train_N] >= 0], MOST_FITTED, settings.seed))
        self._held_out = Part(photos.source, _some_of(held_N, MOST_HELD_OUT, settings.seed))
        self.accuracy = Accuracy(skipped=skipped)
        if not skipped:
            labels = photos.labels[self._held_out.index]
            self.accuracy = Accuracy(
                majority=max(Counter(labels.tolist()).values()) / len(labels),
                neighbours=min(NEIGHBOURS, len(self._fitted)),
                fitted=len(self._fitted),
                held_out=len(self._held_out),
                classes=len(np.unique(photos.labels[photos.labels >= 0])),
            )

    def measure(self, when: str, model: SimSiam) -> None:
        """Test the model's encoder now, "before" or "after"."""
        if self.accuracy.skipped:
            return
        share = knn_accuracy(
            model.encoder, self._fitted, self._held_out, neighbours=NEIGHBOURS, temperature=None, size=self._size, batch_size=BATCH
        )
        self.accuracy = replace(self.accuracy, before=share) if when == "before" else replace(self.accuracy, after=share)
        print(f"Nearest neighbours name the class of {100 * share:.1f} % of the held-out photos {when} the training.", flush=True)


def why_no_test(labels: NDArray[np.int64], held_N: NDArray[np.int64]) -> str:
    """A sentence for photos that nearest neighbours cannot be tested on; empty where they can."""
    if (labels < 0).all():
        return "The photos have no labels, so there is no test by nearest neighbours; it takes one sub-folder a class."
    if len(np.unique(labels[held_N])) < 2:
        return "Fewer than two classes hold four photos or more, so there is no test by nearest neighbours."
    return ""


def _some_of(index: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of some indices, drawn by the seed."""
    return np.sort(np.random.default_rng(seed).permutation(index)[:most])
