"""Images of any number of channels and of more than 8 bits: pixels as they were stored, fitted to the channels that a recipe has.

Pixels keep their numbers: uint8, uint16 and float32 stay what they are, other types become float32. Which of the values is 0 and which
is 1 stands in the recipe (``value_range``). What Pillow would clip or cut to 8 bits is read by other libraries, see :func:`stored_pixels`.
"""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvs_data.errors import DecodeError, MissingDependencyError
from hvs_data.types.images import MAX_CHANNELS

_KEPT = (np.uint8, np.uint16, np.float32)
_NPY_START = b"\x93NUMPY"
_PNM_START = re.compile(rb"(P[56])\s(\d{1,9})\s(\d{1,9})\s255\s")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Pillow's modes.
_DEEP_MODES = ("F", "I", "I;16", "I;16L", "I;16B")
_FOUR_OR_TWO = {"LA": 2, "RGBA": 4, "CMYK": 4}

CheckSize = Callable[[int, int], None]


def is_npy(encoded: bytes | memoryview) -> bool:
    return bytes(encoded[:6]) == _NPY_START


def npy_pixels(encoded: bytes | memoryview) -> np.ndarray:
    """The array of a ``.npy`` file, without a copy where it has an order and a type that NumPy can point at.

    Raises:
        DecodeError: objects, which could run code, or a file that holds fewer or more bytes than it says.
    """
    width = 2 if encoded[6] == 1 else 4  # of the header's length, by the version of the format
    start = 8 + width + int.from_bytes(encoded[8 : 8 + width], "little")
    shape, fortran, dtype = _npy_header(bytes(encoded[:start]))
    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize != len(encoded) - start:
        raise DecodeError(
            f"expected a .npy file of numbers, as long as its header says, got {dtype} of shape {shape} in {len(encoded)} bytes; save the "
            "array anew with np.save"
        )
    values = np.frombuffer(encoded, dtype, count, start)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


@lru_cache(maxsize=1024)  # it is Python text, slow to parse, and the same for all images of a size
def _npy_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(file)


def pnm_pixels(encoded: bytes | memoryview, check_size: CheckSize) -> np.ndarray | None:
    """Pixels [H, W, C] of a plain PPM or PGM file of 8 bits, where they lie; None for any other, which Pillow may still read.

    Source: netpbm's "ppm" and "pgm".
    """
    found = _PNM_START.match(bytes(encoded[:40]))
    if found is None:
        return None
    width, height = int(found[2]), int(found[3])
    check_size(height, width)
    channels = 3 if found[1] == b"P6" else 1
    count = height * width * channels
    if len(encoded) - found.end() < count:
        return None
    return np.frombuffer(encoded, np.uint8, count, found.end()).reshape(height, width, channels)


def stored_pixels(encoded: bytes | memoryview, check_size: CheckSize, channels: int, deep: bool) -> np.ndarray | None:
    """Pixels [H, W, C] of a file that Pillow would not read as it is; None for others.

    Args:
        check_size: refuses a height and width, before memory is taken.
        channels, deep: as of :func:`hvs_data.pipelines.decode.decode_image`.

    Raises:
        DecodeError: a file that cannot be read.
        MissingDependencyError: the library that reads it.
    """
    if is_npy(encoded):
        return npy_pixels(encoded)
    head = bytes(encoded[:132])
    if deep and head[:8] == _PNG_START and head[24] == 16:
        return _png_pixels(encoded, check_size)
    if head[:4] in _TIFF_STARTS and (deep or channels not in (1, 3)):
        return _tiff_pixels(encoded, check_size)
    return _dicom_pixels(encoded, check_size) if head[128:] == b"DICM" else None


def pillow_pixels(image: Image.Image, channels: int) -> np.ndarray | None:
    """Pixels of a Pillow image of more than 8 bits or whose bands are the channels, two or four; None for what is to become RGB first."""
    if image.mode not in _DEEP_MODES and _FOUR_OR_TWO.get(image.mode) != channels:
        return None
    image.load()
    return np.array(image)


def fitted(pixels: np.ndarray, channels: int, deep: bool) -> np.ndarray:
    """Pixels [H, W] or [H, W, c] as C-contiguous [H, W, C] of a type that a renderer takes.

    Grey becomes three equal channels; RGB of 8 bits becomes grey as Pillow's ``convert("L")``.

    Args:
        deep: whether the recipe says which values are 0 and 1: else only 8 bits are meant.

    Raises:
        DecodeError: other channels, another type, or numbers that are not finite.
    """
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= max(channels, 4) or pixels.dtype.kind not in "uif":
        raise _misfit(pixels, channels)
    if pixels.dtype != np.uint8 and not deep:
        raise DecodeError(
            f"expected an image of 8 bits a channel, got {pixels.dtype}; tell the recipe which of its values are 0 and 1: "
            "recipe.with_channels(mean, std, value_range=(lo, hi)), for which 'hvs-data range SOURCE' prints the numbers"
        )
    if pixels.dtype.type not in _KEPT or not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("=") if pixels.dtype.type in _KEPT else np.float32)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise DecodeError("expected finite numbers in every pixel, got NaN or infinity; replace them before the images are stored")
    given = pixels.shape[2]
    if given == channels:
        return np.ascontiguousarray(pixels)
    if (given, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (given, channels) == (3, 1) and pixels.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[:, :, None]
    raise _misfit(pixels, channels)


def array_of(data: np.ndarray | Tensor) -> np.ndarray:
    """The pixels of an array [H, W] or [H, W, C] or of a tensor [H, W] or [C, H, W], channels last."""
    if not isinstance(data, Tensor):
        return data
    data = data.detach().cpu()
    pixels = data.to(torch.float32).numpy() if data.dtype == torch.bfloat16 else data.numpy()
    return pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels


def _misfit(pixels: np.ndarray, channels: int) -> DecodeError:
    return DecodeError(
        f"expected an image of {channels} channel{'s' if channels > 1 else ''}, as the recipe's mean and std have, got {pixels.dtype} of "
        f"shape {pixels.shape}; pick or stack the channels that are meant, as [H, W, C] (a torch tensor as [C, H, W]), or give "
        f"recipe.with_channels(mean, std) as many numbers, up to {MAX_CHANNELS}"
    )


# --- files of more than Pillow reads -----------------------------------------------------------------------------------


def _png_pixels(encoded: bytes | memoryview, check_size: CheckSize) -> np.ndarray:
    """A PNG file of 16 bits: uint16 [H, W, C]."""
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError("imagecodecs", "depth", "a PNG file of 16 bits") from error
    head = bytes(encoded[:24])
    check_size(int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big"))
    return imagecodecs.png_decode(bytes(encoded))


def _tiff_pixels(encoded: bytes | memoryview, check_size: CheckSize) -> np.ndarray:
    """The first page of a TIFF file, of any bits and bands."""
    try:
        import imagecodecs  # noqa: F401 - tifffile reads compressed files by it
        import tifffile
    except ImportError as error:
        raise MissingDependencyError(error.name or "tifffile", "depth", "a TIFF file under this recipe") from error
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        page = file.pages.first
        check_size(page.imagelength, page.imagewidth)
        if page.samplesperpixel > MAX_CHANNELS:
            raise DecodeError(
                f"expected at most {MAX_CHANNELS} channels, got a TIFF file of {page.samplesperpixel}; store those that are meant"
            )
        pixels = page.asarray()
        return np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and pixels.ndim == 3 else pixels


def _dicom_pixels(encoded: bytes | memoryview, check_size: CheckSize) -> np.ndarray:
    """The frame of a DICOM file: float32, in the units of its rescale slope and intercept; MONOCHROME1, whose 0 is white, inverted."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError("pydicom", "dicom", "a DICOM file") from error
    file = pydicom.dcmread(io.BytesIO(encoded))
    check_size(int(file.Rows), int(file.Columns))
    if int(file.get("NumberOfFrames", 1)) != 1:
        raise DecodeError(f"expected a DICOM file of one frame, got {file.NumberOfFrames}; store one frame a file")
    pixels = file.pixel_array
    if file.get("PhotometricInterpretation") == "MONOCHROME1":
        highest = 2 ** int(file.BitsStored) - 1 if not int(file.PixelRepresentation) else -1
        pixels = highest - pixels.astype(np.int64)
    slope, intercept = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
    return (pixels * slope + intercept).astype(np.float32)
