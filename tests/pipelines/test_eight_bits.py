"""Images of more than 8 bits a channel, and bands that are no colour: refused by every way in, with what is needed to mend them.

Before, 12-bit data in a 16-bit file became 16 levels, numbers and floats black or white, and a fourth band was dropped as if it were alpha.
"""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from encoded_files import assert_image, by_pillow, encoded, photo, png
from hvs_data.errors import BadImagesError, DecodeError, SourceError
from hvs_data.pipelines.decode import decode_image

GRAY_HW = np.linspace(0, 65535, 37 * 53).astype(np.uint16).reshape(37, 53)
COLOR_HWC = np.stack([GRAY_HW, GRAY_HW[::-1], GRAY_HW[:, ::-1]], axis=-1)
BANDS_HWC = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
FIVE_HWC = np.concatenate([BANDS_HWC, BANDS_HWC[:, :, :1]], axis=2)


def png_of(pixels: np.ndarray, color_type: int) -> bytes:
    return png(37, 53, 16, color_type, b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))


def tiff(pixels: np.ndarray, photometric: int, extra: tuple[int, ...] = (), order: str = "<") -> bytes:
    """A TIFF file in one strip, written by hand, for what Pillow does not write. Source: TIFF 6.0."""
    byteorder: Any = "little" if order == "<" else "big"
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    body = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    body += bytes(len(body) % 2)
    values: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.dtype.itemsize,) * samples,
        259: (1,),
        262: (photometric,),
        273: (8,),
        277: (samples,),
        278: (height,),
        279: (len(body),),
        **({338: extra} if extra else {}),
    }
    beyond_at = 8 + len(body) + 2 + 12 * len(values) + 4
    entries, beyond = b"", b""
    for tag, numbers in values.items():
        packed = b"".join(number.to_bytes(4, byteorder) for number in numbers)
        if len(packed) > 4:
            beyond, packed = beyond + packed, (beyond_at + len(beyond)).to_bytes(4, byteorder)
        entries += tag.to_bytes(2, byteorder) + (4).to_bytes(2, byteorder) + len(numbers).to_bytes(4, byteorder) + packed
    head = (b"II" if order == "<" else b"MM") + (42).to_bytes(2, byteorder) + (8 + len(body)).to_bytes(4, byteorder)
    return head + body + len(values).to_bytes(2, byteorder) + entries + bytes(4) + beyond


def jpeg2000(pixels: np.ndarray, declared: bool = False) -> bytes:
    """As Pillow writes it, or the bare codestream, in which no channel is declared."""
    return encoded(Image.fromarray(pixels), "JPEG2000", no_jp2=not declared)


DEEP: dict[str, Callable[[], Any]] = {
    "PNG, grey": lambda: encoded(Image.fromarray(GRAY_HW), "PNG"),
    "PNG, 12 bits in 16": lambda: encoded(Image.fromarray(GRAY_HW >> 4), "PNG"),
    "PNG, colour": lambda: png_of(COLOR_HWC, 2),
    "PNG, grey and alpha": lambda: png_of(COLOR_HWC[:, :, :2], 4),
    "PNG, colour and alpha": lambda: png_of(np.concatenate([COLOR_HWC, COLOR_HWC[:, :, :1]], axis=2), 6),
    "PNG, not loaded": lambda: Image.open(io.BytesIO(png_of(COLOR_HWC, 2))),
    "TIFF, grey": lambda: encoded(Image.fromarray(GRAY_HW), "TIFF"),
    "TIFF, grey, big-endian": lambda: tiff(GRAY_HW, 1, order=">"),
    "TIFF, grey, compressed": lambda: encoded(Image.fromarray(GRAY_HW), "TIFF", compression="tiff_lzw"),
    "TIFF, colour": lambda: tiff(COLOR_HWC, 2),
    "TIFF, colour, big-endian": lambda: tiff(COLOR_HWC, 2, order=">"),
    "TIFF, 32-bit integers": lambda: encoded(Image.fromarray(GRAY_HW.astype(np.int32)), "TIFF"),
    "TIFF, floats": lambda: encoded(Image.fromarray(GRAY_HW.astype(np.float32)), "TIFF"),
    "PGM": lambda: b"P5 53 37 65535\n" + GRAY_HW.astype(">u2").tobytes(),
    "PGM, 12 bits": lambda: b"P5 53 37 4095\n" + (GRAY_HW >> 4).astype(">u2").tobytes(),
    "PPM": lambda: b"P6 53 37 65535\n" + COLOR_HWC.astype(">u2").tobytes(),
    "JPEG 2000": lambda: jpeg2000(GRAY_HW, declared=True),
    "JPEG 2000, codestream": lambda: jpeg2000(GRAY_HW),
    "Pillow, 16 bits": lambda: Image.fromarray(GRAY_HW),
    "Pillow, 16 bits, big-endian": lambda: Image.frombytes("I;16B", (53, 37), GRAY_HW.astype(">u2").tobytes()),
    "Pillow, integers": lambda: Image.fromarray(GRAY_HW.astype(np.int32)),
    "Pillow, floats": lambda: Image.fromarray(GRAY_HW.astype(np.float32)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_refused_with_a_remedy(kind: str) -> None:
    with pytest.raises(
        DecodeError, match=r"expected an image of 8 bits a channel, got .*; give the recipe the range .* value_range=.*, or convert it"
    ):
        decode_image(DEEP[kind]())


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64, bool])
def test_arrays_and_tensors_of_other_types_are_refused_with_a_remedy(dtype: Any) -> None:
    for pixels in (COLOR_HWC.astype(dtype), torch.from_numpy(COLOR_HWC.astype(dtype).transpose(2, 0, 1).copy())):
        with pytest.raises(DecodeError, match="expected uint8, got .*; .* scale data of more than 8 bits"):
            decode_image(pixels)
        with pytest.raises(
            SourceError, match="dtype uint8, .*where the data themselves have more than 8 bits, tell the recipe which values"
        ):
            hvs.open_source([(pixels, 0)])


BANDS: dict[str, Callable[[], Any]] = {
    "array": lambda: BANDS_HWC,
    "tensor": lambda: torch.from_numpy(BANDS_HWC).permute(2, 0, 1),
    "TIFF, RGB and another": lambda: tiff(BANDS_HWC, 2, (0,)),
    "TIFF, nothing said": lambda: tiff(BANDS_HWC, 2),
    "TIFF, five bands": lambda: tiff(FIVE_HWC, 2, (0, 0)),
    "TIFF, an alpha and another": lambda: tiff(FIVE_HWC, 2, (2, 0)),
    "TIFF, not loaded": lambda: Image.open(io.BytesIO(tiff(BANDS_HWC, 2, (0,)))),
    "JPEG 2000, nothing said": lambda: jpeg2000(BANDS_HWC),
    "Pillow, RGBX": lambda: Image.frombytes("RGBX", (53, 37), BANDS_HWC.tobytes()),
}


@pytest.mark.parametrize("kind", BANDS)
def test_a_band_that_may_be_no_alpha_is_refused(kind: str) -> None:
    with pytest.raises(
        DecodeError,
        match="expected (an image in grey or colour|pixels in three channels).*got .*; (give the recipe as many channels|pass )",
    ):
        decode_image(BANDS[kind]())


@pytest.mark.parametrize("value", [0, 255])
def test_a_fourth_channel_that_says_nothing_is_dropped(value: int) -> None:
    pixels = BANDS_HWC.copy()
    pixels[:, :, 3] = value
    for data in (pixels, torch.from_numpy(pixels).permute(2, 0, 1), Image.frombytes("RGBX", (53, 37), pixels.tobytes())):
        assert_image(decode_image(data), pixels[:, :, :3])


ALPHA: dict[str, Callable[[], bytes]] = {
    "TIFF": lambda: encoded(Image.fromarray(BANDS_HWC), "TIFF"),
    "TIFF by hand": lambda: tiff(BANDS_HWC, 2, (2,)),
    "PNG": lambda: encoded(Image.fromarray(BANDS_HWC), "PNG"),
    "WebP": lambda: encoded(Image.fromarray(BANDS_HWC), "WEBP", lossless=True),
    "JPEG 2000": lambda: jpeg2000(BANDS_HWC, declared=True),
}


@pytest.mark.parametrize("kind", ALPHA)
def test_an_alpha_that_is_declared_is_dropped(kind: str) -> None:
    data = ALPHA[kind]()
    assert_image(decode_image(data), by_pillow(data))


FILES = {
    "TIFF, colour": tiff(BANDS_HWC[:, :, :3], 2),
    "TIFF, grey": tiff(BANDS_HWC[:, :, 0], 1),
    "TIFF, CMYK": tiff(BANDS_HWC, 5),
    "PGM of 4 bits": b"P5 2 1 15\n\x0f\x03",
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_8_bits_and_fewer_are_read(kind: str) -> None:
    assert_image(decode_image(FILES[kind]), by_pillow(FILES[kind]))


def test_a_loader_says_why_it_ends() -> None:
    """That none of the images can be read did not say why."""
    data = DEEP["PNG, 12 bits in 16"]()
    options: dict[str, Any] = {"batch_size": 4, "num_threads": 1, "engine": "reference", "max_bad_share": 1}
    loader = hvs.ViewLoader([(data, 0)] * 4, hvs.recipes.simsiam(size=16), **options)
    with pytest.raises(BadImagesError, match="none of the source's 4 images can be read, the latest one for this reason: .*8 bits"):
        list(loader)
    assert len(list(hvs.ViewLoader([(photo(), 0), (data, 0)] * 2, hvs.recipes.simsiam(size=16), **options))) == 1
