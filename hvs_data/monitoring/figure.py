"""A monitor's numbers over steps, as a figure of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hvs_data.errors import HvsError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Vermilion, blue and grey, told apart by colour-blind readers too
CHOSEN, OTHER, SOFT = "#d55e00", "#0072b2", "#5b6876"


class Curve(NamedTuple):
    name: str
    label: str
    color: str
    line: str = "-"


class Panel(NamedTuple):
    title: str
    curves: tuple[Curve, ...]


PANELS = (
    Panel("overlap of a pair's boxes (IoU)", (Curve("iou_chosen", "chosen", CHOSEN), Curve("iou_other", "others", OTHER))),
    Panel(
        "share of images",
        (
            Curve("smallest_iou", "least overlap chosen", CHOSEN),
            Curve("smallest_iou_by_chance", "by chance", OTHER),
            Curve("disjoint_chosen", "chosen views apart", SOFT, "--"),
        ),
    ),
    Panel("loss", (Curve("loss_chosen", "chosen", CHOSEN), Curve("loss_mean", "mean of pairs", OTHER))),
    Panel(
        "model",
        (
            Curve("output_std", "spread of outputs", CHOSEN),
            Curve("rows_r2", "explained by rows", OTHER),
            Curve("non_finite_share", "not finite", SOFT, "--"),
        ),
    ),
)


def drawn(points: Sequence[tuple[int, Mapping[str, float]]]) -> Figure:
    """Four panels: overlap, which pair is chosen, loss, and what the model is like. Curves of which nothing is known are left out.

    Args:
        points: (step, numbers by name), at least one.

    Raises:
        HvsError: no points.
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("matplotlib", "monitor", "Monitor.figure") from None
    if not points:
        raise HvsError("expected numbers to draw, got none; call monitor.numbers() now and then while the training runs")
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _draw(axes, panel, points)
    return figure


def _draw(axes: Any, panel: Panel, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, pad=20)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e8ecf0")
    axes.spines[["top", "right"]].set_visible(False)
    for curve in panel.curves:
        known = [(step, means[curve.name]) for step, means in points if curve.name in means]
        if known:
            steps, values = zip(*known, strict=True)
            marker = "o" if len(known) == 1 else ""
            axes.plot(steps, values, curve.line, marker=marker, color=curve.color, label=curve.label, linewidth=1.6)
    if axes.lines:
        # between title and axes, where no curve is
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0, "ncols": len(axes.lines)}
        axes.legend(**place, fontsize=8, frameon=False, handlelength=1.4, handletextpad=0.5, columnspacing=1.2)
