"""A source packed into shards, on several threads, and begun where an interrupted packing stopped."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import PIL

from hvs_data.checking.looks import Look
from hvs_data.checking.scan import in_order, write_quarantine, write_whole
from hvs_data.errors import HvsError
from hvs_data.packing.images import Bad, Form, Stored, stored
from hvs_data.packing.writing import ShardWriter
from hvs_data.sources import pack_file
from hvs_data.sources.base import Source
from hvs_data.sources.pack_file import PackedShard, PackFile
from hvs_data.sources.shard_index import Choice

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

AHEAD = 2  # images under way for each thread: of 20 megapixels, one takes 60 MB
BAD_FILE = "bad.jsonl"


def pack(
    source: Source, folder: str, form: Form, shard_bytes: int, threads: int, told: Callable[[int], object] = lambda images: None
) -> PackFile:
    """Write all images of a source into shards in a folder.

    Every shard, with its index, is complete when it gets its name, and ``pack.json`` says which are. Called again after an interruption,
    it goes on behind the last of them, and all files have the bytes that they would have had without one.

    Args:
        source: of the images.
        folder: made if it is not there; empty, or with what an interrupted packing left.
        form: of the images.
        shard_bytes: that a shard has at most, if it holds more than one image.
        threads: that read, decode and encode.
        told: called with the number of images that are done, after each.

    Raises:
        HvsError: a folder that holds something else, a target that cannot be written, or a source none of whose images can be stored.
    """
    packing = _begun(source, folder, form, shard_bytes)
    try:
        with _alone(folder):
            if not packing.complete:
                _write_shards(packing, source, folder, form, shard_bytes, threads, told)
                packing.complete = bool(packing.shards)
                _save(packing, folder)
            if packing.bad:
                bad = [Look(index, problem=reason) for index, reason in packing.bad]
                write_quarantine(os.path.join(folder, BAD_FILE), source, bad)
    except OSError as error:
        raise HvsError(
            f"cannot write to {folder}: {error}; make room or make it writable, and run the same command again: it goes on behind "
            f"what is complete, {packing.stop} of {len(source)} images"
        ) from error
    if not packing.complete:
        raise HvsError(f"expected images that can be stored, got none; the reasons are in {os.path.join(folder, BAD_FILE)}")
    return packing


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep a second packing from the same folder, on systems that lock files.

    Raises:
        HvsError: there is one at this moment.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HvsError(f"expected to be alone in {folder}, got another hvs-data pack that writes there; wait for it to end") from error
        yield
    finally:
        os.close(descriptor)


def _begun(source: Source, folder: str, form: Form, shard_bytes: int) -> PackFile:
    """A new packing, or the one that was interrupted in this folder."""
    settings: dict[str, Any] = {**asdict(form), "shard-size": shard_bytes, "source": source.fingerprint, "images": len(source)}
    settings["as"] = settings.pop("form")
    settings["pillow"] = PIL.__version__  # another one may make other bytes
    found = pack_file.load(folder)
    if found is not None:
        other = sorted(name for name in settings if settings[name] != found.settings.get(name))
        if other:
            name = other[0]
            raise HvsError(
                f"expected a packing with {name} = {settings[name]!r} in {folder}, got one with {found.settings.get(name)!r}; ask for the "
                "same as before, or choose another folder"
            )
        return found
    if glob.glob(os.path.join(glob.escape(folder), "*.tar")):
        raise HvsError(f"expected an empty folder, or one that hvs-data pack has begun, got shards in {folder}; choose another folder")
    packing = PackFile(settings, "npy" if form.extension == "npy" else None, tuple(source.classes))
    try:
        os.makedirs(folder, exist_ok=True)
        _save(packing, folder)
    except OSError as error:
        raise HvsError(f"cannot write to {folder}: {error}; choose another folder, or make it writable") from error
    return packing


def _save(packing: PackFile, folder: str) -> None:
    write_whole(os.path.join(folder, pack_file.NAME), packing.text())


Numbered = tuple[int, Stored | Bad]


def _write_shards(
    packing: PackFile, source: Source, folder: str, form: Form, shard_bytes: int, threads: int, told: Callable[[int], object]
) -> None:
    with closing(_images(source, form, packing.stop, threads, told)) as images:
        following = next(images, None)
        while following is not None:
            index, image = following
            if isinstance(image, Bad):
                packing.bad.append(image)
                following = next(images, None)
            else:
                following = _write_shard(packing, folder, form, shard_bytes, images, index, image, len(source))
                _save(packing, folder)


def _images(source: Source, form: Form, start: int, threads: int, told: Callable[[int], object]) -> Generator[Numbered, None, None]:
    """What is to be stored, in the order of the source, from an index on."""
    with closing(in_order(partial(stored, source, form=form), range(start, len(source)), threads, AHEAD)) as made:
        for index, image in enumerate(made, start):
            yield index, image
            told(index + 1)


def _write_shard(
    packing: PackFile, folder: str, form: Form, shard_bytes: int, images: Iterator[Numbered], index: int, image: Stored, length: int
) -> Numbered | None:
    """Write the next shard, from this image on; what comes behind it, if anything does."""
    name, remarks, following = f"shard-{len(packing.shards):06}.tar", Counter(packing.remarks), None
    path = os.path.join(folder, name)
    with ShardWriter(path, form.extension, Choice(packing.image)) as shard:
        shard.add(image, index)
        remarks.update(image.remarks)
        for number, other in images:
            if isinstance(other, Bad):
                packing.bad.append(other)
            elif shard.takes(other, shard_bytes):
                shard.add(other, number)
                remarks.update(other.remarks)
            else:
                following = (number, other)
                break
    packing.remarks = dict(sorted(remarks.items()))
    stop = length if following is None else following[0]
    packing.shards.append(PackedShard(name, shard.images, os.path.getsize(path), shard.given, stop))
    return following
