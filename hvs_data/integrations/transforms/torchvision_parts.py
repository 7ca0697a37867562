"""Reads torchvision's transforms, version 1 and 2, and lightly's own ones: their attributes, not their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hvs_data.arguments.sizes import Size, size_of
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
    Turn,
)
from hvs_data.integrations.transforms.report import InexpressibleError

# torchvision's enum has these as values, Pillow the numbers
_INTERPOLATIONS = {"bilinear": "bilinear", "bicubic": "bicubic", 2: "bilinear", 3: "bicubic"}
_COLOURS = ("brightness", "contrast", "saturation")

Read = tuple[Part | None, float]  # what a part does, and with which probability; None: nothing


def _crop(part: Any) -> Read:
    return Crop(_size(part.size), _pair(part.scale), _pair(part.ratio), *_resampling(part)), 1.0


def _resize(part: Any) -> Read:
    if getattr(part, "max_size", None) is not None:
        raise InexpressibleError(f"a recipe's resize has no largest side, got max_size={part.max_size}", "drop max_size")
    sides = part.size if isinstance(part.size, Sequence) else [part.size]
    size = (int(sides[0]), int(sides[1])) if len(sides) == 2 else int(sides[0])
    return Resize(size, *_resampling(part)), 1.0


def _random_crop(part: Any) -> Read:
    padding = part.padding if isinstance(part.padding, Sequence) else [part.padding or 0]
    fills = part.fill.values() if isinstance(part.fill, dict) else [part.fill]
    if len(set(padding)) > 1 or part.padding_mode != "constant" or any(np.any(fill) for fill in fills if fill is not None):
        why = f"a recipe pads all sides alike, with black, got padding={part.padding}, fill={part.fill}, padding_mode={part.padding_mode!r}"
        raise InexpressibleError(why, "pass one padding and leave fill and padding_mode out")
    return FixedCrop(_size(part.size), center=False, padding=int(padding[0])), 1.0


def _size(size: Any) -> Size:
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    return size_of(int(height), int(width))


def _resampling(part: Any) -> tuple[str, bool]:
    """Interpolation, and whether it is antialiased for tensors too."""
    interpolation = _INTERPOLATIONS.get(getattr(part.interpolation, "value", part.interpolation))
    antialias = getattr(part, "antialias", True)
    problems = []
    if interpolation is None:
        problems.append((f"interpolation is bilinear or bicubic, got {part.interpolation}", "take one of the two"))
    if antialias is False:
        problems.append(("a recipe's resize is antialiased", "pass antialias=True, which is what Pillow's images get in any case"))
    if problems or interpolation is None:
        whys, remedies = zip(*problems, strict=True)
        raise InexpressibleError("; ".join(whys), " and ".join(remedies))
    return interpolation, antialias is True


def _jitter(part: Any) -> Read:
    problems = []
    half_widths = {}
    for name in (*_COLOURS, "hue"):
        center, least = (0.0, -math.inf) if name == "hue" else (1.0, 0.0)
        bounds = getattr(part, name, None)
        lo, hi = (center, center) if bounds is None else _floats(bounds)
        # 1.4 - 1 is not .4 in binary; a half-width is written in decimals, and twelve of them leave what was written
        half = round(hi - center, 12)
        if not math.isclose(lo, max(least, center - half), abs_tol=1e-9):
            full = "[-hue, hue]" if name == "hue" else f"[max(0, 1 - {name}), 1 + {name}]"
            problems.append(f"{name} is drawn from {full} in a recipe, got [{lo:g}, {hi:g}]")
        half_widths[name] = half
    if problems:
        raise InexpressibleError("; ".join(problems), "give single numbers, such as ColorJitter(brightness=0.4)")
    return (Jitter(**half_widths) if any(half_widths.values()) else None), 1.0


def _gray(part: Any) -> Read:
    return Gray(), float(part.p)


def _always_gray(part: Any) -> Read:
    if part.num_output_channels != 3:
        raise InexpressibleError(
            "views have three channels, got one", "pass num_output_channels=3, and let the model take three equal channels"
        )
    return Gray(), 1.0


def _blur(part: Any) -> Read:
    kernels = set(part.kernel_size if isinstance(part.kernel_size, Sequence) else [part.kernel_size])
    if len(kernels) > 1:
        raise InexpressibleError(f"a blur's kernel is square, got {tuple(part.kernel_size)}", "pass one kernel_size")
    sigma = part.sigma if isinstance(part.sigma, Sequence) else (part.sigma, part.sigma)
    return Blur(_pair(sigma), int(kernels.pop())), 1.0


def _solarize(part: Any) -> Read:
    return Solarize(float(part.threshold)), float(part.p)


def _normalize(part: Any) -> Read:
    mean, std = (_floats(values.tolist() if isinstance(values, torch.Tensor) else values) for values in (part.mean, part.std))
    mean, std = (values * 3 if len(values) == 1 else values for values in (mean, std))
    if len(mean) != 3 or len(std) != 3:
        raise InexpressibleError(
            f"views have three channels, got {len(mean)} means and {len(std)} standard deviations", "pass three of each"
        )
    return Normalize(mean, std), 1.0


def _to_dtype(part: Any) -> Read:
    dtype = part.dtype
    if isinstance(dtype, dict):
        by_name = {getattr(key, "__name__", key): value for key, value in dtype.items()}
        dtype = next((by_name[name] for name in ("Image", "Tensor", "others") if name in by_name), None)
    return (None if dtype is None else Convert(dtype, scale=bool(getattr(part, "scale", True)))), 1.0


def _horizontal_flip(part: Any) -> Read:
    return Flip(), float(part.p)


def _quarters(degrees: float) -> int:
    """Quarter turns of a rotation about the centre."""
    if degrees % 90:
        raise InexpressibleError(f"a recipe turns by quarters, got {degrees:g} degrees", "take a multiple of 90 degrees, or drop it")
    return int(degrees // 90) % 4


def _turn(quarters: Sequence[int]) -> Read:
    """One of some turns, each as often: what a recipe draws of them, and how often it is any."""
    turns = [quarter for quarter in quarters if quarter]
    if len({turns.count(quarter) for quarter in turns}) > 1:
        raise InexpressibleError(f"a recipe draws each of its turns as often, got the quarters {list(quarters)}", "name each once")
    return (Turn(tuple(sorted(set(turns)))) if turns else None), len(turns) / len(quarters)


def _rotation(part: Any) -> Read:
    lo, hi = _pair(part.degrees)
    if lo != hi:
        raise InexpressibleError(f"a recipe turns by quarters, got any angle from {lo:g} to {hi:g}")
    if part.center is not None:
        raise InexpressibleError(f"a recipe turns about the centre, got center={part.center}", "leave center out")
    return _turn([_quarters(lo)])


def _choice(part: Any) -> Read:
    """One of several rotations, or of none."""
    weights = list(part.p) if part.p is not None else [1.0]
    if len({float(weight) for weight in weights}) > 1:
        raise InexpressibleError(f"a recipe draws each of its turns as often, got p={part.p}", "leave p out")
    quarters = []
    for each in part.transforms:
        read = {"RandomRotation": _rotation, "Identity": _nothing}.get(type(each).__name__)
        what, _ = (None, 0.0) if read is None else read(each)
        if read is None or not (what is None or isinstance(what, Turn)):
            raise InexpressibleError(
                f"a recipe chooses between turns alone, got {type(each).__name__}", "draw each with its own RandomApply"
            )
        quarters.append(0 if what is None else what.quarters[0])
    return _turn(quarters)


def _erasing(part: Any) -> Read:
    value = part.value
    if value is None or value == "random":
        what: Any = "noise"
    else:
        several = value if isinstance(value, Sequence) else [value]
        what = float(several[0]) if len(several) == 1 else _floats(several)
    return Erase(_pair(part.scale), _pair(part.ratio), what), float(part.p)


def _nothing(part: Any) -> Read:
    return None, 1.0


def _constant(read: Convert) -> Callable[[Any], Read]:
    return lambda part: (read, 1.0)


READERS: dict[str, dict[str, Callable[[Any], Read]]] = {
    "torchvision": {
        "CenterCrop": lambda part: (FixedCrop(_size(part.size), center=True), 1.0),
        "ColorJitter": _jitter,
        "ConvertImageDtype": _to_dtype,
        "GaussianBlur": _blur,
        "Grayscale": _always_gray,
        "Identity": _nothing,
        "Normalize": _normalize,
        "PILToTensor": _constant(Convert()),
        "RGB": _nothing,  # views are RGB
        "RandomChoice": _choice,
        "RandomCrop": _random_crop,
        "RandomErasing": _erasing,
        "RandomGrayscale": _gray,
        "RandomHorizontalFlip": _horizontal_flip,
        "RandomPosterize": lambda part: (Posterize(int(part.bits)), float(part.p)),
        "RandomResizedCrop": _crop,
        "RandomRotation": _rotation,
        "RandomSolarize": _solarize,
        "RandomVerticalFlip": lambda part: (Flip(vertical=True), float(part.p)),
        "Resize": _resize,
        "ToDtype": _to_dtype,
        "ToImage": _constant(Convert()),
        "ToPILImage": _constant(Convert(to_pillow=True)),
        "ToPureTensor": _constant(Convert()),
        "ToTensor": _constant(Convert(torch.float32)),
    },
    # its ToTensor holds a pipeline of torchvision's parts
    "lightly": {
        "GaussianBlur": lambda part: (Blur(_pair(part.sigmas), None), float(part.prob)),
        "RandomRotate": lambda part: (_turn([_quarters(part.angle)])[0], float(part.prob)),
        "RandomSolarization": lambda part: (Solarize(float(part.threshold)), float(part.prob)),
    },
    "torch": {"Identity": _nothing},
}


def never_applied(part: Any) -> bool:
    """Whether a part of a known package, a flip or a rotation for example, has the probability 0."""
    probability = getattr(part, "p", getattr(part, "prob", None))
    return isinstance(probability, (int, float)) and probability == 0


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _pair(values: Sequence[Any]) -> tuple[float, float]:
    return float(values[0]), float(values[-1])
