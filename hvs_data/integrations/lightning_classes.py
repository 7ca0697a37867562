"""Classes of Lightning, of whichever of its two packages the trainer is from."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from hvs_data.errors import MissingDependencyError

# One project under two names. A trainer takes only objects of its own package, and both may be loaded at once.
PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class MadeForLightning:
    """Base of classes whose instances also are of a class of Lightning.

    The class of Lightning is chosen when an instance is made: that of the package that is loaded, of both if both are. A
    checkpoint of a run names the class by its own module and name, whichever package it was.
    """

    _kind: str  # the name of Lightning's class

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return object.__new__(_joined(cls, cls._kind))

    def be_of_package_of(self, trainer: Any) -> None:
        """Be of the trainer's package alone. With classes of both, each package takes methods of the other's for overridden ones."""
        for name in PACKAGES:
            package = sys.modules.get(name)
            if package is not None and isinstance(trainer, package.Trainer):
                public: Any = getattr(type(self), "_public", type(self))
                self.__class__ = _made(public, (getattr(package, self._kind),))

    def __reduce__(self) -> Any:
        """Pickled, as for processes that are spawned, by the class that can be imported."""
        return _empty, (getattr(type(self), "_public", type(self)),), vars(self)


def _empty(cls: type[MadeForLightning]) -> Any:
    return MadeForLightning.__new__(cls)


def _joined(cls: type, kind: str) -> type:
    packages = _loaded(cls.__name__)
    if any(issubclass(cls, getattr(package, kind)) for package in packages):
        return cls
    return _made(cls, tuple(getattr(package, kind) for package in packages))


@cache
def _made(cls: type, bases: tuple[type, ...]) -> type:
    own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, "_public": cls}
    return type(cls.__name__, (cls, *bases), own)


def _loaded(purpose: str) -> list[ModuleType]:
    loaded = [sys.modules[name] for name in PACKAGES if name in sys.modules]
    if loaded:
        return loaded
    for name in PACKAGES:
        try:
            return [importlib.import_module(name)]
        except ImportError:
            continue
    raise MissingDependencyError("lightning", "trainers", purpose)
