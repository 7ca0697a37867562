"""Probes of frozen features."""

from __future__ import annotations

import numpy as np

from harness.pretraining import probes


def test_probes_tell_classes_apart_where_features_do() -> None:
    draw = np.random.default_rng(0)
    label = np.arange(200) % 4
    apart = np.eye(4, dtype=np.float32)[label] + 0.1 * draw.standard_normal((200, 4)).astype(np.float32)
    fitted, held_out = (apart[:120], label[:120]), (apart[120:], label[120:])
    assert probes.knn(fitted, held_out) == probes.linear(fitted, held_out) == 1
    noise = draw.standard_normal((200, 4)).astype(np.float32)
    fitted, held_out = (noise[:120], label[:120]), (noise[120:], label[120:])
    # a quarter, with a deviation of sqrt(.25 * .75 / 80) = .048
    assert abs(probes.knn(fitted, held_out) - 0.25) < 5 * 0.048 > abs(probes.linear(fitted, held_out) - 0.25)
