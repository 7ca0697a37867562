"""The files of a measurement as ``hvs-data pack`` stores them, packed once and found again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

import hvs_data as hvs
from harness.measuring.machine import cores
from hvs_data.packing.images import Form
from hvs_data.packing.pack import pack

SHARD_BYTES = 10**9


def kept(told: str) -> Path:
    """Where something that is written once stands, by what tells it from other things: in the system's folder for what is temporary."""
    return Path(tempfile.gettempdir(), "hvs_data-bench", hashlib.sha256(told.encode()).hexdigest()[:16])


def packed(paths: Sequence[str], form: Form) -> Any:
    """The images of these files, which may come several times, from shards that are kept.

    Raises:
        ValueError: a file that cannot be packed.
    """
    files = list(dict.fromkeys(paths))
    told = f"{asdict(form)} {[(path, Path(path).stat().st_mtime_ns) for path in files]}"
    folder = kept(told)
    if pack(hvs.open_source(files), str(folder), form, SHARD_BYTES, cores()).bad:
        raise ValueError(f"expected files that can be packed, got bad ones; {folder / 'bad.jsonl'} tells which")
    place = {path: number for number, path in enumerate(files)}
    return Subset(hvs.open_source(folder), [place[path] for path in paths])
