"""What the rows of two views say of how hard they are together."""

# Axes: B image, V W view, P pair, D feature, 1 an axis that broadcasts.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvs_data.types.rows import ViewParams

# Of the boxes of two views. The image's own size does not enter, up to a number that all of its pairs share.
_OF_BOXES = (
    "iou",  # intersection over union
    "center_distance",  # between the boxes' centres, in units of the root of the geometric mean of their areas
    "area_ratio",  # |log| of the ratio of their areas
    "smaller_area",  # log of the smaller area
)
# Of one view. Two views have the sum and the absolute difference of each.
_OF_VIEWS = (
    "brightness",  # the factor's distance from 1, as for the next two
    "contrast",
    "saturation",  # 0 in a grey view, which has none to change
    "hue",  # in turns; 0 in a grey view
    "gray",  # 1 or 0
    "blur",  # sigma in hundredths of the view's height
    "solarize",  # 1 or 0
)
FEATURES = (*_OF_BOXES, *(f"{name}_{kind}" for name in _OF_VIEWS for kind in ("difference", "sum")))


Floats: TypeAlias = NDArray[np.float32]


def pair_scores(params: ViewParams, weight_D: Sequence[float], others: ViewParams | None = None) -> Floats:
    """Weighted sum of the features of every two views: float32 [B, V, V], symmetric; the diagonal means nothing. With other views of the
    same images, of every view and every other one: [B, V, W]."""
    others = params if others is None else others
    weight_of = dict(zip(FEATURES, weight_D, strict=True))
    own_BV1 = np.zeros((params.batch_size, params.num_views, 1), dtype=np.float32)
    own_B1W = own_BV1.transpose(0, 2, 1) if others is params else np.zeros((params.batch_size, 1, others.num_views), dtype=np.float32)
    total_BVW = np.zeros((params.batch_size, params.num_views, others.num_views), dtype=np.float32)
    for name, first_BV1, second_B1W in _of_views(params, others):
        if weight := weight_of[f"{name}_sum"]:
            own_BV1 += np.float32(weight) * first_BV1
            if others is not params:
                own_B1W += np.float32(weight) * second_B1W
        if weight := weight_of[f"{name}_difference"]:
            scaled = np.float32(weight) * first_BV1, np.float32(weight) * second_B1W
            total_BVW += _difference(name, *scaled, abs(weight)) * np.float32(np.sign(weight))
    total_BVW += own_BV1 + own_B1W
    for name, feature_BVW in _of_boxes(params, others):
        if weight := weight_of[name]:
            feature_BVW *= np.float32(weight)
            total_BVW += feature_BVW
    return total_BVW


def pair_features(params: ViewParams, pair_P2: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """All features of some pairs of slots: float64 [B, P, D]."""
    first_P, second_P = np.asarray(pair_P2, dtype=np.int64).reshape(-1, 2).T
    tables = _tables(params, params)
    return np.stack([tables[name][:, first_P, second_P].astype(np.float64) for name in FEATURES], axis=-1)


def cross_features(params: ViewParams, others: ViewParams) -> NDArray[np.float64]:
    """All features of every view and every other one of the same images: float64 [B, V, W, D]."""
    tables = _tables(params, others)
    return np.stack([tables[name].astype(np.float64) for name in FEATURES], axis=-1)


def _tables(params: ViewParams, others: ViewParams) -> dict[str, Floats]:
    """Each feature by name: [B, V, W]."""
    tables = dict(_of_boxes(params, others))
    for name, first_BV1, second_B1W in _of_views(params, others):
        tables[f"{name}_difference"] = _difference(name, first_BV1, second_B1W)
        tables[f"{name}_sum"] = first_BV1 + second_B1W
    return tables


def _of_boxes(params: ViewParams, others: ViewParams) -> Iterator[tuple[str, Floats]]:
    first, second = (np.moveaxis(rows.source_box.numpy().astype(np.float32), -1, 0) for rows in (params, others))
    top1, left1, height1, width1 = first[..., :, None]
    top2, left2, height2, width2 = second[..., None, :]
    area1, area2 = height1 * width1, height2 * width2
    both = _overlap(top1, height1, top2, height2)
    both *= _overlap(left1, width1, left2, width2)
    yield "iou", both / (area1 + area2 - both)
    distance = _apart(top1 + height1 / 2, top2 + height2 / 2)
    distance *= distance
    across = _apart(left1 + width1 / 2, left2 + width2 / 2)
    across *= across
    distance += across
    distance /= area1**0.5 * area2**0.5
    yield "center_distance", np.sqrt(distance, out=distance)
    log_area1, log_area2 = np.log(area1), np.log(area2)
    yield "area_ratio", _apart(log_area1, log_area2)
    yield "smaller_area", np.minimum(log_area1, log_area2)


def _of_views(params: ViewParams, others: ViewParams) -> Iterator[tuple[str, Floats, Floats]]:
    """Each number of single views by name: of the first ones [B, V, 1], of the others [B, 1, W]."""
    first = list(_of_each(params))
    second = first if others is params else list(_of_each(others))
    for (name, first_BV), (_, second_BW) in zip(first, second, strict=True):
        yield name, first_BV[:, :, None], second_BW[:, None, :]


def _of_each(params: ViewParams) -> Iterator[tuple[str, Floats]]:
    gray = params.gray.numpy().astype(np.float32)
    yield "brightness", params.brightness.numpy() - 1
    yield "contrast", params.contrast.numpy() - 1
    yield "saturation", (params.saturation.numpy() - 1) * (1 - gray)
    yield "hue", params.hue.numpy() * (1 - gray)
    yield "gray", gray
    yield "blur", params.blur_sigma.numpy() * np.array([100 / height for height in params.heights], dtype=np.float32)
    yield "solarize", params.solarize.numpy().astype(np.float32)


def _overlap(start1: Floats, length1: Floats, start2: Floats, length2: Floats) -> Floats:
    shared = np.minimum(start1 + length1, start2 + length2)
    shared -= np.maximum(start1, start2)
    return np.maximum(shared, 0, out=shared)


def _apart(first: Floats, second: Floats) -> Floats:
    difference = first - second
    return np.abs(difference, out=difference)


def _difference(name: str, first: Floats, second: Floats, turn: float = 1.0) -> Floats:
    """How far two views are apart; shifts of hue lie on a circle of so much around."""
    difference = _apart(first, second)
    return np.minimum(difference, turn - difference) if name == "hue" else difference
