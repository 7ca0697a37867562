"""Which datasets may be read from several threads at once, and what two of them may have in common.

A dataset written for processes often keeps one open file, database or archive, and moves its position for every item: read by two threads,
it gives one item the pixels of another. Nothing tells such a dataset from others, so that only what is known is read in parallel.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

# Datasets of torchvision that hold their images in memory, or open a file of its own for every item. FakeData moves torch's random numbers.
_OF_TORCHVISION = frozenset(
    "CIFAR10 CIFAR100 MNIST FashionMNIST KMNIST EMNIST QMNIST SVHN STL10 USPS SEMEION FER2013 DatasetFolder ImageFolder ImageNet EuroSAT "
    "Country211 CelebA Caltech256 Food101 Flowers102 DTD FGVCAircraft GTSRB OxfordIIITPet StanfordCars SUN397 Places365 INaturalist "
    "Imagenette RenderedSST2 CLEVRClassification LFWPeople Omniglot".split()
)
_LOADERS = ("default_loader", "pil_loader", "accimage_loader")
# What holds no position that reading moves.
_PLAIN = (
    *(int, float, complex, str, bytes, type(None), dict, set, frozenset, range, np.ndarray, np.generic, torch.Tensor, PurePath),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType),
)
# Things that are looked at: the attributes of a dataset may lead to all that a program has.
_MOST = 32


def may_be_read_in_parallel(dataset: Any) -> bool:
    """Whether it is known that several threads may ask a dataset for items at the same time."""
    kind = type(dataset)
    if kind in (list, tuple, torch.Tensor) or isinstance(dataset, np.ndarray):
        return True
    if kind is torch.utils.data.TensorDataset:
        return True
    if kind is torch.utils.data.Subset:
        return may_be_read_in_parallel(dataset.dataset)
    if kind in (torch.utils.data.ConcatDataset, torch.utils.data.StackDataset):
        parts = dataset.datasets
        return all(map(may_be_read_in_parallel, parts.values() if isinstance(parts, Mapping) else parts))
    # where a library is not loaded, nothing is of its classes
    hugging_face = sys.modules.get("datasets")
    if hugging_face is not None and kind is getattr(hugging_face, "Dataset", None):
        return dataset.format["type"] != "custom"  # else a function of the user's makes the items
    return _is_of_torchvision(dataset)


def _is_of_torchvision(dataset: Any) -> bool:
    torchvision = sys.modules.get("torchvision.datasets")
    name = type(dataset).__name__
    if torchvision is None or name not in _OF_TORCHVISION or getattr(torchvision, name, None) is not type(dataset):
        return False
    loaders = [getattr(torchvision.folder, known, None) for known in _LOADERS]
    loader = getattr(dataset, "loader", None) or getattr(dataset, "_loader", None)
    transforms = [getattr(dataset, attribute, None) for attribute in ("transform", "target_transform")]
    return (loader is None or any(loader is known for known in loaders)) and all(map(_is_transform_of_torchvision, transforms))


def _is_transform_of_torchvision(transform: Any) -> bool:
    """Whether a transform is made of torchvision's parts, which keep nothing between two calls, and of no function of the user's."""
    kind = type(transform)
    if transform is None:
        return True
    if not kind.__module__.startswith("torchvision.transforms.") or kind.__name__ == "Lambda":
        return False
    return all(map(_is_transform_of_torchvision, getattr(transform, "transforms", ())))


def shared_by_reads(dataset: Any) -> list[Any]:
    """A dataset and what its items may come from: the datasets behind it, and the objects that these hold, such as an open file.

    Whoever reads with none of these in use by another thread, of this dataset or of another one, has them to himself.
    """
    found: list[Any] = []
    waiting = [dataset]
    while waiting and len(found) < _MOST:
        thing = waiting.pop(0)
        if isinstance(thing, _PLAIN) or any(thing is known for known in found):
            continue
        if isinstance(thing, (list, tuple)):
            waiting += thing if len(thing) <= _MOST else ()
            continue
        found.append(thing)
        if hasattr(type(thing), "__getitem__") and hasattr(type(thing), "__len__"):
            # in one step, as another thread may be opening a handle
            waiting += list(getattr(thing, "__dict__", {}).values())
    return found
