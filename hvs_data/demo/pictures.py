"""An example as HTML: the photo with the candidates' boxes, the candidate views, and a table of the pairs' losses."""

# Axes: V view, H W pixels, C channel.

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray

from hvs_data.demo.examples import Example

PHOTO_SIDE = 480  # pixels of the longer side in the report
# Okabe and Ito's palette, told apart by colour-blind readers too
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")


def example_card(example: Example) -> str:
    """One photo's card."""
    return (
        f'<article class="card"><h3>{escape(example.title)}</h3><div class="parts">'
        f"{boxed_photo(example)}{candidate_views(example)}{loss_table(example)}</div></article>"
    )


def letter(view: int) -> str:
    """The name of a candidate: A to Z, then A1 and so on."""
    return chr(ord("A") + view % 26) + (str(view // 26) if view >= 26 else "")


def color(view: int) -> str:
    return COLORS[view % len(COLORS)]


def boxed_photo(example: Example) -> str:
    """The photo as SVG in its own pixels, with all boxes; those of the chosen pair solid and on top."""
    height, width, _ = example.photo.shape
    unit = max(height, width) / 200  # about a pixel of the page
    order = [view for view in range(len(example.box)) if view not in example.pair] + list(example.pair)
    corner_of = _tag_corners(example, list(reversed(order)), 16 * unit)
    boxes = "".join([_box(example, view, unit) for view in order] + [_tag(view, corner_of[view], unit) for view in order])
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" aria-label="photo with the boxes of its candidate views">'
        f'<image href="{data_url(example.photo, PHOTO_SIDE)}" width="{width}" height="{height}"/>{boxes}</svg>'
    )


def candidate_views(example: Example) -> str:
    """The candidates as pixels, each with its letter."""
    figures = []
    for view, pixels in enumerate(example.views):
        chosen = ' class="chosen"' if view in example.pair else ""
        figures.append(
            f'<figure{chosen} style="--color: {color(view)}"><img src="{data_url(pixels)}" alt="view {letter(view)}">'
            f"<figcaption>{letter(view)}</figcaption></figure>"
        )
    return f'<div class="views">{"".join(figures)}</div>'


def loss_table(example: Example) -> str:
    """Losses of the pairs, darker where harder, with the overlap of the boxes below each."""
    views = len(example.box)
    head = "".join(f'<th scope="col">{letter(second)}</th>' for second in range(1, views))
    rows = []
    for first in range(views - 1):
        cells = "".join(_cell(example, first, second) for second in range(first + 1, views))
        gap = f'<td colspan="{first}"></td>' if first else ""
        rows.append(f'<tr><th scope="row">{letter(first)}</th>{gap}{cells}</tr>')
    return f'<table class="losses"><tr><td></td>{head}</tr>{"".join(rows)}</table>'


def signed(value: float, digits: int = 2) -> str:
    """A number with a true minus sign, and none on a zero."""
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def data_url(pixels: NDArray[np.uint8], longest: int | None = None, quality: int = 86) -> str:
    """uint8 [H, W, C] as a JPEG inside a URL, scaled down to a longest side."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if longest is not None:
        image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _box(example: Example, view: int, unit: float) -> str:
    top, left, height, width = (int(side) for side in example.box[view])
    rectangle = f'x="{left}" y="{top}" width="{width}" height="{height}" fill="none"'
    if view in example.pair:
        line, paper, dashes = 3.0, 5.0, ""
    else:
        line, paper, dashes = 1.8, 2.5, f' stroke-dasharray="{4 * unit:.2f} {3 * unit:.2f}"'
    # a white line below keeps the coloured one visible on any photo
    return (
        f'<rect {rectangle} stroke="#fff" stroke-opacity=".6" stroke-width="{paper * unit:.2f}"/>'
        f'<rect {rectangle} stroke="{color(view)}" stroke-width="{line * unit:.2f}"{dashes}/>'
    )


def _tag(view: int, corner: tuple[float, float], unit: float) -> str:
    x, y = corner
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{14 * unit:.2f}" height="{14 * unit:.2f}" rx="{2 * unit:.2f}" fill="{color(view)}"/>'
        f'<text x="{x + 7 * unit:.1f}" y="{y + 10.6 * unit:.1f}" font-size="{10.5 * unit:.2f}">{letter(view)}</text>'
    )


def _tag_corners(example: Example, order: list[int], tag: float) -> dict[int, tuple[float, float]]:
    """Where each box's letter goes: the corner inside the box that is farthest from the letters placed before."""
    placed: dict[int, tuple[float, float]] = {}
    for view in order:
        top, left, height, width = (float(side) for side in example.box[view])
        corners = [(x, y) for y in (top, max(top, top + height - tag)) for x in (left, max(left, left + width - tag))]
        placed[view] = max(corners, key=lambda corner: min((_distance(corner, other) for other in placed.values()), default=0.0))
    return placed


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))


def _cell(example: Example, first: int, second: int) -> str:
    loss, overlap = float(example.losses[first, second]), float(example.iou[first, second])
    finite = example.losses[np.isfinite(example.losses)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    share = (loss - low) / (high - low) if high > low and np.isfinite(loss) else 0.0
    kind = "pair chosen" if (first, second) == example.pair else "pair"
    return f'<td class="{kind}" style="--hardness: {100 * share:.0f}%">{signed(loss)}<small>{overlap:.2f}</small></td>'
