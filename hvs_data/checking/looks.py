"""What one image turns out to be when it is read and decoded."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvs_data.errors import HvsError
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources.base import Source

_ORIENTATION = 274  # Exif 2.32
# Means are taken over one pixel in so many, each way, of images that have as many.
STRIDE = 4


@dataclass(frozen=True)
class Look:
    """One image.

    Attributes:
        index: in its source.
        label: -1 without one.
        kind: format and mode as the file has them, such as "JPEG RGB" or "PNG I;16"; type and shape of what comes decoded.
        size: encoded bytes; 0 of what comes decoded.
        height, width: in pixels, as decoded; 0 of what cannot be.
        turned: whether its metadata say that it is to be turned.
        digest: of its pixels: equal pictures have equal ones.
        mean, square: mean of each channel's values, and of their squares, on the 0-1 scale.
        problem: why it cannot be used; empty of sound images.
    """

    index: int
    label: int = -1
    kind: str = "unknown"
    size: int = 0
    height: int = 0
    width: int = 0
    turned: bool = False
    digest: bytes = b""
    mean: tuple[float, ...] = ()
    square: tuple[float, ...] = ()
    problem: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether all pixels that were looked at have one colour."""
        return bool(self.mean) and all(s - m * m < 1e-9 for m, s in zip(self.mean, self.square, strict=True))


def look_at(source: Source, index: int) -> Look:
    """Read and decode one image. What is wrong with it stands in the result; mistakes of the program are raised."""
    kind, turned, size, label = "unknown", False, 0, -1
    try:
        data, label = source.read(index)
        kind, turned, size = described(data)
        pixels_HWC = decode_image(data)
    except (OSError, HvsError) as error:
        return Look(index, label, kind, size, turned=turned, problem=f"{type(error).__name__}: {error}")
    mean, square = _moments(pixels_HWC)
    digest = hashlib.blake2b(np.ascontiguousarray(pixels_HWC).data, digest_size=16, key=str(pixels_HWC.shape).encode()).digest()
    height, width = pixels_HWC.shape[:2]
    return Look(index, label, kind, size, height, width, turned, digest, mean, square)


class Header(NamedTuple):
    """What is known of an image before its pixels are looked at.

    Attributes:
        kind: format and mode, or type and shape.
        turned: whether its metadata say that it is to be turned, which it is only if that is asked for.
        nbytes: encoded; 0 of what is decoded.
    """

    kind: str
    turned: bool
    nbytes: int


def described(data: Any) -> Header:
    """An image's header; "unknown" where it has none that can be read."""
    if isinstance(data, Image.Image):
        return Header(f"{data.format or 'Pillow'} {data.mode}", _turned(data), 0)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        shape = " x ".join(map(str, getattr(data, "shape", ())))
        kind = f"{type(data).__name__} {getattr(data, 'dtype', '')} {'' if len(getattr(data, 'shape', ())) < 2 else shape}"
        return Header(kind.strip(), False, 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            return Header(f"{image.format} {image.mode}", _turned(image), len(data))
    except Exception:  # whatever Pillow's parsers stumble over; decoding says what is wrong
        return Header("unknown", False, len(data))


def _turned(image: Image.Image) -> bool:
    if image.format == "TIFF":  # Pillow turns them as it reads their pixels
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # metadata that cannot be read count as none
        return False


def _moments(pixels_HWC: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    height, width, channels = pixels_HWC.shape
    some = pixels_HWC[:: STRIDE if height >= STRIDE else 1, :: STRIDE if width >= STRIDE else 1].reshape(-1, channels)
    value = some.astype(np.float32) / 255
    return tuple(value.mean(0, dtype=np.float64).tolist()), tuple((value * value).mean(0, dtype=np.float64).tolist())
