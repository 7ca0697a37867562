"""Files of every kind that Pillow writes, and some that it does not."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, features

# Axes: H W pixels, C channel.

Image.init()
READS_AVIF = "AVIF" in Image.OPEN and features.check("avif")


def photo(height: int = 37, width: int = 53) -> Image.Image:
    """Slopes, edges and noise in colour: what upsampling of chroma and inverse transforms differ on."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    slopes = np.stack([x * 190 // width, y * 190 // height, (x // 5 + y // 7) % 2 * 190], axis=-1)
    return Image.fromarray((slopes + noise).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def png(height: int, width: int, bits: int, color_type: int, rows: bytes) -> bytes:
    """A PNG file written by hand, for what Pillow does not write. `rows`: each with its filter byte in front."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg_claiming(height: int, width: int) -> bytes:
    """A JPEG file whose frame header is changed to another size."""
    data = bytearray(encoded(photo(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def assert_image(pixels: np.ndarray, expected: np.ndarray) -> None:
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


def palette(**info: Any) -> Image.Image:
    image = photo().quantize(16)
    image.info.update(info)
    return image


def with_orientation(kind: str, orientation: int, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(photo().convert(mode), kind, exif=exif)
