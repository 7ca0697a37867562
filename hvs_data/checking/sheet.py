"""Images, boxes and views as the trainer will see them, on one HTML page that needs nothing beside itself."""

# Axes: B image, V view slot, H W pixels, C channel.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import height_width
from hvs_data.demo.pictures import color, data_url, letter
from hvs_data.demo.style import CSS
from hvs_data.errors import HvsError
from hvs_data.pipelines.decode import decode_image
from hvs_data.pipelines.render import render
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.sampling import sample_views
from hvs_data.selection.selector import HardViewSelector
from hvs_data.sources.base import Source
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import ViewParams

PHOTO_SIDE = 420  # pixels of the longer side
SHOWN = 150  # pixels of the page across a view, at most
_MORE = """
h1, p { overflow-wrap: anywhere; }
.card { margin-top: 14px; }
.sheet { display: grid; grid-template-columns: minmax(200px, 300px) minmax(0, 1fr); gap: 18px; align-items: start; }
@media (max-width: 640px) { .sheet { grid-template-columns: 1fr; } }
.roles { display: flex; flex-wrap: wrap; gap: 0 18px; }
.row { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 10px; }
.row figure { margin: 0; position: relative; border: 2px solid var(--color); border-radius: 4px; line-height: 0; }
.row figcaption { position: absolute; left: 3px; top: 3px; padding: 0 4px; border-radius: 3px; background: var(--color); color: #fff;
  font: 700 11px/16px system-ui, sans-serif; }
.row figure.chosen { border-width: 4px; box-shadow: 0 0 0 2px var(--ink); }
.row h4 { flex-basis: 100%; margin: 0; font: 600 12.5px/1.5 system-ui, sans-serif; color: var(--soft); }
"""


@dataclass(frozen=True)
class _Chosen:
    """What a selector chose of an image's views.

    Attributes:
        slots: of the chosen views.
        words: that tell their loss.
    """

    slots: frozenset[int] = frozenset()
    words: str = ""


def sheet(source: Source, recipe: Recipe, indices: Sequence[int], seed: int, title: str, selector: HardViewSelector | None = None) -> str:
    """The page, complete.

    Args:
        source: of the images.
        recipe: of the views.
        indices: of the images that are shown; those that cannot be used are told of.
        seed: of the views, which are those of the first epoch of a loader with this seed.
        title: of the page.
        selector: chooses among the views of all these images, as one batch; None for no choice.

    Raises:
        SelectionError: a recipe of which the selector cannot choose.
    """
    images = [_decoded(source, index) for index in indices]
    usable = {number: image for number, image in enumerate(images) if not isinstance(image, str)}
    rows = {number: _rows(recipe, seed, indices[number], image) for number, image in usable.items()}
    chosen = {} if selector is None or not usable else _choices(selector, list(usable.values()), rows)
    cards = "".join(
        _card(source.name_of(index), images[number], rows.get(number), recipe, chosen.get(number, _Chosen()))
        for number, index in enumerate(indices)
    )
    about = "; ".join(_role(recipe, number) for number in range(len(recipe.roles)))
    marked = "" if selector is None else f" Bold frames: chosen by {type(selector.objective).__name__}, policy {selector.policy.name}."
    body = (
        f"<header><h1>{escape(title)}</h1><p class='caption'>Recipe {escape(recipe.name)}, seed {seed}: {escape(about)}. Frames in the "
        f"image are the boxes of the views beside it, before flips and turns. Views are shown as they are before normalisation."
        f"{escape(marked)}</p></header>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{_MORE}</style></head><body><main>{body}{cards}</main></body></html>\n"
    )


def _decoded(source: Source, index: int) -> NDArray[np.uint8] | str:
    """An image's pixels, or why there are none."""
    try:
        return decode_image(source.read(index).data)
    except (OSError, HvsError) as error:
        return str(error)


def _rows(recipe: Recipe, seed: int, index: int, pixels_HWC: NDArray[np.uint8]) -> ViewParams:
    height, width = pixels_HWC.shape[:2]
    return sample_views(recipe, seed=seed, epoch=0, index=[index], height=[height], width=[width])


def _choices(selector: HardViewSelector, images: Sequence[NDArray[np.uint8]], rows: Mapping[int, ViewParams]) -> dict[int, _Chosen]:
    """Of each image, by its number."""
    together = ViewParams.concatenate(list(rows.values()))
    selection = selector.select(_rendered(ImageBatch(images), together), together)
    told = {}
    for place, number in enumerate(rows):
        slots = selection.slots[place].tolist()
        words = f"chosen: {', '.join(map(letter, slots))}"
        if selection.scored:
            losses = selection.losses[place][selection.legal]
            words += f", loss {float(selection.loss[place]):.3g}; of all pairs {float(losses.nanmean()):.3g} in the mean"
        told[number] = _Chosen(frozenset(slots), words)
    return told


def _role(recipe: Recipe, number: int) -> str:
    role = recipe.roles[number]
    height, width = height_width(role.size)
    reaching = "" if role.emitted == role.candidates else f", {role.emitted} of which reach the trainer"
    return f"{role.candidates} of role {role.name!r}, {height} x {width}{reaching}"


def _card(name: str, pixels_HWC: NDArray[np.uint8] | str, rows: ViewParams | None, recipe: Recipe, chosen: _Chosen) -> str:
    head = f"<h3>{escape(name)}</h3>"
    if isinstance(pixels_HWC, str) or rows is None:
        return f'<article class="card">{head}<p>{escape(str(pixels_HWC))}</p></article>'
    views = [view_1CHW[0].permute(1, 2, 0).numpy() for view_1CHW in _rendered(ImageBatch([pixels_HWC]), rows, dtype=torch.uint8)]
    parts = []
    for role in recipe.roles:
        figures = "".join(_figure(views[slot], slot, slot in chosen.slots) for slot in rows.slots(role.name))
        parts.append(f"<div class='row'><h4>{escape(role.name)}</h4>{figures}</div>")
    words = f"<p class='caption'>{escape(chosen.words)}</p>" if chosen.words else ""
    roles = f'<div class="roles">{"".join(parts)}</div>'
    return f'<article class="card">{head}{words}<div class="sheet">{_framed(pixels_HWC, rows)}{roles}</div></article>'


def _figure(view_HWC: NDArray[np.uint8], slot: int, chosen: bool) -> str:
    return (
        f'<figure{" class=chosen" if chosen else ""} style="--color: {color(slot)}"><img src="{data_url(view_HWC)}" '
        f'alt="view {letter(slot)}{", chosen" if chosen else ""}" width="{min(SHOWN, view_HWC.shape[1])}">'
        f"<figcaption>{letter(slot)}</figcaption></figure>"
    )


def _rendered(images: ImageBatch, rows: ViewParams, **options: Any) -> list[Tensor]:
    """The views, slot by slot: [B, C, H, W] each."""
    found: dict[int, Tensor] = {}
    for size in dict.fromkeys(rows.size):
        slots = [slot for slot, its in enumerate(rows.size) if its == size]
        view_BKCHW = render(images, rows.views(slots), num_threads=1, **options)
        found |= dict(zip(slots, view_BKCHW.unbind(1), strict=True))
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
