"""Batches whose images are decoded on the device as well: what travels there is files."""

# Axes: B image of a batch.

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
from hvs_data.errors import DecodeError, HvsError, MissingDependencyError
from hvs_data.loaders.canvases import Images
from hvs_data.loaders.device_production import DeviceProduction
from hvs_data.loaders.lanes import Lane
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Group
from hvs_data.loaders.staging import Staging
from hvs_data.loaders.wanted import Wanted
from hvs_data.pipelines.decode import decode_image, jpeg_size
from hvs_data.sources.base import Source
from hvs_data.types.images import ImageBatch

WHERE = ("cpu", "device", "fastest")
# Files that both ways of decoding are timed with, several times each.
TRIAL_FILES, TRIALS = 64, 3

logger = logging.getLogger("hvs_data")


class Decoder(Protocol):
    """Decodes batches, such as :class:`hvs_data.pipelines.dali_decode.BatchDecoder`."""

    def decode(self, items: Sequence[Any]) -> list[Tensor | DecodeError]:
        """For each item uint8 [H, W, 3] on the device, or why there is none."""


class DecodingProduction(DeviceProduction):
    """As :class:`DeviceProduction`, with files read on worker threads and decoded, a batch at a time, on the launching thread.

    What the decoder reports as bad is replaced by another image of the epoch. Images that are no ordinary JPEG files, or are to
    be turned, are decoded on the worker threads.
    """

    def __init__(
        self,
        plan: Plan,
        order: EpochOrder,
        lane: Lane,
        decoder: Decoder,
        *,
        wanted: Callable[[int], Wanted] | None = None,
        keep_images: bool = False,
    ):
        self._decoder = decoder
        super().__init__(plan, order, lane, wanted=wanted, keep_images=keep_images)

    def _make_groups(self, positions: NDArray[np.int64], index: NDArray[np.int64], canvases: Any, first_image: int) -> list[Any]:
        """Samples that are read and, where they are ordinary, not decoded."""
        asked = zip(positions.tolist(), index.tolist(), strict=True)
        return [self._samples.opened(position, place) for position, place in asked]

    def _arrived(self, staging: Staging, groups: list[Any]) -> tuple[list[Group], list[Tensor]]:
        samples, pixels = self._decoded_together(groups)
        index = [sample.place for sample in samples]
        keys = [sample.key for sample in samples]
        params = self._samples.rows(keys, [image.shape[0] for image in pixels], [image.shape[1] for image in pixels])
        images = Images(pixels, torch.ones(len(pixels), dtype=torch.int64))
        return [Group(params, index, [sample.label for sample in samples], images)], pixels

    def _decoded_together(self, opened: list[Any]) -> tuple[list[Any], list[Tensor]]:
        """The samples of a batch, bad ones replaced, and their images on the device."""
        samples, pixels = list(opened), [torch.empty(0)] * len(opened)
        waiting = list(range(len(opened)))
        while waiting:
            files = [number for number in waiting if samples[number].pixels is None]
            results = dict(zip(files, self._decoder.decode([samples[number].data for number in files]), strict=True))
            bad = []
            for number in waiting:
                sample, result = samples[number], results.get(number)
                if isinstance(result, DecodeError):
                    self._samples.put_aside(sample.place, result)
                    samples[number] = self._samples.opened(sample.position, sample.key, sample.attempt + 1)
                    bad.append(number)
                    continue
                pixels[number] = self._lane.to_device(ImageBatch([sample.pixels])[0]) if result is None else result
                self._plan.counters.add(read=1, replaced=int(sample.attempt > 0))
            waiting = bad
        return samples, pixels


def choose_decoder(
    where: str,
    source: Source,
    device: torch.device,
    *,
    exif_orientation: bool,
    max_pixels: int,
    scaled_decode: bool,
    num_threads: int,
) -> Decoder | None:
    """What decodes a loader's images on the device; None where they are decoded on the CPU.

    Args:
        where: "cpu", "device", or "fastest", which times both with the source's first images.

    Raises:
        HvsError: another word, a device without a decoder, or a request that only the CPU's decoder can fulfil.
        MissingDependencyError: no nvImageCodec.
    """
    if where not in WHERE:
        raise HvsError(f"decode_on must be one of {WHERE}, got {where!r}")
    if where == "cpu":
        return None
    if device.type != "cuda":
        raise HvsError(f'decode_on={where!r} needs device="cuda", got {str(device)!r}; leave it out to decode on the CPU')
    if scaled_decode or exif_orientation:
        raise HvsError(
            f"decode_on={where!r} decodes images in full and as they are stored, got scaled_decode={scaled_decode}, "
            f'exif_orientation={exif_orientation}; pass decode_on="cpu" for these'
        )
    decoder = device_decoder(device, max_pixels, num_threads)
    if where == "fastest" and not faster_on_device(_trial_files(source), decoder, num_threads, lambda: torch.cuda.synchronize(device)):
        return None
    return decoder


def device_decoder(device: torch.device, max_pixels: int, num_threads: int = 1) -> Decoder:
    """nvImageCodec on a device. Its threads on the CPU undo the entropy coding of what the hardware decoder does not take.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from hvs_data.pipelines.dali_decode import BatchDecoder
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "nvidia":
            raise
        extra = "cuda12" if (torch.version.cuda or "").startswith("12.") else "cuda13"
        raise MissingDependencyError("nvidia.nvimgcodec", extra, "decoding on a device") from error
    return BatchDecoder(device, max_pixels=max_pixels, num_threads=num_threads)


def _trial_files(source: Source) -> list[bytes]:
    """Ordinary JPEG files among the source's first ones."""
    files = []
    for index in range(min(TRIAL_FILES, len(source))):
        try:
            with drawing(Numbers((index,))):  # what it draws is not taken from the trainer's generators
                data, _ = source.read(index)
        except (OSError, HvsError):
            continue
        if isinstance(data, (bytes, bytearray)) and jpeg_size(data) is not None:
            files.append(bytes(data))
    return files


def faster_on_device(files: Sequence[bytes], decoder: Decoder, num_threads: int, finish: Callable[[], Any]) -> bool:
    """Whether a decoder on the device needs less time for these files than so many threads on the CPU. Logs both times.

    Args:
        files: ordinary JPEG files; for none, the CPU is taken.
        finish: waits until the device has done what the decoder left to it: images are in the making when it returns.
    """
    if not files:
        return False
    with ThreadPoolExecutor(num_threads, thread_name_prefix="hvs-decode") as pool:
        on_cpu = _seconds(lambda: list(pool.map(_decoded_or_not, files)))
    on_device = _seconds(lambda: (decoder.decode(files), finish()))
    logger.info(
        "decoding %d files took %.1f ms with %d threads on the CPU and %.1f ms on the device; images are decoded on the %s",
        *(len(files), 1e3 * on_cpu, num_threads, 1e3 * on_device, "device" if on_device < on_cpu else "CPU"),
    )
    return on_device < on_cpu


def _decoded_or_not(file: bytes) -> Any:
    try:
        return decode_image(file)
    except DecodeError as error:
        return error


def _seconds(work: Callable[[], Any]) -> float:
    """The shortest of a few times, after a first one that does not count."""
    work()
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
