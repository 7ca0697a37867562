"""What is no picture of 8 bits a channel, grey or in colour, and so cannot become one without a choice that is the caller's.

Which of 16 bits hold the picture, and whether a fourth band is an alpha or near infrared, stands in no pixel. What a format says for sure
is taken: an alpha that is declared is dropped, and AVIF of 10 or 12 bits is scaled by its decoder.
"""

# Axes: H W pixels, C channel.

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from hvs_data.errors import DecodeError

_SCALE = "give the recipe the range of its values, recipe.with_channels(mean, std, value_range=(0, 65535)), or convert it to 8 bits"
_PICK = "give the recipe as many channels, recipe.with_channels(mean, std, value_range=...), or store three of them"

# Tags of TIFF 6.0, and channels by its photometric interpretation: grey, RGB, palette, separated, YCbCr, Lab.
_BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA = 258, 262, 277, 338
_TIFF_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
# Extra samples that are an alpha: associated, unassociated, and what one program writes for it.
_ALPHA = (1, 2, 999)

_CODESTREAM = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, and of its segment of sizes


def check_image(image: Image.Image) -> None:
    """Refuse a Pillow image of more than 8 bits a channel, or with bands that are neither colour nor alpha.

    Args:
        image: not loaded yet where it comes from a file: what Pillow makes of one does not say what it was.

    Raises:
        DecodeError: such an image.
    """
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        kind = {"I": "32-bit integers", "F": "floating point numbers"}.get(mode, "16-bit greyscale")
        kind = "16-bit greyscale" if mode == "I" and image.format in ("PNG", "PPM") else kind
        raise DecodeError(f"expected an image of 8 bits a channel, got {kind} (Pillow's mode {mode}); {_SCALE}")
    if image.format == "TIFF" and hasattr(image, "tag_v2"):
        _check_tiff(image.tag_v2)
    elif image.format == "PNG" and any(";16" in str(tile[3]) for tile in _tiles(image)):
        raise DecodeError(f"expected an image of 8 bits a channel, got a PNG file of 16; {_SCALE}")
    elif image.format == "PPM" and any(isinstance(tile[3], tuple) and tile[3][1] > 255 for tile in _tiles(image)):
        raise DecodeError(f"expected an image of 8 bits a channel, got a PPM file with values above 255; {_SCALE}")
    elif mode == "RGBX":
        check_fourth(np.asarray(image)[:, :, 3])


def _tiles(image: Image.Image) -> list[Any]:
    """How the decoder of a file is called; nothing once it was."""
    return list(getattr(image, "tile", None) or ())


def _check_tiff(tags: Any) -> None:
    bits = np.max(tags.get(_BITS, 1))
    if bits > 8:
        raise DecodeError(f"expected an image of 8 bits a channel, got a TIFF file of {bits}; {_SCALE}")
    samples = int(np.max(tags.get(_SAMPLES, 1)))
    others = samples - _TIFF_CHANNELS.get(tags.get(_PHOTOMETRIC), samples)
    declared = tuple(np.atleast_1d(tags.get(_EXTRA, ())).tolist())
    if others > 1 or (others == 1 and declared[:1] not in [(kind,) for kind in _ALPHA]):
        raise DecodeError(f"expected an image in grey or colour, perhaps with an alpha, got a TIFF file of {samples} bands; {_PICK}")


def check_jpeg2000(encoded: bytes | memoryview) -> None:
    """Refuse a JPEG 2000 file as :func:`check_image` does. Its bits and its channels stand in the codestream, its alpha outside of it.

    Source: ITU-T T.800, annexes A.5.1 and I.5.3.6.

    Raises:
        DecodeError: such a file.
    """
    data = bytes(encoded)
    start = data.find(_CODESTREAM)
    channels = int.from_bytes(data[start + 40 : start + 42], "big")
    sizes = data[start + 42 : start + 42 + 3 * channels : 3]
    if start < 0 or not sizes:
        return  # the decoder refuses it
    bits = max((size & 0x7F) + 1 for size in sizes)
    if bits > 8:
        raise DecodeError(f"expected an image of 8 bits a channel, got a JPEG 2000 file of {bits}; {_SCALE}")
    if channels in (2, 4) and b"cdef" not in data[:start] and b"colr\1\0\0\0\0\0\x0c" not in data[:start]:
        raise DecodeError(f"expected an image in grey or colour, perhaps with an alpha, got a JPEG 2000 file of {channels} bands; {_PICK}")


def check_fourth(band_HW: np.ndarray) -> None:
    """Refuse a fourth channel of pixels that holds something: of an array it is not known whether that is an alpha.

    Raises:
        DecodeError: one that is not the same everywhere.
    """
    if band_HW.size and (band_HW != band_HW.flat[0]).any():
        raise DecodeError(
            "expected pixels in three channels, or with an alpha that is the same everywhere, got a fourth channel that holds something, "
            "which may be near infrared as well; pass the three that are meant, such as pixels[..., :3]"
        )
