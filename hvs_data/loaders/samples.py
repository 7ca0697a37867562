"""From positions of an epoch to samples: read, decoded, and replaced by another one where that fails."""

# Axes: B image, V view slot.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from hvs_data.errors import BadImagesError, DecodeError, HvsError, MissingDependencyError
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.reading import draws_nothing, read_with_retries
from hvs_data.loaders.watch import Watch
from hvs_data.pipelines.decode import decode_image, jpeg_size
from hvs_data.pipelines.scaled import denominator_for
from hvs_data.rows.sampling import sample_views
from hvs_data.types.rows import ViewParams


class DecodedSample(NamedTuple):
    """An image as it was read, and perhaps decoded to a fraction of its height and width."""

    place: int  # index in the source
    key: int  # of the image that was asked for, by which the rows are drawn
    label: int
    pixels: NDArray[Any]
    height: int
    width: int
    denominator: int


class Opened(NamedTuple):
    """An image of known size, whose pixels are still to be decoded where ``pixels`` is None."""

    position: int  # in the epoch, that was asked for
    attempt: int  # how many images were tried before, which this one replaces
    place: int  # index in the source
    key: int  # of the image that was asked for, by which the rows are drawn
    label: int
    data: Any
    pixels: NDArray[Any] | None
    height: int
    width: int
    kept: bool = False  # in memory, since it was decoded before
    drew: bool = False  # random numbers when it was read

    def reduced(self, denominator: int) -> tuple[int, int]:
        """Height and width when it is decoded to a fraction."""
        return -(-self.height // denominator), -(-self.width // denominator)


class SampleReader:
    """Reads and decodes the samples of one epoch; may be used from several threads at once.

    Args:
        plan: how.
        order: the epoch.
        watch: is told what each thread is busy with.
    """

    def __init__(self, plan: Plan, order: EpochOrder, watch: Watch):
        self._plan = plan
        self._order = order
        self._watch = watch
        self._length = len(plan.source)
        self._draws_nothing = draws_nothing(plan.source)

    def rows(self, key: Sequence[int], height: Sequence[int], width: Sequence[int]) -> ViewParams:
        """Rows [B, V] of images by their key and their size.

        One that replaces another has the rows that the other one would have had: it may stand in the batch in its own right, too, and the
        views are not to be the same ones then.
        """
        return sample_views(self._plan.recipe, seed=self._plan.seed, epoch=self._order.epoch, index=key, height=height, width=width)

    def read(self, position: int, key: int, attempt: int = 0) -> DecodedSample:
        """The sample at a position of the epoch, or the first one to stand for it that can be read, from an attempt on."""
        while True:
            opened = self.opened(position, key, attempt)
            rows = self.rows([opened.key], [opened.height], [opened.width]) if self._plan.scaled_decode else None
            denominator = 1 if rows is None else self.denominator(opened, rows)
            pixels = self.pixels(opened, denominator)
            if pixels is not None and pixels.shape[:2] == opened.reduced(denominator):
                return DecodedSample(opened.place, key, opened.label, pixels, opened.height, opened.width, denominator)
            if pixels is not None:  # another decoder read it, in full
                return DecodedSample(opened.place, key, opened.label, pixels, pixels.shape[0], pixels.shape[1], 1)
            attempt = opened.attempt + 1

    def opened(self, position: int, key: int, attempt: int = 0) -> Opened:
        """The sample at a position of the epoch, or the first one to stand for it that can be read, from an attempt on.

        Args:
            key: of the sample at the position: its index in the source, and a multiple of the source's length where it is one of several
                times that it comes in the epoch.
        """
        plan, order = self._plan, self._order
        latest: Exception | None = None
        for further in range(attempt, order.length):
            place = (int(order(order.stand_in(position, further))) if further else key) % self._length
            if plan.cache is not None and (known := plan.cache.get(place)) is not None:
                height, width = known.pixels.shape[:2]
                return Opened(position, further, place, key, known.label, None, known.pixels, height, width, kept=True)
            self._watch.reads(place)
            try:
                (data, label), drew = read_with_retries(
                    plan.source, place, plan.retries, plan.counters, self._identity(place + key - key % self._length)
                )
                # an image that is to be turned is decoded first: the size in its header is not that of what comes out
                size = None if plan.exif_orientation else jpeg_size(data)
                pixels = self._decode(data, 1) if size is None else None
                if pixels is not None:
                    size = pixels.shape[0], pixels.shape[1]
                assert size is not None
                if min(size) < 1:
                    raise DecodeError(f"expected an image of at least one pixel, got {size[0]} x {size[1]}; remove it")
                height, width = size
                return Opened(position, further, place, key, label, data if pixels is None else None, pixels, height, width, drew=drew)
            except MissingDependencyError:
                raise  # no image is at fault
            except (OSError, HvsError) as error:
                latest = error
                self.put_aside(place, error)
            finally:
                self._watch.has_read()
        raise BadImagesError(
            f"none of the source's {order.length} images can be read, the latest one for this reason: {type(latest).__name__}: "
            f"{latest}; the others' are in the loader's quarantine"
        ) from latest

    def _identity(self, key: int) -> tuple[int, ...] | None:
        """What the random numbers of reading a sample belong to, by its index, and a multiple of the length as of keys."""
        return None if self._draws_nothing else (self._plan.seed, self._order.epoch, key)

    def pixels(self, opened: Opened, denominator: int) -> NDArray[Any] | None:
        """Decoded pixels, which are kept where the plan says so; None for what turns out to be no image."""
        plan = self._plan
        self._watch.reads(opened.place)
        try:
            pixels = self._decode(opened.data, denominator) if opened.pixels is None else opened.pixels
            plan.counters.add(read=int(not opened.kept), replaced=int(opened.attempt > 0))
            if plan.cache is not None and not opened.kept and not opened.drew:
                plan.cache.keep(opened.place, pixels, opened.label)
            return pixels
        except MissingDependencyError:
            raise
        except HvsError as error:
            self.put_aside(opened.place, error)
            return None
        finally:
            self._watch.has_read()

    def _decode(self, data: Any, denominator: int) -> NDArray[Any]:
        plan = self._plan
        return decode_image(
            data,
            exif_orientation=plan.exif_orientation,
            max_pixels=plan.max_pixels,
            denominator=denominator,
            channels=plan.recipe.channels,
            deep=plan.recipe.value_range is not None,
        )

    def denominator(self, opened: Opened, rows: ViewParams) -> int:
        """The denominator of the fraction to which an image is decoded, from its rows [1, V]."""
        return denominator_for(rows, rows.size) if self._plan.scaled_decode and opened.pixels is None else 1

    def put_aside(self, index: int, error: Exception) -> None:
        """Note a bad image; raises BadImagesError where it is one too many."""
        self._plan.quarantine.add(index, self._plan.source.name_of(index), f"{type(error).__name__}: {error}")
