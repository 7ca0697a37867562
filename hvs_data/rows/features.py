"""What the rows of two views say of how hard they are together."""

# Axes: B image, V view, P pair, D feature.

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hvs_data.types import ViewParams

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


def pair_scores(params: ViewParams, weight_D: Sequence[float]) -> NDArray[np.float32]:
    """Weighted sum of the features of every two views: float32 [B, V, V], symmetric; the diagonal means nothing."""
    weight_of = dict(zip(FEATURES, weight_D, strict=True))
    own_BV = np.zeros((params.batch_size, params.num_views), dtype=np.float32)
    total_BVV = np.zeros((params.batch_size, params.num_views, params.num_views), dtype=np.float32)
    for name, value_BV in _of_views(params):
        if weight := weight_of[f"{name}_sum"]:
            own_BV += np.float32(weight) * value_BV
        if weight := weight_of[f"{name}_difference"]:
            total_BVV += _difference(name, np.float32(weight) * value_BV, abs(weight)) * np.float32(np.sign(weight))
    total_BVV += _sum(own_BV)
    for name, feature_BVV in _of_boxes(params):
        if weight := weight_of[name]:
            feature_BVV *= np.float32(weight)
            total_BVV += feature_BVV
    return total_BVV


def pair_features(params: ViewParams, pair_P2: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """All features of some pairs of slots: float64 [B, P, D]."""
    first_P, second_P = np.asarray(pair_P2, dtype=np.int64).reshape(-1, 2).T
    tables = dict(_of_boxes(params))
    for name, value_BV in _of_views(params):
        tables[f"{name}_difference"] = _difference(name, value_BV)
        tables[f"{name}_sum"] = _sum(value_BV)
    return np.stack([tables[name][:, first_P, second_P].astype(np.float64) for name in FEATURES], axis=-1)


def _of_boxes(params: ViewParams) -> Iterator[tuple[str, NDArray[np.float32]]]:
    top, left, height, width = np.moveaxis(params.source_box.numpy().astype(np.float32), -1, 0)
    area = height * width
    both = _overlap(top, height)
    both *= _overlap(left, width)
    yield "iou", both / (_sum(area) - both)
    distance = _apart(top + height / 2)
    distance *= distance
    across = _apart(left + width / 2)
    across *= across
    distance += across
    distance /= area[:, :, None] ** 0.5 * area[:, None, :] ** 0.5
    yield "center_distance", np.sqrt(distance, out=distance)
    log_area = np.log(area)
    yield "area_ratio", _apart(log_area)
    yield "smaller_area", np.minimum(log_area[:, :, None], log_area[:, None, :])


def _of_views(params: ViewParams) -> Iterator[tuple[str, NDArray[np.float32]]]:
    gray = params.gray.numpy().astype(np.float32)
    yield "brightness", params.brightness.numpy() - 1
    yield "contrast", params.contrast.numpy() - 1
    yield "saturation", (params.saturation.numpy() - 1) * (1 - gray)
    yield "hue", params.hue.numpy() * (1 - gray)
    yield "gray", gray
    yield "blur", params.blur_sigma.numpy() * np.array([100 / height for height in params.heights], dtype=np.float32)
    yield "solarize", params.solarize.numpy().astype(np.float32)


def _overlap(start: NDArray[np.float32], length: NDArray[np.float32]) -> NDArray[np.float32]:
    stop = start + length
    shared = np.minimum(stop[:, :, None], stop[:, None, :])
    shared -= np.maximum(start[:, :, None], start[:, None, :])
    return np.maximum(shared, 0, out=shared)


def _sum(value_BV: NDArray[np.float32]) -> NDArray[np.float32]:
    return value_BV[:, :, None] + value_BV[:, None, :]


def _apart(value_BV: NDArray[np.float32]) -> NDArray[np.float32]:
    difference = value_BV[:, :, None] - value_BV[:, None, :]
    return np.abs(difference, out=difference)


def _difference(name: str, value_BV: NDArray[np.float32], turn: float = 1.0) -> NDArray[np.float32]:
    """How far two views are apart; shifts of hue lie on a circle of so much around."""
    difference = _apart(value_BV)
    return np.minimum(difference, turn - difference) if name == "hue" else difference
