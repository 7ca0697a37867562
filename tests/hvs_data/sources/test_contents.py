"""Which other datasets a fingerprint tells apart, at what it looks for that, and that it stays as it is for the same one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.sources.contents import MOST_ITEMS, contents_of

# Axes: N image, H W pixels, C channel.


def pixels(seed: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 9, 3), dtype=np.uint8)


def encoded(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


class Items(Dataset[Any]):
    """A dataset of some attributes."""

    def __init__(self, **attributes: Any):
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return pixels(0)[index], 0


class Wrapper(Dataset[Any]):
    """What people write to put a transform on a part of a dataset."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def with_frame(seed: int) -> Any:
    pandas = pytest.importorskip("pandas")
    return Items(df=pandas.DataFrame({"path": [f"{seed}-{number}.jpg" for number in range(6)], "label": range(6)}))


# Each of the same class and length for every seed, and of other contents.
DATASETS: dict[str, Callable[[int], Any]] = {
    "list of arrays": lambda seed: list(pixels(seed)),
    "list of (array, label)": lambda seed: [(image, 0) for image in pixels(seed)],
    "list of labels": lambda seed: [(image, seed) for image in pixels(0)],
    "list of bytes": lambda seed: [encoded(image) for image in pixels(seed)],
    "list of tensors": lambda seed: [torch.from_numpy(image).permute(2, 0, 1) for image in pixels(seed)],
    "list of Pillow images": lambda seed: [Image.fromarray(image) for image in pixels(seed)],
    "list of dictionaries": lambda seed: [{"image": image, "label": 1} for image in pixels(seed)],
    "array": pixels,
    "tensor": lambda seed: torch.from_numpy(pixels(seed)).permute(0, 3, 1, 2),
    "TensorDataset": lambda seed: TensorDataset(torch.from_numpy(pixels(seed)).permute(0, 3, 1, 2), torch.arange(6)),
    "random_split": lambda seed: random_split(list(pixels(0, 12)), [6, 6], torch.Generator().manual_seed(seed))[0],
    "Subset of an array of indices": lambda seed: Subset(list(pixels(0, 12)), np.arange(seed, seed + 6)),
    "Subset of a range": lambda seed: Subset(list(pixels(0, 12)), range(seed, seed + 6)),
    "Subset of others": lambda seed: Subset(list(pixels(seed)), range(6)),
    "ConcatDataset": lambda seed: ConcatDataset([list(pixels(0, 3)), list(pixels(seed, 3))]),
    "wrapper of a Subset": lambda seed: Wrapper(Subset(list(pixels(0, 12)), range(seed, seed + 6))),
    "wrappers": lambda seed: Wrapper(Wrapper(Wrapper(list(pixels(seed))))),
    "samples": lambda seed: Items(samples=[(f"/data/{number + seed}.jpg", 0) for number in range(6)]),
    "labels of samples": lambda seed: Items(samples=[(f"/data/{number}.jpg", seed) for number in range(6)]),
    "paths": lambda seed: Items(image_paths=[Path(f"/data/{number + seed}.jpg") for number in range(6)]),
    "private paths": lambda seed: Items(_image_files=[f"/data/{number + seed}.jpg" for number in range(6)]),
    "data": lambda seed: Items(data=pixels(seed), targets=[0] * 6),
    "targets": lambda seed: Items(data=pixels(0), targets=[seed] * 6),
    "frame": with_frame,
}


@pytest.mark.parametrize("kind", DATASETS)
def test_another_dataset_of_the_same_class_and_length_is_told_apart(kind: str) -> None:
    """Two unseeded random_splits, or two lists of different images, had one fingerprint."""
    sources = [hvs.open_source(DATASETS[kind](seed)) for seed in (1, 2, 1)]
    assert len({len(source) for source in sources}) == 1
    assert sources[0].fingerprint == sources[2].fingerprint != sources[1].fingerprint


def test_a_loader_refuses_the_state_of_another_split() -> None:
    whole = list(pixels(0, 12))
    loaders = [
        hvs.ViewLoader(
            random_split(whole, [6, 6], torch.Generator().manual_seed(seed))[0], hvs.recipes.simsiam(size=16), batch_size=2, num_threads=1
        )
        for seed in (1, 2, 1)
    ]
    state = loaders[0].state_dict()
    loaders[2].load_state_dict(state)
    with pytest.raises(HvsError, match="a loader with fingerprint = .*'fingerprint': loader.dataset.fingerprint}") as caught:
        loaders[1].load_state_dict(state)
    assert "named alike" not in str(caught.value)
    # the remedy that the message gives
    loaders[1].load_state_dict({**state, "fingerprint": loaders[1].dataset.fingerprint})


def test_a_list_of_paths_that_moved_gets_a_hint_that_helps(tmp_path: Path) -> None:
    lists = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        lists.append([tmp_path / place / f"{number}.png" for number in range(4)])
        for path, image in zip(lists[-1], pixels(0, 4), strict=True):
            path.write_bytes(encoded(image))
    here, there = (hvs.ViewLoader(paths, hvs.recipes.simsiam(size=16), batch_size=2, num_threads=1) for paths in lists)
    with pytest.raises(HvsError, match=r"\(the files are named alike, but their paths began with another folder than .*/there/\), load"):
        there.load_state_dict(here.state_dict())
    there.load_state_dict({**here.state_dict(), "fingerprint": there.dataset.fingerprint})


@pytest.mark.parametrize("attribute", ["samples", "paths", "filenames"])
def test_a_dataset_may_move(attribute: str) -> None:
    def at(folder: str) -> str:
        paths = [f"{folder}/a/1.jpg", f"{folder}/b/2.jpg"]
        return contents_of(Items(**{attribute: [(path, 1) for path in paths] if attribute == "samples" else paths}))

    assert at("/data") == at("/mnt/other disk/data") != contents_of(Items(**{attribute: ["/data/a/1.jpg", "/data/b/3.jpg"]}))


def test_what_a_dataset_opens_or_keeps_meanwhile_does_not_count() -> None:
    class Keeping(Items):
        def __getitem__(self, index: int) -> Any:
            self.data[index] = pixels(0)[index]
            self.file = io.BytesIO()
            return self.data[index]

    dataset = Keeping(data=[None] * 6, file=None, transform=lambda image: image)
    source = hvs.open_source(dataset)
    before = source.fingerprint
    for index in range(6):
        source.read(index)
    assert source.fingerprint == before == hvs.open_source(Keeping(data=[None] * 6, file=None, transform=None)).fingerprint


def test_nothing_is_asked_of_a_dataset() -> None:
    class Asked(Items):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError("an item was read")

        @property
        def targets(self) -> Any:
            raise AssertionError("what its class computes was asked for")

    assert contents_of(Asked(samples=[("a", 1)])) != contents_of(Asked(samples=[("b", 1)]))


def test_pillow_images_that_are_not_loaded_stay_so(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(pixels(0)[number]))
    images = [Image.open(tmp_path / f"{number}.png") for number in (0, 1)]
    other = [Image.open(tmp_path / f"{number}.png") for number in (0, 2)]
    assert contents_of(images) != contents_of(other)
    assert all(image.fp is not None for image in (*images, *other))


def test_values_of_every_kind_are_taken_or_left() -> None:
    values: list[Any] = [
        [],
        (),
        "text",
        {"a": 1},
        torch.zeros(2, 3, dtype=torch.bfloat16),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(3, device="meta"),
        np.array([None, object()]),
        np.zeros((0, 4)),
        np.zeros(()),
        [object(), 3, "x", None],
        [object(), 3, "x"],
        [[1, [2, [3]]], 5],
        [2**70, 1],
        [float("nan"), 1.5],
        ["\udcff.jpg", "b"],
        range(5),
        np.array(["a", "b"]),
        iter([]),
        print,
    ]
    told = [contents_of(Items(data=value)) for value in values]
    assert told == [contents_of(Items(data=value)) for value in values]
    inside: Any = Items()
    inside.dataset = inside  # a wrapper of itself
    assert contents_of(inside)


def test_long_lists_are_looked_into_here_and_there() -> None:
    images = [encoded(image) for image in pixels(0, 2)]
    many = [images[0]] * (3 * MOST_ITEMS)
    assert contents_of(many) != contents_of([*many[:-1], images[1]])
    # names and numbers count one by one
    names = [f"{number}.jpg" for number in range(1000)]
    assert contents_of(Items(paths=names)) != contents_of(Items(paths=[*names[:500], "x.jpg", *names[501:]]))
    assert contents_of(Items(targets=list(range(1000)))) != contents_of(Items(targets=[*range(500), 7, *range(501, 1000)]))


def test_rows_of_a_hugging_face_dataset_with_a_transform() -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": encoded(image), "path": None} for image in pixels(0, 12)]
    whole = datasets.Dataset.from_dict({"image": rows}, features=datasets.Features({"image": datasets.Image()}))

    def opened(dataset: Any) -> str:
        return hvs.open_source(dataset.with_transform(lambda rows: rows)).fingerprint

    assert opened(whole.select(range(6))) == opened(whole.select(range(6))) != opened(whole.select(range(1, 7)))
    assert opened(whole.shuffle(seed=1)) == opened(whole.shuffle(seed=1)) != opened(whole.shuffle(seed=2))
    assert opened(whole) != opened(whole.shuffle(seed=1))
    parts = [hvs.open_source(Subset(whole, indices)).fingerprint for indices in ([0, 1], [0, 2], [0, 1])]
    assert parts[0] == parts[2] != parts[1]
