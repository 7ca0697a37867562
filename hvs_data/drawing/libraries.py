"""numpy's and Python's random functions, on the calling thread's stream where it has one; and torch's that seed and tell states.

``numpy.random.rand`` and ``random.random``, and all others of their kind, are methods of one generator that all threads share. They are
exchanged, once and wherever a module holds one of them (``from random import random``), for objects that call the same method of the
thread's own generator, or the very function for which they stand.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hvs_data.drawing.numbers import HERE, Numbers
from hvs_data.drawing.torch_functions import OF_CUDA, OF_TORCH
from hvs_data.threads.exclusive import after_fork

# Functions of numpy.random that are no methods of its generator, and the methods that do what they do.
_NUMPY_FUNCTIONS = {"seed": "seed", "sample": "random_sample", "ranf": "random_sample"}

_lock = threading.Lock()
_exchanged = False


class ThreadsOwn:
    """Stands for a function that draws from a generator of the process; equal to it, so that tables by function know it too."""

    def __init__(self, original: Callable[..., Any], of: Callable[[Numbers], Callable[..., Any]]):
        self._original = original
        self._of = of
        self.__module__ = original.__module__  # where pickle looks for it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        numbers = HERE.numbers
        return (self._original if numbers is None else self._of(numbers))(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_original"), name)

    def __eq__(self, other: object) -> bool:
        return self._original == (other._original if isinstance(other, ThreadsOwn) else other)

    def __hash__(self) -> int:
        return hash(self._original)

    def __reduce__(self) -> Any:
        return self._original.__reduce__()

    def __copy__(self) -> ThreadsOwn:
        return self

    def __deepcopy__(self, memo: Any) -> ThreadsOwn:
        return self

    def __repr__(self) -> str:
        return repr(self._original)


def exchange_functions() -> None:
    """Exchange the functions, if that has not been done."""
    global _exchanged
    if _exchanged:
        return
    with _lock:
        if not _exchanged:
            _exchange()
            _exchanged = True


def _exchange() -> None:
    by_id = {id(stand_in._original): stand_in for stand_in in (*_numpy_functions(), *_python_functions(), *_torch_functions())}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        for name, value in list(names.items()):
            if id(value) in by_id:
                names[name] = by_id[id(value)]


def _numpy_functions() -> list[ThreadsOwn]:
    shared = np.random.mtrand._rand
    names = [name for name, value in vars(np.random).items() if getattr(value, "__self__", None) is shared]
    methods = [ThreadsOwn(getattr(np.random, name), _method("numpy", name)) for name in names]
    methods += [ThreadsOwn(getattr(np.random, name), _method("numpy", method)) for name, method in _NUMPY_FUNCTIONS.items()]
    make = np.random.default_rng

    def default_rng(numbers: Numbers) -> Callable[..., Any]:
        return lambda seed=None: numbers.new_rng() if seed is None else make(seed)

    return [*methods, ThreadsOwn(make, default_rng)]


def _python_functions() -> list[ThreadsOwn]:
    shared = random._inst  # type: ignore[attr-defined]
    names = [name for name, value in vars(random).items() if getattr(value, "__self__", None) is shared]
    return [ThreadsOwn(getattr(random, name), _method("python", name)) for name in names]


def _torch_functions() -> list[ThreadsOwn]:
    # torch's compiler, once loaded, puts another function in the place of torch.manual_seed
    homes = ((torch.random, OF_TORCH), (torch, OF_TORCH), (torch.cuda.random, OF_CUDA), (torch.cuda, OF_CUDA))
    return [ThreadsOwn(getattr(home, name), own) for home, functions in homes for name, own in functions.items()]


def _method(library: str, name: str) -> Callable[[Numbers], Callable[..., Any]]:
    return lambda numbers: getattr(getattr(numbers, library), name)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


after_fork(_renew_lock)
