"""The failure policy: unreadable images are replaced, written down, counted, and past a share stop the run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from hvs_data.errors import BadImagesError, SourceError
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.quarantine import ALWAYS_ALLOWED, Quarantine
from hvs_data.sources.base import Sample, Source

RECIPE = hvs.recipes.simsiam(candidates=2, size=16)


@pytest.fixture
def with_bad_ones(photos: Path, tmp_path: Path) -> Path:
    """The photographs, of which four cannot be read, each for another reason."""
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    (root / "cat" / "00.jpg").write_bytes(b"")
    (root / "cat" / "01.jpg").write_text("this is not a picture")
    (root / "dog" / "12.jpg").write_bytes((root / "dog" / "12.jpg").read_bytes()[:200])
    (root / "dog" / "13.jpg").unlink()
    (root / "dog" / "13.jpg").symlink_to(root / "nowhere.jpg")
    return root


BAD = {"cat/00.jpg", "cat/01.jpg", "dog/12.jpg", "dog/13.jpg"}


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_bad_image_is_replaced_by_another_of_the_epoch(with_bad_ones: Path, tmp_path: Path, num_threads: int) -> None:
    source = hvs.open_source(with_bad_ones)
    bad = {index for index in range(22) if source.names[index] in BAD}
    log = tmp_path / "quarantine.jsonl"
    loader = hvs.ViewLoader(source, RECIPE, batch_size=5, seed=4, num_threads=num_threads, quarantine=log)
    order = EpochOrder(22, 4, 0)(range(22)).tolist()
    # 22 times the golden section, .618, is 14, and 15 beside it has no divisor in common with 22
    expected = [next(i for k in range(22) if (i := order[(position + 15 * k) % 22]) not in bad) for position in range(22)]
    batches = list(loader)
    assert [batch.labels.shape[0] for batch in batches] == [5, 5, 5, 5, 2]
    assert torch.cat([batch.index for batch in batches]).tolist() == expected
    assert torch.cat([batch.labels for batch in batches]).tolist() == [int(source.labels[index]) for index in expected]
    assert set(loader.quarantine.reasons) == bad and len(loader.quarantine) == 4
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(entry["index"], entry["path"]) for entry in entries} == {(index, source.names[index]) for index in bad}
    reasons = {entry["path"]: entry["reason"] for entry in entries}
    assert "0 bytes" in reasons["cat/00.jpg"] and "known format" in reasons["cat/01.jpg"]
    assert "intact" in reasons["dog/12.jpg"] and "No such file" in reasons["dog/13.jpg"]
    list(loader)  # a second epoch meets them again and writes nothing
    assert len(log.read_text().splitlines()) == 4


def test_the_views_are_of_the_replacement_by_the_rows_of_the_missing_one(with_bad_ones: Path) -> None:
    loader = hvs.ViewLoader(with_bad_ones, RECIPE, batch_size=22, seed=4)
    (batch,) = loader
    asked = EpochOrder(22, 4, 0)(range(22))
    for b in range(22):
        name = loader.dataset.names[int(batch.index[b])]
        image = hvs.decode([(with_bad_ones / name).read_bytes()])
        rows = hvs.sample_views(RECIPE, seed=4, epoch=0, index=asked[b : b + 1], height=image.height, width=image.width)
        assert torch.equal(hvs.render(image, rows)[0], torch.stack([view[b] for view in batch.views]))


def test_an_unreadable_file_is_a_bad_image(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    (root / "cat" / "02.jpg").chmod(0)
    if os.access(root / "cat" / "02.jpg", os.R_OK):  # root reads everything
        pytest.skip("this user may read every file")
    loader = hvs.ViewLoader(root, RECIPE, batch_size=22)
    assert len(next(iter(loader)).labels) == 22 and len(loader.quarantine) == 1


def test_too_many_bad_images_stop_the_run(with_bad_ones: Path) -> None:
    (with_bad_ones / "dog" / "20.jpg").write_bytes(b"\xff\xd8\xff")
    loader = hvs.ViewLoader(with_bad_ones, RECIPE, batch_size=22)
    with pytest.raises(BadImagesError, match=r"at most 4 of the source's 22 images.*got 5.*raise max_bad_share"):
        list(loader)
    assert len(list(hvs.ViewLoader(with_bad_ones, RECIPE, batch_size=22, max_bad_share=0.3))) == 1


def test_a_share_of_nothing_stops_at_the_first(with_bad_ones: Path) -> None:
    with pytest.raises(BadImagesError, match="at most 0 of the source's 22 images"):
        list(hvs.ViewLoader(with_bad_ones, RECIPE, batch_size=22, max_bad_share=0))


def test_a_source_of_bad_images_only_ends() -> None:
    loader = hvs.ViewLoader([b"no", b"image", b"at all"], RECIPE, batch_size=2)
    with pytest.raises(BadImagesError, match="none of the source's 3 images can be read"):
        list(loader)


def test_the_first_bad_image_is_announced_and_no_other(with_bad_ones: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="hvs_data"):
        list(hvs.ViewLoader(with_bad_ones, RECIPE, batch_size=22))
    (record,) = [record for record in caplog.records if record.name == "hvs_data"]
    assert "is replaced by another one" in record.getMessage() and "quarantine=PATH" in record.getMessage()


class Failing(Source):
    """Images of which one raises what no bad image raises."""

    def __init__(self, error: BaseException):
        self.error = error

    def __len__(self) -> int:
        return 6

    def read(self, index: int) -> Sample:
        if index == 3:
            raise self.error
        return Sample(torch.full((3, 8, 8), index, dtype=torch.uint8), index)

    @property
    def fingerprint(self) -> str:
        return "failing"


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), KeyboardInterrupt(), MemoryError()])
def test_a_bug_is_not_a_bad_image(error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(hvs.ViewLoader(Failing(error), RECIPE, batch_size=2))


@pytest.mark.parametrize("error", [OSError("storage"), SourceError("unreadable")])
def test_what_a_source_may_raise_is_a_bad_image(error: Exception) -> None:
    loader = hvs.ViewLoader(Failing(error), RECIPE, batch_size=2)
    assert 3 not in torch.cat([batch.index for batch in loader]).tolist()
    assert loader.quarantine.reasons == {3: f"{type(error).__name__}: {error}"}


@pytest.mark.parametrize(
    ("length", "share", "allowed"),
    [(10, 0.01, ALWAYS_ALLOWED), (10_000, 0.01, 100), (1000, 0.5, 500), (1000, 0, 0), (3, 1, ALWAYS_ALLOWED)],
)
def test_how_many_are_allowed(length: int, share: float, allowed: int) -> None:
    quarantine = Quarantine(length, share, None)
    for index in range(allowed):
        quarantine.add(index, "name", "reason")
        quarantine.add(index, "name", "again")
    with pytest.raises(BadImagesError):
        quarantine.add(allowed, "name", "reason")
