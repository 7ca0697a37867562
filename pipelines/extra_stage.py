"""A stage of the user's own, such as a Kornia module, between an engine's last operation and the normalisation."""

# Axes: V view, G image of a group, N view of any image, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.pipelines.engine import Engine
from hvs_data.pipelines.stage import ExtraStage, Stage
from hvs_data.pipelines.storing import store_views
from hvs_data.types.rows import ViewParams


def with_extra_stage(engine: Engine, stage: ExtraStage | Stage | None) -> Engine:
    """The engine with a stage behind its operations; the very same engine for None.

    Raises:
        HvsError: a stage that cannot be called.
    """
    if stage is None:
        return engine
    return StagedEngine(engine, stage if isinstance(stage, Stage) else Stage(stage))


class StagedEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine` with another engine and a stage.

    Args:
        engine: renders the views, which it leaves on the 0-1 scale in float32.
        stage: called without gradients, and outside of autocast, with views after solarize and before normalisation; the values of what
            it returns are taken as they are. See :class:`hvs_data.pipelines.stage.Stage`.
    """

    def __init__(self, engine: Engine, stage: Stage):
        self.name = engine.name
        self._engine = engine
        self._stage = stage

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        if not len(images):
            return  # not every module takes no views
        views, size = params.num_views, canvas.size
        flat = torch.empty(count_elements(views, len(images), size, params.spec.channels), device=canvas.flat.device)
        # the views of an image one after another, so that those of some images are one piece
        plain = Canvas.on(flat, views, len(images), size, params.spec.channels, image_major=True)
        self._engine.render_group(images, replace(params, erase=None), plain, normalize=False)
        x_GVCHW = plain.pixels.transpose(0, 1)
        x_NCHW = x_GVCHW.reshape(-1, *x_GVCHW.shape[2:])
        key_N = None if params.key is None else params.key.flatten()
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            for part in self._calls(len(images), views, flat.device):
                x_nCHW = x_NCHW[part]
                staged = self._stage(x_nCHW, None if key_N is None else key_N[part])
                if staged is not x_nCHW:
                    # a transposed view of the same memory would be written while it is read
                    shared = staged.untyped_storage().data_ptr() == x_nCHW.untyped_storage().data_ptr()
                    x_nCHW.copy_(staged.clone() if shared else staged)
            # the engine has dropped channels, and what the stage makes of them stands
            store_views(plain.pixels, canvas, replace(params, dropped=None), normalize=normalize, first_image=first_image)

    def _calls(self, images: int, views: int, device: torch.device) -> Iterator[slice]:
        """Which views are handed to the stage together."""
        each = 1 if not self._stage.batched else views if device.type == "cpu" else images * views
        return (slice(start, start + each) for start in range(0, images * views, each))
