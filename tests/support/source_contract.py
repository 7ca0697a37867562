"""What every source must do, and the same images stored in every format that can be opened."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

import hvs_data as hvs
from hvs_data.packing.images import Form
from hvs_data.packing.pack import pack
from hvs_data.sources.base import NO_LABEL, Source


class Photo(NamedTuple):
    """One image: its key, such as "cat/03", its encoded bytes and its label."""

    key: str
    data: bytes
    label: int


CLASSES = ("cat", "dog", "emu")


@cache
def encoded(seed: int) -> bytes:
    """A JPEG file of a few hundred bytes, its size and its pixels different for every seed."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (3, 3, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((9 + seed % 23, 11), Image.Resampling.BILINEAR).save(buffer, "JPEG")
    return buffer.getvalue()


def photos(count: int = 23) -> list[Photo]:
    """Sorted by class and then by key, which is the order that a folder of classes has."""
    found = [Photo(f"{CLASSES[number % 3]}/{number:02}", encoded(number), number % 3) for number in range(count)]
    return sorted(found)


# --- the formats -------------------------------------------------------------------------------------------------------


def write_tar(path: Path, images: Sequence[Photo], format: int = tarfile.PAX_FORMAT, label: str = "cls") -> Path:
    """A shard in WebDataset's layout."""
    with tarfile.open(path, "w", format=format) as archive:
        for key, data, number in images:
            add(archive, f"{key}.jpg", data)
            if label == "cls":
                add(archive, f"{key}.cls", str(number).encode())
            elif label == "json":
                add(archive, f"{key}.json", b'{"label": %d, "text": "a photo"}' % number)
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes, **fields: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


def shards(root: Path, images: Sequence[Photo], **options: Any) -> str:
    """Three shards of unequal length, and the pattern that names them."""
    bounds = [0, len(images) // 2, len(images) // 2 + 1, len(images)]
    for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        write_tar(root / f"train-{number:04}.tar", images[start:stop], **options)
    return str(root / "train-{0000..0002}.tar")


def packed(root: Path, images: Sequence[Photo]) -> Path:
    """What ``hvs-data pack`` makes of a folder."""
    pack(hvs.open_source(folder(root, images)), str(root / "packed"), Form(), shard_bytes=25_000, threads=2)
    return root / "packed"


def in_memory(root: Path, images: Sequence[Photo]) -> str:
    import fsspec

    shards(root, images)
    filesystem = fsspec.filesystem("memory")
    for path in sorted(root.glob("*.tar")):
        filesystem.pipe(f"/{root.name}/{path.name}", path.read_bytes())
    return f"memory://{root.name}/train-{{0000..0002}}.tar"


def folder(root: Path, images: Sequence[Photo]) -> Path:
    for key, data, label in images:
        path = root / "photos" / CLASSES[label] / f"{os.path.basename(key)}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "photos"


def list_of_paths(root: Path, images: Sequence[Photo]) -> list[Path]:
    top = folder(root, images)
    return [top / CLASSES[label] / f"{os.path.basename(key)}.jpg" for key, _, label in images]


def halves(root: Path, images: Sequence[Photo]) -> Any:
    """A folder, taken apart and put together again."""
    source = hvs.open_source(folder(root, images))
    half = len(images) // 2
    return ConcatDataset([Subset(source, range(half)), Subset(source, list(range(half - len(images), 0)))])


def arrow_table(images: Sequence[Photo], struct: bool = False) -> Any:
    import pyarrow as pa

    data: list[Any] = [{"bytes": photo.data, "path": photo.key} if struct else photo.data for photo in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.binary()
    return pa.table({"key": [photo.key for photo in images], "image": pa.array(data, kind), "label": [photo.label for photo in images]})


def parquet(root: Path, images: Sequence[Photo], struct: bool = False) -> str:
    import pyarrow.parquet as pq

    half = len(images) // 2
    for number, part in enumerate((images[:half], images[half:])):
        pq.write_table(arrow_table(part, struct), root / f"part-{number}.parquet", row_group_size=5)
    return str(root / "part-*.parquet")


def parquet_in_memory(root: Path, images: Sequence[Photo]) -> str:
    import fsspec

    parquet(root, images)
    for path in sorted(root.glob("*.parquet")):
        fsspec.filesystem("memory").pipe(f"/{root.name}/{path.name}", path.read_bytes())
    return f"memory://{root.name}/part-*.parquet"


def hugging_face(root: Path, images: Sequence[Photo]) -> Any:
    import datasets

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"img": [{"bytes": photo.data, "path": None} for photo in images], "label": [photo.label for photo in images]}
    return datasets.Dataset.from_dict(rows, features=features)


def hugging_face_selected(root: Path, images: Sequence[Photo]) -> Any:
    """Rows picked from a dataset, which the library notes beside the table."""
    doubled = [photo for pair in zip(reversed(images), images, strict=True) for photo in pair]
    return hugging_face(root, doubled).select(range(1, len(doubled), 2))


@dataclass(frozen=True)
class Format:
    """A way to store images.

    Attributes:
        store: (an empty folder, images) -> what ``open_source`` takes.
        labels, classes: whether these are stored.
        needs: the package without which it cannot be tried.
        options: of ``open_source``.
        movable: whether the fingerprint is the same in another place.
        unnoticed: those of :func:`changes` that its fingerprint need not follow, being made of names, sizes or counts.
    """

    store: Callable[[Path, Sequence[Photo]], Any]
    labels: bool = True
    classes: bool = False
    needs: str = "numpy"
    options: tuple[tuple[str, Any], ...] = ()
    movable: bool = True
    unnoticed: tuple[str, ...] = ()

    def open(self, root: Path, images: Sequence[Photo]) -> Source:
        pytest.importorskip(self.needs)
        root.mkdir(parents=True, exist_ok=True)
        return hvs.open_source(self.store(root, images), **dict(self.options))


FORMATS = {
    "folder": Format(folder, classes=True, unnoticed=("another order", "another image")),
    "list of paths": Format(list_of_paths, labels=False, movable=False, unnoticed=("another order", "another image")),
    "dataset": Format(lambda root, images: [(photo.data, photo.label) for photo in images]),
    "parts of a source": Format(halves, classes=True, unnoticed=("another order", "another image")),
    "shards, pax": Format(shards),
    "shards, ustar": Format(lambda root, images: shards(root, images, format=tarfile.USTAR_FORMAT)),
    "shards, GNU": Format(lambda root, images: shards(root, images, format=tarfile.GNU_FORMAT)),
    "shards, json": Format(lambda root, images: shards(root, images, label="json")),
    "shards, no labels": Format(lambda root, images: shards(root, images, label=""), labels=False),
    "shards, listed": Format(lambda root, images: [Path(shards(root, images))]),
    "shards, glob": Format(lambda root, images: shards(root, images).replace("{0000..0002}", "*")),
    "packed shards": Format(packed, classes=True),
    "shards in memory://": Format(in_memory, needs="fsspec"),
    "Parquet, bytes": Format(parquet, needs="pyarrow", unnoticed=("another order",)),
    "Parquet, struct": Format(lambda root, images: parquet(root, images, struct=True), needs="pyarrow", unnoticed=("another order",)),
    "Parquet in memory://": Format(parquet_in_memory, needs="pyarrow", unnoticed=("another order",)),
    "Hugging Face": Format(hugging_face, classes=True, needs="datasets"),
    "Hugging Face, selected rows": Format(hugging_face_selected, classes=True, needs="datasets"),
}


# --- the contract ------------------------------------------------------------------------------------------------------


def check_samples(source: Source, images: Sequence[Photo], labels: bool = True) -> None:
    """The images in their order, as bytes, with plain integers as labels, under names of their own."""
    assert len(source) == len(images)
    for index, photo in enumerate(images):
        sample = source.read(index)
        assert sample == (photo.data, photo.label if labels else NO_LABEL)
        assert type(sample.data) is bytes and type(sample.label) is int
    names = [source.name_of(index) for index in range(len(source))]
    assert len(set(names)) == len(names) and all(type(name) is str for name in names)


def check_indices(source: Source) -> None:
    """Integers of any type; nothing outside, and nothing counted from the end."""
    last = len(source) - 1
    assert source.read(np.int64(last)) == source.read(last)
    for index in (-1, len(source), 10**12):
        with pytest.raises(IndexError, match=rf"\[0, {len(source)}\), got {index}"):
            source.read(index)


def check_threads(source: Source, images: Sequence[Photo], threads: int = 16) -> None:
    """Many threads read at once, each image many times."""
    order = np.random.default_rng(0).integers(0, len(source), 40 * threads).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for index, sample in zip(order, pool.map(source.read, order), strict=True):
            assert sample.data == images[index].data


def check_after_fork(source: Source, images: Sequence[Photo]) -> None:
    """A process that was forked reads too, whatever the parent has read before."""
    source.read(0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if all(source.read(index).data == photo.data for index, photo in enumerate(images)) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert source.read(0).data == images[0].data


# What makes another source of one, for other threads, processes, or whoever keeps what he is given.
COPIES: dict[str, Callable[[Source], Source]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda source: pickle.loads(pickle.dumps(source)),
}


def check_copy(source: Source, images: Sequence[Photo], labels: bool, how: str, other: Path) -> None:
    """A copy gives the same samples, and neither it nor its end touches the files that anybody else has open.

    Args:
        other: a folder for files that take the numbers of those that are closed.
    """
    source.read(0)
    made = COPIES[how](source)
    made.read(len(made) - 1)
    before = len(os.listdir("/proc/self/fd"))
    del made
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    strangers = [open(other / f"{number}.bin", "w+b") for number in range(4)]
    try:
        for file in strangers:
            file.write(b"what nobody asked for" * 1000)
            file.flush()
        check_samples(source, images, labels)
        made = COPIES[how](source)
        assert made.fingerprint == source.fingerprint and made.classes == source.classes
        del source
        gc.collect()
        check_samples(made, images, labels)
        check_threads(made, images, threads=4)
        del made
        gc.collect()
        for file in strangers:
            file.seek(0)
            assert file.read(21) == b"what nobody asked for"
    finally:
        for file in strangers:
            file.close()


def read_all(sources: dict[str, Source]) -> dict[str, list[Any]]:
    """Fingerprint and samples of each, also in another process, which finds this module by its name."""
    return {name: [source.fingerprint, *(source.read(index) for index in range(len(source)))] for name, source in sources.items()}


def check_nothing_is_unpickled(open: Callable[[], Source], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    source = open()
    assert source.fingerprint and source.read(len(source) - 1).data


def changes(images: Sequence[Photo]) -> dict[str, list[Photo]]:
    """The same images with one thing changed that a resumed run must notice."""
    swapped = [images[1], images[0], *images[2:]]
    other = images[3]._replace(data=encoded(99))
    return {
        "one less": list(images[:-1]),
        "one more": [*images, Photo("emu/99", encoded(99), 2)],
        "another order": [photo._replace(key=old.key) for photo, old in zip(swapped, images, strict=True)],
        "another image": [*images[:3], other, *images[4:]],
        "another label": [*images[:3], images[3]._replace(label=2, key=f"emu/{images[3].key[-2:]}"), *images[4:]],
    }
