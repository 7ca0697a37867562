"""The fused engine on the CPU: one compiled call an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.types.rows import ViewParams


class NumbaEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`; leaves the interpreter to other threads while it renders."""

    name = "fused"

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        render_image = self.begin_group(params, canvas, normalize=normalize, first_image=first_image)
        for number, image in enumerate(images):
            render_image(number, image)

    def begin_group(self, params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> Callable[[int, Tensor], None]:
        """A function that renders all views of an image by its number in the group, so that images need not all be there at once."""
        job = Job.make(params, canvas, normalize=normalize, first_image=first_image)
        return lambda number, image: render_one(image, number, job)
