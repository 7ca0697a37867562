"""Probes of frozen features: k-NN and a linear classifier, both by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.data.images import Split
from hvs_data.evaluation import Features, features
from hvs_data.evaluation.logistic import predicted
from hvs_data.recipes.spec import ColorJitter, Recipe, Role
from hvs_data.sources.base import Source

NEIGHBOURS = 20
INVERSE_PENALTY = 0.01  # of the linear classifier on standardised features; chosen once, on vanilla SimCLR, and the same for all arms
ITERATIONS = 200


@dataclass(frozen=True)
class Scores:
    """How a probe names the held-out images.

    Attributes:
        knn, linear: accuracy, from 0 to 1.
        right: by name of the probe, which images it names rightly, bool [N].
    """

    knn: float
    linear: float
    right: dict[str, Tensor]

    @classmethod
    def of(cls, **right: Tensor) -> Scores:
        return cls(**{name: float(its.double().mean()) for name, its in right.items()}, right=right)


def scores(encoder: nn.Module, split: Split, size: int) -> Scores:
    """Fit both classifiers on the training images' features, and test them.

    Args:
        encoder: maps [N, 3, S, S] to features [N, F].
        split: labelled images.
        size: side of the centre crops, in pixels.
    """
    fitted, held_out = (_features(encoder, its, size) for its in (split.train, split.test))
    return Scores.of(knn=knn(fitted, held_out), linear=predicted(fitted, held_out, INVERSE_PENALTY, ITERATIONS) == held_out.labels)


def knn_of(encoder: nn.Module, split: Split, size: int) -> float:
    """Only the k-NN accuracy of :func:`scores`."""
    return float(knn(_features(encoder, split.train, size), _features(encoder, split.test, size)).double().mean())


def _features(encoder: nn.Module, images: Source, size: int) -> Features:
    """Of the largest square in the middle of each image, as it is: small images are taken whole."""
    plain = Role(candidates=1, emitted=1, size=size, scale=(1, 1), ratio=(1, 1), flip=0, jitter=ColorJitter(p=0), gray=0, blur=0)
    return features(encoder, images, recipe=Recipe("centre view", (plain,)), batch_size=128)


def knn(fitted: Features, held_out: Features) -> Tensor:
    """Which images k nearest neighbours name rightly, which by cosine vote with a weight of 1 / distance: bool [N]."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(fitted.labels)), metric="cosine", weights="distance")
    classifier.fit(fitted.values.numpy(), fitted.labels.numpy())
    return torch.from_numpy(classifier.predict(held_out.values.numpy())) == held_out.labels
