"""Files that are not intact, or larger than allowed: an error that says so, whatever the bytes are."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

# Axes: H W pixels, C channel.
from encoded_files import READS_AVIF, assert_image, by_pillow, encoded, jpeg_claiming, palette, photo, png, with_orientation
from hvs_data.errors import DecodeError
from hvs_data.pipelines import decode as decoding
from hvs_data.pipelines.decode import DEFAULT_MAX_PIXELS, decode_image

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


def test_of_a_sequential_file_no_scan_is_read_behind_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    once = encoded(photo(300, 400), "JPEG")
    repeated = once[:-2] + 5000 * once[once.rindex(b"\xff\xda") : -2] + once[-2:]
    # as for a photo of 12 megapixels: too many scans to be read
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 300 * 400)
    assert_image(decode_image(once), by_pillow(once))
    with pytest.raises(DecodeError, match="expected an intact image, .* (replace or remove it)"):
        decode_image(repeated)  # the decoders refuse it as soon as they meet the second one


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
