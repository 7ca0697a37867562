"""What every renderer may take for granted: rows that fit their images and their canvas."""

# Axes: B image, V view.

from __future__ import annotations

from typing import Any

import torch

from hvs_data.arguments.sizes import Size, plain_size
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import ViewParams

INTERPOLATIONS = ("bilinear", "bicubic")


def check_request(batch: ImageBatch, params: ViewParams, size: Any) -> None:
    """Refuse a rendering that cannot be done.

    Raises:
        HvsError: rows of another number of images, boxes that leave their image, a size below 1, an unknown interpolation.
    """
    if len(batch) != params.batch_size:
        raise HvsError(f"expected rows of {len(batch)} images, one for each image, got rows of {params.batch_size}; see ViewParams.images")
    if plain_size(size) is None:
        raise HvsError(f"size must be at least 1, got {size!r}; it is the side of a rendered view in pixels, or (height, width)")
    if params.spec.interpolation not in INTERPOLATIONS:
        raise HvsError(f"interpolation must be one of {INTERPOLATIONS}, got {params.spec.interpolation!r}; both are antialiased")
    _check_channels(params, batch.channels)
    _check_turns(params, plain_size(size))
    top_BV, left_BV, height_BV, width_BV = params.box.to(torch.int64).unbind(-1)
    below = (top_BV < 0) | (height_BV < 1) | (top_BV + height_BV > batch.height[:, None])
    beside = (left_BV < 0) | (width_BV < 1) | (left_BV + width_BV > batch.width[:, None])
    if params.resized is not None:
        # these may reach beyond it, into black
        other_BV = (params.resized > 0).all(-1)
        empty_BV = other_BV & ((height_BV < 1) | (width_BV < 1))
        below, beside = (below & ~other_BV) | empty_BV, beside & ~other_BV
    if (below | beside).any():
        b, v = (below | beside).nonzero()[0].tolist()
        raise HvsError(
            f"boxes (top, left, height, width) must hold pixels of their image only, got {tuple(params.box[b, v].tolist())} for view {v} "
            f"of image {b}, which is {batch.height[b]} x {batch.width[b]}; sample the rows with the sizes of these images"
        )


def check_canvas(params: ViewParams, canvas: Canvas, normalize: bool, first_image: int) -> None:
    """Refuse rows [B, V] that cannot be rendered into images ``first_image`` to ``first_image + B - 1`` of a canvas.

    Raises:
        HvsError: rows that do not fit the canvas, an unknown interpolation, or normalised uint8.
    """
    views, images = canvas.pixels.shape[:2]
    last = first_image + params.batch_size
    if params.num_views != views or not 0 <= first_image <= last <= images:
        raise HvsError(
            f"expected rows of {views} views of images within 0 to {images}, as the canvas has them, got rows of {params.num_views} views "
            f"of images {first_image} to {last}; make the canvas for these rows"
        )
    if params.spec.interpolation not in INTERPOLATIONS:
        raise HvsError(f"interpolation must be one of {INTERPOLATIONS}, got {params.spec.interpolation!r}; both are antialiased")
    _check_channels(params, canvas.pixels.shape[2])
    _check_turns(params, canvas.size)
    if normalize and canvas.flat.dtype == torch.uint8:
        raise HvsError("normalised views do not fit into uint8; pass normalize=False for 0-255, or a canvas of a floating dtype")


def _check_turns(params: ViewParams, size: Size | None) -> None:
    if params.turn is not None and not isinstance(size, int) and (params.turn % 2).any():
        raise HvsError(f"views that are turned by a quarter must be square, got the size {size}; render them at one side, or draw no turns")


def _check_channels(params: ViewParams, channels: int | None) -> None:
    expected = params.spec.channels
    if channels not in (None, expected):
        raise HvsError(
            f"expected images and views of {expected} channels, as the recipe's mean and std have, got {channels}; give "
            "recipe.with_channels(mean, std) as many numbers"
        )
    colourless = (params.saturation == 1).all() and (params.hue == 0).all() and not params.gray.any()
    if expected != 3 and not colourless:
        raise HvsError(
            f"expected rows without saturation, hue and grey for images of {expected} channels, which have no colours, got some; draw them "
            "with a recipe of these channels: recipe.with_channels(mean, std)"
        )
