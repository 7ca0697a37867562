"""How well nearest neighbours in the encoder's features name the class of photos that were not trained on."""

# Axes: N photo, F feature.

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import hvs_data as hvs
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import Part, Photos
from hvs_data.demo.records import Accuracy
from hvs_data.demo.settings import Settings
from hvs_data.errors import MissingDependencyError
from hvs_data.recipes.spec import ColorJitter, Recipe, Role
from hvs_data.sources.base import Source

NEIGHBOURS = 5
BATCH = 128
MOST_FITTED, MOST_HELD_OUT = 2000, 1000  # photos that are looked at

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]  # features [N, F] and labels [N]


def centre_view(size: int) -> Recipe:
    """One view of a photo: the largest square in its middle, as it is."""
    plain = Role(candidates=1, emitted=1, size=size, scale=(1, 1), ratio=(1, 1), flip=0, jitter=ColorJitter(p=0), gray=0, blur=0)
    return Recipe("centre view", (plain,))


@torch.no_grad()
def features(encoder: nn.Module, photos: Source, size: int) -> Labelled:
    """The encoder's features of centre views, in evaluation mode.

    Returns:
        features [N, F] and labels [N], in the source's order; an unreadable photo is stood for by the next one.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        loader = hvs.ViewLoader(photos, centre_view(size), BATCH, shuffle=False, channels_last=True)
        batches = [(encoder(view), labels) for (view,), labels in loader]
    finally:
        encoder.train(was_training)
    feature_NF, label_N = (torch.cat(column).numpy() for column in zip(*batches, strict=True))
    return feature_NF, label_N


def knn_accuracy(encoder: nn.Module, fitted: Source, held_out: Source, size: int) -> float:
    """Share of the held-out photos whose class the nearest fitted photos name.

    Args:
        encoder: maps [N, 3, S, S] to features [N, F].
        fitted, held_out: labelled photos.
        size: side of the views in pixels.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    return nearest_neighbours(features(encoder, fitted, size), features(encoder, held_out, size), NEIGHBOURS)


def nearest_neighbours(fitted: Labelled, held_out: Labelled, neighbours: int, weights: Literal["uniform", "distance"] = "uniform") -> float:
    """Share of the held-out photos whose class most of their nearest fitted photos have, by the cosine of features.

    Args:
        fitted, held_out: features [N, F] and labels [N].
        neighbours: that vote; all fitted photos where there are fewer.
        weights: every vote counts alike, or as 1 / distance.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError:
        raise MissingDependencyError("scikit-learn", "demo", "the test by nearest neighbours") from None
    classifier = KNeighborsClassifier(min(neighbours, len(fitted[0])), metric="cosine", weights=weights)
    return float(classifier.fit(*fitted).score(*held_out))


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
        share = knn_accuracy(model.encoder, self._fitted, self._held_out, self._size)
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
