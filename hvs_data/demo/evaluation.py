"""How well nearest neighbours in the encoder's features name the class of photos that were not trained on."""

# Axes: N photo, F feature.

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import hvs_data as hvs
from hvs_data.errors import MissingDependencyError
from hvs_data.recipes.spec import ColorJitter, Recipe, Role
from hvs_data.sources.base import Source

NEIGHBOURS = 5
BATCH = 128


def centre_view(size: int) -> Recipe:
    """One view of a photo: the largest square in its middle, as it is."""
    plain = Role(candidates=1, emitted=1, size=size, scale=(1, 1), ratio=(1, 1), flip=0, jitter=ColorJitter(p=0), gray=0, blur=0)
    return Recipe("centre view", (plain,))


@torch.no_grad()
def features(encoder: nn.Module, photos: Source, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
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
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError:
        raise MissingDependencyError("scikit-learn", "demo", "the test by nearest neighbours") from None
    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(fitted)), metric="cosine")
    classifier.fit(*features(encoder, fitted, size))
    return float(classifier.score(*features(encoder, held_out, size)))
