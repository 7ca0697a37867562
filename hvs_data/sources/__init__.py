"""Where images come from: folders, lists of files, datasets."""

from __future__ import annotations

import os
from typing import Any

from hvs_data.errors import SourceError
from hvs_data.sources.base import Source
from hvs_data.sources.folder import LAYOUTS, open_folder, open_paths
from hvs_data.sources.map_dataset import open_map_dataset


def open_source(data: Any, *, layout: str = "auto") -> Source:
    """Open a source of images.

    Args:
        data: one of

            - the path of a folder: one sub-folder a class, or images directly in it;
            - a list or tuple of paths of image files, which then have no labels;
            - a map-style dataset: any object with ``__len__`` and ``__getitem__(int)``, such as a torch ``Dataset``, a list or an
              array of images. An item is an image, ``(image, label, ...)``, or a dictionary with the key "image", "img" or "jpg"
              and, if there are labels, "label". An image is a Pillow image, encoded bytes (also as a 1-D array or tensor), a uint8
              array [H, W, 3] or [H, W], or a uint8 tensor [3, H, W] or [H, W], not augmented and not normalised. A label is an
              integer. Items are read from many threads at once. A torchvision ``ImageFolder`` without transforms has its files
              read directly, which lets the fast decoder have them;
            - a :class:`hvs_data.sources.base.Source`, which is returned as it is.

        layout: for a folder only. "classes": one sub-folder a class, numbered in the order of their names, images at any depth
            below it; images beside the sub-folders are left out. "flat": every image below the folder, without labels. "auto":
            "classes" if images lie in sub-folders only, "flat" if they lie directly in the folder only.

    Raises:
        SourceError: nothing that can be opened; the message says why and what to do.
    """
    if layout not in LAYOUTS:
        raise SourceError(f"expected layout to be one of {LAYOUTS}, got {layout!r}")
    if isinstance(data, (str, os.PathLike)):
        return open_folder(os.fsdecode(data), layout)
    if layout != "auto":
        raise SourceError(f"expected a folder with layout={layout!r}, got {type(data).__name__}; leave layout out")
    if isinstance(data, Source):
        return data
    if isinstance(data, (list, tuple)) and any(isinstance(item, (str, os.PathLike)) for item in data):
        return open_paths(data)
    return open_map_dataset(data)
