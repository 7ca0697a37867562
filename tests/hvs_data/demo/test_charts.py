"""Charts as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from hvs_data.demo.charts import HEIGHT, WIDTH, Line, line_chart, moving_average, ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-0.731, -0.012), (0.4701, 0.4702), (1.0, 533.0), (3.0, 3.0), (-1.0, 1.0), (0.0, 0.0)]
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float) -> None:
    marks = ticks(low, high, 5)
    step = marks[1] - marks[0]
    assert marks[0] <= low + 1e-9 * step and marks[-1] >= high - 1e-9 * step
    assert 2 <= len(marks) <= 7
    assert np.allclose(np.diff(marks), step)
    mantissa = step / 10 ** np.floor(np.log10(step) + 1e-9)
    assert min(abs(mantissa - round_number) for round_number in (1, 2, 5)) < 1e-6


def test_the_moving_average_is_centred_and_as_long() -> None:
    values = np.arange(100.0) ** 2
    smooth = moving_average(values)
    assert len(smooth) == 100
    # half of a twentieth of 100 values to each side
    assert smooth[50] == pytest.approx(values[48:53].mean())
    assert smooth[0] == pytest.approx(values[:3].mean()) and smooth[-1] == pytest.approx(values[-3:].mean())
    assert moving_average(np.array([4.0])).tolist() == [4.0]


def points(svg: ElementTree.Element) -> list[np.ndarray]:
    return [
        np.array([[float(part) for part in point.split(",")] for point in line.attrib["points"].split()]) for line in svg.iter("polyline")
    ]


def test_curves_stay_inside_and_keep_their_order() -> None:
    x = np.arange(1, 61)
    up, down = np.linspace(-0.9, -0.1, 60), np.linspace(0.5, -0.95, 60)
    svg = ElementTree.fromstring(
        line_chart(x, [Line("up & <up>", up, "#123456"), Line("down", down, "#654321")], x_label="step", y_label="y")
    )
    faint_up, faint_down, mean_up, mean_down = points(svg)
    for curve in (faint_up, faint_down, mean_up, mean_down):
        assert len(curve) == 60 and (np.diff(curve[:, 0]) > 0).all()
        assert (curve >= 0).all() and (curve[:, 0] <= WIDTH).all() and (curve[:, 1] <= HEIGHT).all()
    # y grows downwards on the page
    assert (np.diff(mean_up[:, 1]) < 0).all() and (np.diff(mean_down[:, 1]) > 0).all()
    assert {"up & <up>", "down", "step", "y"} <= {text.text for text in svg.iter("text")}


def test_values_that_are_not_finite_leave_a_gap() -> None:
    y = np.array([0.1, np.nan, 0.3, 0.2])
    svg = ElementTree.fromstring(line_chart([1, 2, 3, 4], [Line("a", y, "#000")], x_label="step", y_label="y"))
    assert [len(curve) for curve in points(svg)] == [3, 3]


def test_one_step_is_a_dot_and_none_at_all_an_empty_chart() -> None:
    svg = ElementTree.fromstring(line_chart([1], [Line("a", np.array([0.2]), "#000")], x_label="step", y_label="y"))
    assert len(list(svg.iter("circle"))) == 2 and points(svg) == []
    svg = ElementTree.fromstring(line_chart([1, 2], [Line("a", np.full(2, np.nan), "#000")], x_label="step", y_label="y"))
    assert points(svg) == []
