"""Datasets of any make: which items are images, which labels are carried, and what is refused when and why."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources import retry
from hvs_data.sources.base import Sample
from hvs_data.sources.folder import FileSource
from hvs_data.sources.map_dataset import MapSource

# Axes: N image, H W pixels, C channel.

PIXELS_NHWC = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Made(Dataset[Any]):
    """A dataset whose items come from a function."""

    def __init__(self, item: Callable[[int], Any], length: int = 5):
        self.item, self.length = item, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


IMAGES: dict[str, Callable[[int], Any]] = {
    "Pillow": lambda n: Image.fromarray(PIXELS_NHWC[n]),
    "bytes": lambda n: png(PIXELS_NHWC[n]),
    "bytearray": lambda n: bytearray(png(PIXELS_NHWC[n])),
    "encoded array": lambda n: np.frombuffer(png(PIXELS_NHWC[n]), np.uint8),
    "encoded tensor": lambda n: torch.frombuffer(bytearray(png(PIXELS_NHWC[n])), dtype=torch.uint8),
    "array": lambda n: PIXELS_NHWC[n],
    "tensor": lambda n: torch.from_numpy(PIXELS_NHWC[n]).permute(2, 0, 1),
}
# What an item is made of an image and its label, and whether it holds the label.
ITEMS: dict[str, tuple[Callable[[Any, int], Any], bool]] = {
    "image": (lambda image, label: image, False),
    "(image,)": (lambda image, label: (image,), False),
    "(image, None)": (lambda image, label: (image, None), False),
    "(image, label)": (lambda image, label: (image, label), True),
    "[image, label, path]": (lambda image, label: [image, label, "some/path"], True),
    "dictionary with image": (lambda image, label: {"image": image, "label": label, "id": "x"}, True),
    "dictionary with img": (lambda image, label: {"img": image, "label": label}, True),
    "dictionary with jpg": (lambda image, label: {"jpg": image}, False),
}


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("image", IMAGES)
def test_an_item_holds_an_image_and_perhaps_a_label(image: str, item: str) -> None:
    make_item, has_label = ITEMS[item]
    source = hvs.open_source(Made(lambda n: make_item(IMAGES[image](n), 10 * n)))
    assert isinstance(source, MapSource) and len(source) == 5
    for index in range(5):
        data, label = source.read(index)
        np.testing.assert_array_equal(decode_image(data), PIXELS_NHWC[index])
        assert label == (10 * index if has_label else -1) and type(label) is int
        assert source.name_of(index) == f"Made[{index}]"


@pytest.mark.parametrize("label", [7, np.int32(7), np.array(7), torch.tensor(7), torch.tensor([7], dtype=torch.uint8)], ids=repr)
def test_labels_are_integers_of_any_type(label: Any) -> None:
    sample = hvs.open_source(Made(lambda n: (PIXELS_NHWC[n], label))).read(1)
    assert sample.label == 7 and type(sample.label) is int


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(torch.from_numpy(PIXELS_NHWC).permute(0, 3, 1, 2), torch.arange(5)),
        [(pixels, label) for label, pixels in enumerate(PIXELS_NHWC)],
        tuple({"img": Image.fromarray(pixels), "label": label} for label, pixels in enumerate(PIXELS_NHWC)),
        Subset(Made(lambda n: (png(PIXELS_NHWC[n - 50]), n - 50), 99), range(50, 55)),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_anything_with_a_length_and_items_is_a_dataset(dataset: Any) -> None:
    source = hvs.open_source(dataset)
    assert len(source) == 5
    for index in range(5):
        sample = source.read(index)
        assert sample.label == index
        np.testing.assert_array_equal(decode_image(sample.data), PIXELS_NHWC[index])


@pytest.mark.parametrize("dataset", [PIXELS_NHWC, torch.from_numpy(PIXELS_NHWC).permute(0, 3, 1, 2)], ids=["array", "tensor"])
def test_an_array_of_images_is_a_dataset(dataset: Any) -> None:
    source = hvs.open_source(dataset)
    for index in range(5):
        np.testing.assert_array_equal(decode_image(source.read(index).data), PIXELS_NHWC[index])


def test_items_are_asked_for_by_plain_integers() -> None:
    asked: list[Any] = []

    def item(index: int) -> np.ndarray:
        asked.append(index)
        return PIXELS_NHWC[index]

    source = hvs.open_source(Made(item))
    for index in (np.int64(3), torch.tensor(4), 0):
        source.read(index)
    assert asked == [0, 3, 4, 0] and {type(index) for index in asked} == {int}


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 5\)"):
        hvs.open_source(Made(lambda n: PIXELS_NHWC[0])).read(index)


def test_many_threads_read_at_once() -> None:
    source = hvs.open_source(Made(lambda n: (PIXELS_NHWC[n], n)))
    order = np.random.default_rng(0).integers(0, 5, 1000).tolist()
    with ThreadPoolExecutor(16) as pool:
        for index, sample in zip(order, pool.map(source.read, order), strict=True):
            assert sample.label == index and sample.data is not None and np.array_equal(sample.data, PIXELS_NHWC[index])


def test_names_of_classes_are_kept() -> None:
    dataset = Made(lambda n: PIXELS_NHWC[n])
    assert hvs.open_source(dataset).classes == ()
    dataset.classes = ["cat", "dog"]
    assert hvs.open_source(dataset).classes == ("cat", "dog")


def test_the_fingerprint_is_of_class_and_length() -> None:
    class Other(Made):
        pass

    kinds = [Made(lambda n: PIXELS_NHWC[n]), Made(lambda n: PIXELS_NHWC[n], 4), Other(lambda n: PIXELS_NHWC[n])]
    prints = [hvs.open_source(dataset).fingerprint for dataset in kinds]
    assert len(set(prints)) == 3
    assert hvs.open_source(Made(lambda n: PIXELS_NHWC[-1])).fingerprint == prints[0]


# --- what is refused when it is opened ---------------------------------------------------------------------------------


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(PIXELS_NHWC)


class EndlessWithLength(Endless):
    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": PIXELS_NHWC}, "expected a folder, a list of paths, shards, a map-style dataset.*got dict; .*one split"),
        (b"\xff\xd8\xff", "expected a folder.*got bytes"),
        (None, "expected a folder.*got NoneType"),
        (7, "expected a folder.*got int"),
        ((pixels for pixels in PIXELS_NHWC), "expected a folder.*got generator"),
        (torch.utils.data.DataLoader(TensorDataset(torch.zeros(2, 3, 4, 4))), "expected a folder.*got DataLoader; .*.dataset"),
        (Endless(), "expected a (folder|map-style dataset).*got Endless"),
        (EndlessWithLength(), r"items are found by number, but EndlessWithLength\[0\] raised NotImplementedError"),
        ([], "holds images, got an empty list"),
        (Made(lambda n: PIXELS_NHWC[n], 0), "holds images, got an empty Made"),
        (np.zeros((0, 4, 4, 3), np.uint8), "holds images, got an empty ndarray"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_dataset_is_named(data: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(data)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 4, 4), r"uint8, not transformed yet, got torch.float32 of shape \(3, 4, 4\); .*without ToTensor"),
        (np.zeros((4, 4, 3), np.float64), r"uint8, not transformed yet, got float64 of shape \(4, 4, 3\); .*without ToTensor"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "got torch.int64"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"expected one image.*got uint8 of shape \(2, 4, 4, 3\)"),
        (torch.tensor(3, dtype=torch.uint8), r"expected one image.*got torch.uint8 of shape \(\)"),
        ([[PIXELS_NHWC[0], PIXELS_NHWC[1]], 0], "got list; make the dataset give the image itself, not several views"),
        ((PIXELS_NHWC[0], PIXELS_NHWC[1]), "expected an integer label, got ndarray"),
        ("photo.jpg", "got str; make the dataset give the image itself, .* or its path"),
        (None, "got NoneType"),
        (3, "got int"),
        ((), "expected an image or .image, label, ....*got an empty tuple"),
        ({"picture": PIXELS_NHWC[0]}, r"key of \('image', 'img', 'jpg'\), got \['picture'\]; rename"),
        ((PIXELS_NHWC[0], "cat"), r"expected an integer label, got str; map it to one \(target_transform=\)"),
        ((PIXELS_NHWC[0], 1.0), "expected an integer label, got float"),
        ((PIXELS_NHWC[0], torch.tensor([0, 1])), "expected an integer label, got Tensor"),
        ((PIXELS_NHWC[0], [{"box": 3}]), "expected an integer label, got list"),
        ({"image": PIXELS_NHWC[0], "label": "cat"}, "expected an integer label, got str"),
    ],
)
def test_items_that_are_never_decoded_are_refused_at_once(item: Any, message: str) -> None:
    with pytest.raises(SourceError, match=rf"^Made\[0\]: .*{message}"):
        hvs.open_source(Made(lambda n: item))


@pytest.mark.parametrize("error", [KeyError(0), NotImplementedError("no items")], ids=repr)
def test_a_dataset_that_cannot_be_indexed_is_refused_at_once(error: Exception) -> None:
    def item(index: int) -> Any:
        raise error

    with pytest.raises(SourceError, match=r"found by number, but Made\[0\] raised"):
        hvs.open_source(Made(item))


def test_a_length_that_is_none_is_refused() -> None:
    class NoLength(Made):
        def __len__(self) -> int:
            raise NotImplementedError("no length")

    with pytest.raises(SourceError, match="which has a length, got NoLength: no length"):
        hvs.open_source(NoLength(lambda n: PIXELS_NHWC[n]))


# --- what fails when it is read ----------------------------------------------------------------------------------------


class LibraryError(Exception):
    """As cv2.error, zlib.error, zipfile.BadZipFile and lmdb.Error are: derived from nothing that says what it means."""


BAD = [
    *(OSError("gone"), ValueError("gone"), KeyError("gone"), SyntaxError("gone"), EOFError("gone"), RuntimeError("gone")),
    *(LibraryError("gone"), struct.error("gone"), Image.DecompressionBombError("gone")),
]
BUGS = [
    *(NameError("odd"), TypeError("odd"), AttributeError("odd"), AssertionError("odd"), IndexError("odd"), ImportError("odd")),
    *(ZeroDivisionError("odd"), RecursionError("odd"), MemoryError("odd"), torch.OutOfMemoryError("odd"), UserWarning("odd")),
]


def failing(error: Exception, *places: int) -> Dataset[Any]:
    def item(index: int) -> Any:
        if index in places:
            raise error
        return PIXELS_NHWC[index % 5]

    return Made(item, 8)


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize("error", BAD, ids=repr)
def test_an_item_that_cannot_be_read_is_a_bad_image(error: Exception, place: int) -> None:
    """Guards: one policy for every item, the first one among them."""
    source = hvs.open_source(failing(error, place))
    with pytest.raises(SourceError, match=rf"cannot read Made\[{place}\]: {type(error).__name__}: .*gone") as caught:
        source.read(place)
    assert caught.value.__cause__ is error
    loader = hvs.ViewLoader(failing(error, place), hvs.recipes.simsiam(size=8), batch_size=4, engine="reference")
    assert place not in torch.cat([batch.index for batch in loader]).tolist()
    assert list(loader.quarantine.reasons) == [place]


@pytest.mark.parametrize("error", [OSError(5, "input/output error"), TimeoutError("no answer"), ConnectionResetError()], ids=repr)
def test_storage_that_fails_for_a_moment_is_asked_again(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "sleep", lambda seconds: None)
    failed: list[int] = []

    def item(index: int) -> Any:
        if index in (0, 5) and failed.count(index) < 2:
            failed.append(index)
            raise error
        return PIXELS_NHWC[index % 5]

    loader = hvs.ViewLoader(Made(item, 8), hvs.recipes.simsiam(size=8), batch_size=4, engine="reference")
    assert sorted(torch.cat([batch.index for batch in loader]).tolist()) == list(range(8))
    # the first one fails once when the dataset is opened
    assert loader.counters == {"read": 8, "replaced": 0, "bad": 0, "retries": 3}


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize("item", [None, (None, 3), {"image": None}], ids=repr)
def test_an_item_of_nothing_is_a_bad_image(item: Any, place: int) -> None:
    """Guards: one policy for every item. Datasets give None for what they could not read."""
    source = Made(lambda n: item if n == place else PIXELS_NHWC[n % 5], 8)
    loader = hvs.ViewLoader(source, hvs.recipes.simsiam(size=8), batch_size=4, engine="reference")
    assert place not in torch.cat([batch.index for batch in loader]).tolist()
    assert "NoneType" in loader.quarantine.reasons[place]


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize("error", BUGS, ids=repr)
def test_a_bug_is_raised(error: Exception, place: int) -> None:
    """Guards: what tells of the program is not counted as a bad image, and the remedy is named."""
    with pytest.raises(type(error)) as caught:
        list(hvs.ViewLoader(failing(error, place), hvs.recipes.simsiam(size=8), batch_size=4, engine="reference"))
    assert caught.value is error
    assert any(f"raised by Made[{place}]" in note and "or return None" in note for note in error.__notes__)


def test_a_length_that_promises_too_much_is_a_bug() -> None:
    for items in (list(PIXELS_NHWC), dict(enumerate(PIXELS_NHWC))):
        with pytest.raises(LookupError):
            list(hvs.ViewLoader(Made(items.__getitem__, 8), hvs.recipes.simsiam(size=8), batch_size=4, engine="reference"))


def test_one_broken_first_image_is_no_reason_to_refuse_a_dataset() -> None:
    files = [b"no image", png(PIXELS_NHWC[1])]
    source = hvs.open_source(Made(lambda n: Image.open(io.BytesIO(files[n])), 2))
    with pytest.raises(SourceError, match="UnidentifiedImageError"):
        source.read(0)
    np.testing.assert_array_equal(decode_image(source.read(1).data), PIXELS_NHWC[1])


def test_a_dataset_of_what_is_no_image_is_refused_behind_a_broken_first_one() -> None:
    def item(index: int) -> Any:
        if index == 0:
            raise OSError("gone")
        return torch.zeros(3, 4, 4)

    with pytest.raises(SourceError, match="without ToTensor"):
        hvs.open_source(Made(item))


def test_an_interrupt_is_let_through() -> None:
    def item(index: int) -> Any:
        if index:
            raise KeyboardInterrupt
        return PIXELS_NHWC[0]

    with pytest.raises(KeyboardInterrupt):
        hvs.open_source(Made(item)).read(1)


# --- torchvision -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, pixels in enumerate(PIXELS_NHWC):
        path = tmp_path / "cat" / f"{number}.png" if number < 3 else tmp_path / "dog" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(pixels))
    return tmp_path


def assert_same_images(source: Any, dataset: Any) -> None:
    assert len(source) == len(dataset)
    for index in range(len(source)):
        image, label = dataset[index]
        sample = source.read(index)
        assert sample.label == label
        np.testing.assert_array_equal(decode_image(sample.data), np.asarray(image))


@pytest.mark.parametrize("relative", [False, True])
def test_files_of_a_plain_image_folder_are_read_directly(relative: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.chdir(folder.parent)
    dataset = datasets.ImageFolder(folder.name if relative else folder)
    source = hvs.open_source(dataset)
    assert isinstance(source, FileSource)
    assert source.read(3) == Sample((folder / "dog/3.png").read_bytes(), 1)
    assert source.name_of(3) == "dog/3.png"
    assert_same_images(source, dataset)
    of_folder = hvs.open_source(folder)
    assert (source.classes, source.fingerprint) == (of_folder.classes, of_folder.fingerprint)


def test_samples_of_an_image_folder_that_were_changed_are_kept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    dataset = datasets.ImageFolder(folder)
    other = tmp_path_factory.mktemp("other") / "photo.png"
    other.write_bytes(png(PIXELS_NHWC[0]))
    dataset.samples = [dataset.samples[4], (os.path.relpath(other), 5), dataset.samples[1]]
    source = hvs.open_source(dataset)
    assert isinstance(source, FileSource)
    assert_same_images(source, dataset)


def test_an_image_folder_that_does_more_than_read_is_left_to_do_it(folder: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")

    class Mirrored(datasets.ImageFolder):  # type: ignore[name-defined,misc]
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), label

    class Half(datasets.ImageFolder):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return 2

    for dataset in (
        datasets.ImageFolder(folder, transform=lambda image: image.resize((9, 9))),
        datasets.ImageFolder(folder, target_transform=lambda label: 10 + label),
        datasets.ImageFolder(folder, loader=lambda path: Image.open(path).convert("L").convert("RGB")),
        Mirrored(folder),
        Half(folder),
    ):
        source = hvs.open_source(dataset)
        assert isinstance(source, MapSource) and source.classes == ("cat", "dog")
        assert_same_images(source, dataset)


def test_an_image_folder_of_float_tensors_is_refused(folder: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    transforms = pytest.importorskip("torchvision.transforms")
    with pytest.raises(SourceError, match=r"^ImageFolder\[0\]: .*float32 of shape \(3, 6, 7\); make the dataset without ToTensor"):
        hvs.open_source(datasets.ImageFolder(folder, transform=transforms.ToTensor()))
