"""What happens to images that cannot be read: they are written down, counted, and too many of them stop the run."""

from __future__ import annotations

import json
import logging
import os

from hvs_data.errors import BadImagesError
from hvs_data.loaders.forks import ForkSafeLock

# A few bad files are no reason to stop, however small the source.
ALWAYS_ALLOWED = 4

logger = logging.getLogger("hvs_data")


class Quarantine:
    """The bad images of one loader, each counted once however often it is met. May be used from several threads at once.

    Args:
        length: images in the source.
        max_share: the run stops when more than this share of the source's images is bad, but never for the first ``ALWAYS_ALLOWED``;
            0 stops it at the first one.
        log: path of a file to which one JSON line is appended for every bad image (index, path, reason); None for no file. Several
            ranks may share it. Lines that cannot be written go to the log of the program.

    Attributes:
        reasons: why, by the image's index in its source.
    """

    def __init__(self, length: int, max_share: float, log: str | os.PathLike[str] | None):
        self.reasons: dict[int, str] = {}
        self._length = length
        self._max_share = max_share
        self._allowed = max(int(max_share * length), ALWAYS_ALLOWED) if max_share > 0 else 0
        self._log = log
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, index: int, name: str, reason: str) -> None:
        """Note a bad image.

        Raises:
            BadImagesError: it is one too many.
        """
        with self._lock:
            if index not in self.reasons:
                self.reasons[index] = reason
                self._write(index, name, reason)
            if len(self.reasons) > self._allowed:
                raise BadImagesError(
                    f"expected at most {self._allowed} of the source's {self._length} images to be unreadable (max_bad_share="
                    f"{self._max_share:g}), got {len(self.reasons)}, the latest being {name!r} (index {index}): {reason}; {self._remedy()}"
                )

    def _write(self, index: int, name: str, reason: str) -> None:
        if len(self.reasons) == 1:
            where = f"all are listed in {os.fspath(self._log)}" if self._log else "pass quarantine=PATH to list all in a file"
            logger.warning("unreadable image %r (index %d) is replaced by another one of the epoch: %s; %s", name, index, reason, where)
        if self._log is not None:
            line = json.dumps({"index": index, "path": name, "reason": reason}) + "\n"
            try:
                # one write at the file's end, so that lines of several ranks do not mix
                with open(self._log, "ab", buffering=0) as file:
                    file.write(line.encode())
            except OSError as error:
                # no reason to stop either: the disk may be full, the folder gone
                logger.warning("cannot write to the quarantine log %s: %s; it misses: %s", os.fspath(self._log), error, line.rstrip())

    def _remedy(self) -> str:
        listed = f"they are listed in {os.fspath(self._log)}" if self._log else "quarantine=PATH lists them in a file"
        return f"repair or remove them ({listed}), or raise max_bad_share"
