"""Probes of frozen features: k-NN and a linear classifier, both by scikit-learn."""

# Axes: N photo, F feature.

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import nn

from harness.data.images import Split
from hvs_data.demo.evaluation import Labelled, features, nearest_neighbours

NEIGHBOURS = 20
INVERSE_PENALTY = 0.01  # of the linear classifier on standardised features; chosen once, on vanilla SimCLR, and the same for all arms
ITERATIONS = 200


@dataclass(frozen=True)
class Scores:
    """Accuracy on the held-out images, 0 to 1."""

    knn: float
    linear: float


def scores(encoder: nn.Module, split: Split, size: int) -> Scores:
    """Fit both classifiers on the training images' features, and test them.

    Args:
        encoder: maps [N, 3, S, S] to features [N, F].
        split: labelled images.
        size: side of the centre crops, in pixels.
    """
    fitted, held_out = features(encoder, split.train, size), features(encoder, split.test, size)
    return Scores(knn(fitted, held_out), linear(fitted, held_out))


def knn_of(encoder: nn.Module, split: Split, size: int) -> float:
    """Only the k-NN accuracy of :func:`scores`."""
    return knn(features(encoder, split.train, size), features(encoder, split.test, size))


def knn(fitted: Labelled, held_out: Labelled) -> float:
    """k-NN accuracy: the nearest neighbours by cosine vote with a weight of 1 / distance."""
    return nearest_neighbours(fitted, held_out, NEIGHBOURS, weights="distance")


def linear(fitted: Labelled, held_out: Labelled) -> float:
    """Accuracy of multinomial logistic regression on standardised features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(classifier.fit(*fitted).score(*held_out))
