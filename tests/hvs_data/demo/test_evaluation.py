"""The test by nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.demo.evaluation import NeighbourTest, centre_view, features, knn_accuracy, nearest_neighbours, why_no_test
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import Part, hold_out, open_photos
from hvs_data.demo.settings import Settings


class MeanColor(nn.Module):
    """[N, 3, S, S] -> mean colours [N, 3]; keeps the mode that it was called in."""

    def forward(self, pixels: Tensor) -> Tensor:
        self.mode = self.training
        return pixels.mean((2, 3))


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (33, 33), (1, 90)])
def test_the_centre_view_is_the_largest_square_in_the_middle(height: int, width: int) -> None:
    params = hvs.sample_views(centre_view(24), seed=0, epoch=0, index=[0, 1, 2], height=[height] * 3, width=[width] * 3)
    side = min(height, width)
    assert params.box.tolist() == [[[(height - side) // 2, (width - side) // 2, side, side]]] * 3
    assert not params.flip.any() and not params.gray.any() and not params.blur_sigma.any()
    assert params.brightness.eq(1).all() and params.hue.eq(0).all()


def test_features_come_in_the_order_of_the_photos_in_evaluation_mode(labelled: Path) -> None:
    photos = open_photos(labelled).source
    encoder = MeanColor().train()
    feature_NF, label_N = features(encoder, Part(photos, [23, 0, 11]), 16)
    assert label_N.tolist() == [1, 0, 0] and feature_NF.shape == (3, 3)
    assert encoder.training and not encoder.mode
    one_by_one = [features(encoder, Part(photos, [index]), 16)[0][0] for index in (23, 0, 11)]
    np.testing.assert_array_equal(feature_NF, np.stack(one_by_one))


def test_neighbours_find_classes_that_the_features_tell_apart(labelled: Path) -> None:
    photos = open_photos(labelled)
    train, held = hold_out(photos.labels, seed=0)
    assert knn_accuracy(MeanColor(), Part(photos.source, train), Part(photos.source, held), 16) == 1.0


def test_neighbours_guess_where_the_features_tell_nothing(labelled: Path) -> None:
    class Same(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.ones(len(pixels), 2)

    photos = open_photos(labelled)
    train, held = hold_out(photos.labels, seed=0)
    # all photos look alike, so all get one answer, and each class holds half of them
    assert knn_accuracy(Same(), Part(photos.source, train), Part(photos.source, held), 16) == 0.5


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_neighbours_vote_as_they_do_in_numpy(weights: str) -> None:
    draw = np.random.default_rng(0)
    label_N = np.arange(150) % 3
    feature_NF = (np.eye(3)[label_N] + draw.standard_normal((150, 3))).astype(np.float32)
    unit_NF = feature_NF / np.linalg.norm(feature_NF.astype(np.float64), axis=1, keepdims=True)
    distance = 1 - unit_NF[100:] @ unit_NF[:100].T
    nearest = np.argsort(distance, axis=1)[:, :7]
    vote = 1 / np.take_along_axis(distance, nearest, axis=1) if weights == "distance" else np.ones(nearest.shape)
    votes = np.stack([(vote * (label_N[nearest] == label)).sum(1) for label in range(3)], axis=1)
    expected = (votes.argmax(1) == label_N[100:]).mean()
    assert 0.4 < expected < 0.9
    found = nearest_neighbours((feature_NF[:100], label_N[:100]), (feature_NF[100:], label_N[100:]), 7, weights)  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


def test_the_test_looks_at_labelled_photos_only_and_at_few_enough(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.demo.evaluation.MOST_FITTED", 10)
    photos = open_photos(labelled)
    train, held = hold_out(photos.labels, seed=0)
    test = NeighbourTest(photos, train, held, Settings(size=16), skipped="")
    assert (test.accuracy.fitted, test.accuracy.held_out, test.accuracy.classes, test.accuracy.majority) == (10, 6, 2, 0.5)
    test.measure("before", SimSiam(width=8, dimensions=16))
    assert test.accuracy.before is not None and 0 <= test.accuracy.before <= 1 and test.accuracy.after is None


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([-1] * 9, "no labels"),
        ([0] * 9, "Fewer than two classes"),
        ([0] * 9 + [1] * 3, "Fewer than two classes"),
        ([0] * 9 + [1] * 4, ""),
    ],
)
def test_photos_that_cannot_be_tested_on_are_told(labels: list[int], reason: str) -> None:
    given = np.array(labels)
    told = why_no_test(given, hold_out(given, seed=0)[1])
    assert reason in told and bool(told) == bool(reason)
