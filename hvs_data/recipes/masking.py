"""Masking of a view's patches, for masked image modelling: frozen data that checks itself when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hvs_data.arguments.values import listed, real_number, whole_number
from hvs_data.errors import RecipeError

SHAPES = ("block", "random")


@dataclass(frozen=True)
class Masking:
    """How many of a view's patches are hidden from the student, and which: iBOT's (Zhou et al. 2022, arXiv 2111.07832).

    The defaults are those of its published runs: one view in two keeps all of its patches, the other loses 10 to 50 %. A view's share
    is drawn in two steps: one of the ratios, all with the same probability, then a number within its variance of it.

    Attributes:
        patch_size: side of a patch in pixels of the view at its own size. A view has height // patch_size times width // patch_size of
            them.
        ratio: the shares to choose from.
        variance: half-widths of the ranges around them, each at most its ratio; one for all ratios, or one for each.
        shape: "block" hides rectangles until the share is reached, as BEiT (Bao et al. 2022, arXiv 2106.08254); it ends below the share
            where ten rectangles in a row do not fit. "random" hides single patches.
        aspect: range of a rectangle's height / width, drawn log-uniformly.
        start_epoch: epochs before this one, counted from 0, have no masks.
    """

    patch_size: int = 16
    ratio: tuple[float, ...] = (0.0, 0.3)
    variance: tuple[float, ...] = (0.0, 0.2)
    shape: str = "block"
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    start_epoch: int = 0

    def __post_init__(self) -> None:
        for name, least, meaning in (
            ("patch_size", 1, "the side of a patch in pixels"),
            ("start_epoch", 0, "the first epoch with masks, counted from 0"),
        ):
            number = whole_number(getattr(self, name))
            if number is None or number < least:
                raise RecipeError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}; it is {meaning}")
            object.__setattr__(self, name, number)
        ratio = _numbers("ratio", self.ratio)
        variance = _numbers("variance", self.variance)
        if len(variance) == 1:
            variance *= len(ratio)
        fits = len(variance) == len(ratio) and all(0 <= v <= r <= r + v <= 1 for r, v in zip(ratio, variance, strict=True))
        if not fits:
            raise RecipeError(
                "ratio and variance must satisfy 0 <= ratio - variance and ratio + variance <= 1, one variance for each ratio, got "
                f"{ratio} and {variance}; a view loses a share within the variance of one of the ratios"
            )
        aspect = _numbers("aspect", self.aspect)
        if len(aspect) != 2 or not 0 < aspect[0] <= aspect[1] < math.inf:
            raise RecipeError(f"aspect must satisfy 0 < lo <= hi, got {self.aspect!r}; it is a range of height / width")
        if self.shape not in SHAPES:
            raise RecipeError(f"shape must be one of {SHAPES}, got {self.shape!r}; blocks are the published masks of iBOT's main runs")
        for name, numbers in (("ratio", ratio), ("variance", variance), ("aspect", aspect)):
            object.__setattr__(self, name, numbers)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    values = listed(value)
    numbers = [real_number(item) for item in ((value,) if values is None else values)]
    if not numbers or None in numbers:
        raise RecipeError(f"{name} must be a number or a sequence of numbers, got {value!r}")
    return tuple(number for number in numbers if number is not None)
