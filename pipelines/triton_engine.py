"""The fused engine on CUDA: a handful of launches for all views of all images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.kernels.render.erasing import erase_views
from hvs_data.kernels.render.triton.graphs import Graphs
from hvs_data.kernels.render.triton.render import render_views
from hvs_data.pipelines.finishing import finish_views, is_finished
from hvs_data.pipelines.storing import store_views
from hvs_data.types.rows import ViewParams


class TritonEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`; works on the current stream and never waits for the device."""

    name = "fused"
    _render_views = staticmethod(render_views)

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        if is_finished(params) or not len(images):
            self._render_views(images, params, canvas, normalize=normalize, first_image=first_image)
            erase_views(params, canvas, normalize=normalize, first_image=first_image)
            return
        views, size = params.num_views, canvas.size
        flat = torch.empty(count_elements(views, len(images), size), device=canvas.flat.device)
        plain = Canvas.on(flat, views, len(images), size)
        self._render_views(images, params, plain, normalize=False)
        finish_views(plain.pixels, params)
        store_views(plain.pixels, canvas, params, normalize=normalize, first_image=first_image)


class GraphedTritonEngine(TritonEngine):
    """The same, with the launches of batches of a shape that came before replayed from CUDA graphs, which this object keeps."""

    name = "fused-graph"

    def __init__(self) -> None:
        self._render_views = Graphs().render_views
