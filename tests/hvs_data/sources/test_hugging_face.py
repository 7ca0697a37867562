"""Hugging Face datasets: columns, labels, rows picked and transformed, and what is refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from encoded_files import encoded as encode
from encoded_files import palette, photo, with_orientation
from hvs_data.errors import SourceError
from hvs_data.pipelines.decode import decode_image, jpeg_size
from hvs_data.sources.hugging_face import HuggingFaceSource
from hvs_data.sources.map_dataset import MapSource
from source_contract import CLASSES, check_samples, encoded, hugging_face, photos

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")

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
    with pytest.raises(SourceError, match=r"one column of labels in the dataset, got \['fine', 'coarse'\]; pass .*label=NAME"):
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
            r"one column of encoded images in the dataset.*pass hvs.open_source\(..., image=NAME\)",
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


# --- as the dataset gives its images -----------------------------------------------------------------------------------


def assert_as_the_dataset_gives_them(dataset: Any, column: str = "image") -> None:
    source = hvs.open_source(dataset)
    assert isinstance(source, HuggingFaceSource)
    for index in range(len(dataset)):
        expected = np.asarray(dataset[index][column].convert("RGB"))
        np.testing.assert_array_equal(decode_image(source.read(index).data), expected)


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("WEBP", "RGB")])
def test_images_are_turned_as_by_the_dataset(kind: str, mode: str, orientation: int) -> None:
    """The library turns what it decodes upright; what was read past its decoding was not."""
    rows = [image_of(with_orientation(kind, orientation, mode)), image_of(encoded(1))]
    assert_as_the_dataset_gives_them(made({"image": rows}, image=IMAGE))


def test_images_are_turned_by_what_xmp_says() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stream = io.BytesIO()
    photo().save(stream, "JPEG", xmp=xmp)
    if xmp not in stream.getvalue():
        pytest.skip("this Pillow writes no XMP")
    dataset = made({"image": [image_of(stream.getvalue())]}, image=IMAGE)
    assert dataset[0]["image"].size == photo().size[::-1]
    assert_as_the_dataset_gives_them(dataset)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "1", "P"])
def test_images_are_of_the_mode_that_the_dataset_gives_them(mode: str) -> None:
    files = [with_orientation("JPEG", 6), with_orientation("PNG", 3), encoded(2), encode(palette(transparency=3), "PNG")]
    dataset = made({"image": [image_of(file) for file in files]}, image=datasets.Image(mode=mode))
    assert_as_the_dataset_gives_them(dataset)


def test_images_that_the_dataset_does_not_decode_are_as_they_are_stored() -> None:
    file = with_orientation("JPEG", 6)
    for feature in (datasets.Image(mode="L", decode=False), datasets.Value("binary")):
        rows = [file] if isinstance(feature, datasets.Value) else [image_of(file)]
        assert type(hvs.open_source(made({"image": rows}, image=feature)).read(0).data) is bytes


def test_only_images_with_metadata_leave_the_usual_way() -> None:
    files = [encoded(0), with_orientation("JPEG", 1), with_orientation("JPEG", 6)]
    source = hvs.open_source(made({"image": [image_of(file) for file in files]}, image=IMAGE))
    data = [source.read(index).data for index in range(3)]
    assert [type(item).__name__ for item in data] == ["bytes", "EncodedImage", "EncodedImage"]
    # the second one's size is known before it is decoded, which decoding to a fraction and on a device need
    assert [jpeg_size(item) is not None for item in data] == [True, True, False]
    copied = pickle.loads(pickle.dumps(data[2]))
    assert copied == data[2] and (copied.upright, copied.mode) == (True, None)


def test_the_loader_turns_them(tmp_path: Path) -> None:
    dataset = made({"image": [image_of(with_orientation("JPEG", 6))] * 2}, image=IMAGE)
    recipe = hvs.recipes.simsiam(size=16)
    upright = [row["image"] for row in dataset]
    batches = [
        next(iter(hvs.ViewLoader(data, recipe, batch_size=2, num_threads=1, engine="reference", scaled_decode=scaled)))
        for data in (dataset, upright)
        for scaled in (False, True)
    ]
    for batch in batches[1:]:
        assert torch.equal(batch.views[0], batches[0].views[0])


@pytest.mark.parametrize(
    "column", [["cat", "dog"], [0.5, float("nan")], [True, False], [[1], [2]], [None, None], [1, 2]], ids=lambda column: str(column[0])
)
def test_labels_of_any_kind_are_left_alone_on_request(column: list[Any]) -> None:
    dataset = datasets.Dataset.from_dict({"image": [image_of(b"1"), image_of(b"2")], "label": column}).cast_column("image", IMAGE)
    source = hvs.open_source(dataset, label=None)
    assert isinstance(source, HuggingFaceSource)
    assert [source.read(index) for index in range(2)] == [(b"1", -1), (b"2", -1)] and source.classes == ()
    if column != [1, 2]:
        with pytest.raises(SourceError, match=r"whole numbers in the column 'label'.*pass hvs.open_source\(..., label=None\)"):
            hvs.open_source(dataset)


def test_a_label_past_64_bits_is_told() -> None:
    table = pa.table({"image": [b"1"], "label": pa.array([2**63], pa.uint64())})
    dataset = datasets.Dataset(table)
    with pytest.raises(SourceError, match="expected labels that fit 64 bits"):
        hvs.open_source(dataset)


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
