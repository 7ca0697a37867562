"""A few photos of a batch with their candidate views and pair losses, as the report shows them."""

# Axes: B image, V view, H W pixels, S side of a shown view, C channel.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import hvs_data as hvs
from hvs_data.sources.base import Source

SHOWN_SIZE = 144  # pixels; a row gives the same view at any size


@dataclass(frozen=True)
class Example:
    """One photo and what was chosen of it.

    Attributes:
        title: its class, else its name.
        photo: uint8 [H, W, C].
        box: int [V, 4], (top, left, height, width) of the candidates in the photo.
        views: uint8 [V, S, S, C], the candidates as pixels, not normalised.
        losses: float32 [V, V], of every pair as it was scored; NaN where no pair is.
        iou: float32 [V, V], overlap of the boxes.
        pair: the chosen candidates, the smaller first.
    """

    title: str
    photo: NDArray[np.uint8]
    box: NDArray[np.int32]
    views: NDArray[np.uint8]
    losses: NDArray[np.float32]
    iou: NDArray[np.float32]
    pair: tuple[int, int]


def examples_of(batch: hvs.Batch, photos: Source, most: int) -> list[Example]:
    """The first photos of a batch, those of classes that were not shown yet before others.

    Args:
        batch: from a HardViewLoader.
        photos: the loader's source.
        most: how many.
    """
    assert batch.selection is not None
    chosen = _varied(batch.labels.tolist(), most)
    index = batch.index[chosen].tolist()
    images = hvs.decode([photos.read(place).data for place in index])
    params = batch.params.images(chosen)
    view_BVCSS = hvs.render(images, params, size=SHOWN_SIZE, dtype=torch.uint8)
    iou_BVV = hvs.iou(params)
    return [
        Example(
            title=photos.classes[label] if 0 <= label < len(photos.classes) else photos.name_of(index[row]),
            photo=images[row].numpy(),
            box=params.box[row].numpy(),
            views=view_BVCSS[row].permute(0, 2, 3, 1).numpy(),
            losses=batch.selection.losses[image].numpy(),
            iou=iou_BVV[row].numpy(),
            pair=(int(batch.selection.pair[image, 0]), int(batch.selection.pair[image, 1])),
        )
        for row, (image, label) in enumerate(zip(chosen, batch.labels[chosen].tolist(), strict=True))
    ]


def _varied(labels: list[int], most: int) -> list[int]:
    """Places in a batch: the first of every label, then the second of every label, and so on."""
    seen: dict[int, int] = {}
    turn_place = []
    for place, label in enumerate(labels):
        turn_place.append((seen.get(label, 0), place))
        seen[label] = seen.get(label, 0) + 1
    return [place for _, place in sorted(turn_place)[:most]]
