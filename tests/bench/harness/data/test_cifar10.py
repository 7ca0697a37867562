"""CIFAR-10 from both folders in which people have it: the same images, labels and split."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import images
from harness.data.cifar10 import is_cifar10, open_cifar10

PARTS = {**{f"data_batch_{number}": 4 for number in range(1, 6)}, "test_batch": 3}


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[np.ndarray, list[int]]]:
    draw = np.random.default_rng(0)
    return {
        name: (draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, count).tolist())
        for name, count in PARTS.items()
    }


@pytest.fixture
def package(pictures: dict[str, tuple[np.ndarray, list[int]]], tmp_path: Path) -> Path:
    """As the npm package holds them: a PNG file a part, an image a row of it."""
    for name, (pixels, _) in pictures.items():
        Image.fromarray(pixels.reshape(len(pixels), 1024, 3)).save(tmp_path / f"{name}.png")
    labels = [label for name, (_, its) in pictures.items() if name != "test_batch" for label in its]
    (tmp_path / "train_lables.json").write_text(json.dumps(labels))
    (tmp_path / "test_lables.json").write_text(json.dumps(pictures["test_batch"][1]))
    return tmp_path


def test_the_rows_of_the_package_are_images(package: Path, pictures: dict[str, tuple[np.ndarray, list[int]]]) -> None:
    assert is_cifar10(package) and not is_cifar10(package.parent)
    train, test = open_cifar10(package)
    np.testing.assert_array_equal(train.pixels, np.concatenate([its for name, (its, _) in pictures.items() if name != "test_batch"]))
    np.testing.assert_array_equal(test.pixels, pictures["test_batch"][0])
    assert train.read(5).label == pictures["data_batch_2"][1][1] and len(train) == 20 and len(test) == 3


def test_torchvisions_folder_gives_the_same(
    package: Path, pictures: dict[str, tuple[np.ndarray, list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "torchvision" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    for name, (pixels, labels) in pictures.items():
        # planes of channels, flattened, as the released pickles have them
        (folder / name).write_bytes(pickle.dumps({"data": pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1), "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"] * 10}))
    for names, listed in ((PARTS, "train_list"), (["test_batch"], "test_list")):
        of_list = [name for name in names if (name == "test_batch") == (listed == "test_list")]
        monkeypatch.setattr(CIFAR10, listed, [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in of_list])
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    for mine, its in zip(open_cifar10(folder.parent), open_cifar10(package), strict=True):
        np.testing.assert_array_equal(mine.pixels, its.pixels)
        np.testing.assert_array_equal(mine.labels, its.labels)


def test_its_own_test_set_is_held_out(package: Path) -> None:
    split = images.open_split(str(package))
    assert (len(split.train), len(split.test), split.classes) == (20, 3, 10)
    assert images.name_of(str(package)) == "cifar10"
    assert images.described([split.train, split.test])["median_megapixels"] == pytest.approx(0.001, abs=5e-5)
    few = images.open_split(str(package), most=2)
    assert (len(few.train), len(few.test)) == (2, 2)
