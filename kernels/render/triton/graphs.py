"""Launches captured in CUDA graphs, one for batches of the same shape, and replayed with other tables.

A batch's tables go to the same device memory each time, and so do all values between kernels; what differs from batch to batch is read from
the tables: boxes and colours, which rows have a contrast and a blur (lists are filled up to all rows), the addresses of images and the
places of views, counted from a fixed address. A shape is captured when it comes for the second time.
"""

# Axes: B image, V view, N = B V row (one view).

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton.render import TILE_Y, Look, Memory, checked, launch, parts_of, render_views
from hvs_data.kernels.render.triton.rows import Tables, tables_of, to_device
from hvs_data.kernels.render.triton.tables import OUT
from hvs_data.types.rows import ViewParams

KEPT = 4  # shapes; each holds the scratch memory of a batch
ALIGNED = 64  # bytes: what canvases must begin at for their places to be counted from elsewhere
ROOM = 1.25  # times the weights of the batch that was captured, as crops of the next one may have more


def captured(launches: Callable[[], None]) -> Callable[[], None]:
    """A function that replays these launches on the stream that is current then. Waits for the device once."""
    graph = torch.cuda.CUDAGraph()
    # other threads go on allocating and copying meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launches()
    return graph.replay


class _Captured:
    """Launches for one shape, with device memory of their own, on one stream, which keeps their order."""

    def __init__(self, made: Tables, out: Tensor, look: Look, capture: Callable[[Callable[[], None]], Callable[[], None]]):
        device = out.device
        self.memory = Memory.empty(made.rows, made.rows, int(ROOM * made.weights), look.size, device)
        self._tables = torch.empty_like(made.packed, device=device)
        self._by_name = to_device(made, device, self._tables)
        # places are counted from here, wherever the canvas is
        self._origin = torch.empty(ALIGNED, dtype=out.dtype, device=device)
        self._unit = look.unit * out.element_size()
        self._launches = partial(launch, self._by_name, self.memory, self._origin, look)
        self._capture = capture
        self._replay: Callable[[], None] | None = None

    def run(self, made: Tables, out: Tensor) -> None:
        """Render what the tables of this shape say."""
        made.arrays["place"][:, OUT.value] += (out.data_ptr() - self._origin.data_ptr()) // self._unit
        to_device(made, out.device, self._tables)
        if self._replay is None:
            self._launches()  # what is not compiled yet cannot be captured
            self._replay = self._capture(self._launches)
        else:
            self._replay()


class Graphs:
    """Renders as :func:`render_views` does, replaying what was captured of batches of the same shape.

    Args:
        capture: turns launches into their replay.
    """

    def __init__(self, capture: Callable[[Callable[[], None]], Callable[[], None]] = captured):
        self._capture = capture
        self._seen: set[Hashable] = set()
        self._kept: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._lock = threading.Lock()

    def render_views(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        """As :func:`render_views`. Batches that are rendered part by part, and shapes that were not seen before, are launched as ever."""
        batch, device = checked(images, params, canvas, normalize, first_image), canvas.flat.device
        look = Look.of(params.spec, canvas, normalize)
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None
        shape = (
            device, stream, canvas.flat.dtype, canvas.pixels.stride(), look, len(batch), params.heights, params.spec.blur_kernel
        )  # fmt: skip
        with self._lock:
            whole = len(parts_of(params, canvas)) == 1 and params.num_views and canvas.flat.data_ptr() % ALIGNED == 0
            if not whole or shape not in self._seen:
                self._seen.add(shape)
                render_views(batch, params, canvas, normalize=normalize, first_image=first_image)
                return
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                tables = tables_of(batch, params, canvas, first_image, TILE_Y, device, whole_lists=True)
                self._replay(shape, tables, canvas.flat, look)

    def _replay(self, shape: Hashable, tables: Tables, out: Tensor, look: Look) -> None:
        its = self._kept.get(shape)
        if its is None or tables.weights > len(its.memory.weight):
            its = self._kept[shape] = _Captured(tables, out, look, self._capture)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        its.run(tables, out)
