"""k-NN against scikit-learn's, in one block and in many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from hvs_data import HvsError
from hvs_data.evaluation import Features, knn
from hvs_data.evaluation.neighbours import nearest


def drawn(images: int, seed: int, classes: int = 3, length: int = 6) -> Features:
    draw = np.random.default_rng(seed)
    label = draw.integers(0, classes, images)
    values = np.eye(classes, length)[label] + draw.standard_normal((images, length))
    return Features(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(label))


def by_scikit_learn(train: Features, test: Features, neighbours: int, temperature: float | None) -> float:
    weights = "uniform" if temperature is None else (lambda distance: np.exp((1 - distance - 1) / temperature))
    classifier = KNeighborsClassifier(min(neighbours, len(train.labels)), metric="cosine", weights=weights)
    return float(classifier.fit(train.values.numpy(), train.labels.numpy()).score(test.values.numpy(), test.labels.numpy()))


@pytest.mark.parametrize("temperature", [0.07, 1.0, None])
@pytest.mark.parametrize("neighbours", [1, 7, 20, 1000])
def test_equals_scikit_learn(neighbours: int, temperature: float | None) -> None:
    train, test = drawn(150, 0), drawn(200, 1)
    expected = by_scikit_learn(train, test, neighbours, temperature)
    assert neighbours == 1000 or 0.4 < expected < 0.9
    assert knn(train, test, neighbours, temperature) == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 50), st.integers(0, 2**31))
def test_neighbours_do_not_depend_on_the_blocks(fitted: int, tested: int, count: int, seed: int) -> None:
    train, test = drawn(fitted, seed).values, drawn(tested, seed + 1).values
    count = min(count, fitted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvs_data.evaluation.neighbours.FITTED", 7)
        patch.setattr("hvs_data.evaluation.neighbours.TESTED", 3)
        cosine, index = nearest(train, test, count, torch.device("cpu"))
    unit = [its.double() / its.double().norm(dim=1, keepdim=True) for its in (train, test)]
    exact, _ = (unit[1] @ unit[0].T).topk(count)
    # float32 products of unit vectors of six numbers: at most 8 roundings of 2**-24 each
    torch.testing.assert_close(cosine.double(), exact, rtol=0, atol=8 * 2**-24)
    torch.testing.assert_close((unit[1][:, None] * unit[0][index]).sum(-1), exact, rtol=0, atol=16 * 2**-24)
    assert all(len(set(row)) == count for row in index.tolist())


def test_a_small_temperature_leaves_the_nearest_alone() -> None:
    train, test = drawn(150, 2), drawn(200, 3)
    # votes underflow to 0 but for the nearest one
    assert knn(train, test, 20, 1e-6) == knn(train, test, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"neighbours": 0}, "neighbours must be a whole number of at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be a number above 0, or None"),
        ({"test": drawn(5, 0, length=7)}, "expected features of one length, got 6 and 7"),
    ],
)
def test_what_means_nothing_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(HvsError, match=words):
        knn(**{"train": drawn(5, 0), "test": drawn(5, 1), **change})  # type: ignore[arg-type]
