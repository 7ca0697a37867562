"""DALI's part: boxes cut out, resized and flipped on its CPU or GPU backend, many views at once.

DALI's resize could cut by itself (``roi_start``, ``roi_end``), but its filter then reads what lies around the box. So boxes are cut out
first, and framed with zeros; :mod:`hvs_data.pipelines.dali_coverage` says why.
"""

# Axes: N view of any image, H W pixels, C channel, Y X pixels of a view.

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.types import DALIDataType, DALIInterpType
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.pipelines.dali_coverage import coverage, frame_width
from hvs_data.pipelines.dali_rows import Rows
from hvs_data.pipelines.storing import on_device

# Pipelines that are kept while nobody uses them: each has a thread of its own.
MAX_IDLE = 16

_INTERPOLATIONS = {"bilinear": DALIInterpType.INTERP_LINEAR, "bicubic": DALIInterpType.INTERP_CUBIC}


class Resizer:
    """A DALI pipeline for views of one size. It works on one call at a time.

    Args:
        size: of the views.
        interpolation: "bilinear" or "bicubic".
        device: of images and views.
        max_views: the largest number of views in a call; DALI takes memory only for those that come.
    """

    def __init__(self, size: Size, interpolation: str, device: torch.device, max_views: int):
        self._size = size
        self._interpolation = interpolation
        self._device = device
        self._pipeline = _build(size, interpolation, device, max_views)
        # What DALI gave last is its own memory, and DALI does not know who reads it: kept, with an event after its last reader.
        self._last: tuple[Any, Any] | None = None

    def views(self, images: Sequence[Tensor], rows: Rows) -> Tensor:
        """Boxes of images, resized, clamped and flipped.

        Args:
            images: uint8 [H, W, 3] on the device, numbered as in the rows.
            rows: of N views.

        Returns:
            float32 [N, 3, Y, X] of its own memory, values 0-1.
        """
        feed = self._pipeline.feed_input
        length_N2 = rows.box_N4[:, 2:]
        feed("start", _samples(rows.box_N4[:, :2]))
        feed("length", _samples(length_N2))
        feed("frame", _samples(frame_width(length_N2, self._size, self._interpolation)))
        feed("flip", _samples(rows.flip_N))
        # an image that was decoded once stands behind all of its views
        sources = [images[image] for image in rows.image_N.tolist()]
        if self._device.type == "cpu":
            feed("images", [image.numpy() for image in sources], layout="HWC")
            (output,) = self._pipeline.run()
        else:
            # DALI waits for the images, and whoever uses the views next waits for DALI; the CPU waits for neither
            stream = torch.cuda.current_stream(self._device)
            if self._last is not None:
                # and so DALI's next run, which takes memory again, comes after those who read the last one's, on whichever stream
                stream.wait_event(self._last[1])
            feed("images", sources, layout="HWC", cuda_stream=stream)
            (output,) = self._pipeline.run(stream)
        raw_NYXC = torch.from_dlpack(output.as_tensor())
        views_N3YX = torch.div(raw_NYXC.permute(0, 3, 1, 2), self._weight(rows)[:, None]).contiguous().clamp_(0, 1)
        if self._device.type == "cuda":
            self._last = output, stream.record_event()
        return views_N3YX

    def settle(self) -> None:
        """Wait until nobody reads DALI's memory any longer, before it goes with the pipeline."""
        if self._last is not None:
            self._last[1].synchronize()
            self._last = None

    def _weight(self, rows: Rows) -> Tensor:
        """float32 [N, Y, X]: what DALI's sums over 0-255 have to be divided by. It is the same from both ends, so flips do not matter."""
        heights_N, widths_N = rows.box_N4[:, 2:].unbind(1)
        height, width = height_width(self._size)
        rows_NY = 255 * coverage(heights_N, height, self._interpolation)
        columns_NX = coverage(widths_N, width, self._interpolation)
        rows_NY1, columns_N1X = (
            on_device(values, self._device) for values in (rows_NY.float()[:, :, None], columns_NX.float()[:, None, :])
        )
        return rows_NY1 * columns_N1X


def _samples(values: Tensor) -> np.ndarray:
    return values.to(torch.int32).contiguous().numpy()


def _build(size: Size, interpolation: str, device: torch.device, max_views: int) -> Pipeline:
    place = "cpu" if device.type == "cpu" else "gpu"
    on_cpu = place == "cpu"
    pipeline = Pipeline(
        batch_size=max_views,
        # calls come from several threads already, each with a pipeline of its own
        num_threads=1,
        device_id=None if on_cpu else torch.cuda.current_device() if device.index is None else device.index,
        prefetch_queue_depth=1,
        exec_pipelined=not on_cpu,
        exec_async=not on_cpu,
        **({} if on_cpu else {"exec_dynamic": True}),
    )
    with pipeline:

        def argument(name: str) -> Any:
            return fn.external_source(name=name, dtype=DALIDataType.INT32)

        # on a device DALI would share images that lie one behind the other, and nothing would tell it when they have been written
        images = fn.external_source(name="images", device=place, layout="HWC", dtype=DALIDataType.UINT8, ndim=3, no_copy=on_cpu)
        start, length, frame, flip = (argument(name) for name in ("start", "length", "frame", "flip"))
        boxes = fn.slice(images, start=start, shape=length, axes=(0, 1))
        framed = fn.slice(boxes, start=-frame, shape=length + 2 * frame, axes=(0, 1), out_of_bounds_policy="pad", fill_values=0)
        views: Any = fn.resize(
            framed,
            size=height_width(size),
            roi_start=fn.cast(frame, dtype=DALIDataType.FLOAT),
            roi_end=fn.cast(frame + length, dtype=DALIDataType.FLOAT),
            interp_type=_INTERPOLATIONS[interpolation],
            antialias=True,
            dtype=DALIDataType.FLOAT,
        )
        pipeline.set_outputs(fn.flip(views, horizontal=flip, vertical=0))
    pipeline.build()
    return pipeline


class ResizerPool:
    """Lends resizers out, each to one caller at a time: as many exist as were ever in use at once. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, tuple[tuple[Any, ...], Resizer]] = OrderedDict()

    @contextmanager
    def lend(self, size: Size, interpolation: str, device: torch.device, max_views: int) -> Iterator[Resizer]:
        """A resizer made with these arguments. One with which something went wrong is not lent again."""
        # threads do not survive a fork
        key = (os.getpid(), size, interpolation, device, max_views)
        resizer = self._take(key) or Resizer(size, interpolation, device, max_views)
        yield resizer
        with self._lock:
            self._idle[id(resizer)] = (key, resizer)
            surplus = [self._idle.popitem(last=False) for _ in range(len(self._idle) - MAX_IDLE)]
        for _, (_, old) in surplus:  # outside of the lock: it waits, and ends threads
            old.settle()

    def _take(self, key: tuple[Any, ...]) -> Resizer | None:
        with self._lock:
            fitting = next((name for name, (its, _) in reversed(self._idle.items()) if its == key), None)
            return None if fitting is None else self._idle.pop(fitting)[1]
