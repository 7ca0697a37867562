"""The loaders that are timed, by name and settings, so that another process can build the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import hvs_data as hvs
from harness.loaders import engine_peers, ffcv_peer, peers
from harness.loaders.packing import packed
from harness.measuring.machine import cores
from hvs_data.packing.images import Form
from hvs_data.recipes.spec import Recipe

OURS = "hvs_data"
HARD, CHEAP, SCALED = "hvs_data-hard", "hvs_data-cheap", "hvs_data-scaled"
RAW, RAW_512, JPEG_512 = "hvs_data-raw", "hvs_data-raw-512", "hvs_data-jpeg-512"
_FORMS = {RAW: Form("raw"), RAW_512: Form("raw", short_side=512), JPEG_512: Form("jpeg", short_side=512)}
DIFFERS = {
    OURS: "nothing: float arithmetic, antialiased, true Gaussian up to 4 sigma, one rounding; rows by seed, epoch and index",
    HARD: "gives a pair, chosen by an objective that costs nothing; candidates at score_size, the pair rendered again at size",
    CHEAP: "gives a pair, chosen with budget='cheap': by the candidates' rows, but in every eighth step, which scores some of them",
    SCALED: "JPEG files are decoded at 1/2, 1/4 or 1/8 where every view is smaller still: close to the exact pixels, not equal",
    RAW: "nothing in the pixels: from shards that hvs-data pack --as raw wrote before, which take about five times the bytes",
    RAW_512: "from shards that hvs-data pack --as raw --short-side 512 wrote before: views of smaller photographs",
    JPEG_512: "the same with --as jpeg, at quality 90",
    "resident": "no work at all: one batch in memory, handed out again and again; the ceiling of any loader",
    "copied": "no work but a copy of one batch in memory into new memory: what any loader that makes new batches must write",
    **peers.DIFFERS,
    **engine_peers.DIFFERS,
    **ffcv_peer.DIFFERS,
}
_PEERS: dict[str, Callable[..., Any]] = {
    "torchvision": peers.torchvision_loader,
    "albumentations": peers.albumentations_loader,
    "albumentations-area": partial(peers.albumentations_loader, area=True),
    "webdataset": engine_peers.webdataset_loader,
    "spdl": engine_peers.SpdlLoader,
    **{f"ffcv-{mode}": partial(ffcv_peer.FfcvLoader, mode=mode) for mode in ffcv_peer.MODES},
}


@dataclass(frozen=True)
class Contestant:
    """One loader with its settings.

    Attributes:
        loader: a key of ``DIFFERS``.
        method: "simsiam", "dino", or "crops": SimSiam's crops and flips, without colours and blur, or "jitter": these with SimSiam's
            brightness, contrast and saturation in every view.
        candidates: views drawn for an image (of DINO, global ones).
        size: side of the views (of DINO, of the global ones).
        score_size: for HARD: side at which candidates are scored.
        batch_size, seed: as usual.
    """

    loader: str
    method: str = "simsiam"
    candidates: int = 2
    size: int = 224
    score_size: int | None = None
    batch_size: int = 64
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        if self.method not in ("crops", "jitter"):
            return getattr(hvs.recipes, self.method)(candidates=self.candidates, size=self.size)
        jitter = hvs.recipes.ColorJitter(float(self.method == "jitter"), 0.4, 0.4, 0.4, 0.0)
        role = hvs.recipes.Role(candidates=self.candidates, emitted=self.candidates, size=self.size, jitter=jitter, gray=0.0, blur=0.0)
        return hvs.recipes.Recipe(self.method, (role,))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(3, S, S) of every view of a batch."""
        sizes = [self.size] * 2 if self.loader in (HARD, CHEAP) else [role.size for role in self.recipe.slot_roles]
        return [(3, size, size) for size in sizes]

    @property
    def batch_bytes(self) -> int:
        """Size of the float32 views that are rendered for a batch before any is chosen by its loss."""
        if self.loader == CHEAP:
            return self.batch_size * 2 * 3 * self.size**2 * 4
        sizes = [min(role.size, self.score_size or role.size) for role in self.recipe.slot_roles]
        return self.batch_size * sum(3 * size * size * 4 for size in sizes)

    @property
    def views_drawn(self) -> int:
        """Views rendered for an image, in most steps."""
        return 2 if self.loader == CHEAP else self.recipe.num_views + (2 if self.score_size else 0)

    def build(self, paths: Sequence[str]) -> Any:
        """An iterable of ``(views, labels)`` over these files on all cores that this process may use."""
        workers = cores()
        if self.loader in _PEERS:
            return _PEERS[self.loader](paths, self.recipe, self.batch_size, workers, self.seed)
        if self.loader in ("resident", "copied"):
            return ResidentBatch(self, len(paths) // self.batch_size)
        scaled = self.loader == SCALED
        source = packed(paths, _FORMS[self.loader]) if self.loader in _FORMS else list(paths)
        loader = hvs.ViewLoader(
            source, self.recipe, self.batch_size, seed=self.seed, drop_last=True, num_threads=workers, scaled_decode=scaled
        )
        if self.loader in (OURS, SCALED, *_FORMS):
            return loader
        how: dict[str, Any] = {"budget": "cheap"} if self.loader == CHEAP else {"score_size": self.score_size}
        return hvs.HardViewLoader(loader, hvs.HardViewSelector(FewPixels(), **how))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class FewPixels(hvs.Objective):
    """An objective that costs nothing, so that the loader alone is timed: the negative cosine of 16 pixels of each view."""

    def encode(self, pixels: Tensor) -> Tensor:
        step = max(pixels.shape[-1] // 4, 1)
        return pixels[:, :, ::step, ::step].flatten(1)


class ResidentBatch:
    """An ideal loader, which has its batch already."""

    def __init__(self, contestant: Contestant, batches: int):
        self._copy = contestant.loader == "copied"
        self._batches = batches
        self._views = [torch.rand(contestant.batch_size, *shape) for shape in contestant.shapes]
        self._labels = torch.full((contestant.batch_size,), -1)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        for _ in range(self._batches):
            yield [view.clone() for view in self._views] if self._copy else self._views, self._labels
