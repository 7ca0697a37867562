"""Images, boxes and views as the trainer will see them, on one HTML page that needs nothing beside itself."""

# Axes: B image, V view slot, H W pixels, C channel.

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from hvs_data.arguments.sizes import height_width
from hvs_data.demo.pictures import color, data_url, letter
from hvs_data.demo.style import CSS
from hvs_data.errors import HvsError
from hvs_data.pipelines.decode import decode_image
from hvs_data.pipelines.render import render
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.sampling import sample_views
from hvs_data.sources.base import Source
from hvs_data.types import ImageBatch, ViewParams

PHOTO_SIDE = 420  # pixels of the longer side
SHOWN = 150  # pixels of the page across a view, at most
_MORE = """
h1 { overflow-wrap: anywhere; }
.card { margin-top: 14px; }
.sheet { display: grid; grid-template-columns: minmax(200px, 300px) minmax(0, 1fr); gap: 18px; align-items: start; }
@media (max-width: 640px) { .sheet { grid-template-columns: 1fr; } }
.roles { display: flex; flex-wrap: wrap; gap: 0 18px; }
.row { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 10px; }
.row figure { margin: 0; position: relative; border: 2px solid var(--color); border-radius: 4px; line-height: 0; }
.row figcaption { position: absolute; left: 3px; top: 3px; padding: 0 4px; border-radius: 3px; background: var(--color); color: #fff;
  font: 700 11px/16px system-ui, sans-serif; }
.row h4 { flex-basis: 100%; margin: 0; font: 600 12.5px/1.5 system-ui, sans-serif; color: var(--soft); }
"""


def sheet(source: Source, recipe: Recipe, indices: Sequence[int], seed: int, title: str) -> str:
    """The page, complete.

    Args:
        source: of the images.
        recipe: of the views.
        indices: of the images that are shown; those that cannot be used are told of.
        seed: of the views, which are those of the first epoch of a loader with this seed.
        title: of the page.
    """
    cards = "".join(_card(source, recipe, index, seed) for index in indices)
    about = "; ".join(_role(recipe, number) for number in range(len(recipe.roles)))
    body = (
        f"<header><h1>{escape(title)}</h1><p class='caption'>Recipe {escape(recipe.name)}, seed {seed}: {escape(about)}. Frames in the "
        "image are the boxes of the views beside it, before flips and turns. Views are shown as they are before normalisation.</p></header>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{_MORE}</style></head><body><main>{body}{cards}</main></body></html>\n"
    )


def _role(recipe: Recipe, number: int) -> str:
    role = recipe.roles[number]
    height, width = height_width(role.size)
    return f"{role.candidates} of role {role.name!r}, {height} x {width}, {role.emitted} of which reach the trainer"


def _card(source: Source, recipe: Recipe, index: int, seed: int) -> str:
    name = escape(source.name_of(index))
    try:
        pixels_HWC = decode_image(source.read(index).data)
    except (OSError, HvsError) as error:
        return f'<article class="card"><h3>{name}</h3><p>{escape(str(error))}</p></article>'
    height, width = pixels_HWC.shape[:2]
    rows = sample_views(recipe, seed=seed, epoch=0, index=[index], height=[height], width=[width])
    views = _rendered(pixels_HWC, rows)
    parts = []
    for role in recipe.roles:
        figures = "".join(
            f'<figure style="--color: {color(slot)}"><img src="{data_url(views[slot])}" alt="view {letter(slot)}" '
            f'width="{min(SHOWN, views[slot].shape[1])}"><figcaption>{letter(slot)}</figcaption></figure>'
            for slot in rows.slots(role.name)
        )
        parts.append(f"<div class='row'><h4>{escape(role.name)}</h4>{figures}</div>")
    roles = f'<div class="roles">{"".join(parts)}</div>'
    return f'<article class="card"><h3>{name}</h3><div class="sheet">{_framed(pixels_HWC, rows)}{roles}</div></article>'


def _rendered(pixels_HWC: NDArray[np.uint8], rows: ViewParams) -> list[NDArray[np.uint8]]:
    """The views as uint8 [H, W, C], slot by slot."""
    images = ImageBatch([pixels_HWC])
    found: dict[int, NDArray[np.uint8]] = {}
    for size in dict.fromkeys(rows.size):
        slots = [slot for slot, its in enumerate(rows.size) if its == size]
        view_KCHW = render(images, rows.views(slots), dtype=torch.uint8, num_threads=1)[0]
        found |= dict(zip(slots, view_KCHW.permute(0, 2, 3, 1).numpy(), strict=True))
    return [found[slot] for slot in range(rows.num_views)]


def _framed(pixels_HWC: NDArray[np.uint8], rows: ViewParams) -> str:
    height, width = pixels_HWC.shape[:2]
    line = max(height, width) / 200
    frames = "".join(
        f'<rect x="{left:g}" y="{top:g}" width="{w:g}" height="{h:g}" fill="none" stroke="{color(slot)}" stroke-width="{line:.2f}"/>'
        for slot, (top, left, h, w) in enumerate(rows.source_box[0].tolist())
    )
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" aria-label="the image with the boxes of its views">'
        f'<image href="{data_url(pixels_HWC, PHOTO_SIDE)}" width="{width}" height="{height}"/>{frames}</svg>'
    )
