"""Where images come from: folders, lists of files, tar shards, tables, datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hvs_data.arguments.values import is_list_of_a_configuration
from hvs_data.errors import SourceError
from hvs_data.sources.base import Source
from hvs_data.sources.braces import expand_braces
from hvs_data.sources.folder import LAYOUTS, open_folder, open_paths
from hvs_data.sources.hugging_face import open_hugging_face
from hvs_data.sources.labels import FIND
from hvs_data.sources.map_dataset import open_map_dataset
from hvs_data.sources.pack_file import load_complete
from hvs_data.sources.parquet import open_parquet
from hvs_data.sources.parts import WithoutLabels, open_parts
from hvs_data.sources.shards import open_shards
from hvs_data.sources.storage import is_url, shown, without_query

_KIND_OF_ENDING = {".tar": "tar shards", ".parquet": "Parquet files", ".pq": "Parquet files"}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_TABLES = ("Parquet files", "a Hugging Face dataset")
# What each option is for, and its value where it is left out.
_MEANT_FOR: dict[str, tuple[tuple[str, ...], Any]] = {
    "layout": (("a folder",), "auto"),
    "image": (("a folder", "tar shards", *_TABLES), None),
    "label": (("tar shards", *_TABLES), FIND),
    "storage_options": (("tar shards", "Parquet files"), None),
    "index_cache": (("tar shards",), None),
    "damaged_shards": (("tar shards",), "raise"),
    "parallel": (("a map-style dataset", "a Hugging Face dataset"), None),
}


def open_source(
    data: Any,
    *,
    layout: str = "auto",
    image: str | None = None,
    label: str | None = FIND,
    storage_options: Mapping[str, Any] | None = None,
    index_cache: str | os.PathLike[str] | None = None,
    damaged_shards: str = "raise",
    parallel: bool | None = None,
    deep: bool = False,
) -> Source:
    """Open a source of images. `docs/sources.md` tells more of each kind.

    Args:
        data: one of

            - the path of a folder: one sub-folder a class, or images directly in it; or what ``hvs-data pack`` wrote;
            - tar shards in WebDataset's layout, ``.tar``, or Parquet files, ``.parquet``: a path, a URL (http, s3, gs, ..., through
              fsspec), a pattern such as ``shards/train-{0000..0146}.tar`` or ``shards/*.tar``, or a list of these;
            - a Hugging Face ``datasets.Dataset``;
            - a list or tuple of paths of image files, which then have no labels;
            - a torch ``Subset`` or ``ConcatDataset`` of sources that are open already;
            - a map-style dataset: any object with ``__len__`` and ``__getitem__(int)``, such as a torch ``Dataset``, a list or an
              array of images. An item is an image, ``(image, label, ...)``, or a dictionary with the key "image", "img" or "jpg"
              and, if there are labels, "label". An image is a Pillow image, encoded bytes (also as a 1-D array or tensor), a uint8
              array [H, W, 3] or [H, W], or a uint8 tensor [3, H, W] or [H, W], not augmented and not normalised. A label is an
              integer. One thread at a time asks for an item, see ``parallel``. A torchvision ``ImageFolder`` without transforms has
              its files read directly, which lets the fast decoder have them;
            - a :class:`hvs_data.Source`, which is returned as it is.

        layout: for a folder only. "classes": one sub-folder a class, numbered in the order of their names, images at any depth
            below it; images beside the sub-folders are left out. "flat": every image below the folder, without labels. "auto":
            "classes" if images lie in sub-folders only, "flat" if they lie directly in the folder only.
        image: column of a table, or extension of files in a folder or of a sample's files in tar shards, such as "jpg" or "npy". None
            finds it: the only column of images, or the one named "image", "img" or "jpg"; the files with the extension of a picture,
            which "npy" and "dcm" are not.
        label: None: there are no labels, whatever kind of source this is and whatever stands in it; every label is -1. "auto" finds them:
            the column named "label" or "labels", or the only one of class labels; ``.cls`` or "label" in ``.json``; sub-folders; the
            items of a dataset. Else the column of a table, or the extension of a sample's files in tar shards, such as "cls".
        storage_options: for URLs, handed to fsspec: keys, endpoints, and the like.
        index_cache: for tar shards, the folder in which their indices are kept; None takes ``$HVS_DATA_CACHE/shards``, else
            ``hvs_data/shards`` in the user's folder for caches.
        damaged_shards: "raise" refuses a tar shard that is cut off or broken; "keep" takes the samples before the damage.
        parallel: for a map-style dataset, whether several threads may ask it for items at the same time. None says yes to what is
            known to stand that (lists, arrays, ``TensorDataset``, torchvision's datasets of images with its own transforms, Hugging Face
            datasets without a transform, and ``Subset`` and ``ConcatDataset`` of these), and no to all else: a dataset of your own may
            keep an open file, whose position two threads would move at once. Encoded bytes are decoded in parallel in any case.
        deep: for datasets whose images are arrays or tensors, whether these may hold other numbers than uint8, for a recipe with a
            ``value_range``. A loader of such a recipe opens a dataset so by itself; files are read as the recipe says in any case.

    Raises:
        SourceError: nothing that can be opened; the message says why and what to do.
        MissingDependencyError: an optional package is needed; the message names the extra.
    """
    options = {
        "layout": layout,
        "image": image,
        "label": label,
        "storage_options": storage_options,
        "index_cache": index_cache,
        "damaged_shards": damaged_shards,
        "parallel": parallel,
    }
    if parallel not in (None, True, False):
        raise SourceError(f"parallel must be True, False or None, which decides by what is known of the dataset, got {parallel!r}")
    if layout not in LAYOUTS:
        raise SourceError(f"expected layout to be one of {LAYOUTS}, got {layout!r}")
    for name, text in (("image", image), ("label", label), ("index_cache", index_cache)):
        if text is not None and not os.fspath(text):
            raise SourceError(f"expected a name as {name}, got an empty text, such as of a variable that is not set; leave {name} out")
    if is_list_of_a_configuration(data):
        data = list(data)
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fsdecode(data), options)
    kind = type(data).__name__
    if isinstance(data, Source):
        _refuse(options, None, kind)
        if label is None and data.is_mixture:
            raise SourceError("expected a source with label=None, got a mixture; open its sources with label=None and mix them")
        return data if label is not None else WithoutLabels(data)
    if isinstance(data, (list, tuple)) and any(isinstance(item, (str, os.PathLike)) for item in data):
        return _open_list(data, options)
    source = open_hugging_face(data, image=image, label=label, deep=deep, parallel=parallel)
    _refuse(options, "a Hugging Face dataset" if source is not None else "a map-style dataset", kind)
    if source is None:
        source = open_parts(data, labels=label is not None)
    return source if source is not None else open_map_dataset(data, labels=label is not None, deep=deep, parallel=parallel)


def _open_path(path: str, options: dict[str, Any]) -> Source:
    if not path.strip():
        raise SourceError(
            f'expected a path, got {path!r}, such as of a variable that is not set; pass the folder or the shards, "." for this folder'
        )
    if not os.path.isdir(folder := os.path.expanduser(path)):
        paths = _expanded(path)
        if kind := _kind_of(paths, path):
            return _open_files(kind, paths, options, path)
        if is_url(path):
            raise SourceError(
                f"expected tar shards (.tar) or Parquet files (.parquet) at a URL, got {shown(path)!r}; name them, such as "
                ".../train-{0000..0146}.tar, or copy a folder of images to this machine"
            )
    if packing := load_complete(folder):
        image = packing.image if options["image"] is None else options["image"]
        shards = [os.path.join(folder, shard.name) for shard in packing.shards]
        source = _open_files("tar shards", shards, {**options, "image": image}, path)
        source.classes = packing.classes if options["label"] is not None else ()
        return source
    _refuse(options, "a folder", repr(path))
    return open_folder(path, options["layout"], labels=options["label"] is not None, image=options["image"])


def _open_list(paths: Sequence[Any], options: dict[str, Any]) -> Source:
    names = [os.fsdecode(path) if isinstance(path, (str, os.PathLike)) else "" for path in paths]
    if any(_kind(name) for name in names):
        expanded = [path for name in names for path in _expanded(name)]
        kind = _kind_of(expanded, f"a list of {len(names)} paths")
        assert kind is not None
        return _open_files(kind, expanded, options, type(paths).__name__)
    _refuse(options, None, type(paths).__name__)
    return open_paths(paths)


def _expanded(path: str) -> list[str]:
    """The paths that braces stand for; a file that has them in its name is itself."""
    return [path] if os.path.exists(os.path.expanduser(path)) else expand_braces(path)


def _open_files(kind: str, paths: list[str], options: dict[str, Any], given: str) -> Source:
    _refuse(options, kind, repr(given))
    arguments = {name: options[name] for name, (kinds, _) in _MEANT_FOR.items() if kind in kinds}
    return open_shards(paths, **arguments) if kind == "tar shards" else open_parquet(paths, **arguments)


def _kind(path: str) -> str | None:
    """What the ending of a path says of a file; None for anything else."""
    return _KIND_OF_ENDING.get(os.path.splitext(without_query(path))[1].lower())


def _kind_of(paths: list[str], given: str) -> str | None:
    """What all of these files are; None if none is of a kind that is opened file by file.

    Raises:
        SourceError: files of several kinds, archives that are compressed as a whole, or a command in place of a path.
    """
    for path in paths:
        if path.startswith("pipe:"):
            raise SourceError(f"expected a path or a URL, got the command {path!r}; no commands are run: name the URL that it reads from")
        if without_query(path).lower().endswith(_COMPRESSED):
            raise SourceError(
                f"expected tar shards that are not compressed, in which images are found by their place, got {shown(path)!r}; decompress "
                "them: images hardly shrink any more"
            )
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        other = next(path for path in paths if _kind(path) != _kind(paths[0]))
        raise SourceError(f"expected files of one kind in {given}, got {shown(paths[0])!r} and {shown(other)!r}; open them apart")
    return kinds.pop() if kinds else None


def _refuse(options: dict[str, Any], kind: str | None, given: str) -> None:
    """Refuse options that mean nothing for what is opened."""
    for name, (kinds, usual) in _MEANT_FOR.items():
        if name == "label" and options[name] is None:
            continue  # there may be none anywhere
        if options[name] is not usual and options[name] != usual and kind not in kinds:
            # keys may be among those of storage
            value = "{...}" if name == "storage_options" else repr(options[name])
            raise SourceError(f"expected {' or '.join(kinds)} with {name}={value}, got {given}; leave {name} out")
