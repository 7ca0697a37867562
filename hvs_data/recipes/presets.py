"""The published methods' augmentations as recipes.

Two-view methods take ``candidates``, the number of views drawn for an image: 2 is the method as published, 4 or more leaves a
selector something to choose from. Those whose two views are alike take ``views``, how many of them reach the trainer, for losses of
more than two views. Where a method treats its two views differently, candidates split evenly over the roles
"global1" and "global2". Where released code differs from its paper, ``variant="as_run"`` follows the code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvs_data.arguments.sizes import Size, height_width, plain_size
from hvs_data.arguments.values import whole_number
from hvs_data.errors import RecipeError
from hvs_data.recipes.spec import ColorJitter, Recipe, Role

VARIANTS = ("paper", "as_run")


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise RecipeError(f"variant must be one of {VARIANTS}, got {variant!r}; 'as_run' follows the released code where that differs")


def _half(candidates: int) -> int:
    number = whole_number(candidates)
    if number is None or number < 2 or number % 2:
        raise RecipeError(f"candidates must be an even number of at least 2, got {candidates!r}; half are of role global1, half of global2")
    return number // 2


def _alike(name: str, role: Role, candidates: int, size: Size, views: int, recipe: dict[str, Any], **fixed: Any) -> Recipe:
    """A recipe whose views follow one distribution."""
    if (whole_number(candidates) or 0) < 2:
        raise RecipeError(f"candidates must be a whole number of at least 2, got {candidates!r}; {name} trains on two views of an image")
    emitted = whole_number(views)
    if emitted is None or not 2 <= emitted <= candidates:
        raise RecipeError(
            f"views must be a whole number from 2 to the number of candidates, {candidates}, got {views!r}; so many of the candidates "
            "reach the trainer"
        )
    return Recipe(name, (replace(role, candidates=candidates, emitted=emitted, size=size),), **{**fixed, **recipe})


def _two_globals(candidates: int, size: Size, scale: tuple[float, float], blur: tuple[float, float] = (1.0, 0.1)) -> tuple[Role, Role]:
    """The asymmetric pair of BYOL and its heirs: one view (nearly) always blurred, the other sometimes solarized."""
    first = Role(
        "global1",
        candidates=_half(candidates),
        emitted=1,
        size=size,
        scale=scale,
        jitter=ColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        blur=blur[0],
    )
    return first, replace(first, name="global2", blur=blur[1], solarize=0.2)


def _with_locals(
    globals_: tuple[Role, ...],
    published: int,
    local_candidates: int | None,
    local_views: int | None,
    size: Size,
    scale: tuple[float, float],
) -> tuple[Role, ...]:
    """The global roles and the local one, if there are any local views."""
    drawn = local_candidates if local_candidates is not None else published if local_views is None else local_views
    emitted = local_views if local_views is not None else min(published, drawn)
    if drawn == emitted == 0:
        return globals_
    local = replace(globals_[0], name="local", candidates=drawn, emitted=emitted, size=size, scale=scale, blur=0.5, solarize=0.0)
    return *globals_, local


def simsiam(candidates: int = 2, size: Size = 224, *, views: int = 2, **recipe: Any) -> Recipe:
    """SimSiam (Chen & He 2021, arXiv 2011.10566; github.com/facebookresearch/simsiam).

    Args:
        candidates: views drawn for an image, at least 2.
        size: side of a view in pixels, or (height, width).
        views: how many of them reach the trainer, from 2 to all.
        recipe: other fields of :class:`~hvs_data.recipes.spec.Recipe` to replace, such as ``mean``.
    """
    return _alike("simsiam", Role(), candidates, size, views, recipe)


def moco_v2(candidates: int = 2, size: Size = 224, *, views: int = 2, **recipe: Any) -> Recipe:
    """MoCo v2 (Chen et al. 2020, arXiv 2003.04297); the same views as SimSiam. Arguments as :func:`simsiam`."""
    return _alike("moco_v2", Role(), candidates, size, views, recipe)


def simclr(candidates: int = 2, size: Size = 224, *, views: int = 2, **recipe: Any) -> Recipe:
    """SimCLR (Chen et al. 2020, arXiv 2002.05709; github.com/google-research/simclr). Arguments as :func:`simsiam`."""
    role = Role(scale=(0.08, 1.0), jitter=ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2))
    return _alike("simclr", role, candidates, size, views, recipe, interpolation="bicubic")


def moco_v3(candidates: int = 2, size: Size = 224, scale: tuple[float, float] = (0.08, 1.0), **recipe: Any) -> Recipe:
    """MoCo v3 (Chen, Xie, He 2021, arXiv 2104.02057; github.com/facebookresearch/moco-v3).

    Args:
        candidates: views drawn for an image, even; half are of role "global1", half of "global2".
        size: side of a view in pixels, or (height, width).
        scale: the crop's share of the area; an argument of the released code (its ResNet-50 runs use (0.2, 1)).
        recipe: other fields of :class:`~hvs_data.recipes.spec.Recipe` to replace.
    """
    return Recipe("moco_v3", _two_globals(candidates, size, scale), **recipe)


def byol(candidates: int = 2, size: Size = 224, **recipe: Any) -> Recipe:
    """BYOL (Grill et al. 2020, arXiv 2006.07733). Arguments as :func:`moco_v3`, without ``scale``."""
    return Recipe("byol", _two_globals(candidates, size, (0.08, 1.0)), **{"interpolation": "bicubic", **recipe})


def barlow_twins(candidates: int = 2, size: Size = 224, **recipe: Any) -> Recipe:
    """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230); the same views as BYOL."""
    return replace(byol(candidates, size, **recipe), name="barlow_twins")


def vicreg(candidates: int = 2, size: Size = 224, **recipe: Any) -> Recipe:
    """VICReg (Bardes, Ponce, LeCun 2022, arXiv 2105.04906); the same views as BYOL."""
    return replace(byol(candidates, size, **recipe), name="vicreg")


def dino(
    candidates: int = 2,
    local_candidates: int | None = None,
    size: Size = 224,
    local_size: Size = 96,
    variant: str = "paper",
    local_views: int | None = None,
    **recipe: Any,
) -> Recipe:
    """DINO (Caron et al. 2021, arXiv 2104.14294; github.com/facebookresearch/dino): two global views and small local ones.

    Args:
        candidates: global views drawn for an image, even; half are of role "global1", half of "global2".
        local_candidates: local views drawn for an image; by default as many as reach the trainer. 0 leaves them out.
        size, local_size: sides of global and local views in pixels, or (height, width) of either.
        variant: "paper" has 8 local views, "as_run" the 10 of the released runs.
        local_views: local views of an image that reach the trainer; by default the published number, or all that are drawn if fewer.
        recipe: other fields of :class:`~hvs_data.recipes.spec.Recipe` to replace.
    """
    return _multi_crop("dino", (0.4, 1.0), candidates, local_candidates, size, local_size, variant, local_views, recipe)


def ibot(
    candidates: int = 2,
    local_candidates: int | None = None,
    size: Size = 224,
    local_size: Size = 96,
    variant: str = "paper",
    local_views: int | None = None,
    **recipe: Any,
) -> Recipe:
    """iBOT (Zhou et al. 2022, arXiv 2111.07832; github.com/bytedance/ibot): DINO's views, globals down to .14 of the area.

    Arguments as :func:`dino`. With ``masking=Masking()`` global views have masks, and a batch unpacks as ``views, labels, masks``.
    """
    return _multi_crop("ibot", (0.14, 1.0), candidates, local_candidates, size, local_size, variant, local_views, recipe)


def _multi_crop(
    name: str,
    scale: tuple[float, float],
    candidates: int,
    local_candidates: int | None,
    size: Size,
    local_size: Size,
    variant: str,
    local_views: int | None,
    recipe: dict[str, Any],
) -> Recipe:
    _check_variant(variant)
    published = 10 if variant == "as_run" else 8
    roles = _with_locals(_two_globals(candidates, size, scale), published, local_candidates, local_views, local_size, (0.05, 0.4))
    return Recipe(f"{name}/{variant}", roles, **{"interpolation": "bicubic", **recipe})


def dinov2(
    candidates: int = 2,
    local_candidates: int | None = None,
    size: Size = 224,
    local_size: Size = 96,
    variant: str = "paper",
    local_views: int | None = None,
    **recipe: Any,
) -> Recipe:
    """DINOv2 (Oquab et al. 2023, arXiv 2304.07193; github.com/facebookresearch/dinov2).

    Args:
        variant: "paper" blurs the first global view always and the second in 1 of 10; "as_run" follows the released code, whose
            blur is applied with the complement of the probability that it names: never, and in 9 of 10.
        candidates, local_candidates, size, local_size, local_views, recipe: as :func:`dino`; released configurations use
            local_size 96 or 98.
    """
    _check_variant(variant)
    globals_ = _two_globals(candidates, size, (0.32, 1.0), blur=(0.0, 0.9) if variant == "as_run" else (1.0, 0.1))
    roles = _with_locals(globals_, 8, local_candidates, local_views, local_size, (0.05, 0.32))
    return Recipe(f"dinov2/{variant}", roles, **{"interpolation": "bicubic", "blur_kernel": 9, **recipe})


def msn(
    candidates: int = 2,
    local_candidates: int | None = None,
    size: Size = 224,
    local_size: Size = 96,
    local_views: int | None = None,
    **recipe: Any,
) -> Recipe:
    """MSN (Assran et al. 2022, arXiv 2204.07141; github.com/facebookresearch/msn): a target, an anchor like it, and 10 small anchors.

    Arguments as :func:`dino`, ``candidates`` of any number. With ``masking=Masking(shape="random", ratio=0.15, variance=0.0)`` global views
    have masks, of which the anchor's counts.
    """
    role = Role(scale=(0.3, 1.0), jitter=ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2))
    globals_ = _alike("msn", role, candidates, size, 2, {}).roles
    return Recipe("msn", _with_locals(globals_, 10, local_candidates, local_views, local_size, (0.05, 0.3)), **recipe)


def evaluation(size: Size = 224, resize: int | tuple[int, int] | None = None, **recipe: Any) -> Recipe:
    """The one view of an image that features are evaluated on, without randomness: torchvision's Resize, CenterCrop and Normalize.

    A loader with ``shuffle=False`` and ``format=hvs_data.formats.images_and_labels`` gives what a DataLoader of these transforms gave::

        loader = hvs.ViewLoader("photos/val", hvs.recipes.evaluation(224), shuffle=False, format=hvs.formats.images_and_labels)
        for images, labels in loader:  # [B, 3, 224, 224], [B]; the last batch is smaller
            ...

    Args:
        size: of the view, as of CenterCrop.
        resize: the image's shorter side, or (height, width), as of Resize; by default 256 / 224 of the longer side of the view, rounded.
        recipe: other fields of :class:`~hvs_data.recipes.spec.Recipe` to replace, such as ``interpolation="bicubic"``.
    """
    if resize is None and (plain := plain_size(size)) is not None:  # what is no size is refused below
        resize = round(max(height_width(plain)) * 256 / 224)
    view = Role(
        candidates=1, emitted=1, size=size, resize=resize, crop="center", flip=0, jitter=ColorJitter(0, 0, 0, 0, 0), gray=0, blur=0
    )  # fmt: skip
    return Recipe("evaluation", (view,), **recipe)
