"""Image files: a folder of classes, a flat folder, a list of paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL, Sample, Source, checked_index, digest
from hvs_data.sources.contents import common_folder
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.regular import read_file

LAYOUTS = ("auto", "classes", "flat")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")


class FileSource(Source):
    """Image files, given out as encoded bytes.

    Args:
        root: the folder below which the files lie.
        names: path of each file, relative to ``root`` (an absolute path stays as it is).
        labels: the class number of each file, or one for all.
        classes: name of each class number.

    Attributes:
        labels: int64 [N]; -1 where there is none.
        names: the paths given, kept compact.
    """

    def __init__(self, root: str, names: Iterable[str], labels: ArrayLike = NO_LABEL, classes: Iterable[str] = ()):
        self.root = root
        self.names = PackedStrings(names)
        self.labels = np.broadcast_to(np.asarray(labels, dtype=np.int64), len(self.names))
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Sample:
        name = self.names[checked_index(index, len(self))]
        return Sample(read_file(os.path.join(self.root, name)), int(self.labels[index]))

    def name_of(self, index: int) -> str:
        return self.names[index]

    @cached_property
    def fingerprint(self) -> str:
        """Of names and labels. Of absolute paths, the first half is of what stands below the folder of all, the second of that folder."""
        if not self._folder:
            return digest(self.names.tobytes(), self.labels.tobytes())
        start = len(self._folder)
        below = PackedStrings(self.names[index][start:] for index in range(len(self)))
        half = 8
        return digest(below.tobytes(), self.labels.tobytes())[:half] + digest(os.fsencode(self._folder))[:half]

    @cached_property
    def _folder(self) -> str:
        """The folder of all files, if all paths are absolute."""
        if not len(self) or not os.path.isabs(self.names[0]):
            return ""
        return common_folder(self.names[index] for index in range(len(self)))

    def why_other(self, fingerprint: str) -> str:
        same = self._folder and fingerprint[:8] == self.fingerprint[:8]
        return f"the files are named alike, but their paths began with another folder than {self._folder}" if same else ""


def open_paths(paths: Sequence[Any]) -> FileSource:
    """Source of the files at these paths, in the order given, without labels.

    Raises:
        SourceError: an element that is not a path, an empty one, a URL, or a folder.
    """
    for position, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise SourceError(f"expected paths only in a list of paths, got {type(path).__name__} at position {position}")
        if isinstance(path, str) and "://" in path:
            raise SourceError(f"expected paths of this machine in a list of image files, got a URL at position {position}; download it")
        name = os.fsdecode(path)
        if not name:
            raise SourceError(f"expected paths in a list of image files, got an empty one at position {position}; leave it out")
        # what is named like an image is looked at when it is read: a list may be long, and its disk slow
        if not name.lower().endswith(EXTENSIONS) and os.path.isdir(name):
            raise SourceError(
                f"expected paths of image files in a list, got the folder {name} at position {position}; open folders one by one and join "
                "them: torch.utils.data.ConcatDataset([hvs.open_source(folder) for folder in folders])"
            )
    # relative paths are meant from here, wherever the process goes later
    return FileSource(os.getcwd(), map(os.fsdecode, paths))


def open_folder(folder: str, layout: str = "auto", labels: bool = True, image: str | None = None) -> FileSource:
    """Source of the images below a folder.

    Hidden files and folders (a leading dot) are skipped, other files count as images by their extension (``EXTENSIONS``, any
    case). Folders behind symbolic links are read too, except where a link leads back to a folder above it.

    Args:
        folder: path; a leading ``~`` stands for the home folder.
        layout: "classes": one sub-folder a class, numbered in the order of their names, images anywhere below it, images beside
            the sub-folders are left out. "flat": every image below the folder, without labels. "auto": whichever fits.
        labels: False: without labels in any layout; "auto" is then "flat".
        image: the extension of the files that count, such as "npy", in place of ``EXTENSIONS``.

    Returns:
        the images, ordered by label, then by their folder and then by their name, as torchvision's ImageFolder orders them: folders are
        compared as paths with "/" between their parts, and each comes before those in it.

    Raises:
        SourceError: not a folder, no images, a class without images, a folder that cannot be listed, or, with "auto", images both
            beside and in sub-folders.
    """
    root = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(root):
        raise SourceError(_why_no_folder(folder, root))
    extensions = EXTENSIONS if image is None else (f".{image.lower().removeprefix('.')}",)
    images, subfolders = _list(root, "", extensions)
    identity = _identity(root)
    images_of = {subfolder: _images_below(root, subfolder, identity, extensions) for subfolder in sorted(subfolders)}
    if layout == "auto":
        layout = _fitting_layout(root, images, images_of) if labels else "flat"
    if layout == "classes":
        return _of_classes(root, images_of, labels, extensions)
    return FileSource(root, _some(sorted(chain(images, *images_of.values()), key=_by_folder), f"below {root}", root, extensions))


def _by_folder(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    return folder, file


def _fitting_layout(root: str, images: list[str], images_of: dict[str, list[str]]) -> str:
    inside = next((names[0] for names in images_of.values() if names), None)
    if images and inside:
        raise SourceError(
            f"expected images either in {root} or in its sub-folders, got both, such as {images[0]} and {inside}; pass "
            'hvs.open_source(..., layout="classes") to take one sub-folder a class and leave the others out, or layout="flat" to take all '
            "without labels"
        )
    return "classes" if inside else "flat"


def _some(names: list[str], where: str, root: str, extensions: tuple[str, ...]) -> list[str]:
    if not names:
        shard = next((name for name in sorted(os.listdir(root)) if name.lower().endswith((".tar", ".parquet"))), None)
        remedy = "check the path and the extensions; hvs.open_source(folder, image='npy') takes files of that one"
        if shard:
            remedy = f"for shards pass a pattern, such as {os.path.join(root, '*' + os.path.splitext(shard)[1])}"
        raise SourceError(f"expected image files {where} ({' '.join(extensions)}, not hidden), got none; {remedy}")
    return names


def _of_classes(root: str, images_of: dict[str, list[str]], labels: bool, extensions: tuple[str, ...]) -> FileSource:
    names = _some(list(chain(*images_of.values())), f"in sub-folders of {root}", root, extensions)
    if not labels:
        return FileSource(root, names)
    empty = [subfolder for subfolder, inside in images_of.items() if not inside]
    if empty:
        raise SourceError(
            f"expected images in every sub-folder of {root}, since each one is a class, got none in {', '.join(empty[:5])}"
            f'{", ..." if empty[5:] else ""}; remove them, or pass hvs.open_source(..., layout="flat") to take all images without labels'
        )
    label_N = np.repeat(np.arange(len(images_of)), [len(inside) for inside in images_of.values()])
    return FileSource(root, names, label_N, images_of)


def _images_below(root: str, folder: str, root_identity: tuple[int, int], extensions: tuple[str, ...]) -> list[str]:
    """Paths, relative to the root, of all images below one of its folders, in their order."""
    found: list[str] = []
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, (root_identity,))]
    while waiting:
        folder, above = waiting.pop()
        identity = _identity(os.path.join(root, folder))
        if identity in above:
            continue
        images, subfolders = _list(root, folder, extensions)
        found += images
        waiting += [(subfolder, (*above, identity)) for subfolder in subfolders]
    found.sort(key=_by_folder)
    return found


def _list(root: str, folder: str, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Images and sub-folders that lie directly in a folder, as paths relative to the root."""
    images: list[str] = []
    subfolders: list[str] = []
    prefix = f"{folder}/" if folder else ""
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    subfolders.append(prefix + entry.name)
                # a broken link is listed, so that it is reported when its turn comes; a pipe is not, for it would be waited on
                elif entry.name.lower().endswith(extensions) and (entry.is_symlink() or entry.is_file()):
                    images.append(prefix + entry.name)
    except OSError as error:
        raise SourceError(f"cannot list the folder {os.path.join(root, folder)}: {error}; make it readable or remove it") from error
    return images, subfolders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error}; make it readable or remove it") from error
    return status.st_dev, status.st_ino


def _why_no_folder(folder: str, root: str) -> str:
    if os.path.exists(root):
        return (
            f"expected a folder of images, got the file {root}; pass the folder that holds it, a list of paths, or shards (.tar, .parquet)"
        )
    return f"expected a folder of images, got {folder!r}, which does not exist (looked for {root}); check the path"
