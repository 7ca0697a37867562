"""Probes of frozen features."""

from __future__ import annotations

import numpy as np
import torch

from harness.pretraining import probes
from hvs_data.evaluation import Features


def split(values: np.ndarray, label: np.ndarray) -> tuple[Features, Features]:
    made = Features(torch.from_numpy(values), torch.from_numpy(label))
    return Features(made.values[:120], made.labels[:120]), Features(made.values[120:], made.labels[120:])


def test_probes_tell_classes_apart_where_features_do() -> None:
    draw = np.random.default_rng(0)
    label = np.arange(200) % 4
    apart = np.eye(4, dtype=np.float32)[label] + 0.1 * draw.standard_normal((200, 4)).astype(np.float32)
    assert probes.knn(*split(apart, label)).all()
    noise = draw.standard_normal((200, 4)).astype(np.float32)
    # a quarter, with a deviation of sqrt(.25 * .75 / 80) = .048
    assert abs(probes.knn(*split(noise, label)).double().mean() - 0.25) < 5 * 0.048


def test_scores_are_shares_of_the_images_named_rightly() -> None:
    its = probes.Scores.of(knn=torch.tensor([True, False, True, True]), linear=torch.tensor([False, False, True, False]))
    assert (its.knn, its.linear) == (0.75, 0.25)
