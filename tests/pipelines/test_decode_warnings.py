"""Python's -W error: what Pillow warns of costs neither the image nor its orientation."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from hvs_data.pipelines.decode import decode_image

# Two entries: the orientation, which is to be turned by a quarter, and a text that lies far behind the end. Source: Exif 2.32, TIFF 6.0.
EXIF = (
    b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHIHH", 274, 3, 1, 6, 0) + struct.pack("<HHII", 271, 2, 999, 50_000)
)


def jpeg(mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (30, 20), (9,) * len(mode)).save(stream, "JPEG", exif=EXIF)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])  # CMYK is read by Pillow
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("opened", [False, True])
def test_a_warning_of_pillow_is_no_bad_image(mode: str, upright: bool, opened: bool) -> None:
    """Guards: a warning that a filter makes an error is let pass, and printed."""
    data = jpeg(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = decode_image(data, exif_orientation=upright)
        image = Image.open(io.BytesIO(data)) if opened else data
    assert expected.shape == ((30, 20, 3) if upright else (20, 30, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.showwarning = lambda *args, **options: None  # restored with the filters
        for _ in range(2):
            np.testing.assert_array_equal(decode_image(image, exif_orientation=upright), expected)
        with pytest.raises(UserWarning):
            warnings.warn("of others", stacklevel=1)
