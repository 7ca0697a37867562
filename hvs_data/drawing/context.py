"""The context in which the libraries draw a thread's random numbers from an identity's streams."""

from __future__ import annotations

from types import TracebackType

from hvs_data.drawing.libraries import exchange_functions
from hvs_data.drawing.numbers import HERE, Numbers
from hvs_data.drawing.operators import random_operators


class drawing:  # noqa: N801
    """In this context the libraries draw this thread's random numbers from an identity's streams. Contexts nest."""

    __slots__ = ("_before", "_guard", "_numbers")

    def __init__(self, numbers: Numbers):
        self._numbers = numbers

    def __enter__(self) -> None:
        exchange_functions()  # once in a process, when it is first needed
        self._guard = random_operators()
        self._guard.__enter__()
        self._before, HERE.numbers = HERE.numbers, self._numbers

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        HERE.numbers = self._before
        self._guard.__exit__(kind, error, trace)
        self._numbers.close()
