"""Dropout as a function, called in the forward of a module that is left in training mode: how to score without it.

Modules below those given are in evaluation mode while scoring. Those given keep their mode, as a forward may return something else in
evaluation mode; unless their code shows that it does not.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from hvs_data.modules.reachable import functions_of_forward, names_in

_DROPOUTS = ("dropout", "alpha_dropout", "feature_alpha_dropout")
# What switches a function's noise off: an argument by name, its place, and the value that it is given.
_Switch = tuple[str, int, Any]


def _switches() -> dict[Callable[..., Any], _Switch]:
    found: dict[Callable[..., Any], _Switch] = {}
    for name in (*_DROPOUTS, "dropout1d", "dropout2d", "dropout3d", "rrelu"):
        found[getattr(F, name)] = _switch(getattr(F, name), "training", False)
    for name in (*_DROPOUTS, "feature_dropout"):
        found[getattr(torch, name)] = found[getattr(torch, f"{name}_")] = ("train", 2, False)
    found[torch.native_dropout] = ("train", 2, False)
    found[torch.rrelu] = found[torch.rrelu_] = ("training", 3, False)
    found[F.scaled_dot_product_attention] = ("dropout_p", 4, 0.0)
    found[F.multi_head_attention_forward] = _switch(F.multi_head_attention_forward, "dropout_p", 0.0)
    return found


def _switch(function: Callable[..., Any], name: str, value: Any) -> _Switch:
    return name, list(inspect.signature(function).parameters).index(name), value


_SWITCHES = _switches()
_NOISY = frozenset(function.__name__ for function in _SWITCHES)
# Parts of the names of functions that a forward hands its mode, or a strength of 0 in evaluation mode, and that do nothing else with it.
_NOISE = ("drop", "stochastic_depth", "rrelu", "attention")


@dataclass(frozen=True)
class Use:
    """What a forward does with its mode.

    Attributes:
        noise_alone: nothing depends on it but dropout and the like, so that evaluation mode only turns these off.
        unswitched: it may draw noise in evaluation mode too, or in ways that its code does not show.
    """

    noise_alone: bool
    unswitched: bool


INDIFFERENT = Use(noise_alone=False, unswitched=False)
_UNKNOWN = Use(noise_alone=False, unswitched=True)
_known: WeakKeyDictionary[nn.Module, Use] = WeakKeyDictionary()


def use_of_mode(module: nn.Module) -> Use:
    """What a module's own forward does with its mode, read off its code once."""
    use = _known.get(module)
    if use is None:
        use = _known[module] = use_in(functions_of_forward(module))
    return use


def use_in(functions: Iterable[FunctionType]) -> Use:
    """The same of some functions together."""
    uses = [_use_in(function) for function in functions if names_in(function.__code__) & (_NOISY | {"training"})]
    if not uses:
        return INDIFFERENT
    return Use(all(use.noise_alone for use in uses), any(use.unswitched for use in uses))


@contextmanager
def silent() -> Iterator[None]:
    """Inside, torch's dropout functions do nothing in this thread, whatever they are told."""
    with _Silent():
        yield


class _Silent(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        switch = _SWITCHES.get(func)
        if switch is not None:
            name, place, value = switch
            if len(args) > place:
                args = (*args[:place], value, *args[place + 1 :])
            else:
                kwargs = {**kwargs, name: value}
        return func(*args, **kwargs)


def _use_in(function: FunctionType) -> Use:
    if (function.__module__ or "").startswith("torch."):
        return Use(noise_alone=True, unswitched=True)  # a dropout under another name
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _UNKNOWN
    reader = _Reader()
    reader.read(tree, in_noise=False)
    return Use(noise_alone=not reader.else_used, unswitched=reader.unswitched or reader.else_used)


class _Reader:
    """Finds where code uses a mode for something else than noise, and noise that no mode switches."""

    def __init__(self) -> None:
        self.else_used = False
        self.unswitched = False

    def read(self, node: ast.AST, in_noise: bool) -> None:
        if _is_mode(node):
            self.else_used |= not in_noise
        if isinstance(node, ast.Call):
            name = _called(node)
            in_noise = in_noise or any(word in name for word in _NOISE)
            if name in _NOISY and not any(_is_mode(inner) for inner in ast.walk(node)):
                self.unswitched |= name != "scaled_dot_product_attention" or len(node.args) > 4 or _has(node, "dropout_p")
        for field, value in ast.iter_fields(node):
            inside = in_noise
            if field == "test" and isinstance(node, ast.If):
                inside = not node.orelse and all(map(_is_noise, node.body))
            if field == "test" and isinstance(node, ast.IfExp):
                inside = in_noise or _is_zero(node.orelse)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.read(child, inside)


def _is_mode(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "training") or (isinstance(node, ast.Constant) and node.value == "training")


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _has(call: ast.Call, argument: str) -> bool:
    return any(keyword.arg in (argument, None) for keyword in call.keywords)


def _is_noise(statement: ast.stmt) -> bool:
    """Whether it assigns what a function of noise returns."""
    if not isinstance(statement, (ast.Assign, ast.AugAssign)):
        return False
    return any(isinstance(node, ast.Call) and any(word in _called(node) for word in _NOISE) for node in ast.walk(statement.value))


def _is_zero(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, bool) and node.value == 0
