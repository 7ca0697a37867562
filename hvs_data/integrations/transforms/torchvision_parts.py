"""Reads torchvision's transforms, version 1 and 2, and lightly's own ones: their attributes, not their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hvs_data.arguments.sizes import size_of
from hvs_data.integrations.transforms.parts import Blur, Convert, Crop, Flip, Gray, Jitter, Normalize, Part, Solarize
from hvs_data.integrations.transforms.report import InexpressibleError

# torchvision's enum has these as values, Pillow the numbers
_INTERPOLATIONS = {"bilinear": "bilinear", "bicubic": "bicubic", 2: "bilinear", 3: "bicubic"}
_COLOURS = ("brightness", "contrast", "saturation")

Read = tuple[Part | None, float]  # what a part does, and with which probability; None: nothing


def _crop(part: Any) -> Read:
    height, width = (part.size, part.size) if isinstance(part.size, int) else (part.size[0], part.size[-1])
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
    return Crop(size_of(int(height), int(width)), _floats(part.scale), _floats(part.ratio), interpolation, antialias is True), 1.0  # type: ignore[arg-type]


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


def _nothing(part: Any) -> Read:
    return None, 1.0


def _constant(read: Convert) -> Callable[[Any], Read]:
    return lambda part: (read, 1.0)


READERS: dict[str, dict[str, Callable[[Any], Read]]] = {
    "torchvision": {
        "ColorJitter": _jitter,
        "ConvertImageDtype": _to_dtype,
        "GaussianBlur": _blur,
        "Grayscale": _always_gray,
        "Identity": _nothing,
        "Normalize": _normalize,
        "PILToTensor": _constant(Convert()),
        "RGB": _nothing,  # views are RGB
        "RandomGrayscale": _gray,
        "RandomHorizontalFlip": _horizontal_flip,
        "RandomResizedCrop": _crop,
        "RandomSolarize": _solarize,
        "ToDtype": _to_dtype,
        "ToImage": _constant(Convert()),
        "ToPILImage": _constant(Convert(to_pillow=True)),
        "ToPureTensor": _constant(Convert()),
        "ToTensor": _constant(Convert(torch.float32)),
    },
    # its ToTensor holds a pipeline of torchvision's parts
    "lightly": {
        "GaussianBlur": lambda part: (Blur(_pair(part.sigmas), None), float(part.prob)),
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
