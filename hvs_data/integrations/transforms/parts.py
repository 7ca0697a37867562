"""What the parts of a pipeline do, whoever wrote them: the vocabulary between the readers of classes and the law of a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch

from hvs_data.arguments.sizes import Size


@dataclass(frozen=True)
class Crop:
    """Random resized crop.

    Attributes:
        antialias: as given to torchvision: True, or what means "only for Pillow's images".
    """

    size: Size
    scale: tuple[float, float]
    ratio: tuple[float, float]
    interpolation: str
    antialias: bool = True


@dataclass(frozen=True)
class FixedCrop:
    """A box of the view's size out of the image: anywhere in the image with black padding at each side, or in its centre."""

    size: Size
    center: bool
    padding: int = 0


@dataclass(frozen=True)
class Resize:
    """Resize of the whole image: its shorter side, or (height, width); ``antialias`` as of :class:`Crop`."""

    size: int | tuple[int, int]
    interpolation: str
    antialias: bool = True


@dataclass(frozen=True)
class Flip:
    """Horizontal flip, or a vertical one."""

    vertical: bool = False


@dataclass(frozen=True)
class Turn:
    """Quarter turns counterclockwise, one of these each as often."""

    quarters: tuple[int, ...]


@dataclass(frozen=True)
class Jitter:
    """Half-widths of the factors' ranges, and of the hue's in turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class Gray:
    """Loss of colour, with three equal channels."""


@dataclass(frozen=True)
class Blur:
    """Gaussian blur.

    Attributes:
        sigma: range of the standard deviation in pixels, drawn uniformly.
        kernel: taps; None for Pillow's, which has no kernel.
    """

    sigma: tuple[float, float]
    kernel: int | None


@dataclass(frozen=True)
class Solarize:
    """Inversion of the values at or above a threshold on the scale of the values at this point."""

    threshold: float


@dataclass(frozen=True)
class Posterize:
    """Only the upper bits of each value."""

    bits: int


@dataclass(frozen=True)
class Erase:
    """A rectangle erased, with a value on the scale of the values at this point, one for each channel, or "noise"."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: float | tuple[float, ...] | str


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` per channel, on the scale of the values at this point."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Convert:
    """Another container or type of numbers.

    Attributes:
        dtype: of the values from here on; None: unchanged.
        scale: whether values are rescaled to the new type's range (255 to 1).
        to_pillow: to Pillow's image; else to a tensor.
    """

    dtype: torch.dtype | None = None
    scale: bool = True
    to_pillow: bool = False


Part: TypeAlias = (
    Crop | FixedCrop | Resize | Flip | Turn | Jitter | Gray | Blur | Solarize | Posterize | Normalize | Erase | Convert
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A part of one view's pipeline.

    Attributes:
        path: where it stands, such as ``transforms[1].RandomApply[0]``.
        name: its class.
        part: what it does.
        p: with which probability.
    """

    path: str
    name: str
    part: Part
    p: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.name} at {self.path}"
