"""What one image becomes in a shard: the same file, a smaller JPEG file, or pixels that are not compressed."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvs_data.checking.looks import described
from hvs_data.errors import DecodeError, HvsError, MissingDependencyError
from hvs_data.pipelines.any_channels import fitted
from hvs_data.pipelines.decode import decode_as_stored, decode_image, jpeg_size
from hvs_data.sources.base import Source
from hvs_data.types.images import EncodedImage

JPEG, RAW = "jpeg", "raw"
_FILTER = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Form:
    """How images are stored.

    Attributes:
        form: "jpeg" or "raw".
        quality: of JPEG files that are made, from 1 to 100.
        max_side, short_side: in pixels: what the longer side, or the shorter one, of a larger image becomes; one of them, or none.
        upright: turn images as their metadata say, before these get lost.
        deep: images of other than 8 bits or three channels, which are stored as arrays.
    """

    form: str = JPEG
    quality: int = 90
    max_side: int | None = None
    short_side: int | None = None
    upright: bool = False
    deep: bool = False

    @property
    def extension(self) -> str:
        return "jpg" if self.form == JPEG else "npy" if self.deep else "ppm"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image when it is stored: smaller ones stay as they are."""
        longer, shorter = max(height, width), min(height, width)
        if self.max_side is not None and longer > self.max_side:
            return _scaled(height, self.max_side, longer), _scaled(width, self.max_side, longer)
        if self.short_side is not None and shorter > self.short_side:
            return _scaled(height, self.short_side, shorter), _scaled(width, self.short_side, shorter)
        return height, width


def _scaled(side: int, wanted: int, given: int) -> int:
    return max(1, round(side * wanted / given))


class Stored(NamedTuple):
    """An image as it goes into a shard.

    Attributes:
        name: of the image in its source.
        label: -1 for none.
        head, body: its bytes, in two pieces so that pixels are not copied.
        given: bytes as the source gave them; of decoded images those of their pixels.
        remarks: what was done to it.
    """

    name: str
    label: int
    head: bytes
    body: Any
    given: int
    remarks: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        return len(self.head) + memoryview(self.body).nbytes


class Bad(NamedTuple):
    """An image that cannot be stored, by its index in the source, and why."""

    place: int
    reason: str


def stored(source: Source, index: int, form: Form) -> Stored | Bad:
    """Read an image and bring it into its form. What is wrong with it stands in the result.

    Raises:
        MissingDependencyError: the library that reads it.
        Exception: mistakes of the program.
    """
    try:
        data: Any
        data, label = source.read(index)
        is_encoded = isinstance(data, (bytes, bytearray, memoryview))
        if is_encoded:
            data = EncodedImage(data, form.upright or getattr(data, "upright", False), getattr(data, "mode", None))
        pixels_HWC = _pixels(data, form)
        given = len(data) if is_encoded else pixels_HWC.nbytes
        size = form.size(*pixels_HWC.shape[:2])
        if form.form == JPEG and size == pixels_HWC.shape[:2] and is_encoded and jpeg_size(data) is not None:
            return Stored(source.name_of(index), label, b"", bytes(data), given, ("kept",))
        # what metadata say is lost
        remarks = ["turned"] if not form.upright and described(data).turned else []
        if size != pixels_HWC.shape[:2]:
            pixels_HWC = resized(pixels_HWC, *size)
            remarks.append("resized")
        return Stored(source.name_of(index), label, *_encoded(pixels_HWC, form), given, tuple(remarks))
    except MissingDependencyError:
        raise  # no image is at fault
    except (OSError, HvsError) as error:
        return Bad(index, f"{type(error).__name__}: {error}")


def is_deep(source: Source, tries: int = 64) -> bool:
    """Whether a source's images are of other than 8 bits or three channels, by the first one that can be read.

    Raises:
        HvsError: none of the first ones can.
    """
    latest: Exception | None = None
    for index in range(min(tries, len(source))):
        try:
            data = source.read(index).data
        except (OSError, HvsError) as error:
            latest = error
            continue
        try:
            decode_image(data)
            return False
        except DecodeError as error:
            latest = error
        try:
            decode_as_stored(data)
            return True
        except DecodeError:
            continue
    raise HvsError(f"expected images, got none among the first {min(tries, len(source))}: {latest}; hvs-data check tells more") from latest


def _pixels(data: Any, form: Form) -> NDArray[Any]:
    if not form.deep:
        return decode_image(data, exif_orientation=form.upright)
    pixels_HWC = decode_as_stored(data)
    return fitted(pixels_HWC, pixels_HWC.shape[2], True)


def _encoded(pixels_HWC: NDArray[Any], form: Form) -> tuple[bytes, Any]:
    if form.form == JPEG:
        # Pillow and not simplejpeg, whose encoder takes a rougher transform below quality 96: .1 to .6 dB on photographs
        file = io.BytesIO()
        Image.fromarray(pixels_HWC).save(file, "JPEG", quality=form.quality)
        return b"", file.getvalue()
    if not form.deep:
        height, width = pixels_HWC.shape[:2]
        return b"P6\n%d %d\n255\n" % (width, height), pixels_HWC.data.cast("B")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(pixels_HWC))
    return head.getvalue(), pixels_HWC.data.cast("B")


def resized(pixels_HWC: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Pixels of another size, antialiased: Pillow's bicubic filter, channel by channel in float32 where they are no picture."""
    if pixels_HWC.dtype == np.uint8 and pixels_HWC.shape[2] == 3:
        return np.array(Image.fromarray(pixels_HWC).resize((width, height), _FILTER))
    channels = [np.ascontiguousarray(pixels_HWC[:, :, channel], np.float32) for channel in range(pixels_HWC.shape[2])]
    values = np.stack([np.asarray(Image.fromarray(channel).resize((width, height), _FILTER)) for channel in channels], axis=2)
    if pixels_HWC.dtype == np.float32:
        return values
    return values.round().clip(0, np.iinfo(pixels_HWC.dtype).max).astype(pixels_HWC.dtype)
