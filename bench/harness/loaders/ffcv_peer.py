"""FFCV (github.com/libffcv/ffcv) beside the other loaders: its own files, written once, and its own decoder and transforms.

FFCV decodes an image anew for each view, and so an image stands in a batch as often as it has views. It has crops, flips and
normalisation; of the colours of self-supervised recipes it has brightness, contrast and saturation, and neither hue, grey, blur nor
solarizing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.loaders.packing import kept
from hvs_data.recipes.spec import Recipe

MODES = ("jpg", "raw")
DIFFERS = {
    f"ffcv-{mode}": (
        f"from its own {kind} files, written before; resize by cv2.INTER_AREA; brightness, contrast and saturation in this order, cut "
        "to 8 bits each; rows from the global state of NumPy"
    )
    for mode, kind in zip(MODES, ("JPEG (quality 90)", "raw"), strict=True)
}


def installed() -> bool:
    return find_spec("ffcv") is not None


class Photos:
    """Images of files and a label, as FFCV's writer takes them: [H, W, 3] uint8 and a number."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        return np.array(Image.open(self._paths[position]).convert("RGB")), -1


def written(paths: Sequence[str], mode: str, workers: int) -> Path:
    """The file of these images, written once."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    told = f"{mode} {[(path, Path(path).stat().st_mtime_ns) for path in paths]}"
    file = kept(told).with_suffix(".beton")
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        begun = file.with_suffix(".new")
        writer = DatasetWriter(str(begun), {"image": RGBImageField(write_mode=mode), "label": IntField()}, num_workers=workers)
        writer.from_indexed_dataset(Photos(paths))
        begun.rename(file)
    return file


class FfcvLoader:
    """What a ViewLoader gives of a recipe of crops, flips and colours without hue, ``(views, labels)``, from FFCV."""

    def __init__(self, paths: Sequence[str], recipe: Recipe, batch_size: int, workers: int, seed: int, mode: str):
        from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
        from ffcv.loader import Loader, OrderOption
        from ffcv.transforms import (
            NormalizeImage,
            RandomBrightness,
            RandomContrast,
            RandomHorizontalFlip,
            RandomSaturation,
            ToTensor,
            ToTorchImage,
        )

        (role,) = recipe.roles
        files = list(dict.fromkeys(paths))
        place = {path: number for number, path in enumerate(files)}
        order = np.random.default_rng(seed).permutation([place[path] for path in paths])
        self._batch_size, self._views = batch_size, recipe.num_views
        mean, std = (255 * np.array(values) for values in (recipe.mean, recipe.std))
        jitter = role.jitter
        colours = [
            RandomBrightness(jitter.brightness, jitter.p),
            RandomContrast(jitter.contrast, jitter.p),
            RandomSaturation(jitter.saturation, jitter.p),
        ]
        image = [
            RandomResizedCropRGBImageDecoder((role.size, role.size), scale=role.scale, ratio=role.ratio),
            RandomHorizontalFlip(role.flip),
            *(colours if jitter.p else []),
            NormalizeImage(mean, std, np.float32),
            ToTensor(),
            ToTorchImage(convert_back_int16=False),
        ]
        self._loader: Any = Loader(
            str(written(files, mode, workers)),
            batch_size=batch_size * self._views,
            num_workers=workers,
            order=OrderOption.SEQUENTIAL,
            indices=np.repeat(order, self._views),
            drop_last=True,
            pipelines={"image": image, "label": [IntDecoder(), ToTensor()]},
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        for pixels, labels in self._loader:
            # its memory is used again for the next batch but one
            views = pixels.view(self._batch_size, self._views, *pixels.shape[1:])
            yield [view.clone(memory_format=torch.contiguous_format) for view in views.unbind(1)], labels[:: self._views, 0]
