"""Line charts as SVG, small enough to stay readable on a telephone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvs_data.demo.pictures import signed

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 30, 42
LETTER = 6.0  # pixels that a letter of a legend takes on average


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend.
        y: one value a step; values that are not finite are left out.
        color: of CSS.
    """

    name: str
    y: NDArray[np.float64]
    color: str


def line_chart(x: ArrayLike, lines: Sequence[Line], *, x_label: str, y_label: str) -> str:
    """An SVG element: every value as a faint line, and over it the moving average.

    Args:
        x: increasing numbers, one a step.
        lines: curves over ``x``.
        x_label, y_label: of the axes, with units.
    """
    x = np.asarray(x, dtype=np.float64)
    finite = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    y_ticks = ticks(float(finite.min()), float(finite.max()), 5) if finite.size else ticks(0.0, 1.0, 5)
    x_ticks = ticks(float(x[0]), float(x[-1]), 5)
    to_x = _Scale(float(x[0]), max(float(x[-1]), float(x[0]) + 1), LEFT, WIDTH - RIGHT)
    to_y = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [_grid(y_ticks, to_y), _x_axis(x_ticks, to_x), _labels(x_label, y_label), _legend(lines)]
    for line in lines:
        parts.append(_curve(to_x(x), to_y(line.y), line.color, 'class="faint"'))
    for line in lines:
        parts.append(_curve(to_x(x), to_y(moving_average(line.y)), line.color, 'class="average"'))
    description = escape(f"{y_label} over {x_label}: {', '.join(line.name for line in lines)}")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{description}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers, evenly spaced: the first at or below ``low``, the last at or above ``high``, at most ``most + 2`` of them."""
    span = high - low if high > low else max(abs(low), 1.0) / 10
    power = 10 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def moving_average(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of a twentieth of the values, shorter at the ends; as many values as given."""
    half = len(y) // 40
    return np.array([y[max(0, place - half) : place + half + 1].mean() for place in range(len(y))])


@dataclass(frozen=True)
class _Scale:
    """Maps values to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: ArrayLike) -> NDArray[np.float64]:
        share = (np.asarray(value, dtype=np.float64) - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)


def _grid(y_ticks: list[float], to_y: _Scale) -> str:
    digits = max(0, -math.floor(math.log10(y_ticks[1] - y_ticks[0]) + 1e-9))
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{to_y(tick) + 4:.1f}" text-anchor="end">{signed(tick, digits)}</text>'
        for tick in y_ticks
    )


def _x_axis(x_ticks: list[float], to_x: _Scale) -> str:
    base = HEIGHT - BOTTOM
    inside = [tick for tick in x_ticks if to_x.low <= tick <= to_x.high]
    return f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>' + "".join(
        f'<line class="axis" x1="{to_x(tick):.1f}" x2="{to_x(tick):.1f}" y1="{base}" y2="{base + 4}"/>'
        f'<text x="{to_x(tick):.1f}" y="{base + 16}" text-anchor="middle">{tick:,.0f}</text>'
        for tick in inside
        if tick == int(tick)
    )


def _labels(x_label: str, y_label: str) -> str:
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text class="label" x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="label" transform="translate(12 {middle_y}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )


def _legend(lines: Sequence[Line]) -> str:
    parts, x = [], float(LEFT)
    for line in lines:
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 18:.0f}" y1="11" y2="11" stroke="{line.color}" class="average"/>'
            f'<text x="{x + 23:.0f}" y="15">{escape(line.name)}</text>'
        )
        x += 23 + LETTER * len(line.name) + 16
    return "".join(parts)


def _curve(x: NDArray[np.float64], y: NDArray[np.float64], color: str, attributes: str) -> str:
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    if len(points) == 1:
        a, b = points[0].split(",")
        return f'<circle cx="{a}" cy="{b}" r="3" fill="{color}"/>'
    return f'<polyline points="{" ".join(points)}" stroke="{color}" {attributes}/>' if points else ""
