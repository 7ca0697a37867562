"""Data engines that bring no augmentations of their own, with albumentations' views on simplejpeg's pixels in them.

webdataset (github.com/webdataset/webdataset) reads tar shards in a DataLoader's worker processes; SPDL (github.com/facebookresearch/spdl)
runs functions in threads of one process. SPDL's own decoder, FFmpeg's, takes three times as long for a JPEG file as simplejpeg.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.loaders import peers
from harness.loaders.packing import kept
from hvs_data.recipes.spec import Recipe

SHARDS_A_WORKER = 4
SHUFFLED = 256  # samples that each worker draws from, less than which its users seldom take
DIFFERS = {
    "webdataset": (
        "from tar shards written before, drawn with replacement, shuffled among 256 samples of a worker; its views are those of "
        "albumentations"
    ),
    "spdl": "in threads, an image a task; its views are those of albumentations",
}


class _Views:
    """All views of an encoded image, drawn by states of its own in each process and thread."""

    def __init__(self, recipe: Recipe, seed: int):
        self._recipe, self._seed = recipe, seed
        self._own = threading.local()
        self._begun = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[Recipe, int]:
        return self._recipe, self._seed

    def __setstate__(self, state: tuple[Recipe, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __call__(self, encoded: bytes) -> list[Tensor]:
        if not hasattr(self._own, "views"):
            self._own.views = peers.one_a_slot(self._recipe, peers.albumentations_view)
            with self._lock:
                thread, self._begun = self._begun, self._begun + 1
            worker = torch.utils.data.get_worker_info()
            for position, view in enumerate(dict.fromkeys(self._own.views)):
                view.seed(hash((self._seed, worker.id if worker else 0, thread, position)) & 0xFFFFFFFF)
        image = peers.decoded_by_simplejpeg(encoded)
        return [view(image) for view in self._own.views]


def _batch(samples: Sequence[list[Tensor]]) -> tuple[list[Tensor], Tensor]:
    return [torch.stack(views) for views in zip(*samples, strict=True)], torch.full((len(samples),), -1)


# --- webdataset --------------------------------------------------------------------------------------------------------


def webdataset_loader(paths: Sequence[str], recipe: Recipe, batch_size: int, workers: int, seed: int) -> Any:
    """Its WebLoader on shards of these files; every worker process gives its own share of the batches."""
    import webdataset as wds

    # every worker draws shards anew until it has given its share of the batches
    data = wds.WebDataset(_shards(paths, workers), shardshuffle=False, resampled=True, seed=seed)
    views = _Views(recipe, seed)
    data = data.shuffle(SHUFFLED).to_tuple("jpg").map(partial(_of_sample, views)).batched(batch_size, collation_fn=_batch, partial=False)
    return wds.WebLoader(
        data.with_epoch(len(paths) // batch_size // workers),
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=peers.PREFETCH,
        worker_init_fn=peers.start_cv2_worker,
    )


def _of_sample(views: _Views, sample: tuple[bytes]) -> list[Tensor]:
    return views(sample[0])


def _shards(paths: Sequence[str], workers: int) -> list[str]:
    """Tar files of these images, written once."""
    import webdataset as wds

    files = list(dict.fromkeys(paths))
    told = f"webdataset {workers} {[(path, Path(path).stat().st_mtime_ns) for path in files]}"
    folder = kept(told)
    if not folder.exists():
        begun = folder.with_suffix(".new")
        begun.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(0).permutation(len(files))
        for number, part in enumerate(np.array_split(order, min(SHARDS_A_WORKER * workers, len(files)))):
            with wds.TarWriter(str(begun / f"{number:04}.tar")) as shard:
                for place in part:
                    shard.write({"__key__": f"{place:08}", "jpg": Path(files[place]).read_bytes()})
        begun.rename(folder)
    return sorted(str(file) for file in folder.iterdir())


# --- SPDL --------------------------------------------------------------------------------------------------------------


class SpdlLoader:
    """SPDL's DataLoader over these files, in as many threads as there are workers."""

    def __init__(self, paths: Sequence[str], recipe: Recipe, batch_size: int, workers: int, seed: int):
        peers.start_cv2_worker(0)
        self._paths, self._batch_size, self._workers = list(paths), batch_size, workers
        self._views = _Views(recipe, seed)
        self._order = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._paths) // self._batch_size

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        from spdl.dataloader import DataLoader

        yield from DataLoader(
            [self._paths[place] for place in self._order.permutation(len(self._paths))],
            preprocessor=self._of_file,
            batch_size=self._batch_size,
            drop_last=True,
            aggregator=_batch,
            buffer_size=peers.PREFETCH,
            num_threads=self._workers,
        )

    def _of_file(self, path: str) -> list[Tensor]:
        with open(path, "rb", buffering=0) as file:
            return self._views(file.read())
