"""Which values the images of a source have: the numbers of ``recipe.with_channels``, from a sample of images and of their pixels."""

# Axes: N pixel of any image, C channel.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import HvsError, MissingDependencyError, SourceError
from hvs_data.pipelines.decode import decode_as_stored
from hvs_data.sources.base import Source

PIXELS = 1024  # of an image, spread evenly


@dataclass(frozen=True)
class Ranges:
    """What was found.

    Attributes:
        images: that were looked at, all of ``dtype`` and of as many channels as there are numbers.
        left_out: images of another kind, or that cannot be read.
        value_range: the percentiles of each channel.
        mean, std: of each channel, on the 0-1 scale that the value range makes.
    """

    images: int
    left_out: int
    dtype: str
    value_range: tuple[tuple[float, float], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def line(self) -> str:
        """What to write into a recipe."""
        pairs = ", ".join(f"({lo:.6g}, {hi:.6g})" for lo, hi in self.value_range)
        means, stds = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (self.mean, self.std))
        return f"recipe = recipe.with_channels(\n    mean=({means},),\n    std=({stds},),\n    value_range=({pairs},),\n)"


def ranges_of(source: Source, most: int, percentiles: tuple[float, float], done: Callable[[int], None] = lambda count: None) -> Ranges:
    """Look at so many images at most, spread evenly over a source, and let the most usual kind of them count.

    Raises:
        SourceError: no image that can be read, or a channel whose values are all the same.
    """
    kinds: Counter[tuple[str, int]] = Counter()
    values: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
    places = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int)).tolist()
    for number, place in enumerate(places):
        try:
            pixels_HWC = decode_as_stored(source.read(place).data)
        except MissingDependencyError:
            raise
        except (OSError, HvsError):
            continue
        finally:
            done(number + 1)
        kind = pixels_HWC.dtype.name, pixels_HWC.shape[2]
        kinds[kind] += 1
        flat_NC = pixels_HWC.reshape(-1, kind[1])
        values.setdefault(kind, []).append(flat_NC[:: -(-len(flat_NC) // PIXELS)].astype(np.float32))
    if not kinds:
        raise SourceError(f"expected images that can be read, got none of {len(places)} of {source!r}; 'hvs-data check' tells why")
    (kind, images), *_ = kinds.most_common(1)
    pool_NC = np.concatenate(values[kind])
    low_C, high_C = np.percentile(pool_NC, percentiles, axis=0)
    if (high_C <= low_C).any():
        raise SourceError(
            f"expected values that differ in every channel, got {low_C[high_C <= low_C][0]:g} at both percentiles, {percentiles}, of "
            f"channel {int((high_C <= low_C).argmax())}; leave that channel out, or ask for percentiles farther apart"
        )
    unit_NC = ((pool_NC - low_C) / (high_C - low_C)).clip(0, 1)
    pairs = tuple(zip(low_C.tolist(), high_C.tolist(), strict=True))
    mean, std = (tuple(numbers.tolist()) for numbers in (unit_NC.mean(0), unit_NC.std(0)))
    return Ranges(images, len(places) - images, kind[0], pairs, mean, std)
