"""What a view shows of its image, and at which size: resizing and cropping, read off a pipeline's steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hvs_data.arguments.sizes import size_of
from hvs_data.integrations.transforms.parts import Crop, FixedCrop, Resize, Step
from hvs_data.integrations.transforms.report import Report
from hvs_data.integrations.transforms.views import Pipeline


@dataclass(frozen=True)
class Framing:
    """Fields of a role, and the interpolation of every resize."""

    fields: dict[str, Any]
    interpolation: str


def framing_of(steps: Sequence[Step], pipeline: Pipeline, report: Report) -> Framing | None:
    """The framing that these steps make; None where there is none, or one that was refused."""
    parts = [step.part for step in steps]
    resize = next((part for part in parts if isinstance(part, Resize)), None)
    crop = next((part for part in parts if isinstance(part, (Crop, FixedCrop))), None)
    if crop is None and resize is not None and isinstance(resize.size, tuple):
        crop = FixedCrop(size_of(*resize.size), center=True)
    if crop is None:
        return None
    resized = {} if resize is None else {"resize": resize.size}
    if isinstance(crop, FixedCrop):
        kind = "center" if crop.center else "random"
        fields = {"size": crop.size, "crop": kind, "padding": crop.padding, **resized}
        return Framing(fields, "bilinear" if resize is None else resize.interpolation)
    if resize is not None and resize.interpolation != crop.interpolation:
        why = f"a recipe has one interpolation, got {resize.interpolation} before {crop.interpolation}"
        report.refuse(pipeline.path, pipeline.name, why, "resize and crop in one way")
    return Framing({"size": crop.size, "scale": crop.scale, "ratio": crop.ratio, **resized}, crop.interpolation)
