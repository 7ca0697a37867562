"""What tests of decoding share."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from PIL import Image

# Axes: H W pixels, C channel.


@pytest.fixture
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def pillow_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Formats of the images that were handed to Pillow."""
    from hvs_data.pipelines import decode as module  # its decoder may be missing, see --bare

    opened: list[str] = []
    original = module._open

    def recording(data: Any, max_pixels: int) -> Image.Image:
        image = original(data, max_pixels)
        opened.append(str(image.format))
        return image

    monkeypatch.setattr(module, "_open", recording)
    return opened
