"""Pillow images that several threads hold: Pillow reads one when its pixels are first asked for, and has no locks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from hvs_data.threads.exclusive import one_at_a_time


def turn_with(image: Any) -> AbstractContextManager[None]:
    """A ``with`` block in which no other thread is with the same Pillow image, or with one that is still to be read from the same file.

    Different images of different files do not wait for each other. Whoever only reads pixels waits, too: converting looks for pixels that
    are not loaded, and for a palette that is not set.
    """
    return one_at_a_time(image, *_files_behind(getattr(image, "fp", None)))


def is_closed(image: Any) -> bool:
    """Whether a Pillow image is still to be read from a file that is closed. To be asked while it is the caller's turn."""
    file = getattr(image, "fp", None)
    return bool(getattr(image, "tile", None)) and (file is None or bool(getattr(file, "closed", False)))


def _files_behind(file: Any) -> list[Any]:
    """A file and those that it reads from, such as the archive of a member: each has one position for all that read through it."""
    found: list[Any] = []
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if not (hasattr(file, "read") and hasattr(file, "seek")) or any(file is known for known in found):
            continue
        found.append(file)
        own = getattr(file, "__dict__", {})
        if "_lock" not in own:  # as the members of a zip file have, which find their place again for each read
            waiting += [getattr(file, "raw", None), *own.values()]
    return found
