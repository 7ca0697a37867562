"""A linear classifier on frozen features, by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.values import real_number
from hvs_data.errors import HvsError, MissingDependencyError
from hvs_data.evaluation.extraction import Features, Images, check_same_length, checked_whole, features_of_both


def linear_accuracy(
    encoder: Callable[[Tensor], Tensor],
    train: Images | Features,
    test: Images | Features,
    *,
    inverse_penalty: float = 0.01,
    iterations: int = 200,
    **options: Any,
) -> float:
    """Share of the test images that a linear classifier of the encoder's features names, fitted on the training images.

    Args:
        encoder: maps views [B, C, H, W] to features [B, F].
        train, test: labelled images, as :func:`features` takes them, or their features.
        inverse_penalty, iterations: as in :func:`linear`.
        options: of :func:`features`, such as ``size``.

    Returns:
        From 0 to 1.

    Raises:
        HvsError: as :func:`features` and :func:`linear`.
        MissingDependencyError: scikit-learn is not installed.
    """
    fitted, tested = features_of_both(encoder, train, test, options)
    return linear(fitted, tested, inverse_penalty, iterations)


def linear(train: Features, test: Features, inverse_penalty: float = 0.01, iterations: int = 200) -> float:
    """Share of the test images that multinomial logistic regression on standardised features names.

    One view an image, no augmentation, no learning rate to be tuned: quicker and steadier than the linear evaluation of publications,
    which trains with augmented views and comes out a few points higher.

    Args:
        train, test: their features.
        inverse_penalty: scikit-learn's C, above 0; the smaller, the stronger the penalty on weights.
        iterations: of the solver at most; a classifier that has not converged by then is taken as it is.

    Raises:
        HvsError: features of different lengths, training images of one class only, or an argument that means nothing.
        MissingDependencyError: scikit-learn is not installed.
    """
    return float((predicted(train, test, inverse_penalty, iterations) == test.labels).float().mean())


def predicted(train: Features, test: Features, inverse_penalty: float, iterations: int) -> Tensor:
    """The classes that :func:`linear`'s classifier names the test images: int64 [N]."""
    check_same_length(train, test)
    number = real_number(inverse_penalty)
    if number is None or not number > 0:
        raise HvsError(f"inverse_penalty must be a number above 0, got {inverse_penalty!r}; it is scikit-learn's C")
    most = checked_whole("iterations", iterations, "the most iterations of the solver")
    if len(train.labels.unique()) < 2:
        raise HvsError("expected training images of two classes or more, got one class; there is nothing to tell apart")
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingDependencyError("scikit-learn", "evaluation", "the linear probe") from None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=number, max_iter=most))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train.values.float().numpy(), train.labels.numpy())
    return torch.from_numpy(classifier.predict(test.values.float().numpy()))
