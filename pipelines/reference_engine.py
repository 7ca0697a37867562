"""The plain PyTorch renderer as an engine: slow, on any device, for checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.reference import render_reference
from hvs_data.types.rows import ViewParams


class ReferenceEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`; computes in float32."""

    name = "reference"

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        pixels_GVCHW = render_reference(images, params, canvas.size, normalize=normalize, compute_dtype=torch.float32)
        if canvas.flat.dtype == torch.uint8:
            pixels_GVCHW = (pixels_GVCHW * 255).round_().clamp_(0, 255)
        canvas.pixels[:, first_image : first_image + len(images)] = pixels_GVCHW.transpose(0, 1).to(canvas.flat.dtype)
