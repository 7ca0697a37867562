"""Broken image files by the number: the same (seed, number) always makes the same file."""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image, features

# How often each format is taken: mostly what datasets are made of.
SHARES = {"JPEG": 45, "PNG": 35, "WEBP": 4, "GIF": 4, "BMP": 3, "TIFF": 5, "PPM": 1, "JPEG2000": 2, "AVIF": 1}
INTERESTING = [0, 1, 2, 4, 8, 16, 32, 64, 127, 128, 254, 255]
PNG_START = b"\x89PNG\r\n\x1a\n"


def photo(height, width):
    """Slopes, edges and noise in colour."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    slopes = np.stack([x * 190 // width, y * 190 // height, (x // 5 + y // 7) % 2 * 190], axis=-1)
    return Image.fromarray((slopes + noise).astype(np.uint8))


def _encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def interlaced_png(pixels_HWC):
    """RGB pixels as an Adam7 PNG file, which Pillow reads and does not write."""
    height, width, _ = pixels_HWC.shape
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels_HWC[top::down, left::across] for top, left, down, across in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return PNG_START + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@cache
def intact():
    """Intact files by format, in several kinds each."""
    exif = Image.Exif()
    exif[274] = 6
    small, large = photo(37, 53), photo(90, 120)
    alpha = Image.merge("RGBA", (*small.split(), small.convert("L")))
    palette = small.quantize(16)
    gray16 = Image.fromarray(np.linspace(0, 65535, 37 * 53).astype(np.uint16).reshape(37, 53))
    files = {
        "JPEG": [
            _encoded(small, "JPEG"),
            _encoded(large, "JPEG", quality=60),
            _encoded(small, "JPEG", progressive=True, subsampling=0),
            _encoded(large, "JPEG", progressive=True, exif=exif),
            _encoded(small.convert("L"), "JPEG"),
            _encoded(small.convert("CMYK"), "JPEG"),
            _encoded(small, "JPEG", restart_marker_blocks=2, subsampling="4:2:2"),
            _encoded(small, "JPEG", keep_rgb=True, icc_profile=bytes(200), comment=b"a comment"),
        ],
        "PNG": [
            _encoded(small, "PNG"),
            _encoded(alpha, "PNG"),
            _encoded(palette, "PNG", transparency=bytes(range(16))),
            _encoded(small.convert("L"), "PNG", exif=exif),
            _encoded(small.convert("1"), "PNG"),
            _encoded(gray16, "PNG"),
            _encoded(small, "PNG", save_all=True, append_images=[photo(37, 53).rotate(90)]),
            interlaced_png(np.asarray(small)),
        ],
        "WEBP": [_encoded(small, "WEBP"), _encoded(alpha, "WEBP", lossless=True), _encoded(small, "WEBP", exif=exif)],
        "GIF": [_encoded(palette, "GIF"), _encoded(small, "GIF", save_all=True, append_images=[photo(37, 53).rotate(180)])],
        "BMP": [_encoded(image, "BMP") for image in (small, palette, small.convert("1"), alpha)],
        "TIFF": [
            _encoded(small, "TIFF"),
            _encoded(small, "TIFF", compression="tiff_lzw"),
            _encoded(small, "TIFF", compression="jpeg"),
            _encoded(small.convert("1"), "TIFF", compression="group4"),
            _encoded(gray16, "TIFF", compression="tiff_adobe_deflate"),
        ],
        "PPM": [_encoded(small, "PPM"), _encoded(small.convert("L"), "PPM")],
        "JPEG2000": [_encoded(small, "JPEG2000"), _encoded(alpha, "JPEG2000")] if features.check("jpg_2000") else [],
        "AVIF": [_encoded(small, "AVIF")] if "AVIF" in Image.SAVE and features.check("avif") else [],
    }
    return {kind: kinds for kind, kinds in files.items() if kinds}


def mutated(seed, number):
    """A format's name, and a damaged file of that format."""
    draw = np.random.default_rng([seed, number])
    files = intact()
    shares = np.array([SHARES[kind] for kind in files], float)
    kind = list(files)[draw.choice(len(files), p=shares / shares.sum())]
    data = bytearray(files[kind][draw.integers(len(files[kind]))])
    if kind == "PNG" and draw.random() < 0.5:
        return kind, _with_changed_chunks(bytes(data), draw)
    for _ in range(1 + min(int(draw.geometric(0.35)), 12)):
        # most of what matters to a parser stands near the beginning
        reach = len(data) if draw.random() < 0.6 else min(len(data), 200)
        _change(data, draw, reach, files[kind])
    # a PNG reader looks no further than a wrong checksum
    return kind, _with_right_checksums(bytes(data)) if kind == "PNG" and draw.random() < 0.75 else bytes(data)


def _change(data, draw, reach, others):
    if not data:
        return
    place = int(draw.integers(max(reach, 1)))
    length = int(draw.integers(1, 1 + min(64, len(data))))
    way = draw.integers(9)
    if way == 0:
        data[place] ^= 1 << int(draw.integers(8))
    elif way == 1:
        data[place] = INTERESTING[draw.integers(len(INTERESTING))]
    elif way == 2:
        data[place : place + length] = draw.bytes(length)
    elif way == 3:
        del data[place : place + length]
    elif way == 4:
        data[place:place] = draw.bytes(length)
    elif way == 5:  # a part that comes twice, or somewhere else
        start = int(draw.integers(len(data)))
        data[place:place] = data[start : start + 4 * length]
    elif way == 6:  # a length or a size
        width = int(draw.choice([2, 4]))
        value = int(draw.choice([0, 1, 2, 255, 256, 4096, 65535, 2**31 - 1, 2**32 - 1])) % 256**width
        data[place : place + width] = value.to_bytes(width, str(draw.choice(["big", "little"])))
    elif way == 7:  # another file's end
        other = others[draw.integers(len(others))]
        data[place:] = other[min(place, len(other)) :]
    else:
        del data[max(place, 4) :]


def _with_changed_chunks(data, draw):
    """A PNG file whose chunks have the right lengths and checksums, and whose compressed data are whole, with changes inside."""
    chunks, place = [], len(PNG_START)
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    for _ in range(1 + int(draw.integers(3))):
        number = int(draw.integers(len(chunks)))
        kind, body = chunks[number]
        way = draw.integers(8)
        if way == 0:
            del chunks[number]
        elif way == 1:
            chunks.insert(int(draw.integers(len(chunks))), chunks[number])
        else:
            inside = kind == b"IDAT" and way < 7 and _decompressed(body)
            changed = bytearray(inside or body)
            _change(changed, draw, len(changed), [bytes(changed)])
            chunks[number] = kind, zlib.compress(bytes(changed)) if inside else bytes(changed)
        if not chunks:
            break
    return PNG_START + b"".join(png_chunk(*chunk) for chunk in chunks)


def _decompressed(body):
    try:
        return zlib.decompress(body)
    except zlib.error:
        return b""  # changed before


def _with_right_checksums(data):
    """A PNG file whose chunks end with the checksums of what they hold now."""
    fixed, place = bytearray(data), len(PNG_START)
    while place + 12 <= len(fixed):
        end = place + 8 + int.from_bytes(fixed[place : place + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(fixed)
