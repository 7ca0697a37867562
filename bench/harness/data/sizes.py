"""Heights and widths of photographs, for what depends on nothing else of them."""

from __future__ import annotations

import csv
from pathlib import Path

from harness.data.photos import photo_paths

TABLE = Path(__file__).parent / "photo_sizes.csv"


def known_sizes() -> list[tuple[int, int]]:
    """Of 256 photographs, one of each of as many classes of ImageNet: the public "imagenet-sample-images", drawn with a fixed seed."""
    with TABLE.open() as file:
        return [(int(row["height"]), int(row["width"])) for row in csv.DictReader(file) for _ in range(int(row["photographs"]))]


def sizes_below(folder: str) -> list[tuple[int, int]]:
    """Of all images below a folder."""
    from PIL import Image

    sizes = []
    for path in photo_paths(folder):
        with Image.open(path) as image:
            sizes.append((image.height, image.width))
    return sizes
