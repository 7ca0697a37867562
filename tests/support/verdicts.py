"""Whether what decoding makes of a file, good or bad, is what it promises: Pillow's pixels, or a DecodeError with a reason."""

import io
import re
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageOps

from hvs_data.errors import DecodeError
from hvs_data.pipelines.decode import DEFAULT_MAX_PIXELS, FORMATS, decode_image
from mutations import mutated

EQUAL = "equal to Pillow"
NOT_EIGHT_BITS = "refused: more than 8 bits, or other bands"
BOTH_REFUSE = "refused, as by Pillow"
OTHER_FORMAT = "refused: a format that is not read"
TOO_LARGE = "refused: over the pixel limit"
KEPT = (EQUAL, NOT_EIGHT_BITS, BOTH_REFUSE, OTHER_FORMAT, TOO_LARGE)


def verdict_on_file(task):
    """Verdicts on a file as it is stored and as it is turned upright; ``task`` is its path."""
    data = Path(task).read_bytes()
    return [verdict(data), verdict(data, upright=True)]


def verdict(data, *, upright=False, max_pixels=DEFAULT_MAX_PIXELS):
    """One of ``KEPT`` where the promise is kept, else what is wrong, in capitals first."""
    # the limits under test are ours
    with warnings.catch_warnings(), patch.object(Image, "MAX_IMAGE_PIXELS", None):
        warnings.simplefilter("ignore")
        try:
            pixels = decode_image(data, exif_orientation=upright, max_pixels=max_pixels)
        except DecodeError as error:
            return _of_refusal(data, str(error), upright)
        except BaseException as error:
            return f"ESCAPED: {type(error).__name__}: {error}"
        return _of_pixels(data, pixels, upright)


def _of_refusal(data, reason, upright):
    if not re.search(r"expected .*[,;] got ", reason, re.DOTALL):
        return f"NO REASON: {reason}"
    if "max_pixels" in reason:
        return TOO_LARGE
    try:
        image, _ = by_pillow(data, upright)
    except Exception:
        return OTHER_FORMAT if "known format" in reason else BOTH_REFUSE
    if "8 bits a channel" in reason or "bands" in reason:
        # modes of more than 8 bits, and formats that have them or other bands though Pillow's mode does not say so
        deep = image.mode.startswith("I") or image.mode == "F" or image.format in ("PNG", "TIFF", "PPM", "JPEG2000")
        return NOT_EIGHT_BITS if deep else f"REFUSED as deep: {reason}"
    return f"REFUSED, and read by Pillow: {reason}"


def _of_pixels(data, pixels, upright):
    if not (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous and pixels.size):
        return f"NO IMAGE: {pixels.dtype} of shape {pixels.shape}"
    try:
        _, expected = by_pillow(data, upright)
    except Exception as error:
        return f"READ, and refused by Pillow: {type(error).__name__}: {error}"
    if np.array_equal(pixels, expected):
        return EQUAL
    if pixels.shape != expected.shape:
        return f"ANOTHER SHAPE: {pixels.shape} in place of {expected.shape}"
    return f"OTHER PIXELS: up to {np.abs(pixels.astype(int) - expected).max()} off"


def by_pillow(data, upright=False):
    """The image by Pillow's public functions as it is stored, and its RGB pixels."""
    Image.init()
    stored = image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    image.load()
    if upright:
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:
            pass  # broken metadata count as none
    return stored, np.asarray(image.convert("RGB"))


def verdict_on_mutation(task):
    """Format and verdict of a damaged file; ``task`` is (seed, number) of mutations.mutated. Small files: a damaged header may claim any
    size, and large ones would only take time."""
    kind, data = mutated(*task)
    return [kind, verdict(data, upright=task[1] % 4 == 0, max_pixels=10**6)]
