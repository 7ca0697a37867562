"""Decoding against Pillow, which is the reference for every format and mode; and everything that is not an image."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

import hvs_data as hvs
from hvs_data.errors import DecodeError, HvsError
from hvs_data.pipelines import decode as module
from hvs_data.pipelines.decode import DEFAULT_MAX_PIXELS, decode_image

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


@pytest.fixture
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def pillow_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Formats of the images that were handed to Pillow."""
    opened: list[str] = []
    original = module._open

    def recording(data: Any, max_pixels: int) -> Image.Image:
        image = original(data, max_pixels)
        opened.append(str(image.format))
        return image

    monkeypatch.setattr(module, "_open", recording)
    return opened


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


def palette(**info: Any) -> Image.Image:
    image = photo().quantize(16)
    image.info.update(info)
    return image


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
    "I": lambda: Image.fromarray(np.arange(-500, 1461, dtype=np.int32).reshape(37, 53)),
    "F": lambda: Image.fromarray((np.arange(1961, dtype=np.float32) / 5 - 40.3).reshape(37, 53)),
}

FILES = [
    *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "P with a transparent colour", "P with alpha values")],
    ("PNG", "RGB with a transparent colour", {"transparency": (9, 9, 9)}),
    *[("BMP", mode, {}) for mode in ("RGB", "RGBA", "L", "1", "P")],
    *[("GIF", mode, {}) for mode in ("RGB", "L", "1", "P", "P with a transparent colour")],
    *[("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA", "L") for lossless in (True, False)],
    *[("TIFF", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "YCbCr", "LAB", "I", "F")],
    *[("TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("RGB", "CMYK", "F")],
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
    decoded = decode_image(data)
    assert pillow_opened == [kind]
    with warnings.catch_warnings():
        # Pillow's own, of palette images with alpha values
        warnings.simplefilter("ignore")
        assert_image(decoded, by_pillow(data))


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


def sixteen_bits() -> np.ndarray:
    return np.linspace(0, 65535, 37 * 53).astype(np.uint16).reshape(37, 53)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "big-endian TIFF", "JPEG2000", "PGM", "Pillow image"])
def test_sixteen_bit_grey_keeps_its_high_byte(kind: str) -> None:
    gray = sixteen_bits()
    image = Image.fromarray(gray)
    assert image.mode == "I;16"
    data: Any = image
    if kind == "PGM":
        data = b"P5 53 37 65535\n" + gray.astype(">u2").tobytes()
    elif kind == "big-endian TIFF":
        data = encoded(Image.frombytes("I;16B", (53, 37), gray.astype(">u2").tobytes()), "TIFF")
    elif kind != "Pillow image":
        data = encoded(image, kind)
    assert_image(decode_image(data), np.stack([gray >> 8] * 3, axis=-1))


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    gray = sixteen_bits()
    color = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1)
    data = png(37, 53, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in color))
    assert_image(decode_image(data), color >> 8)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    first, second = photo(), ImageOps.invert(photo())
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    alone = encoded(first, kind, **options)
    assert_image(decode_image(data), by_pillow(alone))


# --- orientation -------------------------------------------------------------------------------------------------------


def with_orientation(kind: str, orientation: int, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(photo().convert(mode), kind, exif=exif)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_metadata_do_not_cost_the_picture(kind: str) -> None:
    data = encoded(photo(), kind, exif=b"Exif\0\0no metadata at all")
    if kind == "PNG":
        with pytest.raises(SyntaxError):
            Image.open(io.BytesIO(data)).getexif()
    assert_image(decode_image(data, exif_orientation=True), by_pillow(data))


# --- what may be given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_may_come_in_any_container(kind: str) -> None:
    data = encoded(photo(), kind)
    expected = by_pillow(data)
    array = np.frombuffer(data, dtype=np.uint8)
    spread = np.zeros(2 * len(data), dtype=np.uint8)
    spread[::2] = array
    for container in (
        bytearray(data),
        memoryview(data),
        memoryview(spread)[::2],
        memoryview(bytearray(data)).cast("B", (1, len(data))),
        array,
        spread[::2],
        torch.from_numpy(array.copy()),
        torch.from_numpy(spread)[::2],
    ):
        assert_image(decode_image(container), expected)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_pixels_may_be_given_as_arrays_and_tensors(channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    gray = channels in (None, 1)
    expected = np.stack([pixels.reshape(5, 7)] * 3, axis=-1) if gray else pixels[:, :, :3]
    assert_image(decode_image(pixels), expected)
    assert_image(decode_image(pixels[::-1]), expected[::-1])
    tensor = torch.from_numpy(pixels if channels is None else pixels.transpose(2, 0, 1).copy())
    assert_image(decode_image(tensor), expected)
    assert_image(decode_image(tensor.flip(-1)), expected[:, ::-1])


def test_rgb_pixels_are_not_copied() -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    assert np.shares_memory(decode_image(pixels), pixels)


@pytest.mark.parametrize(
    ("data", "expected", "arrived"),
    [
        ("photo.jpg", "encoded bytes", "a str; read the file first"),
        (Path("photo.jpg"), "encoded bytes", "Path; read the file first"),
        (None, "encoded bytes", "NoneType"),
        (7, "encoded bytes", "int"),
        ([1, 2], "encoded bytes", "list"),
        (np.zeros((4, 4, 3), dtype=np.float32), "uint8", r"float32 of shape \(4, 4, 3\).*without ToTensor"),
        (torch.zeros(3, 4, 4), "uint8", r"torch.float32 of shape \(3, 4, 4\).*without ToTensor"),
        (np.zeros(9, dtype=np.int64), "uint8", r"int64 of shape \(9,\)"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"\[H, W, C\]", r"\(3, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), r"\[H, W, C\]", r"\(2, 4, 4, 3\)"),
        (np.zeros((), dtype=np.uint8), r"\[H, W, C\]", r"\(\)"),
        (torch.zeros(5, 4, 3, dtype=torch.uint8), r"\[C, H, W\]", r"\(5, 4, 3\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "at least one pixel", "0 x 4"),
        (Image.new("RGB", (0, 5)), "at least one pixel", "5 x 0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_what_is_no_image_is_named(data: Any, expected: str, arrived: str) -> None:
    with pytest.raises(DecodeError, match=f"expected.*{expected}.*got.*({arrived})") as caught:
        decode_image(data)
    assert isinstance(caught.value, HvsError) and isinstance(caught.value, ValueError)


# --- bad bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_no_bytes_are_no_image(container: Callable[[bytes], Any]) -> None:
    with pytest.raises(DecodeError, match="got 0 bytes"):
        decode_image(container(b""))


@pytest.mark.parametrize(
    "data",
    [
        b"Not a photo, whatever its name says.\n",
        b"\0",
        b"\0" * 5000,
        b"<svg></svg>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        bytes(range(256)),
    ],
    ids=lambda data: repr(data[:8]),
)
def test_bytes_of_no_known_format(data: bytes) -> None:
    with pytest.raises(DecodeError, match="known format .JPEG, PNG, .* got [0-9]+ bytes that start with"):
        decode_image(data)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, of the TIFF file
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_truncated_files_are_refused(kind: str) -> None:
    if kind == "AVIF" and not READS_AVIF:
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(photo(), kind)
    for cut in (3, 20, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(DecodeError):
            decode_image(data[:cut])


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_photographs_are_refused(progressive: bool) -> None:
    data = encoded(photo(300, 400), "JPEG", progressive=progressive)
    for cut in range(2, len(data) - 400, len(data) // 40):
        with pytest.raises(DecodeError):
            decode_image(data[:cut])


def test_the_reason_is_that_of_the_decoder() -> None:
    with pytest.raises(DecodeError, match=r"intact image.*89PNG.*OSError.*truncated.*replace or remove") as caught:
        decode_image(encoded(photo(), "PNG")[:-200])
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("error", [struct.error("odd"), SyntaxError("odd"), KeyError("odd"), MemoryError("odd"), RecursionError("odd")])
def test_whatever_a_plugin_raises_is_a_decode_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(DecodeError, match=f"{type(error).__name__}.*odd"):
        decode_image(photo())


def test_an_interrupt_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(KeyboardInterrupt):
        decode_image(photo())


JPEG_SEEDS = [
    encoded(photo(), "JPEG"),
    encoded(photo(), "JPEG", progressive=True, subsampling=0),
    encoded(photo().convert("L"), "JPEG"),
    encoded(photo().convert("CMYK"), "JPEG"),
    with_orientation("JPEG", 6),
]
SEEDS = [
    *JPEG_SEEDS,
    encoded(photo(), "PNG"),
    encoded(palette(transparency=bytes(16)), "PNG"),
    encoded(photo(), "PNG", save_all=True, append_images=[photo()]),
]


CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6)


def damaged(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Bytes with others written in their place, inserted or removed: (place, written, number removed)."""
    for place, written, removed in changes:
        start = place % max(len(data), 1)
        data = data[:start] + written + data[start + removed :]
    return data


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damage
@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from(SEEDS), changes=CHANGES, exif_orientation=st.booleans())
def test_damaged_files_give_an_image_or_a_decode_error(seed: bytes, changes: list[tuple[int, bytes, int]], exif_orientation: bool) -> None:
    try:
        # a damaged header may claim any size: small ones only, to stay quick
        pixels = decode_image(damaged(seed, changes), exif_orientation=exif_orientation, max_pixels=10**6)
    except DecodeError as error:
        assert re.search("expected .* got ", str(error), re.DOTALL)
    else:
        assert pixels.size
        assert_image(pixels, pixels.copy())


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from(JPEG_SEEDS), changes=CHANGES)
def test_damaged_jpeg_files_are_read_as_pillow_reads_them(seed: bytes, changes: list[tuple[int, bytes, int]]) -> None:
    data = damaged(seed, changes)
    try:
        pixels = decode_image(data, max_pixels=10**6)
    except DecodeError as error:
        # our limit and our list of formats apart, nothing is refused that Pillow reads
        if "max_pixels" not in str(error) and "known format" not in str(error):
            with pytest.raises((OSError, SyntaxError, ValueError)):
                by_pillow(data)
    else:
        assert_image(pixels, by_pillow(data))


# --- size --------------------------------------------------------------------------------------------------------------


def webp_claiming(kind: str, height: int, width: int) -> bytes:
    """A WebP file of one of its three kinds whose header is changed to another size, at most 2**14 - 1 each way."""
    options: dict[str, Any] = {"simple": {}, "lossless": {"lossless": True}, "extended": {"icc_profile": bytes(128)}}[kind]
    data = bytearray(encoded(photo(16, 16), "WEBP", **options))
    if kind == "simple":
        data[26:30] = struct.pack("<HH", width, height)
    elif kind == "lossless":
        bits = int.from_bytes(data[21:25], "little") & ~(2**28 - 1)
        data[21:25] = struct.pack("<I", bits | (height - 1) << 14 | (width - 1))
    else:
        assert data[12:16] == b"VP8X"
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


BOMBS = {
    "PNG": png(100_000, 100_000, 8, 2, b"\0"),
    "JPEG": jpeg_claiming(65_000, 65_000),
    "BMP": encoded(photo(), "BMP")[:18] + struct.pack("<ii", 100_000, 100_000) + encoded(photo(), "BMP")[26:],
    "PPM": b"P6 100000 100000 255\n" + bytes(99),
}


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("kind", BOMBS)
def test_size_is_looked_up_before_memory_is_taken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((Image.Image, "load"), (simplejpeg, "decode_jpeg")):
        monkeypatch.setattr(owner, name, lambda *args, **options: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match=rf"at most {DEFAULT_MAX_PIXELS} pixels, got (100000|65000) x .*larger max_pixels"):
        decode_image(BOMBS[kind])


@pytest.mark.parametrize("kind", ["simple", "lossless", "extended"])
def test_size_of_webp_is_looked_up_before_its_decoder_is_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = webp_claiming(kind, 12_000, 16_000)
    assert decode_image(webp_claiming(kind, 16, 16)).shape == (16, 16, 3)
    monkeypatch.setitem(Image.OPEN, "WEBP", (lambda *_: pytest.fail("decoder made"), Image.OPEN["WEBP"][1]))
    with pytest.raises(DecodeError, match=rf"at most {DEFAULT_MAX_PIXELS} pixels, got 12000 x 16000 = 192000000"):
        decode_image(bomb)


def jpeg_of_scans(height: int, width: int, mode: str, scans: int) -> bytes:
    """A progressive JPEG file whose last scan is repeated."""
    data = encoded(Image.new(mode, (width, height), 128 if mode == "L" else (9, 9, 9, 9)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * (scans - data.count(b"\xff\xda")) + data[-2:]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_many_scans_of_a_large_image_are_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = jpeg_of_scans(40, 40, mode, 800), jpeg_of_scans(1800, 1800, mode, 800)
    assert_image(decode_image(small), by_pillow(small))
    for owner, name in ((Image.Image, "load"), (simplejpeg, "decode_jpeg")):
        monkeypatch.setattr(owner, name, lambda *args, **options: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match="JPEG file of at most 10[0-9] scans at 3240000 pixels, got 800"):
        decode_image(large)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "array", "tensor", "image"])
def test_the_largest_size_is_allowed(kind: str) -> None:
    image = photo(30, 40)
    pixels = np.asarray(image)
    others = {"array": pixels, "tensor": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "image": image}
    data = others[kind] if kind in others else encoded(image, kind)
    assert decode_image(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(DecodeError, match="at most 1199 pixels, got 30 x 40 = 1200"):
        decode_image(data, max_pixels=1199)


@pytest.mark.usefixtures("no_warnings")
def test_pillow_does_not_warn_of_a_size_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise OSError("begins to decode")

    # below our limit, and above the one at which Pillow's Image.open warns
    data = png(10_000, 10_000, 8, 0, b"\0")
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(DecodeError, match="begins to decode"):
        decode_image(data)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "JPEG2000", "JPEG"])
def test_the_limit_is_ours_and_not_that_of_pillow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo().convert("CMYK" if kind == "JPEG" else "RGB"), kind)
    expected = by_pillow(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    assert_image(decode_image(data), expected)


# --- lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [None, 1, 2, 50])
def test_a_list_keeps_its_order(num_threads: int | None) -> None:
    kinds = ["JPEG", "PNG", "BMP"]
    items = [encoded(photo(20 + n, 70 - n), kinds[n % 3]) for n in range(30)]
    batch = hvs.decode(items, num_threads=num_threads)
    assert isinstance(batch, hvs.ImageBatch) and len(batch) == 30
    assert batch.height.tolist() == list(range(20, 50)) and batch.width.tolist() == list(range(70, 40, -1))
    for image, data in zip(batch, items, strict=True):
        assert image.device.type == "cpu"
        assert_image(image.numpy(), by_pillow(data))


@pytest.mark.parametrize(("items", "num_threads", "threads"), [(1, 8, 1), (8, 1, 1), (8, 3, 3), (3, 8, 3)])
def test_threads_are_as_many_as_asked_for(items: int, num_threads: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    # every thread waits for the others, so that none takes the work of another
    together = threading.Barrier(threads)

    def decode_in_step(data: Any, **options: Any) -> np.ndarray:
        if threading.get_ident() not in used:
            used.add(threading.get_ident())
            together.wait(20)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    monkeypatch.setattr(module, "decode_image", decode_in_step)
    hvs.decode([b""] * items, num_threads=num_threads)
    assert len(used) == threads
    assert (threading.get_ident() in used) == (threads == 1)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_first_bad_image_of_a_list_is_named(num_threads: int) -> None:
    items = [encoded(photo(), "JPEG")] * 8
    items[5] = b"text"
    items[6] = b""
    with pytest.raises(DecodeError, match=r"^image 5: .*known format") as caught:
        hvs.decode(items, num_threads=num_threads)
    assert caught.value.position == 5
    with pytest.raises(DecodeError) as alone:
        decode_image(items[5])
    assert alone.value.position is None


def test_options_hold_for_every_image_of_a_list() -> None:
    with pytest.raises(DecodeError, match="^image 1: .*at most 1999 pixels"):
        hvs.decode([photo(), photo(40, 50)], max_pixels=1999)


def test_a_list_of_nothing_is_an_empty_batch() -> None:
    assert len(hvs.decode([])) == 0


def test_a_batch_of_pixels_is_a_list_of_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for items in (pixels, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())):
        for image, expected in zip(hvs.decode(items), pixels, strict=True):
            assert_image(image.numpy(), expected)


@pytest.mark.parametrize("items", [b"\xff\xd8\xff", bytearray(3), memoryview(b"abc"), "photo.jpg"])
def test_a_single_image_is_not_a_list(items: Any) -> None:
    with pytest.raises(HvsError, match="expected a list of images.*put a single image into a list"):
        hvs.decode(items)


def test_no_thread_is_an_error() -> None:
    with pytest.raises(HvsError, match="num_threads must be at least 1, got 0"):
        hvs.decode([photo()], num_threads=0)


def test_images_go_to_the_device() -> None:
    batch = hvs.decode([photo()], device="meta")
    assert batch.device == torch.device("meta") and tuple(batch[0].shape) == (37, 53, 3)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(HvsError, match=f'expected a device of this machine, got .{device}.: .*decode with device="cpu"'):
        hvs.decode([photo()], device=device)


def test_cores_of_this_process_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda *args, **options: pytest.fail("more threads than cores"))
    assert len(hvs.decode([photo()] * 3)) == 3
