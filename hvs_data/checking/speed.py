"""How fast views come from a source on this machine, and what takes the time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.loaders.view_loader import ViewLoader
from hvs_data.pipelines.decode import decode_image
from hvs_data.pipelines.engine import choose_engine
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.sampling import sample_views
from hvs_data.sources.base import Source
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import LOCAL

LEAD = 2  # batches before the clock starts: what is compiled then, and what was made ahead
PART = 16  # images whose stages are timed at a time


@dataclass(frozen=True)
class Stages:
    """Milliseconds that an image takes of one thread, the median over parts of a sample.

    Attributes:
        read: from the source, most likely from the system's cache.
        decode: to pixels.
        render: rows and all views of all sizes.
    """

    read: float
    decode: float
    render: float

    @property
    def whole(self) -> float:
        return self.read + self.decode + self.render

    @property
    def largest(self) -> str:
        """Name of the stage that takes the most."""
        return max(("read", "decode", "render"), key=lambda name: getattr(self, name))


def stages(source: Source, recipe: Recipe, indices: Sequence[int]) -> Stages:
    """Time each stage on one thread, part by part of some images of a source.

    Raises:
        HvsError: none of the images can be used.
    """
    parts = (_timed(source, recipe, indices[start : start + PART]) for start in range(0, len(indices), PART))
    times = [part for part in parts if part is not None]
    if not times:
        raise HvsError(f"none of {len(indices)} images of the source can be used; hvs-data check tells why")
    kept = times[1:] or times  # the first part compiles
    return Stages(*(1e3 * statistics.median(column) for column in zip(*kept, strict=True)))


def _timed(source: Source, recipe: Recipe, indices: Sequence[int]) -> tuple[float, float, float] | None:
    """Seconds an image of each stage; None where no image of the part can be used."""
    read = decoded = 0.0
    images = []
    for index in indices:
        try:
            start = time.perf_counter()
            data = source.read(index).data
            has_read = time.perf_counter()
            images.append(decode_image(data))
            read, decoded = read + has_read - start, decoded + time.perf_counter() - has_read
        except (OSError, HvsError):
            continue
    if not images:
        return None
    height, width = ([image.shape[side] for image in images] for side in (0, 1))
    sizes = [role.size for role in recipe.slot_roles]
    # memory that was used before, as a loader's is after its first batches
    canvases = {size: Canvas.empty(sizes.count(size), len(images), size, torch.float32, channels=recipe.spec.channels) for size in sizes}
    for canvas in canvases.values():
        canvas.flat.zero_()
    start = time.perf_counter()
    rows = sample_views(recipe, seed=0, epoch=0, index=list(range(len(images))), height=height, width=width)
    engine = choose_engine("auto", torch.device("cpu"), rows.spec, resizes=rows.resized is not None)
    for size, canvas in canvases.items():
        slots = [slot for slot, its in enumerate(sizes) if its == size]
        engine.render_group(ImageBatch(images), rows.views(slots), canvas, normalize=True)
    return read / len(images), decoded / len(images), (time.perf_counter() - start) / len(images)


def images_per_second(make: Callable[[], ViewLoader], seconds: float) -> float:
    """Images a second of a loader after its first batches, for so many seconds or until its epoch ends, begun again if it is shorter.

    Raises:
        HvsError: a source of too few images to be timed.
    """
    images, elapsed = 0, 0.0
    while elapsed < seconds:
        loader = make()
        batches = iter(loader)
        lead = sum(1 for _ in islice(batches, LEAD))
        start, before = time.perf_counter(), images
        for batch in batches:
            images += len(batch.labels)
            if elapsed + time.perf_counter() - start >= seconds:
                break
        elapsed += time.perf_counter() - start
        if images == before:
            raise HvsError(
                f"expected a source of more than {lead} batches of {loader.batch_size} images, got {len(loader.dataset)} images; use a "
                "smaller batch"
            )
    return images / elapsed


def with_candidates(recipe: Recipe, candidates: int) -> Recipe:
    """The recipe with so many views an image of the roles that make the pair.

    Raises:
        HvsError: a number that cannot be dealt to them.
    """
    of_pair = [role for role in recipe.roles if role.name != LOCAL]
    each, rest = divmod(candidates, len(of_pair))
    if rest or any(each < role.emitted for role in of_pair):
        least = len(of_pair) * max(role.emitted for role in of_pair)
        raise HvsError(
            f"candidates must be a multiple of {len(of_pair)} of at least {least} under recipe {recipe.name!r}, got {candidates}"
        )
    return replace(recipe, roles=tuple(role if role.name == LOCAL else replace(role, candidates=each) for role in recipe.roles))


def at_least(source: Any, images: int) -> Any:
    """The source, its images one epoch after the other until they are so many, as an epoch's beginning is slow."""
    rounds = -(-images // max(1, len(source)))
    return source if rounds == 1 else Subset(source, list(range(len(source))) * rounds)


def some_of(source: Source, images: int) -> list[int]:
    """Indices spread evenly over a source."""
    return np.unique(np.linspace(0, len(source) - 1, min(images, len(source))).round().astype(int)).tolist()
