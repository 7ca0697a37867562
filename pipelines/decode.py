"""Encoded images to pixels, mostly RGB: a fast JPEG decoder that leaves the interpreter free for other threads, Pillow for the rest."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hvs_data.arguments.values import whole_number
from hvs_data.errors import DecodeError, HvsError, MissingDependencyError
from hvs_data.pipelines.any_channels import array_of, fitted, is_npy, npy_pixels, pillow_pixels, pnm_pixels, stored_pixels
from hvs_data.pipelines.eight_bits import check_fourth, check_image, check_jpeg2000
from hvs_data.threads.pillow import is_closed, turn_with
from hvs_data.threads.share import default_threads
from hvs_data.types.images import EncodedImage, ImageBatch

DEFAULT_MAX_PIXELS = 2**27
# Formats of still pictures whose plugins only read bytes; Pillow knows others that start programs (EPS) or accept nearly anything.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")

# Encoders write about ten scans. A pixel takes about 2 ns in each.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 2**31

_JPEG_2000_STARTS = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
_JPEG_START = b"\xff\xd8\xff"
_EXIF_ORIENTATION = 274
# How to turn stored pixels upright: swap height and width, then reverse rows, then reverse columns. Source: Exif 2.32, tag 274.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def decode(
    items: Sequence[Any],
    device: torch.device | str = "cpu",
    *,
    exif_orientation: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    num_threads: int | None = None,
    channels: int = 3,
    deep: bool = False,
) -> ImageBatch:
    """Decode images on the CPU, several at a time, and put them on a device.

    Args:
        items: what :func:`decode_image` takes, one an image.
        device: where the images go.
        exif_orientation, max_pixels, channels, deep: as in :func:`decode_image`.
        num_threads: images decoded at a time; None = this process's fair share of the CPUs, see :class:`hvs_data.ViewLoader`.

    Returns:
        the images in the order of ``items``.

    Raises:
        DecodeError: an image that cannot be decoded; its ``position`` is the place in ``items``, the first one if there are several.
        HvsError: a device that cannot be used, no thread, or a single image in place of a list.
    """
    target = usable_device(device)
    if isinstance(items, (str, bytes, bytearray, memoryview)):
        raise HvsError(f"expected a list of images, got {type(items).__name__}; put a single image into a list")
    if num_threads is not None and (whole_number(num_threads) or 0) < 1:
        raise HvsError(f"num_threads must be a whole number of at least 1, got {num_threads!r}; leave it out for a fair share of the CPUs")

    def decode_item(position: int) -> np.ndarray:
        try:
            return decode_image(items[position], exif_orientation=exif_orientation, max_pixels=max_pixels, channels=channels, deep=deep)
        except DecodeError as error:
            raise DecodeError(f"image {position}: {error}", position=position) from error

    positions = range(len(items))
    threads = min(len(items), num_threads or default_threads())
    if threads > 1:
        with ThreadPoolExecutor(threads, thread_name_prefix="hvs-decode") as pool:
            batch = ImageBatch(list(pool.map(decode_item, positions)))
    else:
        batch = ImageBatch(list(map(decode_item, positions)))
    return batch if target.type == "cpu" else ImageBatch([image.to(target) for image in batch])


def decode_image(
    data: Any,
    *,
    exif_orientation: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    denominator: int = 1,
    channels: int = 3,
    deep: bool = False,
) -> np.ndarray:
    """Decode one image to pixels; to RGB ones, unless other channels are asked for, equal to Pillow's ``Image.open(...).convert("RGB")``.

    The first frame is taken of an animation, alpha and transparency are dropped. Images of more than 8 bits a channel, which Pillow clips
    or cuts, and bands that are neither colour nor alpha are refused; see :mod:`hvs_data.pipelines.eight_bits`.

    Args:
        data: one of

            - encoded bytes (bytes, bytearray, memoryview, a uint8 array or tensor of one axis), in a format of ``FORMATS``;
            - a Pillow image, loaded or with its file still open. Several threads may decode the same one, or several of one file;
            - pixels: a uint8 array of shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], or a uint8 tensor of shape [H, W], [1, H, W],
              [3, H, W] or [4, H, W], as torchvision has them. A fourth channel must be the same everywhere.

        exif_orientation: turn the image upright as its metadata says, as ``PIL.ImageOps.exif_transpose`` does. Metadata that cannot
            be read count as none. (TIFF files are always turned, which is how Pillow reads them.)
        max_pixels: the largest H * W that is decoded; looked up in the header, before memory is taken. Pillow's own limit,
            ``PIL.Image.MAX_IMAGE_PIXELS``, holds besides for TIFF, WebP and GIF.
        denominator: 2, 4 or 8 decodes JPEG data that :func:`jpeg_size` knows to that fraction of the size, rounded up, where the fast
            decoder can read them; all else comes in full.
        channels: C. One channel of a colour picture is its grey, as Pillow's ``convert("L")``; three of a grey one are equal.
        deep: take images of more than 8 bits too: arrays and tensors of any numbers, 16-bit PNG, TIFF and DICOM files, as
            :mod:`hvs_data.pipelines.any_channels` reads them. ``.npy`` files count as arrays.

    Returns:
        uint8 [H, W, C], C-contiguous; with ``deep`` also uint16 or float32. It shares memory with ``data`` if that has this form already.

    Raises:
        DecodeError: anything that does not give an image, whatever the decoders make of it.
    """
    try:
        try:
            return _decoded(data, exif_orientation, max_pixels, denominator, channels, deep)
        except Warning:
            # Python's -W error makes errors of what Pillow warns of, such as broken metadata, which are no reason to lose the picture
            warnings.filterwarnings("default", module=r"PIL\.|hvs_data\.pipelines\.decode$")
            return _decoded(data, exif_orientation, max_pixels, denominator, channels, deep)
    except (DecodeError, MissingDependencyError):
        raise
    except Exception as error:
        # Pillow's plugins let through what their parsers stumble over: struct.error, SyntaxError, KeyError, MemoryError, ...
        reason = f"{type(error).__name__}: {error}"
        raise DecodeError(f"expected an intact image, got {_described(data)} ({reason}); replace or remove it") from error


def decode_as_stored(data: Any, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """An image's pixels [H, W, C] as they were stored, of any type and number of channels; an ordinary picture's are RGB.

    Raises:
        DecodeError: what is no image.
        MissingDependencyError: the library that reads it.
    """
    try:
        pixels = _stored(data, False, max_pixels, 4, True)
        pixels = _rgb_of(data, False, max_pixels, 1) if pixels is None else pixels
    except HvsError:
        raise
    except Exception as error:
        raise DecodeError(f"expected an intact image, got {_described(data)} ({error}); replace or remove it") from error
    if pixels.ndim not in (2, 3) or not np.isfinite(pixels).all():
        raise DecodeError(f"expected finite numbers [H, W] or [H, W, C], got {pixels.dtype} of shape {pixels.shape}; store them so")
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _decoded(data: Any, exif_orientation: bool, max_pixels: int, denominator: int, channels: int, deep: bool) -> np.ndarray:
    if channels == 3 and not deep:
        return _rgb_of(data, exif_orientation, max_pixels, denominator)
    pixels = _stored(data, exif_orientation, max_pixels, channels, deep)
    if pixels is None:
        return fitted(_rgb_of(data, exif_orientation, max_pixels, denominator), channels, deep)
    if pixels.ndim in (2, 3):
        _check_size(pixels.shape[0], pixels.shape[1], max_pixels)
    return fitted(pixels, channels, deep)


def _stored(data: Any, exif_orientation: bool, max_pixels: int, channels: int, deep: bool) -> np.ndarray | None:
    """Pixels as they were stored; None of an ordinary picture, which becomes RGB first."""
    if isinstance(data, (Tensor, np.ndarray)) and data.ndim != 1:
        return array_of(data)
    if isinstance(data, Image.Image):
        with turn_with(data):
            return None if is_closed(data) else _stored_by_pillow(data, exif_orientation, max_pixels, channels)
    encoded = _encoded(data)
    if encoded[:3] == _JPEG_START:
        return None
    pixels = stored_pixels(encoded, lambda height, width: _check_size(height, width, max_pixels), channels, deep)
    return pixels if pixels is not None else _stored_by_pillow(_open(encoded, max_pixels), exif_orientation, max_pixels, channels)


def _stored_by_pillow(image: Image.Image, exif_orientation: bool, max_pixels: int, channels: int) -> np.ndarray | None:
    _check_size(image.height, image.width, max_pixels)
    pixels = pillow_pixels(image, channels)
    return _upright(pixels, _orientation(image)) if exif_orientation and pixels is not None else pixels


def _rgb_of(data: Any, exif_orientation: bool, max_pixels: int, denominator: int) -> np.ndarray:
    if isinstance(data, (Tensor, np.ndarray)) and data.ndim != 1:
        return _rgb_of_pixels(data, max_pixels)
    if isinstance(data, Image.Image):
        with turn_with(data):
            if is_closed(data):
                raise DecodeError(
                    "expected a Pillow image that is loaded or whose file is open, got one that is still to be read from a closed file; "
                    "call image.load() before the file is closed"
                )
            return _rgb_of_pillow(data, exif_orientation, max_pixels)
    upright, mode = exif_orientation, None
    if isinstance(data, EncodedImage):
        upright, mode = exif_orientation or data.upright, _other_mode(data)
    encoded = _encoded(data)
    is_jpeg = encoded[:3] == _JPEG_START
    pixels = _decode_jpeg(encoded, max_pixels, denominator) if is_jpeg and mode is None else None
    if pixels is not None:
        return _upright(pixels, _jpeg_orientation(encoded)) if upright else pixels
    if is_npy(encoded):
        return _rgb_of_pixels(npy_pixels(encoded), max_pixels)
    plain = pnm_pixels(encoded, lambda height, width: _check_size(height, width, max_pixels)) if mode is None else None
    if plain is not None:
        return _rgb_of_pixels(plain, max_pixels)
    image = _open(encoded, max_pixels)
    if is_jpeg:
        _check_scans(encoded, image.height * image.width)
    elif bytes(encoded[:12]).startswith(_JPEG_2000_STARTS):
        check_jpeg2000(encoded)
    return _rgb_of_pillow(image, upright, max_pixels, mode)


def _other_mode(data: EncodedImage) -> str | None:
    """A mode through which it becomes other pixels than by going to RGB at once."""
    return None if data.mode == "RGB" else data.mode


def _described(data: Any) -> str:
    if isinstance(data, (np.ndarray, Tensor)):
        return f"{data.dtype} of shape {tuple(data.shape)}"
    if isinstance(data, (bytes, bytearray)):
        return f"{len(data)} bytes that start with {bytes(data[:16])!r}"
    return f"a {type(data).__name__}"


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise DecodeError(f"expected an image of at least one pixel, got {height} x {width}; remove it")
    if height * width > max_pixels:
        raise DecodeError(
            f"expected an image of at most {max_pixels} pixels, got {height} x {width} = {height * width}; pass a larger max_pixels if "
            "images of this size are meant to be decoded"
        )


# --- encoded bytes -----------------------------------------------------------------------------------------------------


def _encoded(data: Any) -> bytes | memoryview:
    """The bytes of anything that holds encoded ones, without a copy where they lie in one piece."""
    if isinstance(data, (Tensor, np.ndarray)):
        data = np.ascontiguousarray(_uint8_array(data)).data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        hint = "; read the file first" if isinstance(data, (str, os.PathLike)) else ""
        raise DecodeError(f"expected encoded bytes, a Pillow image, or a uint8 array or tensor, got {_described(data)}{hint}")
    if not len(data):
        raise DecodeError("expected an encoded image, got 0 bytes; replace or remove the image")
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous else view.tobytes()


def jpeg_size(data: Any) -> tuple[int, int] | None:
    """Height and width as an ordinary JPEG file's header has them, before it is turned by its metadata; None for anything else."""
    if isinstance(data, EncodedImage) and (_other_mode(data) or (data.upright and _jpeg_orientation(data) != 1)):
        return None  # it does not become what its header says
    return _jpeg_size(data) if isinstance(data, (bytes, bytearray)) and bytes(data[:3]) == _JPEG_START else None


def _jpeg_size(encoded: bytes | bytearray | memoryview) -> tuple[int, int] | None:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(encoded)
    except Exception:
        return None
    return (height, width) if colorspace in ("RGB", "YCbCr", "Gray") else None


def _decode_jpeg(encoded: bytes | memoryview, max_pixels: int, denominator: int) -> np.ndarray | None:
    """RGB pixels of an ordinary, intact JPEG file; None for any other, which Pillow may still read."""
    size = _jpeg_size(encoded)
    if size is None:
        return None
    height, width = size
    _check_size(height, width, max_pixels)
    _check_scans(encoded, height * width)
    least = {"min_height": -(-height // denominator), "min_width": -(-width // denominator), "min_factor": denominator}
    try:
        # the exact transform and the smooth upsampling, as in Pillow; strict by default: a warning is an error
        return simplejpeg.decode_jpeg(encoded, "RGB", fastdct=False, fastupsample=False, **(least if denominator > 1 else {}))
    except Exception:
        return None


def _check_scans(encoded: bytes | memoryview, pixels: int) -> None:
    """Refuse a JPEG file of so many scans that decoding takes minutes: each one is a pass over the whole image, for ten bytes or more."""
    if pixels * (len(encoded) // 10) <= MAX_SCANNED_PIXELS or _has_one_scan(encoded):
        return
    # pairs of bytes from even and from odd places on, as numbers
    pairs = [np.frombuffer(encoded, "<u2", (len(encoded) - start) // 2, start) for start in (0, 1)]
    scans = sum(int(np.count_nonzero(numbers == 0xDAFF)) for numbers in pairs)
    # what looks like the beginning of a scan is met by chance in every 64 KiB of appended data
    most = MAX_SCANS + len(encoded) // 2**14
    if scans > most and scans * pixels > MAX_SCANNED_PIXELS:
        raise DecodeError(
            f"expected a JPEG file of at most {most} scans at {pixels} pixels, got {scans}, which take minutes to decode; remove it or "
            "save the image anew"
        )


def _has_one_scan(encoded: bytes | memoryview) -> bool:
    """Whether a JPEG file is sequential and its first scan holds all components: decoders then refuse another one.

    Source: ITU T.81, annex B.
    """
    components, place = None, 2
    while place + 10 <= len(encoded) and encoded[place] == 0xFF:
        marker, length = encoded[place + 1], encoded[place + 2] << 8 | encoded[place + 3]
        if marker == 0xDA:
            return encoded[place + 4] == components
        if marker in (0xC0, 0xC1):
            components = encoded[place + 9]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return False  # progressive, lossless, arithmetic
        place += 2 + length
    return False


def _check_webp(header: bytes, max_pixels: int) -> None:
    """Check the size in bytes 12 to 30 of a WebP file, since its decoder takes memory for the canvas as soon as it is made.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    kind, rest = header[:4], header[8:]
    if kind == b"VP8X":
        width, height = int.from_bytes(rest[4:7], "little") + 1, int.from_bytes(rest[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(rest[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(rest[start : start + 2], "little") & 0x3FFF for start in (6, 8))
    else:
        return  # the decoder refuses it
    _check_size(height, width, max_pixels)


def _open(encoded: bytes | memoryview, max_pixels: int) -> Image.Image:
    """The image with its header read and its pixels not.

    Pillow's own ``Image.open`` would try every format, and warn or refuse by a limit that is not ours.
    """
    Image.init()
    prefix = bytes(encoded[:16])
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        accepted = accepts is not None and accepts(prefix)
        if isinstance(accepted, str):
            raise DecodeError(f"expected a format that the installed Pillow reads, got {name}: {accepted}; install a full Pillow")
        if accepted and factory is not None:
            if name == "WEBP":
                _check_webp(bytes(encoded[12:30]), max_pixels)
            return factory(io.BytesIO(encoded), "")
    raise DecodeError(
        f"expected an image of a known format ({', '.join(FORMATS)}), got {len(encoded)} bytes that start with {prefix!r}; convert it to "
        "one of these or remove it"
    )


def _rgb_of_pillow(image: Image.Image, exif_orientation: bool, max_pixels: int, mode: str | None = None) -> np.ndarray:
    _check_size(image.height, image.width, max_pixels)
    check_image(image)
    image.load()
    if mode is not None:
        upright = ImageOps.exif_transpose(image) if exif_orientation and _orientation(image) != 1 else image
        return np.array(_converted(upright.convert(mode)))
    pixels = np.array(_converted(image))
    return _upright(pixels, _orientation(image)) if exif_orientation else pixels


def _converted(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:
        # dropped in any case, but Pillow warns of it
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


# --- orientation -------------------------------------------------------------------------------------------------------


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Warning:
        raise  # a filter's doing, see decode_image
    except Exception:
        return 1  # broken metadata are no reason to lose the picture


def _jpeg_orientation(encoded: bytes | memoryview) -> int:
    try:
        return _orientation(_open(encoded, DEFAULT_MAX_PIXELS))
    except Warning:
        raise
    except Exception:
        return 1


def _upright(pixels_HWC: np.ndarray, orientation: Any) -> np.ndarray:
    if not isinstance(orientation, int) or orientation not in _TURNS:
        return pixels_HWC
    swap, reverse_rows, reverse_columns = _TURNS[orientation]
    turned = pixels_HWC.swapaxes(0, 1) if swap else pixels_HWC
    return np.ascontiguousarray(turned[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1])


# --- decoded pixels ----------------------------------------------------------------------------------------------------


def _uint8_array(data: np.ndarray | Tensor) -> np.ndarray:
    if data.dtype not in (torch.uint8, np.uint8):
        raise DecodeError(
            f"expected uint8, got {_described(data)}; pass images as they were decoded, without ToTensor, Normalize and the like, and "
            "scale data of more than 8 bits"
        )
    return data.detach().cpu().numpy() if isinstance(data, Tensor) else data


def _rgb_of_pixels(data: np.ndarray | Tensor, max_pixels: int) -> np.ndarray:
    pixels = _uint8_array(data)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif isinstance(data, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        expected = "tensor of shape [H, W] or [C, H, W]" if isinstance(data, Tensor) else "array of shape [H, W] or [H, W, C]"
        raise DecodeError(
            f"expected a uint8 {expected} with C = 1, 3 or 4, got {_described(data)}; move the channel axis or pick three channels"
        )
    _check_size(pixels.shape[0], pixels.shape[1], max_pixels)
    if pixels.shape[2] == 4:
        check_fourth(pixels[:, :, 3])
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[:, :, :3])


def usable_device(device: torch.device | str) -> torch.device:
    """The device, once it is known to work.

    Raises:
        HvsError: a device that this machine does not have.
    """
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise HvsError(f'expected a device of this machine, got {str(device)!r}: {error}; decode with device="cpu"') from error
    return target
