"""The modules behind a function, a callable object or a container: what a call of it can come to."""

from __future__ import annotations

import sys
import sysconfig
import weakref
from collections import UserDict, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

# Where installed packages and Python's own lie. Their functions keep no module of the user's in their globals; what they close over
# still counts.
_INSTALLED = ("site-packages", "dist-packages", sysconfig.get_paths()["stdlib"])
# Those that may be installed from elsewhere.
_LIBRARIES = frozenset({"torch", "torchvision", "timm", "transformers", "hvs_data"})
# Those whose base classes call back what was written for them.
_FRAMEWORKS = frozenset({"torch", "lightning", "pytorch_lightning", "builtins"})
_DICTS = (dict, UserDict, weakref.WeakValueDictionary, weakref.WeakKeyDictionary, MappingProxyType)
_CONTAINERS = (list, tuple, set, frozenset, deque)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Tensor)
_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
_HOLDERS = frozenset({list, tuple, set, dict, partial, FunctionType, MethodType, weakref.ref})
# Methods that run without being named.
_UNNAMED = frozenset({"__call__", "__getitem__", "__getattr__", "__iter__", "__enter__"})
# Values that are looked at in all, in one container, and one behind the other: far more than a model's code comes to, and few enough for
# each step.
_MOST, _IN_ONE, _DEEP = 10_000, 1_000, 100

_Names = frozenset[str]
_NONE: _Names = frozenset()


def reachable_modules(value: Any, names: _Names | None = None) -> list[nn.Module]:
    """The modules that a value is, holds, or calls, each once, in the order in which they are found.

    - Modules, and what holds them: dicts, lists, tuples, sets, weak references, ``functools.partial``, bound methods.
    - Of a function, what it closes over, its defaults and attributes, and those globals that its code names, with the functions that
      these are; of a module, an object or a Python module there, the attributes that its code names, too.
    - Of an object that can be called, its attributes; of another, those that the code around it names.

    What code makes, or looks up by a name that it works out, is not found.

    Args:
        value: anything.
        names: what the code around uses of it; None if it is called itself.
    """
    search = _Search()
    search.visit(value, names)
    return list(search.modules.values())


def functions_of_forward(module: nn.Module) -> list[FunctionType]:
    """A module's own forward, and the methods and functions that it names; not those of modules that it calls."""
    search = _Search()
    search.forward(module)
    return list(search.functions.values())


def reachable_functions(value: Any) -> list[FunctionType]:
    """The functions behind a value; see :func:`reachable_modules`."""
    search = _Search()
    search.visit(value, None)
    return list(search.functions.values())


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> _Names:
    """Names of globals and attributes in code and in the functions that it makes, also those in strings, as ``getattr`` takes them."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    words = [constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier()]
    return frozenset(code.co_names).union(words, *map(names_in, inner))


class _Search:
    """Goes through values, each with the names that the code around it uses; None for a value that was handed over as a whole."""

    def __init__(self) -> None:
        self.modules: dict[int, nn.Module] = {}
        self._seen: set[tuple[int, _Names | None]] = set()
        self.functions: dict[int, FunctionType] = {}
        self._kept: list[Any] = []  # values made on the way, whose ids must stay their own
        self._depth = 0

    def visit(self, value: Any, names: _Names | None) -> None:
        if type(value) in _PROXIES:  # first: one of a thing that is gone has not even a class
            return self._proxy(value, names)
        if isinstance(value, _PLAIN) or (id(value), names) in self._seen or len(self._seen) >= _MOST or self._depth >= _DEEP:
            return
        self._seen.add((id(value), names))
        self._depth += 1
        self._look_into(value, names)
        self._depth -= 1

    def _look_into(self, value: Any, names: _Names | None) -> None:
        if isinstance(value, nn.Module):
            return self._module(value, names)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return self._method(value)
        if isinstance(value, partial):
            names = names_in(value.func.__code__) if isinstance(value.func, FunctionType) else None
            return self._all((value.func, *value.args, *value.keywords.values()), names)
        if isinstance(value, weakref.ref):
            return self._made(value(), names)
        if isinstance(value, _DICTS):
            return self._all(list(value.values())[:_IN_ONE], names)
        if isinstance(value, _CONTAINERS):
            return self._all(value[:_IN_ONE] if isinstance(value, (list, tuple)) else list(value)[:_IN_ONE], names)
        if isinstance(value, ModuleType):
            if not _is_library(value.__name__):
                self._all((vars(value)[name] for name in names or () if name in vars(value)), names)
            return
        holds = getattr(type(value), "_searched", None)
        if holds is not None:  # an objective, or what it keeps: these know
            return self._all(holds(value), names_of_methods(type(value)))
        self._object(value, names)

    def _all(self, values: Iterable[Any], names: _Names | None) -> None:
        for value in values:
            self.visit(value, names)

    def _made(self, value: Any, names: _Names | None) -> None:
        self._kept.append(value)
        self.visit(value, names)

    def _proxy(self, proxy: Any, names: _Names | None) -> None:
        try:
            if isinstance(proxy, nn.Module):
                self._made(next(iter(proxy.modules())), names)
            else:
                self._made(proxy.__repr__.__self__, names)
        except (ReferenceError, AttributeError):  # what it stood for is gone, or shows nothing of itself
            return

    def _module(self, module: nn.Module, names: _Names | None) -> None:
        self.modules.setdefault(id(module), module)
        # what a module keeps out of its own sight, such as a teacher in a list
        if _top(type(module).__module__) != "torch":
            self._all([held for name, held in vars(module).items() if type(held) in _HOLDERS and not name.startswith("_")], _NONE)
        # parts that are called on their own are as much the model as the module itself
        self._methods(type(module), {}, names or _NONE)
        self._all([part for name in names or () if (part := module._modules.get(name)) is not None], names)

    def _method(self, method: MethodType) -> None:
        owner, function = method.__self__, method.__func__
        if isinstance(function, FunctionType):
            self._function(function)
            if isinstance(owner, nn.Module):
                self._methods(type(owner), {}, names_in(function.__code__))
            self._made(owner, None if isinstance(owner, nn.Module) else names_in(function.__code__))
        else:
            self._all((owner, function), None)

    def _function(self, function: FunctionType) -> None:
        names = names_in(function.__code__)
        self.functions[id(function)] = function
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents, names)
            except ValueError:  # not filled yet
                continue
        self._all((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()), names)
        known = function.__globals__
        if not _is_library(known.get("__name__", "")):
            self._all([known[name] for name in names if name in known], names)

    def _object(self, value: Any, names: _Names | None) -> None:
        kind = value if isinstance(value, type) else type(value)
        fields = {} if value is kind else dict(_fields(value))
        if _is_library(kind.__module__) and names is not None:
            return self._all([fields[name] for name in names if name in fields], names)
        if names is None or (value is not kind and _defined(kind, "__call__")):
            names = (names or _NONE) | names_of_methods(kind)
            self._all(list(fields.values()), names)
        else:
            self._all([fields[name] for name in names if name in fields], names)
        self._methods(kind, fields, names | _UNNAMED)

    def _methods(self, kind: type, fields: Mapping[str, Any], names: _Names) -> None:
        """What a class defines under some names, and under those that these methods use."""
        done: _Names = _NONE
        while left := names - done:
            done |= left
            overridden = "super" in names
            for name in left:
                for attribute in _defined(kind, name)[: None if overridden else 1]:
                    function = _function_of(attribute)
                    if function is None:
                        self.visit(attribute, names)
                    else:
                        self._function(function)
                        names |= names_in(function.__code__)
            if "super" in names and not overridden:
                done = _NONE  # once more, with what was overridden
            self._all([fields[name] for name in names if name in fields], names)

    def forward(self, module: nn.Module) -> None:
        """What a module's own forward comes to, without the modules that it calls."""
        held = {name: value for name, value in vars(module).items() if name not in ("_parameters", "_buffers", "_modules")}
        self.visit(held.get("forward"), None)
        self._methods(type(module), held, frozenset({"forward"}))


def _top(name: str) -> str:
    return name.partition(".")[0]


@lru_cache(maxsize=4096)
def _is_library(module: str) -> bool:
    if _top(module) in _LIBRARIES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    # Python's own that are built in have no file, and neither have notebooks and sessions, which are the user's
    return _top(module) in sys.builtin_module_names if file is None else any(part in file for part in _INSTALLED)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _defined(kind: type, name: str) -> list[Any]:
    """What a class and its bases define under a name, as it is there: looking it up on an object would run properties."""
    return [base.__dict__[name] for base in kind.__mro__ if name in base.__dict__ and _top(base.__module__) not in _FRAMEWORKS]


def _function_of(attribute: Any) -> FunctionType | None:
    for name in ("fget", "__func__", "func"):  # of properties, of static and class methods, of cached properties
        attribute = getattr(attribute, name, attribute) if not isinstance(attribute, FunctionType | partial) else attribute
    return attribute if isinstance(attribute, FunctionType) else None


def methods_of(kind: Any) -> tuple[FunctionType, ...]:
    """The functions that a class and its bases define, but for bases of libraries."""
    return _methods_and_names(kind)[0]


def names_of_methods(kind: Any) -> _Names:
    """The names that these functions use."""
    return _methods_and_names(kind)[1]


@lru_cache(maxsize=256)
def _methods_and_names(kind: Any) -> tuple[tuple[FunctionType, ...], _Names]:
    bases = [base for base in kind.__mro__ if base is not object and not _is_library(base.__module__)]
    found = [_function_of(attribute) for base in bases for attribute in base.__dict__.values()]
    functions = tuple(function for function in found if function is not None)
    return functions, _NONE.union(*(names_in(function.__code__) for function in functions))
