"""Which settings lie on the frontier of cost and hardness."""

from __future__ import annotations

from harness.reporting.frontier import frontier


def test_a_point_is_on_the_frontier_unless_another_is_no_worse_in_both() -> None:
    points = [(1.0, 0.0), (1.1, 0.5), (1.1, 0.6), (1.2, 0.6), (1.3, 0.9), (1.25, 0.9), (1.05, -0.1), (1.1, 0.6)]
    assert frontier(points) == [True, False, True, False, False, True, False, False]
    assert frontier([(2.0, 1.0)]) == [True]
