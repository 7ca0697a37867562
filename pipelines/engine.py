"""The engines that turn rows into pixels, and the choice of one."""

# Axes: G image of a group, V view.

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from hvs_data.errors import HvsError, MissingDependencyError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.types.rows import RenderSpec, ViewParams

ENGINES = ("auto", "fused", "fused-graph", "dali-kornia", "reference")
FUSED = ("fused", "fused-graph")

logger = logging.getLogger("hvs_data")


class Engine(Protocol):
    """Renders groups of decoded images.

    Attributes:
        name: the name under which it is asked for.
    """

    name: str

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        """Render all views of some images, on the calling thread.

        Args:
            images: G tensors [H, W, C], contiguous.
            params: their rows [G, V]; boxes lie inside the images.
            canvas: of V views, on the images' device; receives images ``first_image`` to ``first_image + G - 1``.
            normalize: apply the recipe's mean and standard deviation; else values are 0-1, or 0-255 in a uint8 canvas.
        """


def choose_engine(name: str, device: torch.device, spec: RenderSpec | None = None, *, resizes: bool = False) -> Engine:
    """The engine of this name for images on this device. "auto" takes the fastest there is and logs which one that is, once.

    Args:
        spec: what is rendered; None for pictures of 8 bits and three channels.
        resizes: whether views are cut out of resized or padded images (``ViewParams.resized``), which not all engines do.

    Raises:
        HvsError: an unknown name, or an engine that cannot run here or render this; the message says what to do.
    """
    if name not in ENGINES:
        raise HvsError(f"engine must be one of {ENGINES}, got {name!r}")
    here = device.type == "cpu"
    if name == "auto":
        name = "fused" if _can_fuse(device) and (here or not resizes) and _renders("fused", device, spec) else "reference"
        _announce(name, device.type)
    if spec is not None and not _renders(name, device, spec):
        raise HvsError(
            f"engine {name!r} renders RGB pictures of 8 bits on {device.type}, got a recipe of {spec.channels} channels and value_range="
            f'{spec.value_range}; pass engine="reference", or render on the CPU, where the engine "fused" takes them'
        )
    if resizes and (name == "dali-kornia" or (name in FUSED and not here)):
        raise HvsError(
            f"expected an engine that resizes or pads images before it crops, as the recipe says, got {name!r} for images on {device}; "
            'pass engine="auto" with device="cpu", which is the fastest, or engine="reference"'
        )
    if name == "dali-kornia":
        return _dali_kornia(device)
    if name in FUSED:
        return _fused(device, graphs=name == "fused-graph")
    from hvs_data.pipelines.reference_engine import ReferenceEngine

    return ReferenceEngine()


def _can_fuse(device: torch.device) -> bool:
    return device.type == "cpu" or (device.type == "cuda" and find_spec("triton") is not None)


def _renders(name: str, device: torch.device, spec: RenderSpec | None) -> bool:
    """Whether an engine knows a recipe's channels and value range."""
    any_image = name == "reference" or (name == "fused" and device.type == "cpu")
    return any_image or spec is None or (spec.channels == 3 and spec.value_range is None)


def _fused(device: torch.device, *, graphs: bool) -> Engine:
    if graphs and device.type != "cuda":
        raise HvsError(f'engine "fused-graph" replays CUDA graphs, got images on {device}; pass engine="fused"')
    if not _can_fuse(device):
        remedy = "run: pip install triton" if device.type == "cuda" else 'decode to the CPU, or pass engine="reference"'
        raise HvsError(
            'engine "fused" renders images on the CPU, and on CUDA devices with the package triton, which comes with torch for CUDA; got '
            f"images on {device}{' and no triton' if device.type == 'cuda' else ''}; {remedy}"
        )
    if device.type == "cuda":
        from hvs_data.pipelines.triton_engine import GraphedTritonEngine, TritonEngine

        return GraphedTritonEngine() if graphs else TritonEngine()
    from hvs_data.pipelines.numba_engine import NumbaEngine

    return NumbaEngine()


def _dali_kornia(device: torch.device) -> Engine:
    if device.type not in ("cpu", "cuda"):
        raise HvsError(f'engine "dali-kornia" renders images on the CPU and on CUDA devices, got images on {device}; decode to these')
    try:
        from hvs_data.pipelines.dali_engine import DaliKorniaEngine
    except ModuleNotFoundError as error:
        package = {"nvidia": "nvidia.dali", "kornia": "kornia"}.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        # the wheels for CUDA hold the CPU backend too
        extra = "cuda12" if (torch.version.cuda or "").startswith("12.") else "cuda13"
        raise MissingDependencyError(package, extra, 'engine "dali-kornia"') from error
    return DaliKorniaEngine()


@cache
def _announce(name: str, device_type: str) -> None:
    logger.info('engine="auto" renders with the engine %r on %s', name, device_type)
