"""Every image of a source, looked at once on several threads."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from hvs_data.checking.looks import Look, look_at
from hvs_data.sources.base import Source

T = TypeVar("T")

AHEAD = 4  # images under way, for each thread
# Beyond these an image is told of: sides in pixels, and the longer side over the shorter.
SMALLEST, LARGEST, LONGEST = 32, 4096, 3.0


@dataclass
class Findings:
    """What was found of all images so far.

    Attributes:
        images: how many were looked at.
        looks: of the sound ones, without their digests.
        bad: those that cannot be used.
        twins: groups of images of equal pixels, by their indices, each in order.
    """

    images: int = 0
    looks: list[Look] = field(default_factory=list)
    bad: list[Look] = field(default_factory=list)
    _of_digest: dict[bytes, list[int]] = field(default_factory=dict)

    def add(self, look: Look) -> None:
        self.images += 1
        if look.problem:
            self.bad.append(look)
            return
        self._of_digest.setdefault(look.digest, []).append(look.index)
        self.looks.append(look)

    @property
    def twins(self) -> list[list[int]]:
        return [group for group in self._of_digest.values() if len(group) > 1]

    @property
    def bytes(self) -> int:
        return sum(look.size for look in [*self.looks, *self.bad])

    def kinds(self) -> list[tuple[str, int]]:
        """Formats and modes, the most frequent first."""
        return Counter(look.kind for look in [*self.looks, *self.bad]).most_common()

    def labels(self) -> Counter[int]:
        return Counter(look.label for look in self.looks)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each channel on the 0-1 scale, every image counting alike; empty without sound images."""
        if not self.looks:
            return (), ()
        mean, square = ([math.fsum(column) / len(self.looks) for column in zip(*rows, strict=True)] for rows in self._moments())
        return tuple(mean), tuple(math.sqrt(max(0.0, s - m * m)) for m, s in zip(mean, square, strict=True))

    def _moments(self) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
        return [look.mean for look in self.looks], [look.square for look in self.looks]

    def odd(self) -> dict[str, list[Look]]:
        """Sound images that one may want to look at, by what is odd about them, each kind the most extreme first."""

        def sides(look: Look) -> tuple[int, int]:
            return min(look.height, look.width), max(look.height, look.width)

        found = {
            f"with a shorter side below {SMALLEST} pixels": [look for look in self.looks if sides(look)[0] < SMALLEST],
            f"with a longer side above {LARGEST} pixels": [look for look in self.looks if sides(look)[1] > LARGEST],
            f"more than {LONGEST:g} times as long as wide": [look for look in self.looks if sides(look)[1] > LONGEST * sides(look)[0]],
            "of one colour": [look for look in self.looks if look.is_flat],
            "to be turned by their metadata (exif_orientation=True does it)": [look for look in self.looks if look.turned],
        }
        order = [lambda look: sides(look)[0], lambda look: -sides(look)[1], lambda look: -sides(look)[1] / sides(look)[0]]
        keys = [*order, *[lambda look: look.index] * (len(found) - len(order))]
        return {name: sorted(looks, key=key) for (name, looks), key in zip(found.items(), keys, strict=True) if looks}


def scan(source: Source, threads: int, told: Callable[[int], object] = lambda images: None) -> Findings:
    """Look at every image of a source.

    Args:
        source: to read.
        threads: that read and decode.
        told: called with the number of images that were looked at, after each.
    """
    findings = Findings()
    for look in in_order(partial(look_at, source), range(len(source)), threads):
        findings.add(look)
        told(findings.images)
    return findings


def in_order(function: Callable[[int], T], indices: Iterable[int], threads: int, ahead: int = AHEAD) -> Generator[T, None, None]:
    """What a function returns for each index, in their order, made by several threads, few of them ahead.

    At an interrupt those that have not begun are left.

    Args:
        function: called with an index, on any thread.
        indices: in the order of the results.
        threads: how many.
        ahead: indices under way, for each thread.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="hvs-check") as pool:
        under_way: deque[Future[T]] = deque()
        try:
            for index in indices:
                under_way.append(pool.submit(function, index))
                if len(under_way) >= ahead * threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def write_quarantine(path: str | os.PathLike[str], source: Source, bad: list[Look]) -> None:
    """One line of JSON for each image that cannot be used, as a loader's ``quarantine`` writes them, whole or not at all."""
    lines = [json.dumps({"index": look.index, "path": source.name_of(look.index), "reason": look.problem}) for look in bad]
    write_whole(path, "".join(f"{line}\n" for line in lines))


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a file in place of an earlier one, so that no interrupt leaves half of it."""
    beside = f"{os.fspath(path)}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)
