"""Decoding against Pillow, which is the reference for every format and mode."""

from __future__ import annotations

import io
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

import hvs_data as hvs

# Axes: H W pixels, C channel.
from encoded_files import READS_AVIF, assert_image, by_pillow, encoded, palette, photo, with_orientation
from hvs_data.pipelines.decode import decode_image

# --- JPEG --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (16, 16), (8, 65)], ids=str)
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "grey", "stored as RGB"])
def test_jpeg_pixels_are_those_of_pillow(mode: str, progressive: bool, size: tuple[int, int], pillow_opened: list[str]) -> None:
    options: dict[str, Any] = {"progressive": progressive, "quality": 83}
    if mode == "stored as RGB":
        options["keep_rgb"] = True
    elif mode != "grey":
        options["subsampling"] = mode
    data = encoded(photo(*size).convert("L" if mode == "grey" else "RGB"), "JPEG", **options)
    assert_image(decode_image(data), by_pillow(data))
    assert pillow_opened == []


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_jpeg_goes_to_pillow(progressive: bool, pillow_opened: list[str]) -> None:
    data = encoded(photo().convert("CMYK"), "JPEG", progressive=progressive)
    assert_image(decode_image(data), by_pillow(data))
    assert pillow_opened == ["JPEG"]


def test_jpeg_with_a_warning_is_what_pillow_makes_of_it(pillow_opened: list[str]) -> None:
    data = encoded(photo(), "JPEG")
    # stray bytes behind the first segment (2 + 18 bytes): libjpeg skips them with a warning
    data = data[:20] + b"\x12\x34" + data[20:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(data)
    assert_image(decode_image(data), by_pillow(data))
    assert pillow_opened == ["JPEG"]


def test_bytes_after_the_end_of_a_jpeg_do_not_matter(pillow_opened: list[str]) -> None:
    data = encoded(photo(), "JPEG")
    assert_image(decode_image(data + b"appended by a camera" * 9), by_pillow(data))
    assert pillow_opened == []


def decoded_while_this_thread_had_the_interpreter(data: bytes, shape: tuple[int, int, int]) -> bool:
    """Whether a JPEG decoder in another thread wrote its last row while this thread never let go of the interpreter.

    Threads are made to keep the interpreter until they let go of it themselves. This one takes it when the decoder does, makes sure
    that the last row is not there yet, and looks on without letting go.
    """
    pixels = np.zeros(shape, dtype=np.uint8)
    begun = threading.Event()

    def decode() -> None:
        begun.set()
        simplejpeg.decode_jpeg(data, buffer=pixels)

    thread = threading.Thread(target=decode)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread.start()
        begun.wait()
        came_in_time = not pixels[-1].any()
        deadline = time.monotonic() + 1
        while came_in_time and not pixels[-1].any() and time.monotonic() < deadline:
            pass
        return came_in_time and bool(pixels[-1].any())
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_the_jpeg_decoder_leaves_the_interpreter_to_other_threads() -> None:
    data = encoded(photo(1500, 2000).convert("L"), "JPEG", quality=95)
    # one attempt proves it; an attempt fails by chance where the decoder is done before this thread wakes up
    assert any(decoded_while_this_thread_had_the_interpreter(data, (1500, 2000, 3)) for _ in range(20))


# --- other formats and modes -------------------------------------------------------------------------------------------


IMAGES: dict[str, Callable[[], Image.Image]] = {
    "RGB": photo,
    "RGB with a transparent colour": lambda: palette().convert("RGB"),
    "RGBA": lambda: Image.merge("RGBA", (*photo().split(), photo().convert("L"))),
    "L": lambda: photo().convert("L"),
    "LA": lambda: Image.merge("LA", (photo().convert("L"), photo().split()[2])),
    "1": lambda: photo().convert("1"),
    "P": palette,
    "P with a transparent colour": lambda: palette(transparency=3),
    "P with alpha values": lambda: palette(transparency=bytes(range(0, 160, 10))),
    "CMYK": lambda: photo().convert("CMYK"),
    "YCbCr": lambda: photo().convert("YCbCr"),
    "LAB": lambda: Image.merge("LAB", photo().split()),
    "HSV": lambda: photo().convert("HSV"),
}

FILES = [
    *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "P with a transparent colour", "P with alpha values")],
    ("PNG", "RGB with a transparent colour", {"transparency": (9, 9, 9)}),
    *[("BMP", mode, {}) for mode in ("RGB", "RGBA", "L", "1", "P")],
    *[("GIF", mode, {}) for mode in ("RGB", "L", "1", "P", "P with a transparent colour")],
    *[("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA", "L") for lossless in (True, False)],
    *[("TIFF", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "YCbCr", "LAB")],
    *[("TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("RGB", "CMYK")],
    ("TIFF", "RGB", {"compression": "jpeg"}),
    *[("PPM", mode, {}) for mode in ("RGB", "L", "1")],
    *[("JPEG2000", mode, {}) for mode in ("RGB", "RGBA", "L", "LA")],
    *[("AVIF", mode, {}) for mode in ("RGB", "RGBA", "L")],
]


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize(("kind", "mode", "options"), FILES, ids=str)
def test_files_become_what_pillow_makes_of_them(kind: str, mode: str, options: dict[str, Any], pillow_opened: list[str]) -> None:
    if kind == "AVIF" and not READS_AVIF:
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(IMAGES[mode](), kind, **options)
    with warnings.catch_warnings():
        # Pillow's own, of palette images with alpha values
        warnings.simplefilter("ignore")
        try:
            expected = by_pillow(data)
        except OSError:
            expected = None
    if expected is None:
        # Pillow 10.1 writes TIFF of YCbCr that it cannot read
        with pytest.raises(hvs.DecodeError):
            decode_image(data)
    else:
        assert_image(decode_image(data), expected)
    assert pillow_opened == ([] if data[:2] in (b"P5", b"P6") else [kind])


@pytest.mark.parametrize(
    "header", [b"P6\n7 5\n255\n", b"P6 7 5 255 ", b"P6\n# a remark\n7 5\n255\n", b"P6  7\t5\n255\n", b"P6\n7 5\n100\n"]
)
@pytest.mark.parametrize("beside", [b"", b"and more"], ids=["alone", "with more behind"])
def test_ppm_pixels_are_those_of_pillow(header: bytes, beside: bytes) -> None:
    data = header + np.random.default_rng(0).integers(0, 100, 7 * 5 * 3, dtype=np.uint8).tobytes() + beside
    assert_image(decode_image(data), by_pillow(data))
    grey = data.replace(b"P6", b"P5", 1)
    assert_image(decode_image(grey), by_pillow(grey))


def test_plain_ppm_pixels_are_a_view_of_the_file_and_are_checked() -> None:
    data = bytearray(b"P6\n7 5\n255\n" + bytes(range(105)))
    assert np.shares_memory(decode_image(data), np.frombuffer(data, np.uint8))
    with pytest.raises(hvs.DecodeError, match="at most 34 pixels, got 5 x 7"):
        decode_image(data, max_pixels=34)
    with pytest.raises(hvs.DecodeError, match="intact"):
        decode_image(data[:-1])
    with pytest.raises(hvs.DecodeError, match="at most .* pixels, got 999999999 x 7"):
        decode_image(b"P6 7 999999999 255 " + bytes(105))


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("mode", IMAGES)
def test_pillow_images_become_what_pillow_makes_of_them(mode: str) -> None:
    image = IMAGES[mode]()
    info = dict(image.info)
    decoded = decode_image(image)
    assert image.info == info
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_image(decoded, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    first, second = photo(), ImageOps.invert(photo())
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    alone = encoded(first, kind, **options)
    assert_image(decode_image(data), by_pillow(alone))


# --- orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "L"), ("WEBP", "RGB")])
def test_orientation_is_followed_on_request_only(kind: str, mode: str, orientation: int) -> None:
    data = with_orientation(kind, orientation, mode)
    assert_image(decode_image(data), by_pillow(data))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert upright.shape == ((53, 37, 3) if 5 <= orientation <= 8 else (37, 53, 3))
    assert_image(decode_image(data, exif_orientation=True), upright)
    assert_image(decode_image(Image.open(io.BytesIO(data)), exif_orientation=True), upright)
    (image,) = hvs.decode([data], exif_orientation=True)
    assert_image(image.numpy(), upright)


def test_turning_a_jpeg_upright_keeps_the_fast_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_orientation("JPEG", 6)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded by Pillow"))
    assert decode_image(data, exif_orientation=True).shape == (53, 37, 3)


@pytest.fixture
def pillow_that_warns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pillow's warnings are errors, as under python -W error, and it warns of all metadata."""
    original = Image.Image.getexif

    def warning(image: Image.Image) -> Any:
        warnings.warn("Corrupt EXIF data. Expecting to read 2 bytes but only got 0.", UserWarning, stacklevel=2)
        return original(image)

    monkeypatch.setattr(Image.Image, "getexif", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("pillow_that_warns")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_warnings_that_are_errors_change_nothing(kind: str) -> None:
    """Odd metadata of which Pillow warns made bad images, or images that were not turned, under python -W error."""
    data = with_orientation(kind, 6)
    assert decode_image(data, exif_orientation=True).shape == (53, 37, 3)
    with pytest.raises(UserWarning):
        warnings.warn("others stay errors", UserWarning, stacklevel=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_metadata_do_not_cost_the_picture(kind: str) -> None:
    data = encoded(photo(), kind, exif=b"Exif\0\0no metadata at all")
    if kind == "PNG":
        with pytest.raises(SyntaxError):
            Image.open(io.BytesIO(data)).getexif()
    assert_image(decode_image(data, exif_orientation=True), by_pillow(data))
