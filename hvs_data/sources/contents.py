"""What can cheaply be told of a dataset's contents, so that a resumed run notices another dataset of the same class and length.

Nothing is asked of the dataset but its attributes: reading its items may be slow, and random. Images are looked at here and there only,
names, labels and indices as a whole. Where files lie does not count, so that they may be moved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs_data.sources.base import Source, digest

# What datasets of torchvision and others call what they consist of, with or without an underscore before it.
_LISTS = frozenset(
    "indices index ids image_ids keys samples imgs images image_files image_list img_list image_paths img_paths paths path_list files "
    "file_list file_paths filepaths filename filenames file_names items records data tensors df frame targets labels".split()
)
_WRAPPED = frozenset("dataset datasets base_dataset ds subset base source inner wrapped".split())

# Items of a list or an array that are looked into, evenly spaced, and values or bytes of each.
MOST_ITEMS, MOST_VALUES, MOST_BYTES = 64, 4096, 2**20
# Wrappers around wrappers, and lists in lists.
_MOST_LEVELS = 8


def contents_of(dataset: Any) -> str:
    """A short text that differs between datasets that are seen to have other contents. What cannot be looked into counts for nothing."""
    return _dataset(dataset, 0)


def _dataset(dataset: Any, level: int) -> str:
    if isinstance(dataset, Source):
        return dataset.fingerprint
    kind = type(dataset)
    told = [f"{kind.__module__}.{kind.__qualname__}", str(_length(dataset))]
    if level > _MOST_LEVELS:
        return _joined(told)
    if isinstance(dataset, (list, tuple, range, np.ndarray, Tensor)):
        told.append(_values(dataset, level + 1))
    elif isinstance(dataset, getattr(sys.modules.get("datasets"), "Dataset", ())):
        told.append(_hugging_face(dataset, level + 1))
    else:
        # its own attributes: what a class computes is not asked for
        for name, value in sorted(getattr(dataset, "__dict__", {}).items()):
            if name.lstrip("_") in _LISTS:
                told.append(f"{name}={_values(value, level + 1)}")
            elif name.lstrip("_") in _WRAPPED:
                told.append(f"{name}={_wrapped(value, level + 1)}")
    return _joined(told)


def _wrapped(value: Any, level: int) -> str:
    """Of what a wrapper holds: a dataset or several."""
    if isinstance(value, (list, tuple)) and value and all(_is_dataset(part) for part in value):
        return _joined(_dataset(part, level) for part in value)
    return _dataset(value, level) if _is_dataset(value) else ""


def _is_dataset(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, (str, bytes, Mapping))


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return -1


def _hugging_face(dataset: Any, level: int) -> str:
    """Of the columns, of which rows were picked, and of a few rows as they are stored."""
    picked = getattr(dataset, "_indices", None)
    rows = _evenly(len(dataset)) if len(dataset) else []
    stored = dataset.with_format("arrow")[rows].to_pylist() if rows else []
    order = "" if picked is None else _array(np.asarray(picked.column(0)))
    return _joined([repr(list(dataset.features)), order, *(_item(row, level) for row in stored)])


# --- lists and arrays --------------------------------------------------------------------------------------------------


def _values(values: Any, level: int) -> str:
    """Of a list or an array; empty for anything else, which may be a handle, a cache, or made anew in every run."""
    if isinstance(values, range):
        return repr(values)
    if isinstance(values, (np.ndarray, Tensor)):
        return _array(values)
    frames: Any = getattr(sys.modules.get("pandas"), "DataFrame", ())
    if isinstance(values, frames):
        return _joined([repr(list(values.columns)), *(_column(values[name].tolist(), level) for name in values.columns)])
    # None stands where something is still to be kept
    if not isinstance(values, (list, tuple)) or not values or any(value is None for value in values):
        return ""
    if isinstance(values[0], tuple) and all(isinstance(value, tuple) and len(value) == len(values[0]) for value in values):
        return _joined(_column([value[number] for value in values], level) for number in range(len(values[0])))
    return _column(values, level)


def _column(values: Sequence[Any], level: int) -> str:
    """Of values that are meant to be of one kind: names and numbers as a whole, others here and there."""
    if all(isinstance(value, (str, os.PathLike)) for value in values):
        return _names([os.fsdecode(value) for value in values])
    if all(isinstance(value, (int, np.integer)) for value in values):
        return digest(" ".join(map(str, map(int, values))).encode())
    return _joined(_item(values[number], level) for number in _evenly(len(values)))


def _names(names: Sequence[str]) -> str:
    """Of paths below the last folder that holds all of them."""
    start = len(common_folder(names))
    return digest(*(os.fsencode(name[start:]) for name in names))


def common_folder(paths: Iterable[str]) -> str:
    """The last folder that holds all paths, with a "/" at its end; empty where there is none."""
    common = os.path.commonprefix([path[: path.rfind("/") + 1] for path in paths])
    return common[: common.rfind("/") + 1]


def _array(array: np.ndarray | Tensor) -> str:
    """Of shape and type, of all values of a single axis, and of some of each of some images."""
    if isinstance(array, Tensor):
        if array.device.type != "cpu" or array.layout != torch.strided:
            return f"{array.dtype} {tuple(array.shape)}"
        array = _numpy(array)
    kind = f"{array.dtype} {array.shape}"
    if array.dtype.hasobject or not array.size:
        return kind
    if array.ndim < 2:
        return _joined([kind, digest(np.ascontiguousarray(array).tobytes())])
    return _joined([kind, *(_some_of(array[number]) for number in _evenly(len(array)))])


def _numpy(tensor: Tensor) -> np.ndarray:
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):
        return np.array(str(tensor.dtype))  # a type that numpy does not have


def _some_of(values: np.ndarray) -> str:
    step = max(1, values.size // MOST_VALUES)
    return digest(np.ascontiguousarray(values.reshape(-1)[::step]).tobytes())


def _item(item: Any, level: int) -> str:
    """Of an item of a list: an image, bytes, a number, or several of these."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return digest(len(item).to_bytes(8, "little"), bytes(item[:MOST_BYTES]))
    if isinstance(item, (np.ndarray, Tensor)):
        return _array(item if getattr(item, "ndim", 0) else np.array(str(item)))
    if isinstance(item, (str, os.PathLike)):
        return repr(os.path.basename(os.fsdecode(item)))
    if item is None or isinstance(item, (bool, int, float, np.integer, np.floating)):
        return repr(item)
    if level <= _MOST_LEVELS and isinstance(item, Mapping):
        return _joined(f"{key}={_item(value, level + 1)}" for key, value in item.items())
    if level <= _MOST_LEVELS and isinstance(item, (list, tuple)):
        return _joined(_item(value, level + 1) for value in item[:MOST_ITEMS])
    return _image(item)


def _image(item: Any) -> str:
    """Of a Pillow image, which is not loaded for it; of anything else only its class."""
    size, mode = getattr(item, "size", None), getattr(item, "mode", None)
    if not isinstance(size, tuple) or not isinstance(mode, str):
        return type(item).__qualname__
    name = os.path.basename(os.fsdecode(getattr(item, "filename", "") or ""))
    in_memory = not name and getattr(item, "fp", None) is None and min(size) > 0
    return _joined([repr((size, mode, name)), _some_of(np.asarray(item)) if in_memory else ""])


def _evenly(length: int) -> list[int]:
    return np.unique(np.linspace(0, length - 1, MOST_ITEMS).astype(np.int64)).tolist()


def _joined(parts: Iterable[str]) -> str:
    return digest(*(part.encode("utf-8", "surrogateescape") for part in parts))
