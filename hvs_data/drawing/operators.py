"""torch's random operators, drawing from the calling thread's stream where it has one.

torch draws from one generator a device, which all threads share. Kernels of our own for the operators that draw are registered once, at a
dispatch key that no tensor has and no build of torch uses; a thread that is to draw from a stream switches the key on for itself. All
other operators pass it by in C++. (A ``TorchDispatchMode`` would do the same at the price of a call into Python for every operator:
a colour jitter of torchvision's took half as long again, a Kornia jitter three times as long.)
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hvs_data.drawing.numbers import HERE
from hvs_data.errors import HvsError
from hvs_data.threads.exclusive import after_fork

_KEY = "TESTING_ONLY_GenericMode"
# Operators with a dropout inside; nothing is drawn where it is off.
_DROPOUT = ("dropout_p", "dropout")

_lock = threading.Lock()
_libraries: list[Any] = []  # kernels live as long as these


def random_operators() -> AbstractContextManager[Any]:
    """The context in which this thread's random operators are ours."""
    key = _registered_key()
    return nullcontext() if key is None else torch._C._IncludeDispatchKeyGuard(key)


def _registered_key() -> Any:
    # the cache alone would let two threads register at once
    return _keys() if _libraries else _register_once()


def _register_once() -> Any:
    with _lock:
        return _keys()


@cache
def _keys() -> Any:
    """The dispatch key, with kernels at it; None where this torch has no such key."""
    try:
        key = torch._C._dispatch_key_parse(_KEY)
        off = torch._C.DispatchKeySet(key)
    except (AttributeError, RuntimeError) as error:
        warnings.warn(
            f"torch {torch.__version__} has no dispatch key {_KEY} ({error}): what stages and datasets draw from torch is not seeded "
            "by view and sample; let them take a parameter `generator: torch.Generator`",
            stacklevel=2,
        )
        return None
    every_operator, aten = torch.library.Library("_", "IMPL", _KEY), torch.library.Library("aten", "IMPL", _KEY)
    every_operator.fallback(torch.library.fallthrough_kernel)
    for packet in _packets():
        for operator in (getattr(packet, overload) for overload in packet.overloads()):
            kernel = _kernel(operator, off)
            if kernel is not None:
                aten.impl(operator, kernel)
    _libraries.extend((every_operator, aten))
    return key


def _packets() -> list[Any]:
    """The operators that may draw, each with all of its overloads."""
    marks = {"generator", *_DROPOUT}
    schemas = [schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")]
    names = {schema.name for schema in schemas if not marks.isdisjoint(argument.name for argument in schema.arguments)}
    names |= {name.partition(".")[0] for name in _WRITTEN}
    return [getattr(torch.ops.aten, name.removeprefix("aten::")) for name in sorted(names)]


def _kernel(operator: Any, off: Any) -> Callable[..., Any] | None:
    """What an operator does on a thread with a stream; None for those that do not draw."""
    names = _arguments(operator)
    if "generator" in names:
        return _seeded(operator, operator, off)
    if torch.Tag.nondeterministic_seeded not in operator.tags or "backward" in operator.name():
        return None
    packet = operator.overloadpacket
    for other in (getattr(packet, overload) for overload in packet.overloads()):
        if "generator" in _arguments(other) and _signature(other) == _signature(operator):
            return _seeded(operator, other, off)
    written = _WRITTEN.get(operator.name())
    if written is not None:
        return _guarded(written, off)
    # what consists of other operators comes by again as these
    consists_of_others = torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd")
    return None if consists_of_others else _refused(operator, names, off)


def _arguments(operator: Any) -> list[str]:
    return [argument.name for argument in operator._schema.arguments]


def _signature(operator: Any) -> list[tuple[str, str]]:
    return [(argument.name, str(argument.type)) for argument in operator._schema.arguments if argument.name != "generator"]


def _seeded(operator: Any, with_generator: Any, off: Any) -> Callable[..., Any]:
    """Calls an overload that takes a generator, with the stream's unless the caller has its own."""
    position = _arguments(with_generator).index("generator")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(off):
            given = args[position] if len(args) > position else kwargs.get("generator")
            if given is not None or not _draws():
                return operator(*args, **kwargs)
            kwargs["generator"] = _generator(args, kwargs)
            return with_generator(*args[:position], **kwargs)

    return kernel


def _guarded(function: Callable[..., Any], off: Any) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(off):
            return function(_generator(args, kwargs) if _draws() else None, *args, **kwargs)

    return kernel


def _refused(operator: Any, names: list[str], off: Any) -> Callable[..., Any]:
    """For operators that draw and take no generator: an error, unless their dropout is off."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        share = next((given[name] for name in _DROPOUT if name in given), 0.0)
        with torch._C._ExcludeDispatchKeyGuard(off):
            if share and given.get("train", True) and _draws():
                raise HvsError(
                    f"expected operators whose numbers can belong to a view or sample, got the dropout inside {operator.name()}, which "
                    "takes no generator; put the module that has it into evaluation mode"
                )
            return operator(*args, **kwargs)

    return kernel


def _draws() -> bool:
    """Whether to draw from a stream now: not while torch traces what it compiles, which a generator could not be part of."""
    if HERE.numbers is None:
        return False
    return torch._C._len_torch_dispatch_stack() == 0 or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None


def _generator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Generator | None:
    """The stream's generator on the device that an operator draws on."""
    assert HERE.numbers is not None
    device = kwargs.get("device")
    if device is None:
        device = next((value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    device = torch.device("cpu") if device is None else torch.device(device)
    return None if device.type == "meta" else HERE.numbers.torch_on(device)


# --- operators that have no overload with a generator, at least in some versions of torch ----------------------------------


def _rand_like(generator: torch.Generator | None, like: Tensor, **options: Any) -> Tensor:
    return torch.empty_like(like, **options).uniform_(generator=generator)


def _randn_like(generator: torch.Generator | None, like: Tensor, **options: Any) -> Tensor:
    return torch.empty_like(like, **options).normal_(generator=generator)


def _randint_like(generator: torch.Generator | None, like: Tensor, high: int, **options: Any) -> Tensor:
    return torch.empty_like(like, **options).random_(0, int(high), generator=generator)


def _randint_like_from(generator: torch.Generator | None, like: Tensor, low: int, high: int, **options: Any) -> Tensor:
    return torch.empty_like(like, **options).random_(low, high, generator=generator)


def _native_dropout(generator: torch.Generator | None, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.empty_like(x, dtype=torch.float32).bernoulli_(1 - p, generator=generator).to(torch.bool)
    return (x * kept * (1 / (1 - p)) if p < 1 else x * 0), kept


_WRITTEN: dict[str, Callable[..., Any]] = {
    "aten::rand_like": _rand_like,
    "aten::randn_like": _randn_like,
    "aten::randint_like": _randint_like,
    "aten::randint_like.low_dtype": _randint_like_from,
    "aten::native_dropout": _native_dropout,
}


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


after_fork(_renew_lock)
