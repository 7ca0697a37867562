"""Plots of an experiment: the gain of every arm over strengths of the views, and accuracy over the run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from harness.pretraining.strength import Strength
from harness.reporting.experiments import ERRORS, KNN, LINEAR, VANILLA, Gain, Measure, Setting
from harness.reporting.plots import LETTER, Axis, dot_at, line_through, svg_of, text_at
from harness.reporting.summary import MINUS, PLUS_MINUS, MeanAndSpread
from hvs_data.demo.charts import ticks

WIDTH, EDGE = 830, 14
CELL, ROW, NAMES = 46, 34, 70  # pixels: width and height of a cell, and what names of rows take
HEAD, GAP = 40, 16  # above the cells of a panel; between panels and between measures
SHOWN = ((KNN, "k-NN"), (LINEAR, "linear"))
STRONGEST = 0.75  # opacity of the largest gain's colour, on which the ink of either theme can be read
PALE = 0.4  # of the opacity, where a gain is undecided
CURVE_WIDTH, CURVE_HEIGHT = 254, 150
CAP = 5  # half the width of the ends of an error bar
CURVES_OF = 2  # strengths whose curves are drawn


def heat_map(settings: Sequence[Setting]) -> str:
    """A panel an arm that has runs beside vanilla's, a cell a strength: the gain and, below it, its standard error over the seeds.

    Args:
        settings: of an experiment, drawn one below the other.
    """
    largest = max((abs(gain.mean) for setting in settings for gain in _gains(setting).values()), default=0.0)
    scale = ticks(0.0, max(largest, 1.0), 2)[-1]
    hatch = (
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line x1="0" x2="0" y1="0" y2="6" style="stroke:var(--line);stroke-width:3"/></pattern></defs>'
    )
    parts, top = [hatch], float(EDGE)
    for setting in settings:
        drawn, top = _panels(setting, top, scale)
        parts += drawn
    parts.append(_legend(top + 6, scale))
    return svg_of(top + 86, "Gain over vanilla in percentage points, by arm and strength of the views", parts, WIDTH)


def _gains(setting: Setting) -> dict[tuple[Strength, str, Measure], Gain]:
    found = {(*pair, measure): setting.gain(*pair, measure) for pair in setting.pairs for measure, _ in SHOWN}
    return {key: gain for key, gain in found.items() if gain is not None}


def _panels(setting: Setting, top: float, scale: float) -> tuple[list[str], float]:
    """The panels of a setting below its name, and where they end."""
    parts = [*_heading(setting, top)]
    top += 36
    crops = sorted({its.crop for its in setting.strengths}, key=lambda crop: -1 if crop is None else crop)
    colors = sorted({its.color for its in setting.strengths}, key=lambda color: -1 if color is None else color)
    gains = _gains(setting)
    arms = [arm for arm in setting.arms if any(arm == its for _, its in setting.pairs)]
    width = NAMES + CELL * len(crops)
    height = HEAD + len(SHOWN) * (ROW * len(colors) + 6) + GAP
    across = max(1, int((WIDTH - 2 * EDGE + GAP) // (width + GAP)))
    for number, arm in enumerate(arms):
        left, above = EDGE + (number % across) * (width + GAP), top + (number // across) * height
        parts.append(text_at(left + NAMES, above + 12, _short(arm, CELL * len(crops)), strong=True))
        for column, crop in enumerate(crops):
            words = "own crops" if crop is None else f"{'from ' if not column else ''}{crop:g}"
            parts.append(text_at(left + NAMES + (column + 0.5) * CELL, above + 31, words, "middle"))
        y = above + HEAD
        for measure, name in SHOWN:
            for color in colors:
                words = name if color is None else f"{name}, \N{MULTIPLICATION SIGN} {color:g}"
                parts.append(text_at(left + NAMES - 6, y + ROW / 2 + 4, words, "end"))
                for column, crop in enumerate(crops):
                    strength = Strength(crop, color)
                    planned = bool(setting.plan.get((strength, arm), set()))
                    gain = gains.get((strength, arm, measure))
                    parts.append(_cell(left + NAMES + column * CELL, y, gain, planned, scale, f"{arm}, {strength.in_words()}, {name}"))
                y += ROW
            y += 6
    if not arms:
        parts.append(text_at(EDGE, top + 12, "no arm has a run of the same seed as vanilla yet"))
    return parts, top + (-(-len(arms) // across) * height if arms else 30)


def _heading(setting: Setting, top: float) -> list[str]:
    its = setting.shared
    words = f"{its['method']} on {its['images']:,} images of {its['data']}, {its['epochs']:g} epochs"
    return [text_at(EDGE, top + 12, f"{words}: {setting.count}", strong=True)]


def _short(name: str, room: float) -> str:
    """A name as far as there are pixels for it."""
    most = max(8, int(room / LETTER))
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _cell(x: float, y: float, gain: Gain | None, planned: bool, scale: float, words: str) -> str:
    """One gain; hatched where it is still to come, and nothing where none is planned."""
    box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{CELL - 2}" height="{ROW - 2}" rx="3"'
    if gain is None:
        return f'<rect class="todo" {box} style="fill:url(#hatch)"><title>{escape(words)}: still to come</title></rect>' if planned else ""
    errors = "one seed" if gain.error is None else f"{PLUS_MINUS}{gain.error:.1f} ({gain.spread.count})"
    middle = x + CELL / 2
    return (
        f'<g class="{"decided" if gain.decided else "undecided"}"><title>{escape(f"{words}: {gain.text()}")}</title>'
        f'<rect {box} style="{_fill(gain.mean, scale, gain.decided)}"/>'
        + text_at(middle, y + 15, f"{gain.mean:+.1f}".replace("-", MINUS), "middle", strong=True)
        + f'<text class="strong" x="{middle:.1f}" y="{y + 27:.1f}" text-anchor="middle" style="font-size:9px">{errors}</text></g>'
    )


def _fill(mean: float, scale: float, decided: bool) -> str:
    """Orange for a gain, blue for a loss, as much of it as there is; paler and with a broken edge where it is undecided."""
    colour = "var(--a)" if mean > 0 else "var(--b)"
    opacity = STRONGEST * min(abs(mean) / scale, 1.0) * (1.0 if decided else PALE)
    edge = f"stroke:{colour};stroke-width:1.6" if decided else "stroke:var(--soft);stroke-dasharray:3 2"
    return f"fill:{colour};fill-opacity:{opacity:.2f};{edge}"


def _legend(top: float, scale: float) -> str:
    """The colours' scale, and the three kinds of cells."""
    values = [scale * share for share in (-1, -0.5, 0, 0.5, 1)]
    parts = []
    for place, value in enumerate(values):
        x = EDGE + place * 40
        colour = "var(--a)" if value > 0 else "var(--b)"
        fill = f"fill:{colour};fill-opacity:{STRONGEST * abs(value) / scale:.2f};stroke:var(--line)"
        parts.append(f'<rect x="{x}" y="{top}" width="40" height="14" style="{fill}"/>')
        parts.append(text_at(x + 20, top + 26, f"{value:+g}".replace("-", MINUS) if value else "0", "middle"))
    parts.append(text_at(EDGE, top + 46, "percentage points; blue: vanilla leads, orange: the arm leads"))
    kinds = (
        (_fill(scale, scale, True), f"beyond {ERRORS} standard errors over seeds and {ERRORS} of the test set"),
        (_fill(scale, scale, False), f"undecided: one seed, or within {ERRORS} errors of either kind"),
        ("fill:url(#hatch)", "planned, still to come"),
    )
    for number, (fill, words) in enumerate(kinds):
        y = top + number * 18
        parts.append(f'<rect x="400" y="{y}" width="24" height="13" rx="3" style="{fill}"/>')
        parts.append(text_at(432, y + 11, words))
    below = f"columns: smallest share of the area in a crop; rows: factor of the colours; below a gain: {PLUS_MINUS} standard error (seeds)"
    parts.append(text_at(EDGE, top + 68, below))
    return "".join(parts)


def curves(settings: Sequence[Setting]) -> str:
    """k-NN accuracy over the share of the run, each arm beside vanilla over the seeds that both have, under the strengths of most seeds.

    Args:
        settings: of an experiment, drawn one below the other.
    """
    parts: list[str] = []
    top = float(EDGE)
    for setting in settings:
        parts += _heading(setting, top)
        top += 24
        for strength in most_seeds(setting):
            drawn, top = _curves_under(setting, strength, top)
            parts += drawn
    words = f"the arm, over the same seeds; along the share of the run; bars: {PLUS_MINUS} one standard error over the seeds"
    parts += [dot_at(EDGE + 6, top, "b"), text_at(EDGE + 16, top + 4, VANILLA)]
    parts += [dot_at(EDGE + 76, top, "a"), text_at(EDGE + 86, top + 4, words)]
    return svg_of(top + 18, "k-NN accuracy over the share of the run, arms beside vanilla", parts, WIDTH)


def most_seeds(setting: Setting) -> list[Strength]:
    """The strengths under which arms share most seeds with vanilla; of as many, those with more runs, then the plan's order."""

    def seeds(strength: Strength) -> tuple[int, int]:
        counts = [len(setting.seeds(strength, arm)) for arm in setting.arms]
        return max(counts, default=0), sum(counts)

    found = [strength for strength in setting.strengths if seeds(strength)[0]]
    return sorted(found, key=seeds, reverse=True)[:CURVES_OF]


def _curves_under(setting: Setting, strength: Strength, top: float) -> tuple[list[str], float]:
    """A panel an arm, and where they end."""
    arms = [arm for arm in setting.arms if setting.seeds(strength, arm)]
    drawn = {arm: [_curve(setting, strength, name, setting.seeds(strength, arm)) for name in (VANILLA, arm)] for arm in arms}
    reach = [value for both in drawn.values() for curve in both for its in curve.values() for value in _bar(its)]
    values = ticks(min(reach), max(reach), 4)
    parts = [text_at(EDGE, top + 10, f"{strength.in_words() or 'views as published'}: k-NN accuracy, %", strong=True)]
    top += 20
    across = int((WIDTH - 2 * EDGE + GAP) // (CURVE_WIDTH + GAP))
    for number, arm in enumerate(arms):
        left, above = EDGE + (number % across) * (CURVE_WIDTH + GAP), top + (number // across) * CURVE_HEIGHT
        x = Axis((0, 1), left + 30, left + CURVE_WIDTH - 14)
        y = Axis(values, above + CURVE_HEIGHT - 38, above + 24)
        count = len(setting.seeds(strength, arm))
        parts += [
            text_at(left + 30, above + 10, _short(arm, CURVE_WIDTH - 116), strong=True),
            text_at(left + CURVE_WIDTH - 14, above + 10, "one seed" if count == 1 else f"{count} seeds", "end"),
            *(f'<line class="grid" x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>' for v in values),
            *(text_at(left + 24, y(value) + 4, f"{value:g}", "end") for value in values),
        ]
        shares = sorted({share for curve in drawn[arm] for share in curve})
        parts += [text_at(x(share), above + CURVE_HEIGHT - 22, f"{share:g}", "middle") for share in shares]
        for kind, aside, curve in zip("ba", (-2, 2), drawn[arm], strict=True):
            parts.append(line_through([(x(share) + aside, y(its.mean)) for share, its in curve.items()], kind))
            for share, its in curve.items():
                place = x(share) + aside
                if its.standard_error is not None:
                    parts.append(_whisker(place, *(y(value) for value in _bar(its)), kind))
                parts.append(dot_at(place, y(its.mean), kind))
    top += -(-len(arms) // across) * CURVE_HEIGHT
    return parts, top


def _curve(setting: Setting, strength: Strength, arm: str, seeds: set[int]) -> dict[float, MeanAndSpread]:
    """Accuracy in percent by share of the run, where it was measured for all of these seeds."""
    of_seed = []
    for line in (setting.of(strength, arm)[seed] for seed in sorted(seeds)):
        looks = {round(int(step) / line["steps"], 2): accuracy for step, accuracy in line["curve"].items()}
        of_seed.append({**looks, 1.0: line["knn"]})
    shares = sorted(set.intersection(*(set(its) for its in of_seed)))
    return {share: MeanAndSpread.of([100 * its[share] for its in of_seed]) for share in shares}


def _whisker(x: float, low: float, high: float, kind: str) -> str:
    """An error bar with ends that a dot does not hide."""
    ends = "".join(f"M{x - CAP:.1f},{y:.1f}h{2 * CAP}" for y in (low, high))
    return f'<path class="whisker {kind}" d="M{x:.1f},{low:.1f}V{high:.1f}{ends}"/>'


def _bar(its: MeanAndSpread) -> tuple[float, float]:
    error = its.standard_error or 0.0
    return its.mean - error, its.mean + error
