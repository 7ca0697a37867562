"""Generators that a function asks for in its signature."""

from __future__ import annotations

import functools
import inspect
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from hvs_data.drawing.numbers import HERE, Numbers

_CPU = torch.device("cpu")

Give = Callable[[Numbers, torch.device], Any]

# By annotation, however the module that defines the type is called there.
_BY_TYPE: dict[Any, Give] = {
    torch.Generator: lambda numbers, device: numbers.torch_on(device),
    np.random.Generator: lambda numbers, device: numbers.rng,
    np.random.RandomState: lambda numbers, device: numbers.new_random_state(),
    random.Random: lambda numbers, device: numbers.python,
}
# By name, where there is no annotation.
_BY_NAME: dict[str, Give] = {"generator": _BY_TYPE[torch.Generator], "rng": _BY_TYPE[np.random.Generator]}


def asked_generators(function: Any) -> Mapping[str, Give]:
    """The parameters of a function or module that ask for a generator: those annotated as one of torch, numpy or ``random``, and those
    without an annotation whose name is ``generator`` (torch's) or ``rng`` (numpy's). A default other than None is left as it is.
    """
    return {name: give for name, parameter in _parameters(function).items() if (give := _asked(function, parameter)) is not None}


def takes(function: Any, name: str) -> bool:
    """Whether a function or module has a parameter of this name."""
    return name in _parameters(function)


def handed(asked: Mapping[str, Give], numbers: Numbers, device: torch.device = _CPU) -> dict[str, Any]:
    """Keyword arguments that hold what is asked for."""
    return {name: give(numbers, device) for name, give in asked.items()} if asked else {}


def item_of(dataset: Any, index: int) -> Any:
    """``dataset[index]``, with generators where its ``__getitem__`` asks for them: those of what this thread reads just now."""
    kind: Any = type(dataset)
    asked = _asked_by_items(kind)
    if not asked:
        return dataset[index]
    return kind.__getitem__(dataset, index, **handed(asked, HERE.numbers or Numbers((index,))))


@functools.lru_cache(maxsize=64)
def _asked_by_items(kind: Any) -> Mapping[str, Give]:
    return asked_generators(kind.__getitem__) if hasattr(kind, "__getitem__") else {}


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        # a module's own signature is that of Module.__call__, which passes everything on
        return inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    except (TypeError, ValueError):
        return {}  # of builtins nothing is known


def _asked(function: Any, parameter: inspect.Parameter) -> Give | None:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or parameter.default not in (parameter.empty, None):
        return None
    if parameter.annotation is parameter.empty:
        return _BY_NAME.get(parameter.name)
    return next((give for kind, give in _BY_TYPE.items() if kind in _kinds(function, parameter.annotation)), None)


def _kinds(function: Any, annotation: Any) -> tuple[Any, ...]:
    """The types of an annotation such as ``torch.Generator | None``, also where it is a text."""
    if isinstance(annotation, str):
        while isinstance(function, (nn.Module, functools.partial)):
            function = function.forward if isinstance(function, nn.Module) else function.func
        plain = inspect.unwrap(getattr(function, "__func__", function))
        home = getattr(plain, "__module__", None) or type(plain).__module__
        try:
            annotation = eval(annotation, dict(vars(sys.modules[home])))  # as typing.get_type_hints does, of this one alone
        except Exception:
            return ()
    inner = getattr(annotation, "__args__", ())
    return (annotation, *inner) if isinstance(inner, tuple) else (annotation,)
