"""The data structures that pass between layers: rows, images, selections, batches."""

from hvs_data.types.batch import Batch
from hvs_data.types.images import FULL_RANGE, MAX_CHANNELS, EncodedImage, ImageBatch
from hvs_data.types.rows import IMAGENET_MEAN, IMAGENET_STD, LOCAL, NOISE, RenderSpec, ViewParams
from hvs_data.types.selection import Selection, pairwise_iou

__all__ = [
    "Batch",
    "EncodedImage",
    "FULL_RANGE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ImageBatch",
    "LOCAL",
    "MAX_CHANNELS",
    "NOISE",
    "RenderSpec",
    "Selection",
    "ViewParams",
    "pairwise_iou",
]
