"""What a loader has decided when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hvs_data.loaders.buffers import BufferPool
from hvs_data.loaders.cache import ImageCache
from hvs_data.loaders.counters import Counters
from hvs_data.loaders.quarantine import Quarantine
from hvs_data.pipelines.engine import Engine
from hvs_data.recipes.spec import Recipe
from hvs_data.sources.base import Source
from hvs_data.sources.retry import Retries


@dataclass(frozen=True)
class Plan:
    """How the images of a source become views: what stays the same for the life of a loader. Fields as ViewLoader's arguments."""

    source: Source
    recipe: Recipe
    engine: Engine
    device: torch.device
    seed: int
    num_threads: int
    prefetch: int
    dtype: torch.dtype
    channels_last: bool
    normalize: bool
    exif_orientation: bool
    max_pixels: int
    scaled_decode: bool
    quarantine: Quarantine
    counters: Counters
    retries: Retries
    timeout: float | None
    buffers: BufferPool
    cache: ImageCache | None = None
    render_on: str = "device"
    decoder: Any = None  # decodes on the device, if not None (:mod:`hvs_data.loaders.device_decoding`)
