"""The fused engine on the CPU: one compiled call an image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.types import ViewParams


class NumbaEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`; leaves the interpreter to other threads while it renders."""

    name = "fused"

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        job = Job.make(params, canvas, normalize=normalize, first_image=first_image)
        for position, image in enumerate(images):
            render_one(image, position, job)
