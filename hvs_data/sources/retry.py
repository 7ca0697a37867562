"""Storage that fails for a moment: ask again, a bounded number of times, waiting longer each time."""

from __future__ import annotations

import errno
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hvs_data.threads.stopping import sleep

T = TypeVar("T")

logger = logging.getLogger("hvs_data")

# What another attempt will not change: the file is not there, may not be read, or is none.
_LASTING = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO)
)
_LASTING_KINDS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# Mark of an error that came in spite of retries.
_TRIED = "hvs_data_attempts"
# its own, so that nobody's seeded numbers move
_draw = random.Random()


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: an OSError (timeouts are of that kind) that is not about the file itself.

    Nor one that comes after several attempts already: whoever retries what retries inside would multiply them.
    """
    return (
        isinstance(error, OSError)
        and not isinstance(error, _LASTING_KINDS)
        and error.errno not in _LASTING
        and _TRIED not in error.__dict__
    )


@dataclass(frozen=True)
class Retries:
    """How often, and after which waits, a call that failed is made again.

    Attributes:
        attempts: calls in all, at least 1.
        first_wait: seconds before the second call; each further wait is twice as long as the one before. What is really waited is
            drawn from the upper half of that, so that many readers do not come back at the same moment.
        longest_wait: seconds that no wait exceeds.
    """

    attempts: int = 5
    first_wait: float = 0.2
    longest_wait: float = 5.0

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """What the function returns, as soon as it does.

        Raises:
            whatever the function raises: at once if :func:`may_pass` says no, else after the last attempt.
        """
        for attempt in range(1, self.attempts):
            try:
                return function(*args)
            except OSError as error:
                if not may_pass(error):
                    raise
                wait = min(self.first_wait * 2 ** (attempt - 1), self.longest_wait) * _draw.uniform(0.5, 1)
                logger.info("attempt %d of %d failed, the next one in %.2g s: %r", attempt, self.attempts, wait, error)
            sleep(wait)
        try:
            return function(*args)
        except OSError as error:
            if self.attempts > 1:
                error.__dict__[_TRIED] = self.attempts
            raise


USUAL = Retries()
