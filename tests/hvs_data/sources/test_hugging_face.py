"""Hugging Face datasets: columns, labels, rows picked and transformed, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.sources.hugging_face import HuggingFaceSource
from hvs_data.sources.map_dataset import MapSource
from source_contract import CLASSES, check_samples, encoded, hugging_face, photos

datasets = pytest.importorskip("datasets")

PHOTOS = photos(7)


def made(columns: dict[str, Any], **features: Any) -> Any:
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def image_of(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": None}


IMAGE, WHOLE, TEXT = datasets.Image(), datasets.Value("int64"), datasets.Value("string")


def test_the_dataset_is_read_and_not_changed(tmp_path: Path) -> None:
    dataset = hugging_face(tmp_path, PHOTOS)
    source = hvs.open_source(dataset)
    assert isinstance(source, HuggingFaceSource) and source.classes == CLASSES
    check_samples(source, PHOTOS)
    assert source.name_of(3) == "Dataset[3]" and repr(source) == "HuggingFaceSource(7 images, 3 classes)"
    assert dataset.features["img"].decode is True and dataset.format["type"] is None
    assert isinstance(dataset[0]["img"], Image.Image)


@pytest.mark.parametrize("format", ["numpy", "torch", "arrow"])
def test_a_format_of_its_own_makes_no_difference(format: str, tmp_path: Path) -> None:
    check_samples(hvs.open_source(hugging_face(tmp_path, PHOTOS).with_format(format)), PHOTOS)


def test_rows_picked_shuffled_sorted_and_joined(tmp_path: Path) -> None:
    dataset = hugging_face(tmp_path, PHOTOS)
    order = dataset.add_column("row", list(range(7))).shuffle(seed=1)
    expected = [PHOTOS[row] for row in order["row"]]
    check_samples(hvs.open_source(order.remove_columns("row")), expected)
    joined = datasets.concatenate_datasets([dataset, dataset.select([2, 0])])
    check_samples(hvs.open_source(joined), [*PHOTOS, PHOTOS[2], PHOTOS[0]])


def test_a_dataset_on_disk(tmp_path: Path) -> None:
    dataset = hugging_face(tmp_path, PHOTOS)
    dataset.save_to_disk(str(tmp_path / "saved"))
    loaded = hvs.open_source(datasets.load_from_disk(str(tmp_path / "saved")))
    check_samples(loaded, PHOTOS)
    assert loaded.fingerprint == hvs.open_source(dataset).fingerprint


def test_images_that_are_noted_by_their_path(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(number))
    source = hvs.open_source(made({"image": [str(path) for path in paths]}, image=IMAGE))
    assert source.read(2) == (encoded(2), -1)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        source.read(1)
    assert source.fingerprint


def test_images_as_plain_bytes() -> None:
    source = hvs.open_source(made({"jpg": [b"0", b"1"], "label": [4, None]}, jpg=datasets.Value("binary"), label=datasets.Value("int8")))
    assert isinstance(source, HuggingFaceSource)
    assert [source.read(index) for index in range(2)] == [(b"0", 4), (b"1", -1)]


def test_columns_by_name() -> None:
    columns = {"image": [image_of(b"a")], "depth": [image_of(b"b")], "fine": [1], "coarse": [2]}
    classes = datasets.ClassLabel(names=["x", "y", "z"])
    dataset = made(columns, image=IMAGE, depth=IMAGE, fine=classes, coarse=classes)
    with pytest.raises(SourceError, match=r"one column of labels in the dataset, got \['fine', 'coarse'\]; .*label=NAME"):
        hvs.open_source(dataset)
    source = hvs.open_source(dataset, label="coarse")
    assert source.read(0) == (b"a", 2) and source.classes == ("x", "y", "z")
    assert hvs.open_source(dataset, image="depth", label="fine").read(0) == (b"b", 1)
    only = hvs.open_source(dataset.remove_columns("fine"))
    assert only.read(0).label == 2


@pytest.mark.parametrize(
    ("columns", "features", "options", "message"),
    [
        (
            {"a": [image_of(b"1")], "b": [image_of(b"2")]},
            {"a": IMAGE, "b": IMAGE},
            {},
            "one column of encoded images in the dataset.*image=NAME",
        ),
        ({"a": [image_of(b"1")]}, {"a": IMAGE}, {"image": "b"}, "expected a column 'b' in the dataset"),
        ({"a": [image_of(b"1")], "label": ["x"]}, {"a": IMAGE, "label": TEXT}, {}, r"another kind; .*class_encode_column\('label'\)"),
        ({"a": [image_of(b"1")]}, {"a": IMAGE}, {"label": "n"}, "expected a column 'n' of labels"),
        ({"a": []}, {"a": IMAGE}, {}, "holds images, got an empty Dataset"),
    ],
    ids=str,
)
def test_a_choice_that_is_not_clear_is_refused(columns: Any, features: Any, options: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.open_source(made(columns, **features), **options)


def test_a_transform_of_ones_own_is_left_to_make_the_images(tmp_path: Path) -> None:
    def mirrored(rows: dict[str, Any]) -> dict[str, Any]:
        return {"image": [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in rows["img"]], "label": rows["label"]}

    source = hvs.open_source(hugging_face(tmp_path, PHOTOS).with_transform(mirrored))
    assert isinstance(source, MapSource)
    sample = source.read(1)
    expected = np.asarray(Image.open(io.BytesIO(PHOTOS[1].data)))[:, ::-1]
    assert sample.label == PHOTOS[1].label and np.array_equal(np.asarray(sample.data), expected)


def test_a_row_without_an_image_is_a_source_error() -> None:
    struct = {"bytes": datasets.Value("binary"), "path": TEXT}
    rows = [image_of(b"1"), None, {"bytes": None, "path": None}]
    for source in (hvs.open_source(made({"image": rows}, image=struct)), hvs.open_source(made({"image": [*rows[:2], None]}, image=IMAGE))):
        assert isinstance(source, HuggingFaceSource) and source.read(0).data == b"1"
        check_missing(source)


def check_missing(source: HuggingFaceSource) -> None:
    for index in (1, 2):
        with pytest.raises(SourceError, match=rf"expected an image in Dataset\[{index}\], got none"):
            source.read(index)


def test_an_image_too_large_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.sources.columns.MAX_FILE_BYTES", 3)
    source = hvs.open_source(made({"image": [image_of(b"123"), image_of(b"1234")]}, image=IMAGE))
    assert source.read(0).data == b"123"
    with pytest.raises(SourceError, match=r"at most 3 bytes, got 4 in Dataset\[1\]"):
        source.read(1)


def test_a_dictionary_of_splits_is_refused(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": hugging_face(tmp_path, PHOTOS), "test": hugging_face(tmp_path, PHOTOS)})
    with pytest.raises(SourceError, match=r"one split of a dataset, got a DatasetDict of \['train', 'test'\]; .*data\['train'\]"):
        hvs.open_source(splits)


def test_a_dataset_that_streams_is_refused(tmp_path: Path) -> None:
    streaming = hugging_face(tmp_path, PHOTOS).to_iterable_dataset()
    with pytest.raises(SourceError, match="got an IterableDataset, which streams; load it without streaming=True"):
        hvs.open_source(streaming)
    with pytest.raises(SourceError, match="one split of a dataset, got a IterableDatasetDict"):
        hvs.open_source(datasets.IterableDatasetDict({"train": streaming}))
