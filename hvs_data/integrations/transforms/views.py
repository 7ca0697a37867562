"""Takes apart what makes several views of an image into one pipeline a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hvs_data.integrations.transforms.classes import attributes_of, class_name, known_class
from hvs_data.integrations.transforms.report import Report

_MULTI_VIEW = {"MultiViewTransform", "MultiViewTransformV2"}  # of lightly
# Multi-crop of DINO, iBOT and DINOv2, and what else such an object holds that does not change its views.
_MULTI_CROP = {"global_transfo1", "global_transfo2", "local_transfo", "local_crops_number"}
_MULTI_CROP_EXTRAS = {
    "global_crops_number",
    "geometric_augmentation_global",
    "geometric_augmentation_local",
    "global_crops_scale",
    "local_crops_scale",
    "global_crops_size",
    "local_crops_size",
    "normalize",
    "gram_teacher_no_distortions",  # of views that a Gram teacher sees, if there are any
    "patch_size",
    "mean",
    "std",
}
# What DINOv3's adds, and the values with which its views are those of DINOv2's.
_AS_DINOV2: dict[str, Any] = {
    "gram_teacher_crops_size": None,
    "teacher_no_color_jitter": False,
    "local_crops_subset_of_global_crops": False,
    "share_color_jitter": False,
    "is_rgb": True,
    "resize_gram_teacher": None,
}
_DOES_NOTHING = "resize_global_post_transf"  # torch.nn.Identity where there are no views for a Gram teacher


@dataclass(frozen=True, eq=False)
class Pipeline:
    """What makes one view.

    Attributes:
        segments: transforms that are applied one after the other, each with where it stands.
    """

    segments: tuple[tuple[str, Any], ...]

    @property
    def path(self) -> str:
        return self.segments[-1][0]

    @property
    def name(self) -> str:
        return class_name(self.segments[-1][1])

    @property
    def identity(self) -> tuple[int, ...]:
        """Equal for pipelines of the very same objects."""
        return tuple(id(transform) for _, transform in self.segments)


def views_of(transforms: Any, path: str, report: Report) -> list[Pipeline]:
    """One pipeline for each view that ``transforms`` makes of an image, in order.

    Lists and tuples of pipelines; lightly's MultiViewTransform; ``TwoCropsTransform`` of SimSiam, MoCo and MoCo v3; ``TwoCropTransform``
    of SupContrast; ``Transform`` of Barlow Twins and VICReg; ``DataAugmentationDINO`` of DINO, DINOv2 and
    DINOv3, and iBOT's; ``FullTransformPipeline`` and ``NCropAugmentation`` of solo-learn. All but lists are told by their attributes.
    """
    if isinstance(transforms, (list, tuple)):
        return [view for position, each in enumerate(transforms) for view in views_of(each, f"{path}[{position}]", report)]
    own = attributes_of(transforms)
    package, _ = known_class(transforms)
    if package == "lightly" and _MULTI_VIEW & {kind.__name__ for kind in type(transforms).__mro__}:
        return views_of(list(own["transforms"]), f"{path}.transforms", report)
    if package:
        return [Pipeline(((path, transforms),))]

    def held(*names: str) -> list[Pipeline]:
        return [view for each in names for view in views_of(own[each], f"{path}.{each}", report)]

    if own.keys() >= _MULTI_CROP:
        return _multi_crop(transforms, own, path, report)
    match class_name(transforms), sorted(own):
        case "TwoCropsTransform", ["base_transform"]:
            return held("base_transform", "base_transform")
        case "TwoCropsTransform", ["base_transform1", "base_transform2"]:
            return held("base_transform1", "base_transform2")
        case "TwoCropTransform", ["transform"]:
            return held("transform", "transform")
        case _, ["transform", "transform_prime"]:
            return held("transform", "transform_prime")
        case "NCropAugmentation", ["num_crops", "transform"]:
            return held("transform") * own["num_crops"]
        case "FullTransformPipeline", ["transforms"]:
            return held("transforms")
    return [Pipeline(((path, transforms),))]


def _multi_crop(transforms: Any, own: dict[str, Any], path: str, report: Report) -> list[Pipeline]:
    others = own.keys() - _MULTI_CROP - _MULTI_CROP_EXTRAS
    changed = [name for name in others & _AS_DINOV2.keys() if own[name] != _AS_DINOV2[name]]
    if _DOES_NOTHING in others and known_class(own[_DOES_NOTHING]) != ("torch", "Identity"):
        changed.append(_DOES_NOTHING)
    if changed:
        report.refuse(
            path,
            class_name(transforms),
            f"views of one image depend on each other, or more are made of it, with {', '.join(sorted(changed))} as they are set",
            "leave these at their defaults; a Gram teacher's crops are twins of the recipe's views: "
            "dataclasses.replace(recipe, twins=(hvs_data.recipes.Twin(size),))",
        )
    unknown = sorted(others - _AS_DINOV2.keys() - {_DOES_NOTHING})
    if unknown:
        report.refuse(
            path,
            class_name(transforms),
            f"it looks like DINO's multi-crop and holds what that does not, {', '.join(unknown)}, which may change its views",
            "pass a list with one pipeline for each view",
        )

    def pipeline(transform: str, geometry: str) -> Pipeline:
        names = [geometry, transform] if geometry in own else [transform]  # DINOv2 crops apart
        return Pipeline(tuple((f"{path}.{name}", own[name]) for name in names))

    first, second = (pipeline(name, "geometric_augmentation_global") for name in ("global_transfo1", "global_transfo2"))
    local = pipeline("local_transfo", "geometric_augmentation_local")
    seconds = own.get("global_crops_number", 2) - 1  # more than two in iBOT
    return [first, *[second] * seconds, *[local] * own["local_crops_number"]]
