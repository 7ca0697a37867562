"""Indices that lie beside their shards, where what packed them has put them: a shard that was copied elsewhere is not walked again."""

from __future__ import annotations

import hashlib
import json
import os

from hvs_data.sources.index_cache import VERSION, load_index, packed_index
from hvs_data.sources.places import Place
from hvs_data.sources.shard_index import Choice, ShardIndex, index_shard
from hvs_data.sources.storage import LocalStorage
from hvs_data.sources.tar import Window

ENDING = ".index"
_HEAD = 4096


def load_beside(shard: Place, size: int, choice: Choice) -> ShardIndex | None:
    """The index beside a shard of this machine; None where there is none, or one of another shard or choice."""
    path = shard.path + ENDING
    if not isinstance(shard.storage, LocalStorage) or not os.path.exists(path):
        return None
    return load_index(path, _key(size, shard.read_at(0, min(size, _HEAD)), choice))


def save_beside(path: str, written: str, choice: Choice) -> None:
    """Write the index of a shard that is to lie at a path.

    Args:
        path: of the shard.
        written: where it lies now.
        choice: of its images and labels, as they will be asked for.

    Raises:
        OSError: the index cannot be written.
    """
    storage, size = LocalStorage(), os.path.getsize(written)
    window = Window(lambda offset, length: storage.read_at(written, offset, length), size, storage.block)
    index = index_shard(window, os.path.basename(path), choice, "raise")
    beside = f"{path}{ENDING}"
    with open(f"{beside}.new", "wb") as file:
        file.write(packed_index(_key(size, storage.read_at(written, 0, min(size, _HEAD)), choice), index))
    os.replace(f"{beside}.new", beside)


def _key(size: int, head: bytes, choice: Choice) -> str:
    """Of what tells a shard from others wherever it lies: its size, and how it begins, with the name and the bytes of its first image."""
    told = [VERSION, "beside", size, hashlib.sha256(head).hexdigest(), *choice]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
