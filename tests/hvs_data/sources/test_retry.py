"""Retries: how often, how long between, and for which errors."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from hvs_data.sources import retry
from hvs_data.sources.retry import Retries, may_pass


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(retry, "sleep", waited.append)
    return waited


class Failing:
    """Fails a number of times, then returns its argument."""

    def __init__(self, times: int, error: type[BaseException] | BaseException = OSError):
        self.times, self.error, self.calls = times, error, 0

    def __call__(self, argument: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return argument


@pytest.mark.parametrize("failures", range(4))
def test_it_is_tried_until_it_works(failures: int, waits: list[float]) -> None:
    function = Failing(failures)
    assert Retries(attempts=4).call(function, "found") == "found"
    assert function.calls == failures + 1 and len(waits) == failures


def test_the_last_error_is_raised_after_the_last_attempt(waits: list[float]) -> None:
    function = Failing(9, TimeoutError("slow"))
    with pytest.raises(TimeoutError, match="slow"):
        Retries(attempts=4).call(function, None)
    assert function.calls == 4 and len(waits) == 3


def test_retries_in_retries_do_not_multiply(waits: list[float]) -> None:
    function = Failing(99, OSError("gone for long"))
    with pytest.raises(OSError, match="gone for long"):
        Retries(attempts=3).call(Retries(attempts=4).call, function, None)
    assert function.calls == 4
    # one attempt is none that was repeated
    function = Failing(99)
    with pytest.raises(OSError):
        Retries(attempts=3).call(Retries(attempts=1).call, function, None)
    assert function.calls == 3


def test_waits_double_up_to_the_longest_and_are_drawn_from_the_upper_half(waits: list[float]) -> None:
    with pytest.raises(OSError):
        Retries(attempts=8, first_wait=0.5, longest_wait=6).call(Failing(9), None)
    for wait, full in zip(waits, [0.5, 1, 2, 4, 6, 6, 6], strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) == 7


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none"),
        FileNotFoundError("none"),
        PermissionError("no"),
        IsADirectoryError(),
        OSError(errno.ENAMETOOLONG, "long"),
        OSError(errno.EINVAL, "odd"),
        ValueError("no storage"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_waiting_does_not_change_is_raised_at_once(error: BaseException, waits: list[float]) -> None:
    function = Failing(1, error)
    with pytest.raises(type(error)):
        Retries().call(function, None)
    assert function.calls == 1 and not waits and not may_pass(error)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EMFILE, errno.EAGAIN])
def test_what_may_pass_is_tried_again(number: int, waits: list[float]) -> None:
    assert may_pass(OSError(number, "for now"))
    assert Retries().call(Failing(1, OSError(number, "for now")), 7) == 7


def test_nobodys_random_numbers_move(waits: list[float]) -> None:
    random.seed(3)
    expected = random.Random(3).random()
    Retries().call(Failing(3), None)
    assert random.random() == expected
