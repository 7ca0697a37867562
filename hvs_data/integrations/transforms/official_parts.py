"""Recognises the little classes of the official repositories: by name, attributes, and the numbers and calls in their ``__call__``.

Such classes are copied from one repository to the next and sometimes changed on the way, so that the name alone tells little:
``GaussianBlur(p)`` holds the range of its sigma in its code. One that looks as it does in the repositories named is taken for what it
is there; anything else is unknown.

- SimSiam, MoCo v2 and v3, solo-learn: ``GaussianBlur(sigma)``; MoCo v3: ``Solarize()``; solo-learn: ``Solarization()``, in earlier
  versions ``Solarization(threshold)``
- SwAV, DINO, iBOT: ``GaussianBlur(p, radius_min, radius_max)``, in SwAV ``PILRandomGaussianBlur``; DINO, iBOT: ``Solarization(p)``
- Barlow Twins, VICReg: ``GaussianBlur(p)``, ``Solarization(p)``; VICRegL: ``GaussianBlur()``, ``Solarization()``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hvs_data.integrations.transforms.classes import attributes_of, class_name
from hvs_data.integrations.transforms.parts import Blur, Solarize
from hvs_data.integrations.transforms.torchvision_parts import Read

_PILLOW_THRESHOLD = 128.0  # of ImageOps.solarize, where none is given


@dataclass(frozen=True)
class _Official:
    """A class as it stands in a repository.

    Attributes:
        names: that it goes by.
        attributes: all that an object of it has.
        calls: names that its ``__call__`` must use.
        numbers: all numbers that are written in its ``__call__``, 0 and 1 aside.
        read: what an object of it does, from its attributes.
    """

    names: tuple[str, ...]
    attributes: frozenset[str]
    calls: frozenset[str]
    numbers: frozenset[float]
    read: Callable[[dict[str, Any]], Read]


def _official(
    names: str, attributes: str, calls: str, read: Callable[[dict[str, Any]], Read], numbers: tuple[float, ...] = ()
) -> _Official:
    return _Official(tuple(names.split()), frozenset(attributes.split()), frozenset(calls.split()), frozenset(numbers), read)


_OFFICIAL = (
    _official("GaussianBlur", "sigma", "uniform GaussianBlur", lambda own: (Blur(_range(own["sigma"]), None), 1.0)),
    _official(
        "GaussianBlur PILRandomGaussianBlur",
        "prob radius_min radius_max",
        "uniform GaussianBlur",
        lambda own: (Blur((float(own["radius_min"]), float(own["radius_max"])), None), float(own["prob"])),
    ),
    # sigma = rand() * 1.9 + 0.1
    _official("GaussianBlur", "p", "GaussianBlur", lambda own: (Blur((0.1, 2.0), None), float(own["p"])), numbers=(1.9, 0.1)),
    _official("GaussianBlur", "", "GaussianBlur", lambda own: (Blur((0.1, 2.0), None), 1.0), numbers=(1.9, 0.1)),
    _official("Solarize Solarization", "", "solarize", lambda own: (Solarize(_PILLOW_THRESHOLD), 1.0)),
    _official("Solarization", "p", "solarize", lambda own: (Solarize(_PILLOW_THRESHOLD), float(own["p"]))),
    _official("Solarization", "threshold", "solarize", lambda own: (Solarize(float(own["threshold"])), 1.0)),
)


def official_part(part: Any) -> Read | None:
    """What an object of an official repository's class does; None for an unknown one."""
    own = attributes_of(part)
    call = next((vars(kind)["__call__"] for kind in type(part).__mro__ if "__call__" in vars(kind)), None)
    code = getattr(call, "__code__", None)
    if code is None:
        return None
    numbers = {value for value in code.co_consts if isinstance(value, (int, float))} - {0, 1}  # False and True among them
    for official in _OFFICIAL:
        looks = class_name(part) in official.names and own.keys() == official.attributes
        if looks and official.calls <= set(code.co_names) and numbers == official.numbers:
            return official.read(own)
    return None


def _range(sigma: Any) -> tuple[float, float]:
    return float(sigma[0]), float(sigma[1])
