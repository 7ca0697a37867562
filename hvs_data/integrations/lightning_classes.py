"""Classes of Lightning, of whichever of its two packages the trainer is from."""

from __future__ import annotations

import importlib
import inspect
import sys
from functools import cache, reduce
from types import ModuleType
from typing import Any

from hvs_data.errors import MissingDependencyError

# One project under two names. A trainer takes only objects of its own package, and both may be loaded at once.
PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class _Joining(type):
    """Of classes that stand for one class of ours, whichever classes of Lightning they are joined with."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return cls.__subclasscheck__(type(instance))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return type.__subclasscheck__(_public(cls), subclass)


class MadeForLightning(metaclass=_Joining):
    """Base of classes that also are a class of Lightning, once joined with it.

    A module hands such a class out by :func:`class_for_lightning`, so that what users get is a real subclass of Lightning's. Which one is
    told anew when an instance is made: that of the package that is loaded, of both if both are. A checkpoint of a run names the class
    by its own module and name, whichever package it was.
    """

    _kind: str  # the name of Lightning's class

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return object.__new__(_joined(cls, _loaded(cls.__name__)))

    def be_of_package_of(self, trainer: Any) -> None:
        """Be of the trainer's package alone. With classes of both, each package takes methods of the other's for overridden ones."""
        for name in PACKAGES:
            package = sys.modules.get(name)
            if package is not None and isinstance(trainer, package.Trainer):
                self.__class__ = _alone(_public(type(self)), getattr(package, self._kind))

    def __reduce__(self) -> Any:
        """Pickled, as for processes that are spawned, by the name under which the class can be imported."""
        public = _public(type(self))
        return _empty, (public.__module__, public.__qualname__), vars(self)


def class_for_lightning(cls: type) -> type:
    """The class joined with Lightning's of the packages that are loaded; where none is, of those that are installed."""
    return _joined(cls, _loaded(cls.__name__))


def _public(cls: type) -> type:
    """The class as it was written."""
    return vars(cls).get("_written", cls)


def _empty(module: str, name: str) -> Any:
    cls = reduce(getattr, name.split("."), importlib.import_module(module))
    return MadeForLightning.__new__(cls)  # type: ignore[arg-type]


def _joined(cls: Any, packages: list[ModuleType]) -> type:
    kinds = [getattr(package, cls._kind) for package in packages]
    missing = tuple(kind for kind in kinds if kind not in cls.__mro__)
    return _made(cls, missing) if missing else cls


@cache
def _made(cls: type, bases: tuple[type, ...]) -> type:
    return _subclass(cls, bases, {})


def _subclass(cls: type, bases: tuple[type, ...], own: dict[str, Any]) -> type:
    named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, "_written": _public(cls)}
    return type(cls)(cls.__name__, (cls, *bases), named | own)


@cache
def _alone(cls: type, kind: type) -> type:
    """The class joined with one of Lightning's, whose methods come before those of the other package, if that is among its bases."""
    made = cls if kind in cls.__mro__ else _made(cls, (kind,))
    own = _package(kind)
    others = [base for base in made.__mro__ if _package(base) in _roots() - {own}]
    if not others:
        return made
    names = {name for base in others for name in vars(base) if not name.startswith("__")}
    from_others = {name for name in names if next(base for base in made.__mro__ if name in vars(base)) in others}
    return _subclass(made, (), {name: inspect.getattr_static(kind, name) for name in from_others if hasattr(kind, name)})


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _roots() -> set[str]:
    return {name.partition(".")[0] for name in PACKAGES}


def _loaded(purpose: str) -> list[ModuleType]:
    loaded = [sys.modules[name] for name in PACKAGES if name in sys.modules]
    if loaded:
        return loaded
    for name in PACKAGES:
        try:
            loaded.append(importlib.import_module(name))
        except ImportError:
            continue
    if not loaded:
        raise MissingDependencyError("lightning", "trainers", purpose)
    return loaded
