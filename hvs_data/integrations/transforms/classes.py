"""Which known class an object is of, told by names, so that no package is imported."""

from __future__ import annotations

from typing import Any

PACKAGES = ("torchvision", "lightly", "torch")
# A class that defines one of these behaves in its own way, whatever it inherits from.
_BEHAVIOUR = {"__call__", "forward", "transform", "make_params", "_get_params", "get_params", "_call_kernel"}
# What torch.nn.Module keeps in every module, beside names that begin with an underscore.
_OF_MODULES = {"training"}


def known_class(part: Any) -> tuple[str, str]:
    """Package and name of the class whose behaviour an object has.

    Returns:
        One of PACKAGES and a name; ``("", "")`` for classes of anyone else, and for those that change what a known one does.
    """
    for kind in type(part).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in PACKAGES:
            return package, kind.__name__
        if _BEHAVIOUR & vars(kind).keys():
            break
    return "", ""


def attributes_of(part: Any) -> dict[str, Any]:
    """An object's own attributes, those of a torch module among them."""
    own = {name: value for name, value in getattr(part, "__dict__", {}).items() if not name.startswith("_") and name not in _OF_MODULES}
    return own | dict(getattr(part, "_modules", None) or {})


def class_name(part: Any) -> str:
    return type(part).__name__
