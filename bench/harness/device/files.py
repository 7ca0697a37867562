"""Whole loaders: from files in the page cache to views on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.device.bench import OURS, Bench, bench_on
from harness.loaders import gpu_peers
from harness.loaders.contestants import FewPixels
from harness.measuring import machine
from harness.measuring.staged import Finding, MissingHereError

HARD = "hvs_data, hardest pair of candidates scored at half the side"
DEVICE_DECODED = "hvs_data, decoded on the device"
RENDERED_ON_CPU = "hvs_data, rendered on the CPU"
DIFFERS = {
    OURS: "nothing: rows are drawn on the CPU within the time",
    HARD: "gives a pair, chosen by an objective that costs nothing",
    DEVICE_DECODED: "pixels by the device's decoder, which rounds otherwise",
    RENDERED_ON_CPU: "nothing: the device gets finished views",
    **gpu_peers.DIFFERS,
}


def group_of(candidates: int) -> str:
    return f"from files, n = {candidates}"


def own_loader(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """What feeds a training on the device, its two ways of rendering, and the hardest pairs."""
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        makers = {OURS: _ours(bench, paths, 4), HARD: _hard(bench, paths, 4), RENDERED_ON_CPU: _ours(bench, paths, 4, render_on="cpu")}
        yield from _measured(bench, f"{group_of(4)}, ways of hvs_data", makers)


def decoding(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Files decoded by the CPU's threads and by the device."""
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        makers = {OURS: _ours(bench, paths, 4), DEVICE_DECODED: _ours(bench, paths, 4, decode_on="device")}
        yield from _measured(bench, f"{group_of(4)}, where files are decoded", makers)


def beside_dali(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Beside DALI's own pipeline.

    Raises:
        MissingHereError: no DALI.
    """
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        raise MissingHereError(f"DALI is not installed: {error}") from error
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        for candidates in (4, 8, 2):
            makers = {OURS: _ours(bench, paths, candidates), "DALI": _dali(bench, paths, candidates)}
            yield from _measured(bench, group_of(candidates), makers)


def _measured(bench: Bench, group: str, makers: dict[str, Callable[[], Callable[[], Any]]]) -> Iterator[Finding]:
    return bench.measure(group, makers, bench.setup.images * bench.setup.batches, "images", differs=DIFFERS)


def _files(bench: Bench, paths: Sequence[str]) -> list[str]:
    return photos.repeated(list(paths), bench.setup.images * bench.setup.batches)


def _epoch(loader: Iterable[Any]) -> None:
    for views, _ in loader:
        # touched, as a model would, on the consumer's stream
        views[0].flatten()[0] + 1


def _loader(bench: Bench, paths: Sequence[str], candidates: int, **options: Any) -> hvs.ViewLoader:
    its = {"device": bench.device, "seed": bench.setup.seed, "dtype": torch.float16, "num_threads": machine.cores(), "drop_last": True}
    return hvs.ViewLoader(_files(bench, paths), bench.setup.recipe(candidates), bench.setup.images, **its, **options)


def _ours(bench: Bench, paths: Sequence[str], candidates: int, **options: Any) -> Callable[[], Callable[[], Any]]:
    return lambda: partial(_epoch, _loader(bench, paths, candidates, **options))


def _hard(bench: Bench, paths: Sequence[str], candidates: int) -> Callable[[], Callable[[], Any]]:
    def made() -> Callable[[], Any]:
        selector = hvs.HardViewSelector(FewPixels(), score_size=bench.setup.size // 2)
        return partial(_epoch, hvs.HardViewLoader(_loader(bench, paths, candidates), selector))

    return made


def _dali(bench: Bench, paths: Sequence[str], candidates: int) -> Callable[[], Callable[[], Any]]:
    setup, kind = bench.setup, "gpu" if bench.device.type == "cuda" else "cpu"
    its = (_files(bench, paths), setup.recipe(candidates), setup.images, machine.cores(), setup.seed, kind)
    return lambda: partial(_epoch, gpu_peers.DaliLoader(*its))
