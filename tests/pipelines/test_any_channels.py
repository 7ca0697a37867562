"""Images of any channels and depth as files, arrays and tensors: every number arrives as it was stored."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from hvs_data.errors import DecodeError, MissingDependencyError
from hvs_data.pipelines import any_channels
from hvs_data.pipelines.decode import decode_image

RNG = np.random.default_rng(0)
WIDE = {channels: RNG.integers(0, 65536, (9, 14, channels), dtype=np.uint16) for channels in (1, 2, 3, 4, 13)}
BYTES = {channels: RNG.integers(0, 256, (9, 14, channels), dtype=np.uint8) for channels in (1, 2, 3, 4, 13)}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def saved(array: np.ndarray, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


def assert_stored(data: Any, expected: np.ndarray, channels: int | None = None, deep: bool = True) -> None:
    pixels = decode_image(data, channels=channels or expected.shape[2], deep=deep)
    assert pixels.dtype == expected.dtype and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("channels", WIDE)
def test_arrays_tensors_and_npy_files_keep_their_numbers(channels: int) -> None:
    for pixels in (WIDE[channels], BYTES[channels], WIDE[channels].astype(np.float32) / 7 - 3):
        assert_stored(pixels, pixels)
        assert_stored(torch.from_numpy(pixels).permute(2, 0, 1), pixels)
        assert_stored(npy(pixels), pixels)
        assert_stored(npy(np.asfortranarray(pixels)), pixels)
        assert_stored(npy(pixels.astype(pixels.dtype.newbyteorder(">"))), pixels)
        assert_stored(np.frombuffer(npy(pixels), np.uint8), pixels)
    if channels == 1:
        assert_stored(WIDE[1][..., 0], WIDE[1])
        assert_stored(torch.from_numpy(WIDE[1][..., 0]), WIDE[1])
    if channels == 3:
        assert_stored(npy(BYTES[3]), BYTES[3], deep=False)  # for any recipe of RGB


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float64])
def test_other_types_become_float32(dtype: type) -> None:
    pixels = RNG.integers(-100, 100, (5, 6, 2)).astype(dtype)
    assert_stored(pixels, pixels.astype(np.float32))
    if dtype is np.float16:
        assert_stored(torch.from_numpy(pixels).to(torch.bfloat16).permute(2, 0, 1), pixels.astype(np.float32))


def test_png_and_tiff_files_of_16_bits() -> None:
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    for channels in (1, 3, 4):
        assert_stored(imagecodecs.png_encode(WIDE[channels].squeeze()), WIDE[channels])
    for pixels in [*WIDE.values(), *BYTES.values(), WIDE[4].astype(np.float32)[..., [0, 1, 2, 3, 0]]]:
        for planar in ("contig", "separate"):
            for compression in (None, "zlib", "lzw"):
                file = io.BytesIO()
                stored = pixels.squeeze() if planar == "contig" else np.moveaxis(pixels, 2, 0).squeeze()
                kind = {"photometric": "minisblack", "planarconfig": planar} if pixels.shape[2] > 1 else {"photometric": "minisblack"}
                tifffile.imwrite(file, stored, compression=compression, **kind)
                assert_stored(file.getvalue(), pixels)


def test_pillow_images_of_more_than_8_bits() -> None:
    assert_stored(Image.fromarray(WIDE[1][..., 0]), WIDE[1])
    assert_stored(Image.fromarray(WIDE[1][..., 0].astype(np.float32)), WIDE[1].astype(np.float32))
    assert_stored(Image.fromarray(BYTES[4]), BYTES[4])
    assert_stored(saved(BYTES[4], "PNG"), BYTES[4], deep=False)
    assert_stored(saved(BYTES[2], "PNG"), BYTES[2], deep=False)


def test_dicom_files_come_in_their_units() -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    stored = RNG.integers(0, 4096, (9, 14), dtype=np.uint16)
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3"
        file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 9, 14, 1, photometric
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
        file.RescaleSlope, file.RescaleIntercept, file.PixelData = "2.0", "-1024", stored.tobytes()
        memory = io.BytesIO()
        file.save_as(memory, enforce_file_format=True)
        shown = stored if photometric == "MONOCHROME2" else 4095 - stored
        assert_stored(memory.getvalue(), (2 * shown.astype(np.float32) - 1024)[..., None])


def test_pictures_under_one_channel_are_pillows_grey() -> None:
    for mode, format in (("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("L", "PNG")):
        file = io.BytesIO()
        Image.fromarray(BYTES[3]).convert(mode).save(file, format)
        opened = Image.open(file)
        expected = np.asarray(opened.convert("RGB").convert("L"))[..., None]
        assert_stored(file.getvalue(), expected, 1, deep=False)
        assert_stored(opened, expected, 1, deep=False)
        if opened.mode == "L":
            np.testing.assert_array_equal(expected[..., 0], np.asarray(opened))
    assert_stored(BYTES[3], np.asarray(Image.fromarray(BYTES[3]).convert("L"))[..., None], 1, deep=False)


def test_grey_under_three_channels_is_three_equal_ones() -> None:
    assert_stored(WIDE[1], np.repeat(WIDE[1], 3, axis=2), 3)
    assert_stored(npy(WIDE[1][..., 0]), np.repeat(WIDE[1], 3, axis=2), 3)


@pytest.mark.parametrize(
    ("data", "channels", "deep", "message"),
    [
        (WIDE[3], 1, True, r"expected an image of 1 channel, as the recipe's mean and std have, got uint16 of shape \(9, 14, 3\)"),
        (BYTES[4], 13, True, r"of 13 channels, .* got uint8 of shape \(9, 14, 4\); pick or stack the channels"),
        (np.zeros((4, 5, 6, 2), np.float32), 2, True, "of 2 channels"),
        (np.zeros((4, 5), bool), 1, True, "of 1 channel"),
        (WIDE[1], 1, False, r"of 8 bits a channel, got uint16; tell the recipe .*with_channels\(mean, std, value_range=\(lo, hi\)\)"),
        (npy(WIDE[13]), 13, False, "of 8 bits a channel, got uint16"),
        (np.full((4, 5, 1), np.nan, np.float32), 1, True, "expected finite numbers in every pixel, got NaN"),
        (npy(np.array([[object()]])), 1, True, "expected a .npy file of numbers"),
        (npy(WIDE[1])[:-1], 1, True, "as long as its header says"),
        (npy(WIDE[1]) + b"\0", 1, True, "as long as its header says"),
        (b"\x93NUMPY\x01\x00", 1, True, "expected an intact image"),
        (np.zeros((40, 50, 2), np.uint16), 2, True, "at most 1999 pixels, got 40 x 50"),
        (npy(np.zeros((40, 50, 2), np.uint16)), 2, True, "at most 1999 pixels, got 40 x 50"),
    ],
)
def test_what_does_not_fit_says_what_to_do(data: Any, channels: int, deep: bool, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_image(data, channels=channels, deep=deep, max_pixels=1999)


def test_a_missing_library_is_named_and_no_image_is_blamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\4\0\0\0\4\x10\0\0\0\0"
    (tmp_path / "0.png").write_bytes(png)
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    recipe = hvs.recipes.simsiam(2, size=8).with_channels((0.5,), (0.2,), value_range=(0, 4095))
    for read in (lambda: decode_image(png, channels=1, deep=True), lambda: list(hvs.ViewLoader(tmp_path, recipe, 1, num_threads=1))):
        with pytest.raises(MissingDependencyError, match=r"16 bits needs the package 'imagecodecs'.*hvs_data\[depth\]"):
            read()


def test_sizes_are_looked_up_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    monkeypatch.setattr(imagecodecs, "png_decode", lambda data: pytest.fail("decoded"))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("decoded"))
    file = io.BytesIO()
    tifffile.imwrite(file, WIDE[1].squeeze())
    for data in (imagecodecs.png_encode(WIDE[1].squeeze()), file.getvalue()):
        with pytest.raises(DecodeError, match="at most 100 pixels, got 9 x 14"):
            decode_image(data, channels=1, deep=True, max_pixels=100)
    assert any_channels.is_npy(npy(WIDE[1])) and not any_channels.is_npy(b"")
