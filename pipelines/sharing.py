"""Whether several threads may call a stage at once."""

from __future__ import annotations

import enum
import functools
import inspect
import types
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (str, bytes, int, float, complex, type(None), type(...), type, Tensor, torch.dtype, torch.device, enum.Enum, types.ModuleType)
# Modules of these packages write nothing to themselves when they are called.
_KEEP_NOTHING = ("torch.nn.", "torchvision.transforms.")


def keeps_nothing(stage: Any) -> bool:
    """Whether it is certain that calling a stage changes nothing that another call could meet.

    It is for layers of ``torch.nn`` and transforms of torchvision, and for functions that hold and name nothing but these, other such
    functions, tensors and plain values. Kornia's modules keep what they drew in their attributes until they apply it, and
    albumentations' transforms hold their generators.
    """
    return _keeps_nothing(stage, set())


def _keeps_nothing(value: Any, seen: set[int]) -> bool:
    if id(value) in seen:
        return True
    seen.add(id(value))
    if isinstance(value, (*_PLAIN, types.BuiltinFunctionType)):
        return True
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_keeps_nothing(item, seen) for item in value)
    if isinstance(value, dict):
        return all(_keeps_nothing(item, seen) for item in value.values())
    if isinstance(value, functools.partial):
        return _keeps_nothing((value.func, value.args, value.keywords), seen)
    if isinstance(value, types.MethodType):
        return _keeps_nothing(value.__self__, seen)
    if isinstance(value, types.FunctionType):
        return _is_of_a_library(value) or _keeps_nothing(_named_in(value), seen)
    known = isinstance(value, nn.Module) and f"{type(value).__module__}.".startswith(_KEEP_NOTHING)
    return known and _keeps_nothing(vars(value), seen)


def _is_of_a_library(function: Any) -> bool:
    return (function.__module__ or "").partition(".")[0] in ("torch", "torchvision", "numpy", "math", "random")


def _named_in(function: Any) -> Any:
    """What a function holds, and what of its module it names."""
    try:
        variables = inspect.getclosurevars(function)
    except ValueError:  # a name that it closes over is not set yet
        return (object(),)
    return [*variables.nonlocals.values(), *variables.globals.values(), *(function.__defaults__ or ())]
