"""The recipe that equals a user's transforms, or an error that names every part without an equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hvs_data.arguments.sizes import height_width
from hvs_data.arguments.values import whole_number
from hvs_data.errors import RecipeError
from hvs_data.integrations.transforms.flatten import ROOT, steps_of
from hvs_data.integrations.transforms.law import Law, law_of
from hvs_data.integrations.transforms.report import Report
from hvs_data.integrations.transforms.views import Pipeline, views_of
from hvs_data.recipes.spec import Recipe, Role
from hvs_data.types.rows import LOCAL, RenderSpec

PILLOW_KERNEL = RenderSpec.blur_kernel  # for sigmas up to 2, of which it holds all but 4e-8


def recipe_from(
    transforms: Any, candidates: int | None = None, local_candidates: int | None = None, name: str = "from_transforms"
) -> Recipe:
    """The recipe whose views have the distribution of those that ``transforms`` makes.

    Takes one pipeline of torchvision's transforms (version 1 or 2) a view, in a list or in what makes several views of an image:
    lightly's ``MultiViewTransform`` and the like, ``TwoCropsTransform``, ``DataAugmentationDINO`` and others of official repositories.
    docs/replacing_a_dataloader.md lists the parts that are known. No package is imported for it.

    Pipelines of one distribution become one role, which is called "view" where all are alike. Where at least two views have the largest
    size, smaller ones are "local"; two distributions of the others become "global1" and "global2".

    Equal means: every operation has the same probability, parameters of the same distribution, and an order of the same effect. Pixels
    differ by the rounding to 8 bits that Pillow does after every operation. Values that are not normalised give mean 0 and standard
    deviation 1.

    Args:
        transforms: what the dataset's ``transform`` was.
        candidates: views drawn for an image, the local ones aside; by default as many as the transforms make. Several roles share them
            in the proportion in which the transforms make them: with two, an even number.
        local_candidates: local views drawn for an image; by default as many as the transforms make.
        name: the recipe's.

    Raises:
        TransformsError: parts that cannot be expressed; the message names each, where it stands, why, and what to do.
        RecipeError: numbers of candidates that fit no recipe, or too few.

    Warns:
        ApproximateRecipeWarning: known small differences, once for all of them.
    """
    report = Report()
    views = views_of(transforms, ROOT, report)
    if not views:
        raise RecipeError("transforms must make at least one view, got none; pass a list with one pipeline for each view")
    laws: dict[tuple[int, ...], Law | None] = {}
    for view in views:
        if view.identity not in laws:
            laws[view.identity] = law_of(steps_of(view, report), view, report)
    law_of_view = [laws[view.identity] for view in views]
    _refuse_different("interpolation", views, law_of_view, report, "resize all views in one way")
    _refuse_different("mean", views, law_of_view, report, "normalise all views in one way")
    _refuse_different("std", views, law_of_view, report, "normalise all views in one way")
    _refuse_different("blur_kernel", views, law_of_view, report, "give all blurs one kernel_size")
    known = [law for law in law_of_view if law is not None]
    if len(known) == len(views):
        _refuse_mixed_order(known, views, report)
    report.raise_if_refused()
    roles = _with_candidates(_roles(known), candidates, local_candidates)
    recipe = Recipe(
        name,
        roles,
        interpolation=known[0].interpolation,
        blur_kernel=next((law.blur_kernel for law in known if law.blur_kernel is not None), _pillow_kernel(known)),
        mean=known[0].mean,  # type: ignore[arg-type]
        std=known[0].std,  # type: ignore[arg-type]
    )
    report.warn(stacklevel=2)
    return recipe


def _pillow_kernel(laws: Sequence[Law]) -> int:
    """Taps for blurs without a kernel: three standard deviations to each side, and at least those of the published recipes."""
    widest = max(law.role.sigma[1] for law in laws)
    return min(255, max(PILLOW_KERNEL, 2 * math.ceil(3 * widest) + 1))


def _refuse_different(field: str, views: Sequence[Pipeline], laws: Sequence[Law | None], report: Report, remedy: str) -> None:
    """Refuse views that differ in what a recipe has once for all."""
    first: tuple[Pipeline, Any] | None = None
    for view, law in zip(views, laws, strict=True):
        value = None if law is None else getattr(law, field)
        if value is None:
            continue
        if first is None:
            first = view, value
        elif value != first[1]:
            why = f"a recipe has one {field} for all views, got {value!r} here and {first[1]!r} at {first[0].path}"
            report.refuse(view.path, view.name, why, remedy)


def _is_local(laws: Sequence[Law]) -> list[bool]:
    """Which views are local ones: smaller than the largest, if those make a pair."""
    pixels = [math.prod(height_width(law.role.size)) for law in laws]
    return [count < max(pixels) and pixels.count(max(pixels)) > 1 for count in pixels]


def _refuse_mixed_order(laws: Sequence[Law], views: Sequence[Pipeline], report: Report) -> None:
    """Refuse views that a recipe, which goes role by role with local ones at the end, would hand out in another order."""
    locals_ = _is_local(laws)
    seen: list[Role] = []
    for law, local, view in zip(laws, locals_, views, strict=True):
        if seen and law.role != seen[-1] and law.role in seen:
            report.refuse(view.path, view.name, "views of one distribution come one after the other", "put equal pipelines together")
        if not local and any(locals_[: len(seen)]):
            report.refuse(view.path, view.name, "small local views come behind all others", "put them at the end of the list")
        seen.append(law.role)
    different = dict.fromkeys(role for role, local in zip(seen, locals_, strict=True) if local)
    if len(different) > 1:
        for role in list(different)[1:]:
            view = views[seen.index(role)]
            report.refuse(view.path, view.name, "all small local views have one distribution", "give them one")


def _roles(laws: Sequence[Law]) -> tuple[Role, ...]:
    """One role a distribution, with as many candidates as the transforms make."""
    locals_ = dict.fromkeys(law.role for law, local in zip(laws, _is_local(laws), strict=True) if local)
    globals_ = [role for role in dict.fromkeys(law.role for law in laws) if role not in locals_]
    names = ["view"] if len(globals_) == 1 else [f"global{number}" for number in range(1, len(globals_) + 1)]
    named = [*zip(names, globals_, strict=True), *((LOCAL, role) for role in locals_)]
    made = {role: sum(law.role == role for law in laws) for _, role in named}
    return tuple(replace(role, name=name, candidates=made[role], emitted=made[role]) for name, role in named)


def _with_candidates(roles: tuple[Role, ...], candidates: int | None, local_candidates: int | None) -> tuple[Role, ...]:
    """The roles with as many candidates as asked for."""
    globals_ = [role for role in roles if role.name != LOCAL]
    locals_ = [role for role in roles if role.name == LOCAL]
    if candidates is not None:
        globals_ = _shared(globals_, candidates)
    if local_candidates is not None:
        if not locals_:
            raise RecipeError(
                f"local_candidates needs transforms with smaller local views, got none with local_candidates={local_candidates}"
            )
        locals_ = [replace(locals_[0], candidates=_counted("local_candidates", local_candidates, locals_[0].emitted))]
    return (*globals_, *locals_)


def _shared(roles: Sequence[Role], candidates: int) -> list[Role]:
    made = sum(role.emitted for role in roles)
    candidates = _counted("candidates", candidates, made)
    if made == 1 and candidates > 1:
        raise RecipeError(
            f"candidates={candidates} needs transforms that make at least two views of an image, got a single pipeline; for a method that "
            "trains on two views of it, pass [transform, transform]"
        )
    if len(roles) > 1 and any(candidates * role.emitted % made for role in roles):
        raise RecipeError(
            f"candidates must be a multiple of {made}, got {candidates}; {' and '.join(role.name for role in roles)} share them"
        )
    return [replace(role, candidates=candidates * role.emitted // made if len(roles) > 1 else candidates) for role in roles]


def _counted(name: str, value: Any, least: int) -> int:
    number = whole_number(value)
    if number is None or number < least:
        raise RecipeError(f"{name} must be a whole number of at least {least}, got {value!r}; the transforms make {least} views")
    return number
