"""The fused engine on CUDA: a handful of launches for all views of all images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton.render import render_views
from hvs_data.types import ViewParams


class TritonEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`; works on the current stream and never waits for the device."""

    name = "fused"

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        render_views(images, params, canvas, normalize=normalize, first_image=first_image)
