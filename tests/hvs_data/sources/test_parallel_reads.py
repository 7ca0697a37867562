"""Datasets that keep an open file: one thread at a time reads them, what they give stays as it was, and decoding goes on in parallel."""

from __future__ import annotations

import io
import logging
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.loaders import samples
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources import map_dataset
from hvs_data.sources.base import Source
from hvs_data.sources.parallel_reads import may_be_read_in_parallel

SIDE, COUNT = 24, 40


@pytest.fixture(autouse=True)
def threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 raw images, each of one level, which is its number."""
    path = tmp_path_factory.mktemp("packed") / "images.raw"
    path.write_bytes(b"".join(bytes([number]) * (SIDE * SIDE * 3) for number in range(COUNT)))
    return path


class Packed(Dataset[Any]):
    """Opens its file at the first read, as is recommended for processes, and moves its position."""

    def __init__(self, path: Path):
        self.path, self.file = path, None
        self.buffer = np.empty((SIDE, SIDE, 3), np.uint8)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return np.frombuffer(self.content(index), np.uint8).reshape(SIDE, SIDE, 3), index

    def content(self, index: int) -> bytes:
        if self.file is None:
            self.file = open(self.path, "rb")  # noqa: SIM115 - kept open
        self.file.seek(index * SIDE * SIDE * 3)
        time.sleep(0)
        return self.file.read(SIDE * SIDE * 3)


class OneBuffer(Packed):
    """Gives the same array for every item."""

    def __getitem__(self, index: int) -> Any:
        self.buffer[:] = np.frombuffer(self.content(index), np.uint8).reshape(SIDE, SIDE, 3)
        return self.buffer, index


class OneTensor(OneBuffer):
    def __getitem__(self, index: int) -> Any:
        array, _ = super().__getitem__(index)
        return torch.from_numpy(array).permute(2, 0, 1), index


class GreyBuffer(OneBuffer):
    """Gives Pillow images that lie in the same memory."""

    def __getitem__(self, index: int) -> Any:
        super().__getitem__(index)
        return Image.frombuffer("L", (SIDE, SIDE), self.buffer, "raw", "L", 0, 1), index


class OneImage(Packed):
    """Gives the same Pillow image for every item."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.image = Image.new("RGB", (SIDE, SIDE))

    def __getitem__(self, index: int) -> Any:
        self.image.frombytes(self.content(index))
        return self.image, index


class Frames(Packed):
    """Gives the frames of one image, which is read where its position lies."""

    def __getitem__(self, index: int) -> Any:
        if self.file is None:
            frames = [Image.new("RGB", (SIDE, SIDE), (number,) * 3) for number in range(COUNT)]
            self.file = io.BytesIO()
            frames[0].save(self.file, "TIFF", save_all=True, append_images=frames[1:])
            self.image = Image.open(self.file)
        self.image.seek(index)
        return self.image, index


class FramesOfOneFile(Frames):
    """Opens a new image, of one file that it keeps, for every item."""

    def __getitem__(self, index: int) -> Any:
        super().__getitem__(0)
        image = Image.open(self.file)
        image.seek(index)
        return image, index


class Members(Packed):
    """Gives images that are still to be read from an archive."""

    def __getitem__(self, index: int) -> Any:
        if self.file is None:
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w") as archive:
                for number in range(COUNT):
                    png = io.BytesIO()
                    Image.new("RGB", (SIDE, SIDE), (number,) * 3).save(png, "PNG")
                    member = tarfile.TarInfo(str(number))
                    member.size = png.tell()
                    archive.addfile(member, io.BytesIO(png.getvalue()))
            stream.seek(0)
            self.file = tarfile.open(fileobj=stream)  # noqa: SIM115 - kept open
        return Image.open(self.file.extractfile(str(index))), index


class ReusedFile(Packed):
    """Writes every image to the same file in memory."""

    def __getitem__(self, index: int) -> Any:
        if self.file is None:
            self.file = io.BytesIO()
        self.file.seek(0)
        self.file.truncate()
        Image.new("RGB", (SIDE, SIDE), (index,) * 3).save(self.file, "PNG")
        return Image.open(self.file), index


def wrong(source: Source, threads: int = 8, rounds: int = 6) -> list[int]:
    """Indices whose image or label came out wrong."""
    order = np.random.default_rng(0).permuted(np.tile(np.arange(len(source)), (rounds, 1)), axis=1).ravel().tolist()

    def is_right(index: int) -> bool:
        data, label = source.read(index)
        time.sleep(0)
        return bool((decode_image(data) == label).all())

    with ThreadPoolExecutor(threads) as pool:
        return [index for index, right in zip(order, pool.map(is_right, order), strict=True) if not right]


@pytest.mark.parametrize("kind", [Packed, OneBuffer, OneTensor, GreyBuffer, OneImage, Frames, FramesOfOneFile, Members, ReusedFile])
def test_a_dataset_that_keeps_a_handle_gives_right_pixels(kind: type[Packed], packed: Path) -> None:
    """Guards: one thread at a time reads a dataset of the user's, and what it gave stays as it was."""
    assert wrong(hvs.open_source(kind(packed))) == []


class Wrapped(Dataset[Any]):
    """A dataset behind another one, by an attribute of any name."""

    def __init__(self, behind: Any):
        self.behind = behind

    def __len__(self) -> int:
        return len(self.behind)

    def __getitem__(self, index: int) -> Any:
        return self.behind[index]


class OfHandle:
    """Of a file that is open already; of no class of torch's."""

    def __init__(self, file: Any):
        self.file = file

    def __len__(self) -> int:
        return COUNT

    __getitem__ = Packed.__getitem__
    content = Packed.content


@pytest.mark.parametrize("sharing", ["dataset", "split", "wrapped", "concatenated", "handle"])
def test_sources_that_share_a_dataset_or_its_file_wait_for_each_other(sharing: str, packed: Path) -> None:
    """Guards: the turn belongs to what is read, not to a source or a loader."""
    base = Packed(packed)
    with open(packed, "rb") as file:
        datasets: list[Any] = {
            "dataset": [base, base],
            "split": random_split(base, [0.5, 0.5], torch.Generator().manual_seed(0)),
            "wrapped": [Wrapped(base), Wrapped(Subset(base, range(20)))],
            "concatenated": [ConcatDataset([base, base]), base],
            "handle": [OfHandle(file), Wrapped(OfHandle(file))],
        }[sharing]
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(wrong, map(hvs.open_source, datasets))) == [[], []]


def test_a_loader_of_such_a_dataset_gives_the_right_views(packed: Path) -> None:
    recipe = hvs.recipes.simsiam(size=8)
    images = [np.full((SIDE, SIDE, 3), number, np.uint8) for number in range(COUNT)]

    def views(source: Any) -> torch.Tensor:
        return torch.cat([batch.views[0] for batch in hvs.ViewLoader(source, recipe, batch_size=10, num_threads=8, engine="reference")])

    assert torch.equal(views(Packed(packed)), views(images))


class Pause(Dataset[Any]):
    """Tells how many threads are in its items at once."""

    def __init__(self) -> None:
        self.inside, self.most, self.lock = 0, 0, threading.Lock()

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02)
        with self.lock:
            self.inside -= 1
        return np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(("parallel", "together"), [(None, False), (False, False), (True, True)])
def test_a_dataset_that_may_be_read_in_parallel_says_so(parallel: bool | None, together: bool) -> None:
    dataset = Pause()
    source = hvs.open_source(dataset, parallel=parallel)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(source.read, range(16)))
    assert (dataset.most > 1) == together


def test_the_choice_is_announced_once_for_a_kind(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_dataset, "_announced", set())
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        for parallel in (True, False, None, None):
            hvs.open_source(Pause(), parallel=parallel)
        hvs.open_source([np.zeros((4, 4, 3), np.uint8)])
    (record,) = caplog.records
    assert "items of Pause are read by one thread at a time" in record.getMessage() and "parallel=True" in record.getMessage()


@pytest.mark.parametrize("data", ["folder", "list of paths", "own source"])
def test_the_option_is_for_datasets(data: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    given = {"folder": tmp_path, "list of paths": [tmp_path / "0.png"], "own source": hvs.open_source(tmp_path)}[data]
    with pytest.raises(SourceError, match="leave parallel out"):
        hvs.open_source(given, parallel=True)
    with pytest.raises(SourceError, match="parallel must be True, False or None"):
        hvs.open_source([np.zeros((4, 4, 3), np.uint8)], parallel="yes")  # type: ignore[arg-type]


class FromFiles(Packed):
    """Gives images that are still to be read from files of their own."""

    def __getitem__(self, index: int) -> Any:
        return Image.open(self.path), index


class FromBytes(FromFiles):
    def __getitem__(self, index: int) -> Any:
        return Image.open(io.BytesIO(self.path.read_bytes())), index


class Encoded(FromFiles):
    def __getitem__(self, index: int) -> Any:
        return self.path.read_bytes(), index


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF"])
@pytest.mark.parametrize("kind", [FromFiles, FromBytes, Encoded])
def test_decoding_stays_parallel(kind: type[Packed], format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read by one thread at a time is still to be decoded when it comes to the decoder, on two threads at once."""
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image", format)
    together, pending = threading.Barrier(2), []

    def decode_in_step(data: Any, **options: Any) -> np.ndarray:
        pending.append(isinstance(data, bytes) or bool(data.tile))
        together.wait(20)
        return decode_image(data, **options)

    monkeypatch.setattr(samples, "decode_image", decode_in_step)
    monkeypatch.setattr(samples, "jpeg_size", lambda data: None)
    source = hvs.open_source(Subset(kind(tmp_path / "image"), range(16)))
    list(hvs.ViewLoader(source, hvs.recipes.simsiam(size=8), batch_size=16, num_threads=2, engine="reference"))
    assert len(pending) == 16 and all(pending)


@pytest.mark.parametrize("kind", [FromFiles, FromBytes])
def test_decoding_stays_parallel_while_compiled_code_runs(kind: type[Packed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While torch.compile looks at how functions run, in whatever thread, every call holds its arguments once more."""
    from torch._C._dynamo.eval_frame import set_eval_frame

    before = set_eval_frame(False)
    try:
        test_decoding_stays_parallel(kind, "JPEG", tmp_path, monkeypatch)
    finally:
        set_eval_frame(before)


class Mine(Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


SAFE = TensorDataset(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("dataset", "parallel"),
    [
        ([b"", b""], True),
        ((b"",), True),
        (np.zeros((2, 4, 4, 3), np.uint8), True),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), True),
        (SAFE, True),
        (Subset(SAFE, [0]), True),
        (ConcatDataset([SAFE, Subset(SAFE, [1])]), True),
        (Mine(), False),
        (Subset(Mine(), [0]), False),
        (ConcatDataset([SAFE, Mine()]), False),
        (type("Subclass", (TensorDataset,), {})(torch.zeros(2)), False),
    ],
)
def test_only_what_is_known_is_read_in_parallel(dataset: Any, parallel: bool) -> None:
    assert may_be_read_in_parallel(dataset) is parallel


def test_torchvision_is_read_in_parallel_with_its_own_transforms(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    transforms = torchvision.transforms
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "0.png")

    def folder(**options: Any) -> Any:
        return torchvision.datasets.ImageFolder(tmp_path, **options)

    resize = transforms.Resize(8)
    assert may_be_read_in_parallel(folder(transform=transforms.Compose([resize, transforms.RandomApply([resize])])))
    assert may_be_read_in_parallel(folder(transform=pytest.importorskip("torchvision.transforms.v2").Resize(8)))
    assert not may_be_read_in_parallel(folder(transform=lambda image: image))
    assert not may_be_read_in_parallel(folder(transform=transforms.Compose([resize, transforms.Lambda(lambda image: image)])))
    assert not may_be_read_in_parallel(folder(target_transform=lambda label: label))
    assert not may_be_read_in_parallel(folder(loader=lambda path: Image.open(path)))
    assert not may_be_read_in_parallel(type("Mine", (torchvision.datasets.ImageFolder,), {})(tmp_path))
    assert not may_be_read_in_parallel(torchvision.datasets.FakeData())


def test_hugging_face_datasets_are_read_in_parallel_without_a_transform() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"image": [[[0]]]})
    assert may_be_read_in_parallel(dataset)
    assert not may_be_read_in_parallel(dataset.with_transform(lambda rows: rows))
