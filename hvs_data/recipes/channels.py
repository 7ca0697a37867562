"""What a recipe says of its images' channels: how many, which of their values are 0 and 1, and which operations they can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hvs_data.arguments.values import listed, real_number
from hvs_data.errors import RecipeError
from hvs_data.types.images import MAX_CHANNELS

Ranges = tuple[tuple[float, float], ...]


def checked_channels(mean: Any, std: Any, most: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation as plain numbers, as many of each."""
    numbers: dict[str, tuple[float, ...]] = {}
    for name, value in (("mean", mean), ("std", std)):
        given = [real_number(number) for number in listed(value) or ()]
        if not 1 <= len(given) <= MAX_CHANNELS or any(number is None or not abs(number) <= most for number in given):
            raise RecipeError(
                f"{name} must hold a number for each channel, from 1 to {MAX_CHANNELS} of them, got {value!r}; they are on the 0-1 scale"
            )
        numbers[name] = tuple(number for number in given if number is not None)
    if min(numbers["std"]) <= 0:
        raise RecipeError(f"std must be above 0 in every channel, got {std!r}; values are divided by it")
    if len(numbers["mean"]) != len(numbers["std"]):
        raise RecipeError(
            f"mean and std must hold as many numbers, one for each channel of the images, got {mean!r} and {std!r}; write both, as in "
            "recipe.with_channels(mean=(0.5,), std=(0.25,)) for one channel"
        )
    return numbers["mean"], numbers["std"]


def checked_ranges(value_range: Any, channels: int) -> Ranges | None:
    """Pairs of plain numbers, one for all channels or one for each; None where that is left to the type of the images."""
    if value_range is None:
        return None
    meaning = "(lo, hi), or such a pair for each channel: the values of the images that become 0 and 1"
    given = listed(value_range) or ()
    pairs = [listed(pair) for pair in given] if given and all(listed(pair) is not None for pair in given) else [given]
    ranges = [tuple(real_number(end) for end in pair) for pair in pairs if pair is not None]
    if len(ranges) not in (1, channels) or any(len(pair) != 2 or None in pair or not pair[0] < pair[1] for pair in ranges):  # type: ignore[operator]
        raise RecipeError(f"value_range must be {meaning}, with lo < hi, got {value_range!r} for {channels} channels")
    if any(not abs(end) < 2**63 for pair in ranges for end in pair):  # type: ignore[arg-type]
        raise RecipeError(f"value_range must be {meaning}, in finite numbers, got {value_range!r}")
    return tuple(ranges)  # type: ignore[arg-type]


def check_colours(roles: Sequence[Any], channels: int) -> None:
    """Refuse operations of colours for images that have none."""
    if channels == 3:
        return
    for role in roles:
        jitter = role.jitter
        if role.gray or (jitter.p and (jitter.saturation or jitter.hue)):
            raise RecipeError(
                f"saturation, hue and gray must be 0 for images of {channels} channels, which have no colours, got role {role.name!r} with "
                f"ColorJitter(saturation={jitter.saturation:g}, hue={jitter.hue:g}) and gray={role.gray:g}; write "
                "recipe.with_channels(mean, std), which leaves them out, or "
                f"role jitter=ColorJitter({jitter.p:g}, {jitter.brightness:g}, {jitter.contrast:g}, saturation=0, hue=0), gray=0"
            )


def without_colours(role: Any) -> Any:
    """The role without operations that need colours."""
    return replace(role, jitter=replace(role.jitter, saturation=0, hue=0), gray=0)
