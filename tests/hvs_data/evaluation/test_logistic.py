"""The linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hvs_data import HvsError
from hvs_data.evaluation import Features, linear


def drawn(images: int, seed: int, spread: float) -> Features:
    draw = np.random.default_rng(seed)
    label = np.arange(images) % 4
    values = 3 + 10 * np.eye(4)[label] + spread * draw.standard_normal((images, 4))
    return Features(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(label))


def test_tells_classes_apart_where_features_do() -> None:
    assert linear(drawn(120, 0, 0.5), drawn(80, 1, 0.5)) == 1.0


@pytest.mark.parametrize("inverse_penalty", [0.001, 0.1, 10.0])
def test_is_logistic_regression_of_standardised_features(inverse_penalty: float) -> None:
    train, test = drawn(120, 0, 9.0), drawn(80, 1, 9.0)
    mean, std = train.values.double().mean(0), train.values.double().std(0, correction=0)
    fitted, tested = (((its.values.double() - mean) / std).numpy() for its in (train, test))
    classifier = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(fitted, train.labels.numpy())
    expected = classifier.score(tested, test.labels.numpy())
    assert 0.3 < expected < 0.95
    assert linear(train, test, inverse_penalty, 2000) == pytest.approx(expected, abs=1 / 80 + 1e-9)


def test_half_precision_features_do() -> None:
    train, test = drawn(120, 0, 0.5), drawn(80, 1, 0.5)
    assert linear(Features(train.values.half(), train.labels), Features(test.values.half(), test.labels)) == 1.0


def test_what_means_nothing_is_refused() -> None:
    train = drawn(8, 0, 1.0)
    with pytest.raises(HvsError, match="inverse_penalty must be a number above 0, got -1"):
        linear(train, train, -1)
    with pytest.raises(HvsError, match="of two classes or more, got one class"):
        linear(Features(train.values, torch.zeros(8, dtype=torch.int64)), train)
