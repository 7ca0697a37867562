"""Random views of a source's images, batch by batch: stands where a torchvision DataLoader stood."""

# Axes: B image, V view slot, C channel, H W pixels.

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from hvs_data.arguments.fixed import Fixed
from hvs_data.arguments.sizes import Size
from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import HvsError
from hvs_data.formats import Format
from hvs_data.kernels.render.canvas import check_dtype
from hvs_data.loaders.beginning import begin_production
from hvs_data.loaders.buffers import BufferPool
from hvs_data.loaders.cache import chosen_cache
from hvs_data.loaders.counters import Counters
from hvs_data.loaders.device_decoding import choose_decoder
from hvs_data.loaders.mixing import epoch_images, order_of
from hvs_data.loaders.order import EpochOrder, Shares
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Product
from hvs_data.loaders.quarantine import Quarantine
from hvs_data.loaders.sampler import EpochSampler, InOrderSampler
from hvs_data.loaders.twins import check_twins, with_twins
from hvs_data.loaders.wanted import Wanted
from hvs_data.pipelines.decode import DEFAULT_MAX_PIXELS, usable_device
from hvs_data.pipelines.engine import choose_engine
from hvs_data.pipelines.extra_stage import with_extra_stage
from hvs_data.pipelines.render import checked_normalize
from hvs_data.pipelines.stage import ExtraStage, Stage
from hvs_data.recipes.spec import Recipe
from hvs_data.sources import open_source
from hvs_data.sources.base import Source
from hvs_data.sources.retry import Retries
from hvs_data.threads.share import Share, announced_share
from hvs_data.threads.this_rank import current_rank
from hvs_data.types.batch import Batch

STATE_VERSION = 1
RENDER_ON = ("device", "cpu")


class ViewLoader(Fixed):
    """Batches of random views: an iterable of :class:`hvs_data.Batch`, each of which unpacks as ``views, labels``.

    An image is read and decoded once, on one of several threads, and all of its views are rendered from it. Which images come in which
    order and which views they give depends on (seed, epoch) only: not on threads, prefetching or the number of ranks.

    Every iteration is an epoch of its own: the one named by :meth:`set_epoch`, else the one after the last. It begins when its first
    batch is asked for. An iteration may be broken off at any point, and several may run at once; each has its own threads, which end
    with it.

    An image that cannot be read or decoded is replaced by another one of the epoch, written to the quarantine, and counted.
    A read that fails for a reason of the storage is begun again first, and a batch that does not come in time is an error.

    A batch's tensors stay valid for as long as they are kept; their memory is used again only after they are gone.

    Args:
        source: a :class:`hvs_data.sources.base.Source`, or what :func:`hvs_data.open_source` takes.
        recipe: the distribution of views. One view a slot of the recipe is yielded.
        batch_size: images of a batch on this rank.
        device: where the batches go. For a CUDA device, images are decoded on the CPU, and views are rendered on the device, on a stream
            beside the consumer's, which waits for them without the CPU waiting; see docs/gpu.md.
        seed: from 0 to 2**64 - 1.
        shuffle: a new order every epoch; False keeps the source's.
        drop_last: leave out the images at the end of an epoch that do not fill a batch on every rank. Else the last batch is smaller.
        num_threads: threads that read, decode and render; None = this rank's fair share of the CPUs that the process may really use, by
            affinity, quotas of containers and the number of ranks on this host (:mod:`hvs_data.threads.share`), taken when the loader
            is made. The log says the number and where it comes from, and so does ``repr``.
        prefetch: batches that are made ahead of the one in use.
        engine: "auto", "fused", "dali-kornia" or "reference"; see :func:`hvs_data.render`. On CUDA also "fused-graph": "fused", whose
            launches for a batch are captured in a CUDA graph and replayed for the next ones of its shape.
        dtype, channels_last, normalize: of the views; see :func:`hvs_data.render`. Where the trainer's step normalises instead, tell the
            selector: ``HardViewSelector(prepare=...)``.
        exif_orientation, max_pixels: of decoding; see :func:`hvs_data.decode`.
        scaled_decode: decode JPEG files at a half, a quarter or an eighth of their size where all views of the image are smaller still.
            For photographs of many megapixels; the pixels are close to the exact ones, not equal (:mod:`hvs_data.pipelines.scaled`).
            Without effect on images that are turned upright.
        max_bad_share: the share of unreadable images, of all that the source holds, past which iterating raises BadImagesError. A handful
            (4) is always let pass, unless this is 0.
        quarantine: path of a file to which a JSON line (index, path, reason) is appended for every unreadable image.
        retries: how often a read that fails for a reason of the storage is begun again, after waits that double
            (:class:`hvs_data.sources.retry.Retries`). A file that is missing or may not be read is not waited for.
        timeout: seconds to wait for a batch, after which iterating raises StalledError, which names the samples that are being read;
            None waits for ever.
        rank, world_size: this process's share of every step; by default those of ``torch.distributed`` or of torchrun's environment.
            Every rank makes the same number of steps.
        extra_stage: a stage of your own, such as a Kornia module or a transform of torchvision, between the last operation and
            normalisation. It is called with one view at a time and draws by (seed, epoch, index, slot); see :class:`hvs_data.Stage`.
        render_on: with a CUDA device, where views are rendered: on the "device", from decoded images that are copied there, or on the
            "cpu", by the threads that decode, from where they are copied beside the trainer's work. For hosts with many cores; the fewer
            bytes a view has (``dtype``), the shorter the copies.
        decode_on: with a CUDA device, where ordinary JPEG files are decoded: "cpu", "device" (nvImageCodec, see docs/dali.md), or
            "fastest", which times both with the source's first images, once.
        cache: "memory" keeps every image in memory once it was decoded, in full, for all threads and epochs of this loader, as long as
            ``cache_bytes`` allows; those that do not fit are decoded whenever they are needed. Views, order and resuming are the same
            with it and without. Not kept: images for whose reading a dataset of your own draws random numbers.
        cache_bytes: of this process, that kept images may take together; None = 4 GiB. On several ranks each keeps its own.
        format: what is made of each batch before it is handed out, a function of a :class:`hvs_data.Batch`; see
            :mod:`hvs_data.formats`. None hands out the batch itself.

    Attributes:
        dataset: the source.
        recipe, batch_size, shuffle, drop_last, prefetch, format: as given.
        sampler: has ``set_epoch`` and the indices of this rank, for trainers that look for it.
        quarantine: the unreadable images so far: a length, and ``reasons`` by index.
        counters: numbers since the loader was made, of this process; see there.

    Raises:
        HvsError: an argument that means nothing; the message says what was expected.
        SourceError: a source that cannot be opened.
        AttributeError: an argument that is set afterwards, but ``format``: everything else is decided when the loader is made.
    """

    _decided = frozenset(
        "source recipe batch_size device seed shuffle drop_last num_threads prefetch engine dtype channels_last normalize "
        "exif_orientation max_pixels scaled_decode max_bad_share quarantine retries timeout rank world_size extra_stage decode_on "
        "render_on cache cache_bytes dataset sampler batch_sampler".split()
    )
    _instead = "make another ViewLoader with it, and load_state_dict(state_dict()) to go on where this one stands"

    def __init__(
        self,
        source: Any,
        recipe: Recipe,
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        seed: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        num_threads: int | None = None,
        prefetch: int = 2,
        engine: str = "auto",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        normalize: bool | None = None,
        exif_orientation: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        scaled_decode: bool = False,
        max_bad_share: float = 0.01,
        quarantine: str | os.PathLike[str] | None = None,
        retries: int = 3,
        timeout: float | None = 600.0,
        rank: int | None = None,
        world_size: int | None = None,
        extra_stage: ExtraStage | Stage | None = None,
        decode_on: str = "cpu",
        render_on: str = "device",
        cache: str | None = None,
        cache_bytes: int | None = None,
        format: Format | None = None,
    ):
        if not isinstance(recipe, Recipe):
            raise HvsError(
                f"recipe must be a Recipe, got {recipe!r}; make one with hvs_data.recipes, such as recipes.simsiam(candidates=4)"
            )
        batch_size = _whole("batch_size", batch_size, 1, "the number of images of a batch")
        seed = _whole("seed", seed, 0, "one number for a whole run", below=2**64)
        prefetch = _whole("prefetch", prefetch, 0, "the number of batches made ahead")
        max_pixels = _whole("max_pixels", max_pixels, 1, "the largest height * width that is decoded")
        if num_threads is None:
            self._share = announced_share()
        else:
            self._share = Share(_whole("num_threads", num_threads, 1, "the number of threads that decode and render"), "num_threads")
        threads = self._share.threads
        retries = _whole("retries", retries, 0, "how often a read that failed is begun again")
        seconds = None if timeout is None else real_number(timeout)
        if timeout is not None and (seconds is None or not seconds > 0):
            raise HvsError(f"timeout must be a number of seconds above 0, or None for no limit, got {timeout!r}")
        bad_share = real_number(max_bad_share)
        if bad_share is None or not 0 <= bad_share <= 1:
            raise HvsError(
                f"max_bad_share must satisfy 0 <= max_bad_share <= 1, got {max_bad_share!r}; it is a share of the source's images"
            )
        check_dtype(dtype)
        self.format = checked_format(format)
        normalize = checked_normalize(normalize, dtype)
        target = usable_device(device)
        rank_and_size = current_rank(rank, world_size)
        self.dataset: Source = open_source(source, deep=recipe.value_range is not None)
        if not len(self.dataset):
            raise HvsError(f"expected a source that holds images, got {self.dataset!r}")
        self.recipe = recipe
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.prefetch = prefetch
        self.quarantine = Quarantine(len(self.dataset), bad_share, quarantine)
        if render_on not in RENDER_ON:
            raise HvsError(f"render_on must be one of {RENDER_ON}, got {render_on!r}; it says where views for a CUDA device are rendered")
        if render_on == "cpu" and decode_on != "cpu":
            raise HvsError(f'expected decode_on="cpu" with render_on="cpu", which renders what the CPU has decoded, got {decode_on!r}')
        check_twins(recipe, scaled_decode=scaled_decode, staged=extra_stage is not None)
        self.sampler = EpochSampler(self) if shuffle else InOrderSampler(self)
        self._plan = Plan(
            source=self.dataset,
            recipe=recipe,
            engine=with_extra_stage(
                choose_engine(
                    engine,
                    target if target.type == "cuda" and render_on == "device" else torch.device("cpu"),
                    recipe.spec,
                    resizes=recipe.resizes,
                ),
                extra_stage,
            ),
            device=target,
            seed=seed,
            num_threads=threads,
            prefetch=prefetch,
            dtype=dtype,
            channels_last=channels_last,
            normalize=normalize,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
            scaled_decode=scaled_decode,
            quarantine=self.quarantine,
            counters=Counters(),
            retries=Retries(attempts=retries + 1),
            timeout=seconds,
            # in flight: those being made, the one handed out, and its chosen views
            buffers=BufferPool(spare=prefetch + 3),
            cache=chosen_cache(cache, cache_bytes, scaled_decode=scaled_decode, decode_on=decode_on),
            render_on=render_on,
            decoder=choose_decoder(
                decode_on,
                self.dataset,
                target,
                exif_orientation=exif_orientation,
                max_pixels=max_pixels,
                scaled_decode=scaled_decode,
                num_threads=threads,
            ),
        )
        self.shuffle = bool(shuffle)
        self._rank = (rank, world_size)
        self._next = (0, 0)  # epoch of the next iteration, and the position in it
        self._reached = (0, 0)  # epoch and position after the last batch that was handed out
        self._latest = object()  # stands for the iteration whose place that is
        if not len(self):
            whole = batch_size * rank_and_size[1]
            raise HvsError(
                f"expected at least {whole} images for one batch of {batch_size} on each of {rank_and_size[1]} ranks, got "
                f"{epoch_images(self.dataset)}; lower batch_size or pass drop_last=False"
            )
        self._made = True

    # --- length, epoch, state ------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the batches go."""
        return self._plan.device

    @property
    def normalizes(self) -> bool:
        """Whether views are normalised, by a mean or standard deviation that changes them."""
        return self._plan.normalize and not (set(self.recipe.mean) == {0} and set(self.recipe.std) == {1})

    @property
    def counters(self) -> dict[str, int]:
        """Plain numbers, for logs: images ``read`` and decoded, not taken from the cache; positions at which a bad image was ``replaced``;
        distinct ``bad`` images; ``retries`` of reads."""
        counters = self._plan.counters
        return {"read": counters.read, "replaced": counters.replaced, "bad": len(self.quarantine), "retries": counters.retries}

    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank."""
        return self._shares(self._current_rank()[1]).steps()

    @property
    def batches_left(self) -> int:
        """Batches of the epoch in which :meth:`state_dict` stands that are still to be handed out: 0 once its last one was."""
        return self._shares(self._current_rank()[1]).steps(self._reached[1])

    @property
    def batch_sampler(self) -> NoReturn:
        """There is none: wrappers that look for one, to build another loader around the dataset, are refused with a remedy."""
        raise AttributeError(NO_BATCH_SAMPLER)

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration. In the epoch that :meth:`load_state_dict` resumed, its position is kept."""
        epoch = _whole("epoch", epoch, 0, "the number of the epoch, counted from 0", below=2**32)
        if epoch != self._next[0]:
            self._next = self._reached = (epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest iteration stands, in batches handed out; prefetched ones do not count. A few plain numbers."""
        epoch, position = self._reached
        return {
            "version": STATE_VERSION,
            "epoch": epoch,
            "position": position,
            "seed": self._plan.seed,
            "shuffle": self.shuffle,
            "length": len(self.dataset),
            "fingerprint": self.dataset.fingerprint,
        }

    def skip_batches(self, count: int) -> int:
        """Let the next iteration begin so many batches later than it would, at most at the epoch's end. Nothing is read for them.

        Returns:
            How many batches are left out.
        """
        count = _whole("count", count, 0, "the number of batches to leave out")
        epoch, position = self._next
        world_size = self._current_rank()[1]
        skipped = min(count, self._shares(world_size).steps(position))
        self._next = self._reached = (epoch, min(position + skipped * self.batch_size * world_size, epoch_images(self.dataset)))
        return skipped

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, with the next iteration, where the loader of :meth:`state_dict` stood; batch size and ranks may differ.

        Raises:
            HvsError: the state of another version, source, seed or order.
        """
        if not isinstance(state, Mapping):
            raise HvsError(f"expected the dictionary of state_dict(), got {type(state).__name__}")
        mine = self.state_dict()
        if state.get("version") != STATE_VERSION:
            raise HvsError(
                f"expected a loader state of version {STATE_VERSION}, got {state.get('version')!r}; resume with the version that saved it"
            )
        for key in ("length", "fingerprint", "seed", "shuffle"):
            if state.get(key) != mine[key]:
                raise HvsError(
                    f"expected the state of a loader with {key} = {mine[key]!r}, as this one has, got {state.get(key)!r}; open the same "
                    "source with the same seed and order to resume" + (self._if_moved(state) if key == "fingerprint" else "")
                )
        epoch = _whole("the state's epoch", state.get("epoch"), 0, "the number of the epoch, counted from 0", below=2**32)
        position = _whole("the state's position", state.get("position"), 0, "how many of the epoch's images were handed out")
        self._next = self._reached = (epoch, position)
        self._latest = object()  # iterations that are still open say no longer where the loader stands

    def _if_moved(self, state: Mapping[str, Any]) -> str:
        why = self.dataset.why_other(str(state.get("fingerprint")))
        same = f"these are the same images in the same order{f' ({why})' if why else ''}"
        return f"; if {same}, load {{**state, 'fingerprint': loader.dataset.fingerprint}} in place of the state"

    # --- iteration -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        shape = self.format or _unchanged
        return (shape(with_twins(product.batch, product)) for product in self.products(keep_images=bool(self.recipe.twins)))

    def products(
        self, *, sizes_V: Sequence[Size] | None = None, wanted: Callable[[int], Wanted] | None = None, keep_images: bool = False
    ) -> Iterator[Product]:
        """An epoch, for loaders that build on this one.

        Args:
            sizes_V: size in pixels at which each slot is rendered; None takes the recipe's own.
            wanted: in place of it, what is rendered of each batch; see :class:`hvs_data.loaders.production.Production`.
            keep_images: hand the decoded images out with each batch.

        It begins with the first batch that is asked for: trainers make iterators just to see whether they can.
        """
        epoch, start = self._reached = self._next
        self._next = (epoch + 1, 0)
        self._latest = iteration = object()
        rank, world_size = self._current_rank()
        shares = self._shares(world_size)
        whole = self.batch_size * world_size
        starts = range(start, start + shares.steps(start) * whole, whole)
        every_slot = Wanted.all_of(self.recipe, sizes_V)
        wanted = wanted or (lambda ahead: every_slot)
        with closing(begin_production(self._plan, self._order(epoch), wanted=wanted, keep_images=keep_images)) as production:
            products = production.batches(shares.positions(position, rank) for position in starts)
            for position, product in zip(starts, products, strict=True):
                if self._latest is iteration:
                    self._reached = (epoch, shares.next_position(position))
                yield product
        if self._latest is iteration:
            self._reached = self._next

    def epoch_indices(self) -> Iterator[NDArray[np.int64]]:
        """Indices in the source of each batch of the whole epoch that the next iteration belongs to, on this rank."""
        rank, world_size = self._current_rank()
        shares, order = self._shares(world_size), self._order(self._next[0])
        whole = self.batch_size * world_size
        return (order(shares.positions(step * whole, rank)) % len(self.dataset) for step in range(shares.steps()))

    def _current_rank(self) -> tuple[int, int]:
        return current_rank(*self._rank)

    def _shares(self, world_size: int) -> Shares:
        return Shares(epoch_images(self.dataset), self.batch_size, world_size, self.drop_last)

    def _order(self, epoch: int) -> EpochOrder:
        return order_of(self.dataset, self._plan.seed, epoch, self.shuffle)

    def __repr__(self) -> str:
        return (
            f"ViewLoader({self.dataset!r}, recipe {self.recipe.name!r}, {len(self)} batches of {self.batch_size} images, "
            f"engine {self._plan.engine.name!r}, {self._share}, device {self.device})"
        )


# Accelerate's skip_first_batches asks for a batch sampler, and would go on with a plain DataLoader of the dataset.
NO_BATCH_SAMPLER = (
    "expected a DataLoader, whose batch_sampler can be put into another loader, got a loader of views, which cannot be rebuilt out of its "
    "dataset; instead of skip_first_batches(loader, n), call loader.skip_batches(n) and iterate over the loader itself"
)


def checked_format(format: Format | None) -> Format | None:
    """A loader's ``format``, if it can be one."""
    if format is not None and not callable(format):
        raise HvsError(f"format must be a function of a Batch, such as hvs_data.formats.as_dict, or None, got {format!r}")
    return format


def _unchanged(batch: Batch) -> Batch:
    return batch


def _whole(name: str, value: Any, least: int, meaning: str, below: float = float("inf")) -> int:
    number = whole_number(value)
    if number is None or not least <= number < below:
        bound = "" if below == float("inf") else f" and below 2**{int(below).bit_length() - 1}"
        raise HvsError(f"{name} must be a whole number of at least {least}{bound}, got {value!r}; it is {meaning}")
    return number
