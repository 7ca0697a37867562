"""Decoding with nvImageCodec on its CPU backend: the same pixels, and bad files that harm nobody else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hvs_data.errors import DecodeError, HvsError
from hvs_data.pipelines.decode import decode_image
from render_material import photo

pytest.importorskip("nvidia.nvimgcodec", reason="needs nvImageCodec, which comes with DALI: pip install 'hvs_data[dali-test]'")

PHOTO = Image.fromarray(photo(61, 83).numpy())


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(PHOTO, exif=exif)


GOOD = {
    "4:2:0": encoded(PHOTO, quality=90),
    "4:4:4": encoded(PHOTO, subsampling=0),
    "4:2:2": encoded(PHOTO, subsampling=1),
    "progressive": encoded(PHOTO, progressive=True),
    "grey": encoded(PHOTO.convert("L")),
    "one pixel": encoded(PHOTO.crop((0, 0, 1, 1))),
    "bytes behind the end": encoded(PHOTO) + bytes(20),
    # not for nvImageCodec
    "CMYK": encoded(PHOTO.convert("CMYK")),
    "PNG": encoded(PHOTO, "PNG"),
    "alpha": encoded(PHOTO.convert("RGBA"), "PNG"),
    "pixels": np.array(PHOTO),
}
BAD = {
    "half": GOOD["4:2:0"][: len(GOOD["4:2:0"]) // 2],
    "header only": b"\xff\xd8\xff" + bytes(200) + b"\xff\xd9",
    "text": b"no image at all" * 20,
    "empty": b"",
    "nothing": None,
}


def decoder(**options: Any) -> Any:
    from hvs_data.pipelines.dali_decode import BatchDecoder

    return BatchDecoder("cpu", **options)


def test_pixels_are_those_of_the_other_decoder() -> None:
    for name, image in zip(GOOD, decoder().decode(list(GOOD.values())), strict=True):
        # the same inverse transform and upsampling (libjpeg-turbo behind both)
        assert torch.equal(image, torch.from_numpy(decode_image(GOOD[name]))), name
        assert image.is_contiguous()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pixels_on_cuda() -> None:
    from hvs_data.pipelines.dali_decode import BatchDecoder

    files = [GOOD["4:4:4"], BAD["half"], GOOD["grey"], GOOD["PNG"], BAD["text"]]
    whole, half, grey, png, text = BatchDecoder("cuda").decode(files)
    assert isinstance(half, DecodeError) and isinstance(text, DecodeError)
    for image, file in ((whole, files[0]), (grey, files[2]), (png, files[3])):
        assert image.device.type == "cuda"
        # Inverse transforms may round a sample one way or the other, by 1 (IEEE 1180). Of luma and a chroma that counts 1.772 at most, that
        # makes 2.772, and 1 for rounding in the conversion of both. Without upsampling, nothing else differs.
        assert (image.cpu().int() - torch.from_numpy(decode_image(file)).int()).abs().max() <= 3


def test_bad_files_are_reported_in_their_places() -> None:
    good = list(GOOD.values())
    mixed = [item for pair in zip(good, BAD.values(), strict=False) for item in pair]
    one = decoder()
    for _ in range(2):  # nothing is broken afterwards
        results = one.decode(mixed)
        for item, result in zip(mixed, results, strict=True):
            if any(item is bad for bad in BAD.values()):
                assert isinstance(result, DecodeError)
            else:
                assert torch.equal(result, torch.from_numpy(decode_image(item)))
    assert one.decode([]) == []
    assert all(isinstance(result, DecodeError) for result in one.decode(list(BAD.values())))


def test_a_file_that_only_nvimagecodec_refuses_is_read_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    one = decoder()
    whole = one._decoder

    class Refusing:
        def decode(self, streams: list[Any], **options: Any) -> list[Any]:
            return [None if position % 2 else image for position, image in enumerate(whole.decode(streams, **options))]

    monkeypatch.setattr(one, "_decoder", Refusing())
    files = [GOOD["4:2:0"], GOOD["grey"], GOOD["progressive"], GOOD["4:4:4"]]
    for file, image in zip(files, one.decode(files), strict=True):
        assert torch.equal(image, torch.from_numpy(decode_image(file)))


def test_only_whole_ordinary_files_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    one = decoder()
    handed: list[int] = []

    class Counting:
        def decode(self, streams: list[Any], **options: Any) -> list[Any]:
            handed.append(len(streams))
            return [None] * len(streams)

    monkeypatch.setattr(one, "_decoder", Counting())
    one.decode(list(GOOD.values()))
    assert handed == [7]
    # a GPU would fill up the rest of half a file
    one.decode(list(BAD.values()))
    assert handed == [7]


@pytest.mark.parametrize("exif_orientation", [False, True])
def test_orientation(exif_orientation: bool) -> None:
    files = [turned(orientation) for orientation in range(1, 9)]
    for file, image in zip(files, decoder(exif_orientation=exif_orientation).decode(files), strict=True):
        assert torch.equal(image, torch.from_numpy(decode_image(file, exif_orientation=exif_orientation)))


def test_the_limit_of_pixels_holds_before_memory_is_taken() -> None:
    small, large = decoder(max_pixels=60 * 83).decode([GOOD["one pixel"], GOOD["4:2:0"]])
    assert small.shape == (1, 1, 3)
    assert isinstance(large, DecodeError) and "at most 4980 pixels, got 61 x 83" in str(large)


def test_several_threads() -> None:
    one, items = decoder(), list(GOOD.values())
    expected = one.decode(items)
    with ThreadPoolExecutor(4) as pool:
        for images in pool.map(lambda _: one.decode(items), range(8)):
            assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True))


def test_pixels_outlive_the_decoder() -> None:
    (image,) = decoder().decode([GOOD["4:2:0"]])
    spare = [decoder().decode([GOOD["4:4:4"]]) for _ in range(3)]
    assert torch.equal(image, torch.from_numpy(decode_image(GOOD["4:2:0"]))) and len(spare) == 3


@pytest.mark.parametrize(("name", "number"), [("cuda", 1), ("cuda:0", 0), ("cuda:2", 2)])
def test_the_decoder_works_on_the_device_that_was_named(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA is not here: what matters is which device is the current one when nvImageCodec takes memory, and whose stream it is told."""
    from hvs_data.pipelines import dali_decode

    current, seen = [1], []  # the thread's device while the decoder is made

    @contextmanager
    def device(of: torch.device) -> Iterator[None]:
        current.append(of.index)
        yield
        current.pop()

    class Told:
        def __init__(self, device_id: int, **options: Any):
            self.device_id = device_id

        def decode(self, streams: list[Any], *, cuda_stream: int, **options: Any) -> list[np.ndarray]:
            seen.append((self.device_id, current[-1], cuda_stream))
            return [np.zeros((2, 3, 3), np.uint8)] * len(streams)

    monkeypatch.setattr(dali_decode, "usable_device", torch.device)
    monkeypatch.setattr(dali_decode.nvimgcodec, "Decoder", Told)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: SimpleNamespace(cuda_stream=100 + of.index))
    one = dali_decode.BatchDecoder(name)
    assert one.device == torch.device("cuda", number)
    current[0] = 0
    seen.clear()
    (image,) = one.decode([GOOD["4:2:0"]])
    assert image.shape == (2, 3, 3) and seen == [(number, number, 100 + number)]


def test_a_decoder_that_decodes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be the CPU's decoder that does all the work."""
    from hvs_data.pipelines import dali_decode

    class Refusing:
        def __init__(self, **options: Any):
            pass

        def decode(self, streams: list[Any], **options: Any) -> list[None]:
            return [None] * len(streams)

    monkeypatch.setattr(dali_decode.nvimgcodec, "Decoder", Refusing)
    with pytest.raises(HvsError, match=r"to decode a plain JPEG file on cpu, got nothing.*hvs_data\[cuda12\]"):
        decoder()


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(HvsError, match="hardware_share must satisfy"):
        decoder(hardware_share=share)
