"""Images of any channels and depth, from files and datasets to the hardest pair."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.recipes import Recipe

IMAGES = 12
SIZE = (16, 24)


def pixels_of(index: int, channels: int, dtype: str = "uint16") -> np.ndarray:
    draw = np.random.default_rng(index)
    values = draw.integers(0, 4096, (20 + index, 31, channels))
    return values.astype(dtype)


def recipe_of(channels: int, value_range: Any = (0, 4095)) -> Recipe:
    return hvs.recipes.simsiam(4, size=SIZE).with_channels([0.4] * channels, [0.2] * channels, value_range)


class Arrays(Dataset):
    """Items of a dataset of the user's own."""

    def __init__(self, channels: int, make: Callable[[np.ndarray], Any]):
        self.channels, self.make = channels, make

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.make(pixels_of(index, self.channels)), index


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shards(folder: Path, channels: int) -> Any:
    with tarfile.open(folder / "0.tar", "w") as archive:
        for index in range(IMAGES):
            for extension, data in (("npy", npy(pixels_of(index, channels))), ("cls", str(index).encode())):
                member = tarfile.TarInfo(f"{index:02}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return hvs.open_source(folder / "0.tar", image="npy")


def folder(folder: Path, channels: int) -> Any:
    for index in range(IMAGES):
        (folder / f"class{index:02}").mkdir()
        np.save(folder / f"class{index:02}" / "0.npy", pixels_of(index, channels))
        (folder / f"class{index:02}" / "picture.jpg").write_bytes(b"of another source")
    return hvs.open_source(folder, image="npy")


def table(folder: Path, channels: int) -> Any:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [npy(pixels_of(index, channels)) for index in range(IMAGES)]
    pq.write_table(pa.table({"image": pa.array(rows, pa.binary()), "label": list(range(IMAGES))}), folder / "0.parquet")
    return folder / "0.parquet"


def hugging_face(folder: Path, channels: int) -> Any:
    datasets = pytest.importorskip("datasets")
    columns = {"image": [pixels_of(0, channels)[:20].tolist()] * IMAGES, "label": list(range(IMAGES))}
    features = datasets.Features({"image": datasets.Array3D((20, 31, channels), "uint16"), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict(columns, features).with_format("numpy")


SOURCES: dict[str, Callable[[Path, int], Any]] = {
    "shards of npy": shards,
    "folder of npy": folder,
    "parquet of npy": table,
    "arrays": lambda folder, channels: Arrays(channels, lambda pixels: pixels),
    "tensors": lambda folder, channels: Arrays(channels, lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1)),
    "encoded": lambda folder, channels: Arrays(channels, npy),
    "opened": lambda folder, channels: hvs.open_source(Arrays(channels, lambda pixels: pixels), deep=True, parallel=True),
    "hugging face": hugging_face,
}


@pytest.mark.parametrize("channels", [1, 13])
@pytest.mark.parametrize("name", SOURCES)
def test_views_of_every_source_are_the_rows_rendered_alone(name: str, channels: int, tmp_path: Path) -> None:
    loader = hvs.ViewLoader(SOURCES[name](tmp_path, channels), recipe_of(channels), 5, num_threads=1)
    seen = 0
    for batch in loader:
        images = [pixels_of(0 if name == "hugging face" else index, channels) for index in batch.index.tolist()]
        images = [pixels[:20] for pixels in images] if name == "hugging face" else images
        assert torch.equal(torch.stack(batch.views, 1), hvs.render(images, batch.params))
        assert batch.views[0].shape[1:] == (channels, *SIZE) and torch.equal(batch.labels, batch.index)
        seen += len(images)
    assert seen == IMAGES and not len(loader.quarantine)


class Model(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
        self.predictor = nn.Linear(6, 6)


@pytest.mark.parametrize("options", [{}, {"score_size": 12, "prefilter": 3}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_hardest_pair_of_13_channels(options: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    views = [hvs.ViewLoader(shards(tmp_path, 13), recipe_of(13), 5, dtype=dtype, num_threads=1, drop_last=True) for _ in range(2)]
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Model(13).to(dtype)), **options)
    for batch, candidates in zip(hvs.HardViewLoader(views[0], selector), views[1], strict=True):
        for place, slots_B in enumerate(batch.selection.slots.T.tolist()):
            for image, slot in enumerate(slots_B):
                assert torch.equal(batch.views[place][image], candidates.views[slot][image])
    assert batch.selection.losses.isfinite().any()


def test_pictures_train_under_one_channel(photos: Path) -> None:
    recipe = recipe_of(1, None)
    loader = hvs.ViewLoader(photos, recipe, 5, num_threads=1)
    for batch in loader:
        grey = [Image.open(io.BytesIO(loader.dataset.read(index).data)).convert("L") for index in batch.index.tolist()]
        assert torch.equal(torch.stack(batch.views, 1), hvs.render([np.asarray(image)[..., None] for image in grey], batch.params))


def test_images_of_other_channels_are_put_aside_with_what_to_do() -> None:
    class Mixed(Arrays):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            return pixels_of(index, 2 if index == 3 else 4), index

    loader = hvs.ViewLoader(Mixed(4, lambda pixels: pixels), recipe_of(4), 4, num_threads=1)
    assert sum(len(batch.labels) for batch in loader) == IMAGES
    assert list(loader.quarantine.reasons) == [3]
    assert "an image of 4 channels, as the recipe's mean and std have, got uint16 of shape (23, 31, 2)" in loader.quarantine.reasons[3]


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_an_extra_stage_sees_all_channels(engine: str) -> None:
    def stage(x_NCHW: Tensor) -> Tensor:
        assert x_NCHW.shape[1:] == (4, *SIZE) and 0 <= x_NCHW.min() and x_NCHW.max() <= 1
        return 1 - x_NCHW

    plain, staged = (
        hvs.ViewLoader(Arrays(4, lambda pixels: pixels), recipe_of(4), 4, engine=engine, normalize=False, extra_stage=extra, num_threads=1)
        for extra in (None, stage)
    )
    for one, other in zip(plain, staged, strict=True):
        assert torch.equal(1 - torch.stack(one.views), torch.stack(other.views))


def test_engines_that_cannot_refuse_when_the_loader_is_made() -> None:
    for recipe in (recipe_of(4), hvs.recipes.simsiam(4, value_range=(0, 4095))):
        with pytest.raises(HvsError, match=r'renders RGB pictures of 8 bits on cpu, got .*; pass engine="reference"'):
            hvs.ViewLoader(Arrays(4, lambda pixels: pixels), recipe, 4, engine="dali-kornia", num_threads=1)


def test_deep_datasets_are_refused_under_a_recipe_of_8_bits() -> None:
    with pytest.raises(hvs.SourceError, match=r"value_range=\(lo, hi\)\), and give the loader the dataset itself"):
        hvs.ViewLoader(Arrays(3, lambda pixels: pixels), hvs.recipes.simsiam(4), 4, num_threads=1)
