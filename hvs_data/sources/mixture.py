"""What an epoch is drawn from: several sources by shares, images by weights, classes in balance, or a sampler of the user's own."""

# Axes: N image, P part, L class.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvs_data.arguments.values import whole_number
from hvs_data.errors import SourceError
from hvs_data.sources import open_source
from hvs_data.sources.base import Source, digest
from hvs_data.sources.parts import JoinedSource


class Mixture(JoinedSource):
    """Sources joined, and how often which of their images stand in an epoch. Made by :func:`mixture`.

    As a source it holds every image once. A loader makes epochs of it as :mod:`hvs_data.loaders.mixing` says.

    Attributes:
        parts: the sources.
        images: of an epoch.
        repeats: how often an image that is drawn stands in an epoch, behind itself.
        draws_P: int64 [P], images drawn of each part in an epoch; empty with weights or indices. Parts are sources, or classes.
        start_P: int64 [P + 1], where each part begins, in ``place_N`` if there is one, else among all images.
        place_N: int64 [N], all images class by class; None without classes.
        weight_N: float64 [N], sums of the weights up to each image; None without weights.
        indices: the user's own sampler; None without one.
    """

    is_mixture = True

    def __init__(self, parts: Sequence[Source], images: int, repeats: int):
        super().__init__(parts)
        self.images = images
        self.repeats = repeats
        self.draws_P = np.zeros(0, np.int64)
        self.start_P = self.first_P
        self.place_N: NDArray[np.int64] | None = None
        self.weight_N: NDArray[np.float64] | None = None
        self.indices: Callable[[int], ArrayLike] | None = None

    @property
    def draws(self) -> int:
        """Images that are drawn in an epoch, each of which stands there ``repeats`` times."""
        return -(-self.images // self.repeats)

    @cached_property
    def fingerprint(self) -> str:
        told = repr((self.images, self.repeats, self.indices is not None)).encode()
        columns = [b"" if column is None else column.tobytes() for column in (self.draws_P, self.place_N, self.weight_N)]
        return digest(super().fingerprint.encode(), told, *columns)

    def __repr__(self) -> str:
        return f"Mixture({len(self)} images of {len(self.parts)} sources, {self.images} in an epoch)"


def mixture(
    *sources: Any,
    shares: Sequence[float] | None = None,
    weights: ArrayLike | None = None,
    classes: str | Mapping[Any, float] | None = None,
    indices: Callable[[int], ArrayLike] | ArrayLike | None = None,
    images: int | None = None,
    repeats: int = 1,
) -> Mixture:
    """A source for a loader whose epochs do not hold every image once.

    Which image stands where in an epoch depends on (seed, epoch, position) alone, so that it is resumed exactly on any number of ranks, and
    nothing is stored for it. An image that comes several times in an epoch has other views every time.

    Args:
        sources: one or more, each as :func:`hvs_data.open_source` takes it.
        shares: numbers of the sources' shares of every epoch, in their order, of any sum; left out: as many as they have images. Of each
            source the same number of images is drawn in every epoch, without replacement: one comes again when all have come.
        weights: of every image, one source after another: numbers from 0, of any sum. An image stands in an epoch as often as its share
            of the sum says, give or take less than two.
        classes: "balanced": every class has the same share of an epoch, drawn like shares of sources. Or a dictionary from the name or
            the number of each class to its share; classes that it leaves out are not drawn, and neither are images without a label. Of
            sources that know their labels without reading: folders and shards.
        indices: a sampler of your own: the indices of an epoch, or a function that is given the epoch and returns them, always as many,
            and for the same epoch the same. They are taken in their order, whatever the loader's ``shuffle``.
        images: of an epoch; left out: as many as there are, or as ``indices`` are, times ``repeats``.
        repeats: times that an image that is drawn stands in an epoch, behind itself (repeated augmentation), all counted in ``images``.

    Raises:
        SourceError: a source that cannot be opened, numbers that mean nothing, several ways at once, or a part that would have less than
            one image in an epoch.
    """
    ways = [
        name for name, value in (("shares", shares), ("weights", weights), ("classes", classes), ("indices", indices)) if value is not None
    ]
    if len(ways) > 1:
        raise SourceError(f"expected one of shares, weights, classes and indices, got {' and '.join(ways)}; make weights that say both")
    parts = [_opened(source) for source in sources]
    length = sum(map(len, parts))
    if not length:
        raise SourceError("expected sources that hold images, got none; pass folders, shards or datasets")
    drawn = _checked_indices(indices(0) if callable(indices) else indices, length) if indices is not None else None
    times = _whole("repeats", repeats)
    count = (length if drawn is None else len(drawn)) * times if images is None else images
    made = Mixture(parts, _whole("images", count), times)
    if drawn is not None:
        made.indices = indices if callable(indices) else lambda epoch: drawn
        if made.draws != len(drawn):
            raise SourceError(f"expected images={len(drawn) * times}, as indices are, got {made.images}; leave images out")
    elif weights is not None:
        made.weight_N = np.cumsum(_shares("weights", weights, length))
    elif classes is not None:
        _set_classes(made, classes)
    else:
        made.draws_P = _draws(_shares("shares", list(map(len, parts)) if shares is None else shares, len(parts)), made.draws, "shares")
    return made


def _opened(source: Any) -> Source:
    opened = open_source(source)
    if opened.is_mixture:
        raise SourceError("expected sources, got a mixture in a mixture; name all sources in one, or say it by weights")
    return opened


def _whole(name: str, value: Any) -> int:
    number = whole_number(value)
    if number is None or not 1 <= number < 2**48:
        raise SourceError(f"{name} must be a whole number of at least 1, got {value!r}; it counts images of an epoch")
    return number


def _shares(name: str, values: ArrayLike, length: int) -> NDArray[np.float64]:
    share = np.asarray(values, np.float64)
    if share.shape != (length,) or not np.isfinite(share).all() or (share < 0).any() or not share.sum() > 0:
        raise SourceError(f"expected {length} numbers of at least 0, not all 0, as {name}, got {np.shape(values)} of them; correct them")
    return share


def _draws(share_P: NDArray[np.float64], draws: int, name: str) -> NDArray[np.int64]:
    """Whole numbers of that sum in proportion to shares: rounded down, and one more where the most was lost."""
    exact_P = share_P / share_P.sum() * draws
    draws_P = np.floor(exact_P).astype(np.int64)
    rest = draws - int(draws_P.sum())
    draws_P[np.argsort(draws_P - exact_P, kind="stable")[:rest]] += 1
    if ((draws_P == 0) & (share_P > 0)).any():
        raise SourceError(f"expected {name} of at least one image in an epoch of {draws}, got less; pass more images=, or leave that out")
    return draws_P


def _set_classes(made: Mixture, classes: str | Mapping[Any, float]) -> None:
    label_N = np.concatenate([_labels(part) for part in made.parts])
    known_L, count_L = np.unique(label_N, return_counts=True)
    if classes == "balanced":
        share_L = np.where(known_L >= 0, 1.0, 0.0)
    elif isinstance(classes, Mapping):
        number = {name: number for number, name in enumerate(made.classes)}
        share_of = {number.get(key, key): share for key, share in classes.items()}
        unknown = [key for key in share_of if key not in known_L.tolist()]
        if unknown:
            raise SourceError(f"expected classes that the sources hold, got {unknown[0]!r}; name or number those of {made!r}")
        share_L = np.array([share_of.get(label, 0.0) for label in known_L.tolist()], np.float64)
    else:
        raise SourceError(f'expected classes to be "balanced" or a dictionary from classes to shares, got {classes!r}')
    made.place_N = np.argsort(label_N, kind="stable")
    made.start_P = np.cumsum([0, *count_L])
    made.draws_P = _draws(_shares("classes", share_L, len(known_L)), made.draws, "classes")


def _labels(part: Source) -> NDArray[np.int64]:
    labels = getattr(part, "labels", None)
    if not isinstance(labels, np.ndarray) or (labels < 0).all():
        raise SourceError(
            f"expected sources whose labels are known without reading, such as folders of classes and shards, got {part!r}; pass weights="
        )
    return labels


def _checked_indices(indices: Any, length: int) -> NDArray[np.int64]:
    index = np.asarray(indices)
    if index.ndim != 1 or not index.size or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= length:
        raise SourceError(
            f"expected a list of whole numbers in [0, {length}) as indices, got {index.dtype} of shape {index.shape}; correct it"
        )
    return index.astype(np.int64)
