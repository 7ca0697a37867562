"""Plots of the results as SVG, in colours that their page or, alone, the reader's setting of light or dark chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from harness.reporting.frontier import frontier
from harness.reporting.summary import Row
from hvs_data.demo.charts import ticks

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 480, 56, 14, 14, 44
LETTER = 5.6  # pixels that a letter takes on average
# What CSS of a page or of the file itself must say, as variables: ink, soft, line, paper, and colours a to d.
STYLE = """
.plot-svg { font: 11px system-ui, "Segoe UI", Roboto, sans-serif; }
.plot-svg text { fill: var(--soft); } .plot-svg .strong { fill: var(--ink); }
.plot-svg .grid { stroke: var(--line); } .plot-svg .axis { stroke: var(--soft); }
.plot-svg polyline, .plot-svg .whisker { fill: none; stroke-width: 1.8; }
.plot-svg .a { --c: var(--a); } .plot-svg .b { --c: var(--b); } .plot-svg .c { --c: var(--c3); } .plot-svg .d { --c: var(--d); }
.plot-svg circle { fill: var(--c); } .plot-svg polyline, .plot-svg .whisker { stroke: var(--c); }
.plot-svg .hollow { fill: var(--paper); stroke: var(--c); stroke-width: 1.4; }
.plot-svg .goal { fill: var(--a); opacity: .1; }
"""
LIGHT = "--ink:#1d2733;--soft:#5b6876;--line:#e3e8ed;--paper:#fff;--a:#d55e00;--b:#0072b2;--c3:#009e73;--d:#7a7f87;"
DARK = "--ink:#e6edf3;--soft:#9aa7b4;--line:#2c343d;--paper:#12171d;--a:#ff8a3d;--b:#58b1ea;--c3:#3cc79b;--d:#8b949e;"
# Budgets with as many candidates as they announce; named whether or not they lie on the frontier.
RECOMMENDED = ("balanced, 8 views", "cheap, 16 views")


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels along one side.

    Attributes:
        values: round numbers that are labelled; the first and the last bound the axis.
        first, last: pixels of these two.
    """

    values: Sequence[float]
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.values[0]) / (self.values[-1] - self.values[0]) * (self.last - self.first)


def alone(svg: str) -> str:
    """The plot as a file of its own, on a ground of its own."""
    theme = f":root{{{LIGHT}}}@media(prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    opening, rest = svg.split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{theme}{STYLE}</style>{_ground(svg)}{rest}\n'


def _ground(svg: str) -> str:
    width, height = svg.split('viewBox="0 0 ')[1].split('"')[0].split()
    return f'<rect width="{width}" height="{height}" rx="8" style="fill:var(--paper)"/>'


def throughput(speeds: dict[str, dict[int, float]]) -> str:
    """Images/s over the number of candidates, a line for each loader; the first one is ours.

    Args:
        speeds: images/s by loader and number of candidates.
    """
    counts = sorted({count for its in speeds.values() for count in its})
    height = 250
    y = Axis(ticks(0, max(max(its.values()) for its in speeds.values()), 5), height - BOTTOM, TOP)
    room = max(LETTER * len(name) for name in speeds) + 14
    place = {
        count: LEFT + 24 + number * (WIDTH - RIGHT - room - LEFT - 24) / max(len(counts) - 1, 1) for number, count in enumerate(counts)
    }
    parts = [_horizontal_grid(y, WIDTH - RIGHT), _label(height, "candidate views an image", "images/s")]
    parts += [text_at(place[count], height - BOTTOM + 16, f"{count}", "middle") for count in counts]
    for letter, (name, its) in zip("abcd", speeds.items(), strict=False):
        points = [(place[count], y(its[count])) for count in counts if count in its]
        parts.append(line_through(points, letter))
        for (x, top), count in zip(points, sorted(its), strict=True):
            parts.append(dot_at(x, top, letter))
            # beside the point where another one lies close above it
            close = any(0 < top - y(others[count]) < 18 for others in speeds.values() if count in others)
            x, bottom, anchor = (x - 10, top + 5, "end") if close else (x, top - 8, "middle")
            parts.append(text_at(x, bottom, f"{its[count]:.0f}", anchor, strong=letter == "a"))
        parts.append(text_at(points[-1][0] + 12, points[-1][1] + 4, name, strong=letter == "a"))
    return svg_of(height, "Images a second over the number of candidate views", parts)


def selection_frontier(settings: Sequence[dict], target: dict) -> str:
    """Cost of a step over captured hardness, a point for each setting; those on the frontier are joined and named.

    Args:
        settings: of a result of ``selection.py``.
        target: the same result's, whose corner is shaded.
    """
    height = 360
    points = [(its["cost"]["median"], its["of_four"]) for its in settings]
    x = Axis(ticks(min(1.0, *(cost for cost, _ in points)), max(cost for cost, _ in points), 6), LEFT, WIDTH - RIGHT)
    y = Axis(ticks(min(0.0, *(gain for _, gain in points)), max(gain for _, gain in points), 6), height - BOTTOM, TOP)
    corner_x, corner_y = x(target["cost"]), y(target["captured"])
    parts = [
        f'<rect class="goal" x="{LEFT}" y="{TOP}" width="{corner_x - LEFT:.1f}" height="{corner_y - TOP:.1f}"/>',
        _horizontal_grid(y, WIDTH - RIGHT),
        *(text_at(x(value), height - BOTTOM + 16, f"{value:g}", "middle") for value in x.values),
        _label(height, "time of a training step, vanilla = 1", "hardness gained, exact choice of 4 = 1"),
    ]
    best = frontier(points)
    on = sorted((point, its["name"]) for point, its, is_best in zip(points, settings, best, strict=True) if is_best)
    parts.append(line_through([(x(cost), y(gain)) for (cost, gain), _ in on], "a"))
    named = {its["name"]: point for point, its in zip(points, settings, strict=True) if its["name"] in ("exact", "vanilla")}
    for (cost, gain), its, is_best in zip(points, settings, best, strict=True):
        kind = "b" if its["name"] in named else "a" if is_best else "d"
        parts.append(
            f'<g class="{kind}"><title>{escape(its["name"])}: {cost:.2f} x, {gain:.2f}</title>'
            f'<circle class="{"" if is_best or kind == "b" else "hollow"}" cx="{x(cost):.1f}" cy="{y(gain):.1f}" r="4"/></g>'
        )
    budgets = {its["name"]: point for point, its in zip(points, settings, strict=True) if its["name"] in RECOMMENDED}
    labels = {name: point for point, name in on} | named | budgets
    places = [(x(cost), y(gain), name) for name, (cost, gain) in labels.items()]
    parts += _spread_labels(places, [(x(cost), y(gain)) for cost, gain in points], height)
    return svg_of(height, "Hardness captured over the time of a training step", parts)


def evidence(rows: Sequence[Row], probe: str, label: str) -> str:
    """Accuracy of every arm: mean, standard deviation and single seeds, best arm first.

    Args:
        rows: arms of a comparison.
        probe: "knn" or "linear".
        label: of the axis.
    """
    ordered = sorted(rows, key=lambda row: -row.accuracy(probe).mean)
    names = [row.arm + (", equal time" if row.match == "time" else "") for row in ordered]
    left = LETTER * max(len(name) for name in names) + 18
    height = TOP + 26 * len(ordered) + BOTTOM
    singles = [[100 * line[probe] for line in row.runs.values()] for row in ordered]
    reach = [value for its in singles for value in its]
    x = Axis(ticks(min(reach), max(reach), 6), left, WIDTH - RIGHT)
    bottom = height - BOTTOM + 2
    parts = [f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{TOP - 6}" y2="{bottom}"/>' for v in x.values]
    parts += [text_at(x(value), bottom + 14, f"{value:g}", "middle") for value in x.values]
    parts.append(text_at((left + WIDTH - RIGHT) / 2, height - 6, label, "middle", strong=True))
    for number, (row, name, its) in enumerate(zip(ordered, names, singles, strict=True)):
        middle, kind = (
            TOP + 26 * number + 10,
            "b" if row.arm == "vanilla" else "a" if row.arm in ("hardest", "balanced-8", "cheap-16") else "d",
        )
        parts.append(text_at(left - 10, middle + 4, name, "end", strong=kind != "d"))
        accuracy = row.accuracy(probe)
        if accuracy.deviation:
            reach_x = [x(accuracy.mean + sign * accuracy.deviation) for sign in (-1, 1)]
            parts.append(f'<line class="whisker {kind}" x1="{reach_x[0]:.1f}" x2="{reach_x[1]:.1f}" y1="{middle}" y2="{middle}"/>')
        parts += [f'<g class="{kind}"><circle class="hollow" cx="{x(value):.1f}" cy="{middle}" r="2.4"/></g>' for value in its]
        parts.append(dot_at(x(accuracy.mean), middle, kind))
    return svg_of(height, f"{label} by arm", parts)


def svg_of(height: float, description: str, parts: Sequence[str], width: float = WIDTH) -> str:
    """An element that holds these parts; sizes in pixels."""
    head = f'<svg class="plot-svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">'
    return f"{head}{''.join(parts)}</svg>"


def _horizontal_grid(y: Axis, right: float) -> str:
    digits = max(0, -math.floor(math.log10(y.values[1] - y.values[0]) + 1e-9))
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        + text_at(LEFT - 8, y(value) + 4, f"{value:,.{digits}f}", "end")
        for value in y.values
    )


def _label(height: float, x_label: str, y_label: str) -> str:
    middle = (TOP + height - BOTTOM) / 2
    return text_at((LEFT + WIDTH - RIGHT) / 2, height - 8, x_label, "middle", strong=True) + (
        f'<text class="strong" transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )


def _spread_labels(places: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]], height: float) -> list[str]:
    """Names beside their points, moved up or down, as little as needed, where they would lie on each other or on a point."""
    parts: list[str] = []
    taken = [(x - 4, x + 4, y + 4) for x, y in points]
    for x, y, name in sorted(places, key=lambda place: (place[1], place[0])):
        width = LETTER * len(name)
        left = x + 8 if x + 8 + width < WIDTH - 2 else x - 8 - width

        def free(top: float, left: float = left, width: float = width) -> bool:
            clear = not any(abs(top - other) < 12 and left < end and start < left + width for start, end, other in taken)
            return clear and TOP < top <= height - BOTTOM + 4

        tops = (y + 4 + move for step in range(0, 61, 3) for move in (step, -step))
        top = next((top for top in tops if free(top)), y + 4)
        taken.append((left, left + width, top))
        parts.append(text_at(left, top, name, strong=True))
    return parts


def text_at(x: float, y: float, words: str, anchor: str = "start", strong: bool = False) -> str:
    """Words at a place; the anchor is "start", "middle" or "end"."""
    kind = ' class="strong"' if strong else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line_through(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A curve in the colour of this letter."""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def dot_at(x: float, y: float, kind: str) -> str:
    """A dot in the colour of this letter."""
    return f'<g class="{kind}"><circle cx="{x:.1f}" cy="{y:.1f}" r="3.6"/></g>'
