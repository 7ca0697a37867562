"""A stage of the user's own, such as a Kornia module, between an engine's last operation and the normalisation."""

# Axes: V view, G image of a group, N view of any image, S side.

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.pipelines.engine import Engine
from hvs_data.pipelines.storing import store_views
from hvs_data.types import ViewParams

ExtraStage = Callable[[Tensor], Tensor]


def with_extra_stage(engine: Engine, stage: ExtraStage | None) -> Engine:
    """The engine with a stage behind its operations; the very same engine for None.

    Raises:
        HvsError: a stage that cannot be called.
    """
    if stage is None:
        return engine
    if not callable(stage):
        raise HvsError(
            f"extra_stage must be a function or module of float tensors [N, 3, S, S], got {type(stage).__name__}; pass a torch.nn.Module, "
            "such as a Kornia augmentation"
        )
    return StagedEngine(engine, stage)


class StagedEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine` with another engine and a stage.

    Args:
        engine: renders the views, which it leaves on the 0-1 scale in float32.
        stage: called without gradients, and outside of autocast, with float32 [N, 3, S, S] RGB, values 0-1, after solarize and before
            normalisation; returns a float tensor of the same shape on the same device, whose values are taken as they are. It gets the
            views of a few images at a time, on several threads at once where the engine is used on several, as on the CPU; on a CUDA
            device those of a whole batch. What it draws is its own affair: rows do not describe it.
    """

    def __init__(self, engine: Engine, stage: ExtraStage):
        self.name = engine.name
        self._engine = engine
        self._stage = stage

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        if not len(images):
            return  # not every module takes no views
        views, size = params.num_views, canvas.size
        flat = torch.empty(views * len(images) * 3 * size * size, device=canvas.flat.device)
        plain = Canvas.on(flat, views, len(images), size)
        self._engine.render_group(images, params, plain, normalize=False)
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            staged_N3SS = self._checked(plain.pixels.flatten(0, 1))
            store_views(staged_N3SS.view_as(plain.pixels), canvas, params.spec, normalize=normalize, first_image=first_image)

    def _checked(self, x_N3SS: Tensor) -> Tensor:
        shape = x_N3SS.shape
        staged = self._stage(x_N3SS)
        if not isinstance(staged, Tensor) or staged.shape != shape or staged.device != x_N3SS.device or not staged.is_floating_point():
            arrived = f"{staged.dtype} {tuple(staged.shape)} on {staged.device}" if isinstance(staged, Tensor) else type(staged).__name__
            raise HvsError(
                f"extra_stage must return a float tensor {tuple(shape)} on {x_N3SS.device}, as it was given, got {arrived}; keep the size, "
                "and move modules to the device of the images before handing them over"
            )
        return staged.to(torch.float32).contiguous()
