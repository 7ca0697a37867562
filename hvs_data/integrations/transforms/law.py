"""From the steps of a pipeline to the distribution of its views: which operations come in an order that a recipe has.

A recipe's order is resize, crop, jitter, grey, blur, solarize, posterize, normalise, erase. Some exchanges leave the law of a view as it
is. Flips may stand anywhere: they commute with every operation, and the distributions of crop boxes and erased rectangles are their own
mirror images. Turns by quarters may stand anywhere between the crop and the erasing, whose shapes are not the same turned. Of turns and
flips together the law is worked out (:mod:`hvs_data.integrations.transforms.turns`). Grey and blur commute:
both are averages, one over channels, one over pixels, with equal weights in every channel. What only changes the container of the pixels
may stand anywhere too. No other two commute: jitter and solarize clamp or fold the values, contrast reads the mean of the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hvs_data.errors import RecipeError
from hvs_data.integrations.transforms.framing import framing_of
from hvs_data.integrations.transforms.parts import (
    Blur,
    Convert,
    Crop,
    Erase,
    FixedCrop,
    Flip,
    Gray,
    Jitter,
    Normalize,
    Part,
    Posterize,
    Resize,
    Solarize,
    Step,
    Turn,
)
from hvs_data.integrations.transforms.report import Report
from hvs_data.integrations.transforms.turns import turning_of
from hvs_data.integrations.transforms.views import Pipeline
from hvs_data.recipes.spec import ColorJitter, Erasing, Role

_STAGE: dict[type[Part], int] = {
    Resize: 0, Crop: 1, FixedCrop: 1, Jitter: 2, Gray: 3, Blur: 3, Solarize: 4, Posterize: 5, Normalize: 6, Erase: 6,
}  # fmt: skip
_ORDER = "resize, crop, jitter, grey, blur, solarize, posterize, normalise (flips anywhere, grey also behind blur), erase"
# A recipe inverts from 128/255 on: the same, on 8-bit values, as any threshold above 127 up to 128.
_THRESHOLDS = {255.0: (127.0, 128.0), 1.0: (127.0 / 255, 128.0 / 255)}
_FRAMES = ("RandomResizedCrop", "RandomCrop", "CenterCrop", "Resize")
_SLACK = 1e-6  # thresholds written as 0.502 or kept in float32 mean no other one


@dataclass(frozen=True)
class Law:
    """The distribution of one view.

    Attributes:
        role: of one candidate.
        interpolation, mean, std: as in a recipe, on the 0-1 scale.
        blur_kernel: taps of the blur; None where there is none, or Pillow's.
    """

    role: Role
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blur_kernel: int | None


def law_of(steps: Sequence[Step], pipeline: Pipeline, report: Report) -> Law | None:
    """The law of a view that passes these steps of its pipeline; None if it cannot be told."""
    kept = _in_order(steps, report)
    full_scale = _check_values(steps, report)
    framing = framing_of(kept, pipeline, report)
    if framing is None:
        # one that stands elsewhere, or that could not be read, has been refused already
        paths = tuple(path for path, _ in pipeline.segments)
        of_this = [part for part in report.parts if part.path.startswith(paths)]
        if not any(part.path == pipeline.path or part.part in _FRAMES for part in of_this):
            report.refuse(
                pipeline.path,
                pipeline.name,
                "it has no crop, with which every view of a recipe begins",
                "begin with RandomResizedCrop, RandomCrop or CenterCrop, or with Resize to a height and a width",
            )
        return None
    normalize = next((step.part for step in kept if isinstance(step.part, Normalize)), Normalize((0.0,) * 3, (1.0,) * 3))
    blur = next((step.part for step in kept if isinstance(step.part, Blur)), None)
    try:
        role = replace(_role(kept, blur), **framing.fields, **turning_of(kept, report), erase=_erasing(kept, normalize, full_scale, report))
    except RecipeError as error:
        report.refuse(pipeline.path, pipeline.name, str(error), "change the value")
        return None
    if blur is not None and blur.kernel is None:
        report.differs(
            "Pillow's GaussianBlur is three box blurs that repeat the pixels at the border; a recipe's is a true Gaussian of the same "
            "standard deviation that reflects them, as torchvision's: half a grey level in the mean, more at the border"
        )
    return Law(
        role,
        framing.interpolation,
        tuple(value / full_scale for value in normalize.mean),
        tuple(value / full_scale for value in normalize.std),
        None if blur is None else blur.kernel,
    )


def _erasing(steps: Sequence[Step], normalize: Normalize, full_scale: float, report: Report) -> Erasing | None:
    """What is erased, with its value on the scale of normalised values."""
    parts = [step.part for step in steps]
    step = next((step for step in steps if isinstance(step.part, Erase)), None)
    if step is None or not isinstance(step.part, Erase):
        return None
    part, value = step.part, step.part.value
    mean, std = ([number / full_scale for number in numbers] for numbers in (normalize.mean, normalize.std))
    changes = set(mean) != {0.0} or set(std) != {1.0}
    if changes and normalize in parts[parts.index(part) :]:
        if isinstance(value, str):
            why = "noise that is normalised afterwards is no standard normal noise"
            report.refuse(step.path, step.name, why, "put it behind Normalize")
            return None
        values = value if isinstance(value, tuple) else (value,) * len(mean)
        value = tuple((each - m) / s for each, m, s in zip(values, mean, std, strict=True))
    return Erasing(step.p, part.scale, part.ratio, value)


def _role(steps: Sequence[Step], blur: Blur | None) -> Role:
    jitter = next((step for step in steps if isinstance(step.part, Jitter)), None)
    colours = ColorJitter(0.0, 0.0, 0.0, 0.0, 0.0)
    if jitter is not None and isinstance(jitter.part, Jitter):
        part = jitter.part
        colours = ColorJitter(jitter.p, part.brightness, part.contrast, part.saturation, part.hue)
    role = Role(
        candidates=1,
        emitted=1,
        jitter=colours,
        gray=_at_least_once([step.p for step in steps if isinstance(step.part, Gray)]),
        blur=_at_least_once([step.p for step in steps if isinstance(step.part, Blur)]),
        solarize=_at_least_once([step.p for step in steps if isinstance(step.part, Solarize)]),
        posterize=_at_least_once([step.p for step in steps if isinstance(step.part, Posterize)]),
        posterize_bits=next((step.part.bits for step in steps if isinstance(step.part, Posterize)), Role.posterize_bits),
    )
    return role if blur is None else replace(role, sigma=blur.sigma)


def _in_order(steps: Sequence[Step], report: Report) -> list[Step]:
    """The steps whose place a recipe has; others are refused."""
    kept: list[Step] = []
    latest: Step | None = None
    for step in steps:
        if isinstance(step.part, (Flip, Convert)):
            kept.append(step)
            continue
        if isinstance(step.part, Turn):
            framed = any(isinstance(other.part, (Crop, FixedCrop)) for other in kept)
            if framed and not any(isinstance(other.part, Erase) for other in kept):
                kept.append(step)
            else:
                report.refuse(step.path, step.name, "a recipe turns views between their crop and their erasing", "put it behind the crop")
            continue
        twin = next((other for other in kept if _kind(other.part) is _kind(step.part)), None)
        if twin is not None and not isinstance(step.part, Gray):  # grey twice is grey
            report.refuse(step.path, step.name, f"a recipe does this once, got it also from {twin.label}", "drop one of the two")
        elif latest is not None and _STAGE[type(step.part)] < _STAGE[type(latest.part)]:
            report.refuse(
                step.path,
                step.name,
                f"it stands behind {latest.label}; the order of a recipe is {_ORDER}, and these two do not commute",
                "put it in that order, which changes the distribution of views, or use transforms of your own in an ordinary DataLoader",
            )
        else:
            kept.append(step)
            latest = step
    return kept


def _kind(part: Part) -> type:
    return Crop if isinstance(part, FixedCrop) else type(part)


def _check_values(steps: Sequence[Step], report: Report) -> float:
    """Follow the scale of the values through the pipeline, 255 or 1, and refuse what a recipe would do on another scale.

    Returns:
        What 1 of a recipe's scale is in the scale of the views.
    """
    dtype, full_scale, is_tensor = torch.uint8, 255.0, False
    for step in steps:
        part = step.part
        if isinstance(part, Convert):
            refusal = _conversion_refusal(part, dtype)
            if refusal:
                report.refuse(step.path, step.name, *refusal)
                continue
            if part.dtype is not None and dtype == torch.uint8 and part.dtype.is_floating_point:
                full_scale = 1.0 if part.scale else 255.0
            dtype, is_tensor = part.dtype or dtype, not part.to_pillow
        elif isinstance(part, (Flip, Turn, FixedCrop, Normalize)):
            continue
        elif dtype != torch.uint8 and full_scale != 1:
            report.refuse(step.path, step.name, "it works on floats of up to 255, which torchvision takes for 1", "convert with scale=True")
        elif isinstance(part, (Crop, Resize)):
            if is_tensor and not part.antialias:
                report.refuse(step.path, step.name, "a recipe's resize is antialiased, this one's of tensors is not", "pass antialias=True")
            if dtype != torch.uint8 and part.interpolation == "bicubic":
                report.differs("bicubic resizes of floats overshoot the pixels' range at edges; a recipe cuts that off, as 8-bit code does")
        elif isinstance(part, Posterize) and dtype == torch.uint8:
            report.differs("posterized 8-bit values are multiples of 2**(8 - bits) of 255, a recipe's of 2**-bits of 1: a 256th less")
        elif isinstance(part, Erase) and dtype == torch.uint8:
            report.refuse(step.path, step.name, "a recipe erases floats, got 8-bit values", "convert to floats before")
        elif isinstance(part, Solarize):
            least, most = _THRESHOLDS[full_scale]
            if not least + _SLACK < part.threshold <= most + _SLACK * full_scale:
                report.refuse(
                    step.path,
                    step.name,
                    f"a recipe inverts values from 128 of 255 on, got the threshold {part.threshold:g} of {full_scale:g}",
                    f"pass threshold={128 if full_scale == 255 else 0.5}",
                )
    _tell_dtype(dtype, full_scale, report)
    return full_scale if dtype != torch.uint8 else 1.0


def _conversion_refusal(part: Convert, dtype: torch.dtype) -> tuple[str, str] | None:
    """Why a conversion from values of this type has no equal, and what to do."""
    if dtype != torch.uint8 and (part.to_pillow or (part.dtype is not None and not part.dtype.is_floating_point)):
        return "it rounds floats to 8 bits on the way", "convert to floats once, at the end"
    if part.dtype is not None and not part.dtype.is_floating_point and part.dtype != torch.uint8:
        return f"views are floats or uint8, got {part.dtype}", "convert to torch.float32 with scale=True"
    return None


def _tell_dtype(dtype: torch.dtype, full_scale: float, report: Report) -> None:
    if dtype == torch.uint8:
        report.differs(
            "the transforms end with 8-bit values, the recipe's views are floats from 0 to 1; ViewLoader(dtype=torch.uint8, "
            "normalize=False) gives 8-bit ones"
        )
    elif dtype != torch.float32:
        report.differs(f"the transforms end with {dtype}, the recipe's views are torch.float32 unless ViewLoader(dtype=...) says otherwise")


def _at_least_once(probabilities: Sequence[float]) -> float:
    if len(probabilities) < 2:
        return sum(probabilities, start=0.0)
    never = 1.0
    for p in probabilities:
        never *= 1 - p
    return 1 - never
