"""From one view's pipeline, with all that is nested in it, to a plain sequence of steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hvs_data.integrations.transforms.classes import attributes_of, class_name, known_class
from hvs_data.integrations.transforms.official_parts import official_part
from hvs_data.integrations.transforms.parts import Convert, Crop, FixedCrop, Normalize, Resize, Step
from hvs_data.integrations.transforms.report import ELSEWHERE, InexpressibleError, Report
from hvs_data.integrations.transforms.torchvision_parts import READERS, never_applied
from hvs_data.integrations.transforms.views import Pipeline

ROOT = "transforms"
_CONTAINERS = {("torchvision", "Compose"), ("torch", "Sequential")}
_WHOLE = (Crop, FixedCrop, Resize, Convert, Normalize)  # every view passes these


def steps_of(pipeline: Pipeline, report: Report) -> list[Step]:
    """The steps of a view in order, without those that never do anything. What is not known is refused."""
    return [step for path, transform in pipeline.segments for step in _steps(transform, path, report)]


def _steps(part: Any, path: str, report: Report) -> list[Step]:
    package, name = known_class(part)
    own = attributes_of(part)
    if (package, name) in _CONTAINERS:
        return _children(own["transforms"] if name == "Compose" else part, part, path, report)
    if (package, name) == ("torchvision", "RandomApply"):
        return _randomly(own["transforms"], part, path, report)
    if package == "lightly" and own.keys() == {"transform"}:
        return _steps(own["transform"], f"{path}.transform", report)
    try:
        read = READERS.get(package, {}).get(name)
        found = read(part) if read else official_part(part)
        if found is None and package and never_applied(part):
            found = None, 0.0
    except InexpressibleError as error:
        report.refuse(path, class_name(part), error.why, error.remedy)
        return []
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        report.refuse(path, class_name(part), f"it does not hold what it is expected to ({type(error).__name__}: {error})")
        return []
    if found is None:
        _refuse_unknown(part, package, path, report)
        return []
    what, p = found
    return [] if what is None or p == 0 else [Step(path, class_name(part), what, p)]


def _children(parts: Iterable[Any], parent: Any, path: str, report: Report) -> list[Step]:
    # the outermost pipeline's parts are numbered as in `transforms.transforms[1]`, cut short
    stem = path if path == ROOT else f"{path}.{class_name(parent)}"
    return [step for position, part in enumerate(parts) for step in _steps(part, f"{stem}[{position}]", report)]


def _randomly(parts: Iterable[Any], parent: Any, path: str, report: Report) -> list[Step]:
    """Parts that are applied together or not at all."""
    if parent.p == 0:
        return []
    steps = _children(parts, parent, path, report)
    if parent.p == 1 or not steps:
        return steps
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps)
        report.refuse(path, class_name(parent), f"one draw decides on {names} together", "give each a RandomApply of its own, or drop it")
        return []
    if isinstance(steps[0].part, _WHOLE):
        report.refuse(steps[0].path, steps[0].name, f"every view of a recipe passes this, got p={parent.p:g}", "take it out of RandomApply")
        return []
    return [replace(steps[0], p=steps[0].p * float(parent.p))]


def _refuse_unknown(part: Any, package: str, path: str, report: Report) -> None:
    if package:
        report.refuse(path, class_name(part), "no operation of a recipe does this")
        return
    kinds = ", ".join(f"{kind.__module__}.{kind.__name__}" for kind in type(part).__mro__[1:-1])
    inherits = f", a subclass of {kinds} with a behaviour of its own" if kinds else ""
    report.refuse(
        path,
        class_name(part),
        f"it is of none of the known classes{inherits}",
        f"pass the parts that it is made of (a list with one pipeline for each view); else {ELSEWHERE}",
    )
