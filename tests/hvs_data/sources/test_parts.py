"""Parts of sources, sources put together, and sources without their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.sources.base import Sample, Source, checked_index
from hvs_data.sources.map_dataset import MapSource
from hvs_data.sources.parts import JoinedSource, PickedSource, WithoutLabels


class Letters(Source):
    """One letter an image, its place in the alphabet as label."""

    classes = ("a vowel", "another")

    def __init__(self, letters: str):
        self.letters = letters

    def __len__(self) -> int:
        return len(self.letters)

    def read(self, index: int) -> Sample:
        letter = self.letters[checked_index(index, len(self))]
        return Sample(letter.encode(), ord(letter) - ord("a"))

    def name_of(self, index: int) -> str:
        return f"<{self.letters[index]}>"

    @property
    def fingerprint(self) -> str:
        return self.letters


ABC = Letters("abcdefg")


def read(source: Source) -> str:
    samples = [source.read(index) for index in range(len(source))]
    for sample in samples:
        assert type(sample.data) is bytes and sample.label == ord(sample.data) - ord("a")
    return b"".join(bytes(sample.data) for sample in samples).decode()


def test_a_source_is_a_map_style_dataset() -> None:
    """Subset and ConcatDataset of a source ended in "not subscriptable"."""
    assert ABC[2] == (b"c", 2) and [sample.data for sample in ABC] == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        ABC[7]


@pytest.mark.parametrize(
    "indices", [[4, 0, 4, -1], (4, 0, 4, -1), np.array([4, 0, 4, -1]), torch.tensor([4, 0, 4, -1])], ids=lambda i: type(i).__name__
)
def test_a_subset_of_a_source(indices: Any) -> None:
    source = hvs.open_source(Subset(ABC, indices))
    assert isinstance(source, PickedSource) and source.classes == ABC.classes
    assert read(source) == "eaeg" and [source.name_of(index) for index in range(4)] == ["<e>", "<a>", "<e>", "<g>"]
    for index in (-1, 4):
        with pytest.raises(IndexError):
            source.read(index)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 7], r"indices in \[0, 7\), got 7 at position 1"),
        ([-8], "got -8 at position 0"),
        ([], r"a list of indices of images, got float64 of shape \(0,\)"),
        ([0.5], "got float64"),
        ([True, False], "got bool"),
        ([[1]], r"shape \(1, 1\)"),
    ],
)
def test_indices_that_are_none(indices: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(Subset(ABC, indices))


def test_sources_put_together_and_taken_apart() -> None:
    other = Letters("xyz")
    joined = hvs.open_source(ConcatDataset([ABC, other, Subset(ABC, [1])]))
    assert isinstance(joined, JoinedSource) and joined.classes == ABC.classes
    assert read(joined) == "abcdefgxyzb"
    assert [joined.name_of(index) for index in (0, 7, 10, -1)] == ["0:<a>", "1:<x>", "2:<b>", "2:<b>"]
    assert read(hvs.open_source(Subset(ConcatDataset([ABC, other]), [8, 1]))) == "yb"
    assert read(hvs.open_source(Subset(Subset(ABC, [1, 2, 3]), [2, 0]))) == "db"
    first, second = random_split(ABC, [3, 4], torch.Generator().manual_seed(0))  # type: ignore[arg-type,var-annotated]
    assert sorted(read(hvs.open_source(first)) + read(hvs.open_source(second))) == list("abcdefg")
    prints = {
        hvs.open_source(data).fingerprint
        for data in (
            first,
            second,
            ConcatDataset([ABC, other]),
            ConcatDataset([other, ABC]),
            Subset(ABC, range(7)),
            Subset(other, range(3)),
        )
    }
    assert len(prints) == 6
    named = Letters("xyz")
    named.classes = ("q",)
    assert hvs.open_source(ConcatDataset([ABC, named])).classes == ()


def test_parts_of_other_datasets_are_read_item_by_item() -> None:
    class More(Subset[Any]):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0], 5

        def __getitems__(self, indices: Any) -> Any:
            return [self[index] for index in indices]

    class Wrapper(Dataset[Any]):
        def __len__(self) -> int:
            return len(ABC)

        def __getitem__(self, index: int) -> Any:
            return ABC[index]

    mixed = hvs.open_source(ConcatDataset([ABC, [(b"h", 7)]]))
    assert isinstance(mixed, MapSource) and read(mixed) == "abcdefgh"
    assert hvs.open_source(More(ABC, [1])).read(0) == (b"b", 5)
    assert read(hvs.open_source(Wrapper())) == "abcdefg"


def test_a_part_of_a_plain_image_folder_is_read_as_files(tmp_path: Path) -> None:
    folders = pytest.importorskip("torchvision.datasets")
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 4), (number, 0, 0)).save(path)
    part = hvs.open_source(Subset(folders.ImageFolder(tmp_path), [3, 0]))
    assert isinstance(part, PickedSource) and part.classes == ("a", "b")
    assert [part.read(index) for index in (0, 1)] == [((tmp_path / "b/3.png").read_bytes(), 1), ((tmp_path / "a/0.png").read_bytes(), 0)]
    turned = Subset(folders.ImageFolder(tmp_path, transform=lambda image: image.rotate(90)), [3, 0])
    assert isinstance(hvs.open_source(turned), MapSource)


def test_labels_are_left_alone_everywhere_on_request(tmp_path: Path) -> None:
    folders = pytest.importorskip("torchvision.datasets")
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (5, 4)).save(tmp_path / "cat" / "1.png")
    text = folders.ImageFolder(tmp_path)
    text.samples = [(path, "a cat") for path, _ in text.samples]
    image = np.zeros((4, 4, 3), np.uint8)
    for data in (
        ABC,
        Subset(ABC, [1]),
        ConcatDataset([ABC, ABC]),
        text,
        Subset(text, [0]),
        [(image, "cat")],
        [{"image": image, "label": [1]}],
    ):
        source = hvs.open_source(data, label=None)
        assert source.classes == () and source.read(0).label == -1
        loader = hvs.ViewLoader(source, hvs.recipes.simsiam(size=16), batch_size=1, num_threads=1)
        assert len(loader) == len(source)
    assert isinstance(hvs.open_source(ABC, label=None), WithoutLabels)
    assert hvs.open_source(ABC, label=None).name_of(1) == "<b>" and hvs.open_source(ABC, label=None).fingerprint != ABC.fingerprint
    for data in (text, Subset(text, [0]), [(image, "cat")], [(image, 2**70)]):
        with pytest.raises(SourceError, match=r"pass hvs.open_source\(..., label=None\) to go without labels"):
            hvs.open_source(data)
