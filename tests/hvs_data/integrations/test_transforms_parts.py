"""torchvision's parts one by one: what becomes of each, in both versions, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.integrations.transforms import ApproximateRecipeWarning, InexpressiblePart, TransformsError
from hvs_data.recipes import ColorJitter, Recipe, Role

VERSIONS = pytest.mark.parametrize("T", [v1, v2], ids=["v1", "v2"])
PLAIN = Role("view", 1, 1, 32, (0.08, 1.0), flip=0, jitter=ColorJitter(0, 0, 0, 0, 0), gray=0, blur=0)
# values that are not normalised
RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def float_tensor(T: Any) -> list[Any]:
    return [T.ToTensor()] if T is v1 else [T.ToImage(), T.ToDtype(torch.float32, scale=True)]


def converted(T: Any, *parts: Any, **arguments: Any) -> Recipe:
    """Of crop, parts, and the conversion to a tensor."""
    return hvs.recipe_from(T.Compose([T.RandomResizedCrop(32), *parts, *float_tensor(T)]), **arguments)


def refused(transforms: Any) -> tuple[InexpressiblePart, ...]:
    with pytest.raises(TransformsError) as refusal:
        hvs.recipe_from(transforms)
    assert isinstance(refusal.value, hvs.RecipeError)
    for part in refusal.value.parts:
        assert str(part) in str(refusal.value)
    return refusal.value.parts


def paths(transforms: Any) -> list[str]:
    return [part.path for part in refused(transforms)]


# --- what is expressed -------------------------------------------------------------------------------------------------------


@VERSIONS
def test_a_crop_alone_is_a_view_without_operations(T: Any) -> None:
    assert converted(T) == Recipe("from_transforms", (PLAIN,), **RAW)


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_candidates_of_transforms_share_as_those_of_a_preset(shared: str) -> None:
    one = v1.Compose([v1.RandomResizedCrop(32), v1.ToTensor()])
    role = replace(PLAIN, candidates=3, shared=shared)
    assert hvs.recipe_from([one, one], candidates=6).with_shared(shared).roles == tuple(
        replace(role, name=name) for name in ("global1", "global2")
    )


PARTS: dict[str, tuple[Callable[[Any], list[Any]], dict[str, Any]]] = {
    "flip": (lambda T: [T.RandomHorizontalFlip(0.3)], {"flip": 0.3}),
    "two flips": (lambda T: [T.RandomHorizontalFlip(0.5), T.RandomHorizontalFlip(0.25)], {"flip": 0.5 * 0.75 + 0.5 * 0.25}),
    "jitter": (lambda T: [T.ColorJitter(0.4, 0.3, 0.2, 0.1)], {"jitter": ColorJitter(1, 0.4, 0.3, 0.2, 0.1)}),
    "jitter beyond 1": (lambda T: [T.ColorJitter(1.6)], {"jitter": ColorJitter(1, 1.6, 0, 0, 0)}),
    "jitter of symmetric ranges": (
        lambda T: [T.RandomApply([T.ColorJitter((0.5, 1.5), saturation=(0, 2), hue=(-0.5, 0.5))], 0.7)],
        {"jitter": ColorJitter(0.7, 0.5, 0, 1, 0.5)},
    ),
    "jitter of nothing": (lambda T: [T.ColorJitter(), T.ColorJitter(0.4)], {"jitter": ColorJitter(1, 0.4, 0, 0, 0)}),
    "grey": (lambda T: [T.RandomGrayscale(0.2)], {"gray": 0.2}),
    "always grey": (lambda T: [T.Grayscale(3)], {"gray": 1.0}),
    "grey twice": (lambda T: [T.RandomGrayscale(0.5), T.RandomGrayscale(0.5)], {"gray": 0.75}),
    "fixed blur": (lambda T: [T.GaussianBlur(23, 1.5)], {"blur": 1.0, "sigma": (1.5, 1.5)}),
    "blur": (lambda T: [T.RandomApply([T.GaussianBlur((23, 23), (0.2, 1.0))], p=0.4)], {"blur": 0.4, "sigma": (0.2, 1.0)}),
    "blur before grey": (lambda T: [T.GaussianBlur(23), T.RandomGrayscale(0.2)], {"blur": 1.0, "gray": 0.2}),
    "solarize": (lambda T: [T.RandomSolarize(128, p=0.2)], {"solarize": 0.2}),
    "solarize of whole numbers": (lambda T: [T.RandomSolarize(127.5, p=0.2)], {"solarize": 0.2}),
    "solarize of floats": (lambda T: [*float_tensor(T), T.RandomSolarize(0.5, p=0.2)], {"solarize": 0.2}),
    "random of random": (lambda T: [T.RandomApply([T.RandomSolarize(128, p=0.5)], p=0.5)], {"solarize": 0.25}),
    "always": (lambda T: [T.RandomApply([T.RandomHorizontalFlip(0.3), T.RandomGrayscale(0.2)], p=1)], {"flip": 0.3, "gray": 0.2}),
    "never, known or not": (
        lambda T: [T.RandomApply([T.RandomRotation(9), str], p=0), T.RandomVerticalFlip(0.0), T.RandomPerspective(p=0)],
        {},
    ),
    "one of two that does something": (
        lambda T: [T.RandomApply([T.RandomVerticalFlip(0.0), T.RandomGrayscale(0.5)], p=0.5)],
        {"gray": 0.25},
    ),
    "nested": (lambda T: [T.Compose([T.Compose([T.RandomHorizontalFlip(1.0)]), nn.Identity()])], {"flip": 1.0}),
    "containers of pixels": (lambda T: [T.PILToTensor(), T.ToPILImage(), T.RandomGrayscale(0.1)], {"gray": 0.1}),
}


@VERSIONS
@pytest.mark.parametrize("part", PARTS)
def test_a_part_becomes_a_field_of_the_role(T: Any, part: str) -> None:
    make, fields = PARTS[part]
    (role,) = converted(T, *make(T)).roles
    changed = {name: getattr(role, name) for name in vars(role) if getattr(role, name) != getattr(PLAIN, name)}
    assert changed == pytest.approx(fields) if all(isinstance(value, float) for value in fields.values()) else changed == fields


@VERSIONS
@pytest.mark.parametrize(
    ("arguments", "fields", "interpolation"),
    [
        ({"size": 48}, {"size": 48, "scale": (0.08, 1.0)}, "bilinear"),
        ({"size": (48, 48), "scale": (0.3, 0.9), "ratio": (0.5, 2)}, {"size": 48, "scale": (0.3, 0.9), "ratio": (0.5, 2)}, "bilinear"),
        ({"size": 48, "interpolation": v1.InterpolationMode.BICUBIC}, {"size": 48}, "bicubic"),
        ({"size": 48, "interpolation": 3}, {"size": 48}, "bicubic"),
        ({"size": 48, "antialias": None}, {"size": 48}, "bilinear"),
    ],
)
def test_a_crop_keeps_its_numbers(T: Any, arguments: dict[str, Any], fields: dict[str, Any], interpolation: str) -> None:
    recipe = hvs.recipe_from(T.Compose([T.RandomResizedCrop(**arguments), *float_tensor(T)]))
    assert {name: getattr(recipe.roles[0], name) for name in fields} == fields and recipe.interpolation == interpolation


@VERSIONS
def test_normalisation_is_taken_over(T: Any) -> None:
    recipe = hvs.recipe_from(
        T.Compose([T.RandomResizedCrop(32), *float_tensor(T), T.Normalize([0.5, 0.4, 0.3], (0.2,)), T.RandomHorizontalFlip()])
    )
    assert (recipe.mean, recipe.std, recipe.roles[0].flip) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.5)


def test_floats_up_to_255_are_brought_to_the_scale_of_a_recipe() -> None:
    to_float = v2.ToDtype(torch.float32, scale=False)
    raw = hvs.recipe_from(v2.Compose([v2.RandomResizedCrop(32), v2.ToImage(), to_float]))
    assert raw.mean == (0, 0, 0) and raw.std == (1 / 255,) * 3  # x / 255 divided by it is x
    normalized = hvs.recipe_from(v2.Compose([v2.RandomResizedCrop(32), v2.ToImage(), to_float, v2.Normalize([127.5] * 3, [51.0] * 3)]))
    assert normalized.mean == (0.5,) * 3 and normalized.std == (0.2,) * 3


def test_a_dtype_by_kind_of_value() -> None:
    from torchvision import tv_tensors

    dtype = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
    assert hvs.recipe_from(v2.Compose([v2.ToImage(), v2.RandomResizedCrop(32), dtype, v2.ToPureTensor()])) == converted(v1)


@VERSIONS
def test_the_kernel_is_the_pipelines(T: Any) -> None:
    assert converted(T, T.GaussianBlur(9)).blur_kernel == 9


def test_a_sequential_of_modules_is_a_pipeline() -> None:
    assert hvs.recipe_from(nn.Sequential(v1.RandomResizedCrop(32), v1.RandomHorizontalFlip(), v1.ConvertImageDtype(torch.float32))) == (
        converted(v1, v1.RandomHorizontalFlip())
    )


# --- several views -----------------------------------------------------------------------------------------------------------


def view(size: int = 32, flip: float = 0.5, **blur: Any) -> Any:
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(flip), v2.GaussianBlur(9, **blur), *float_tensor(v2)])


def layout(transforms: Any, **arguments: Any) -> list[tuple[str, int, int, int]]:
    return [(role.name, role.candidates, role.emitted, role.size) for role in hvs.recipe_from(transforms, **arguments).roles]


@pytest.mark.parametrize(
    ("make", "arguments", "roles"),
    [
        (lambda: [view(), view()], {}, [("view", 2, 2, 32)]),
        (lambda: (view(),) * 3, {"candidates": 7}, [("view", 7, 3, 32)]),
        (lambda: [view(), [view(flip=0)]], {}, [("global1", 1, 1, 32), ("global2", 1, 1, 32)]),
        (lambda: [view(), view(flip=0)], {"candidates": 6}, [("global1", 3, 1, 32), ("global2", 3, 1, 32)]),
        (lambda: [view(), view(), view(flip=0)], {"candidates": 6}, [("global1", 4, 2, 32), ("global2", 2, 1, 32)]),
        (lambda: [view(), view(flip=0), view(16)], {}, [("global1", 1, 1, 32), ("global2", 1, 1, 32), ("local", 1, 1, 16)]),
        (lambda: [view(), view(), view(16), view(16)], {"local_candidates": 5}, [("view", 2, 2, 32), ("local", 5, 2, 16)]),
        # a pair of two sizes has no local view
        (lambda: [view(), view(16)], {}, [("global1", 1, 1, 32), ("global2", 1, 1, 16)]),
    ],
)
def test_views_become_roles(make: Callable[[], Any], arguments: dict[str, int], roles: list[tuple[str, int, int, int]]) -> None:
    assert layout(make(), **arguments) == roles


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: [view(), view(flip=0)], {"candidates": 5}, "multiple of 2"),
        (lambda: [view()] * 3, {"candidates": 2}, "at least 3"),
        (lambda: [view()] * 2, {"candidates": True}, "whole number"),
        (lambda: [view()] * 2, {"local_candidates": 4}, "smaller local views"),
        (lambda: [view(), view(), view(16), view(16)], {"local_candidates": 1}, "at least 2"),
        (lambda: view(), {"candidates": 4}, r"pass \[transform, transform\]"),
        (lambda: [], {}, "at least one view"),
    ],
)
def test_numbers_that_fit_no_recipe_are_errors(make: Callable[[], Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(hvs.RecipeError, match=message):
        hvs.recipe_from(make(), **arguments)


def test_what_a_recipe_has_once_must_not_differ_between_views() -> None:
    def other(mean: float, kernel: int, interpolation: Any) -> Any:
        crop = v1.RandomResizedCrop(32, interpolation=interpolation)
        return v1.Compose([crop, v1.GaussianBlur(kernel), v1.ToTensor(), v1.Normalize([mean] * 3, [1.0] * 3)])

    bilinear, bicubic = v1.InterpolationMode.BILINEAR, v1.InterpolationMode.BICUBIC
    told = refused([other(0.5, 9, bilinear), other(0.4, 23, bicubic)])
    assert [part.path for part in told] == ["transforms[1]"] * 3
    assert [part.why.split(" for all views")[0] for part in told] == [
        f"a recipe has one {name}" for name in ("interpolation", "mean", "blur_kernel")
    ]


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: [view(), view(flip=0), view()], "transforms[2]"),
        (lambda: [view(16), view(), view()], "transforms[1]"),
        (lambda: [view(), view(), view(16), view(8)], "transforms[3]"),
    ],
)
def test_views_that_a_recipe_would_hand_out_otherwise_are_refused(make: Callable[[], Any], path: str) -> None:
    assert path in paths(make())


# --- what is refused ----------------------------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "rotation": (lambda T: T.RandomRotation(10), "turns by quarters, got any angle from -10 to 10"),
    "rotation by 45 degrees": (lambda T: T.RandomRotation((45, 45)), "turns by quarters, got 45 degrees"),
    "rotation about a corner": (lambda T: T.RandomRotation((90, 90), center=(0, 0)), "about the centre"),
    "erasing of 8 bits": (lambda T: T.RandomErasing(), "erases floats, got 8-bit values"),
    "AutoAugment": (lambda T: T.AutoAugment(), "no operation of a recipe"),
    "choice": (lambda T: T.RandomChoice([T.RandomGrayscale(), T.GaussianBlur(9)]), "chooses between turns alone, got RandomGrayscale"),
    "choice with weights": (lambda T: T.RandomChoice([T.RandomRotation((90, 90))] * 2, p=[0.2, 0.8]), "each of its turns as often"),
    "padded crop behind another": (lambda T: T.RandomCrop(32, padding=4), "a recipe does this once"),
    "white padding": (lambda T: T.RandomCrop(32, padding=4, fill=255), "with black"),
    "padding of one side": (lambda T: T.RandomCrop(32, padding=(4, 0)), "all sides alike"),
    "resize behind the crop": (lambda T: T.Resize(16, antialias=True), "behind RandomResizedCrop"),
    "resize with a largest side": (lambda T: T.Resize(16, max_size=20, antialias=True), "no largest side"),
    "lambda of torchvision": (lambda T: T.Lambda(lambda image: image), "no operation of a recipe"),
    "plain function": (lambda T: lambda image: image, "none of the known classes"),
    "second crop": (lambda T: T.RandomResizedCrop(32), "a recipe does this once"),
    "one channel": (lambda T: T.Grayscale(1), "three channels"),
    "brightness about 1.1": (lambda T: T.ColorJitter((0.8, 1.4)), "[0.8, 1.4]"),
    "brightness below 1": (lambda T: T.ColorJitter((0.5, 0.8)), "[0.5, 0.8]"),
    "fixed contrast": (lambda T: T.ColorJitter(contrast=(1.2, 1.2)), "[1.2, 1.2]"),
    "saturation up to 1": (lambda T: T.ColorJitter(saturation=(0.5, 1)), "[0.5, 1]"),
    "hue to one side": (lambda T: T.ColorJitter(hue=(0, 0.2)), "[0, 0.2]"),
    "blur of an oblong kernel": (lambda T: T.GaussianBlur((9, 11)), "square"),
    "threshold": (lambda T: T.RandomSolarize(192), "threshold 192 of 255"),
    "threshold of floats": (lambda T: T.RandomSolarize(0.5), "threshold 0.5 of 255"),
    "together": (
        lambda T: T.RandomApply([T.GaussianBlur(9), T.RandomSolarize(128)], p=0.5),
        "one draw decides on GaussianBlur, RandomSolarize",
    ),
}


@VERSIONS
@pytest.mark.parametrize("part", REFUSED)
def test_what_a_recipe_lacks_is_refused(T: Any, part: str) -> None:
    make, why = REFUSED[part]
    (told,) = refused(T.Compose([T.RandomResizedCrop(32), make(T), *float_tensor(T)]))
    assert told.path == "transforms[1]" and why in told.why and told.remedy


CROPS: dict[str, tuple[dict[str, Any], str]] = {
    "nearest": ({"size": 32, "interpolation": v1.InterpolationMode.NEAREST}, "bilinear or bicubic"),
    "aliased": ({"size": 32, "antialias": False}, "antialiased"),
    "both": ({"size": (32, 48), "interpolation": v1.InterpolationMode.LANCZOS}, "bilinear or bicubic"),
}


@VERSIONS
@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_that_a_recipe_cannot_make_is_refused(T: Any, crop: str) -> None:
    arguments, why = CROPS[crop]
    (told,) = refused(T.Compose([T.RandomResizedCrop(**arguments), *float_tensor(T)]))
    assert told.path == "transforms[0]" and why in told.why


@VERSIONS
def test_what_every_view_passes_is_not_left_to_chance(T: Any) -> None:
    crop, normalize = T.RandomResizedCrop(32), T.Normalize([0.5] * 3, [0.5] * 3)
    transforms = T.Compose([T.RandomApply([crop], p=0.5), *float_tensor(T), T.RandomApply([normalize], p=0.5)])
    last = len(transforms.transforms) - 1
    assert paths(transforms) == ["transforms[0].RandomApply[0]", f"transforms[{last}].RandomApply[0]"]


@VERSIONS
def test_a_resize_of_tensors_is_antialiased_or_refused(T: Any) -> None:
    assert paths(T.Compose([T.PILToTensor(), T.RandomResizedCrop(32, antialias=None)])) == ["transforms[1]"]


@VERSIONS
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("jitter", "crop"),
        ("gray", "crop"),
        ("gray", "jitter"),
        ("blur", "jitter"),
        ("solarize", "jitter"),
        ("solarize", "gray"),
        ("solarize", "blur"),
    ],
)
def test_operations_in_an_order_that_no_recipe_has_are_refused(T: Any, first: str, second: str) -> None:
    parts = {
        "crop": T.RandomResizedCrop(32),
        "jitter": T.ColorJitter(0.4),
        "gray": T.RandomGrayscale(0.2),
        "blur": T.GaussianBlur(9),
        "solarize": T.RandomSolarize(128),
    }
    before = [parts["crop"]] if second != "crop" else []
    (told,) = refused(T.Compose([*before, parts[first], parts[second], *float_tensor(T)]))
    assert told.path == f"transforms[{len(before) + 1}]" and "do not commute" in told.why
    # and the flip commutes with all of them
    assert (
        converted(T, T.RandomHorizontalFlip(), *([parts[second], parts[first]] if second != "crop" else [parts[first]])).roles[0].flip
        == 0.5
    )


def test_a_pipeline_without_a_size_is_refused() -> None:
    (told,) = refused(v2.Compose([v2.Resize(256), *float_tensor(v2)]))
    assert told.path == "transforms" and "it has no crop" in told.why and "Resize to a height and a width" in told.remedy


def test_values_of_another_kind_are_refused() -> None:
    crop, to_float = v2.RandomResizedCrop(32), v2.ToDtype(torch.float32, scale=True)
    assert paths(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=False), crop])) == ["transforms[2]"]
    assert paths(v2.Compose([crop, to_float, v2.ToPILImage(), v2.GaussianBlur(9), to_float])) == ["transforms[2]"]
    assert paths(v2.Compose([crop, to_float, v2.ToDtype(torch.uint8, scale=True)])) == ["transforms[2]"]
    assert paths(v2.Compose([crop, v2.ToDtype(torch.int32)])) == ["transforms[1]"]
    assert paths(v2.Compose([crop, to_float, v2.Normalize([0.5] * 4, [1.0] * 4)])) == ["transforms[2]"]


def test_all_parts_are_named_at_once_and_with_their_places() -> None:
    def own(image):
        return image

    transforms = [
        v1.Compose(
            [
                v1.RandomResizedCrop(32, interpolation=v1.InterpolationMode.NEAREST),
                v1.RandomApply([v1.RandomRotation(10)], p=0.3),
                v1.Compose([v1.RandomGrayscale(), v1.ColorJitter(0.4)]),
                v1.ToTensor(),
                v1.RandomErasing(),
            ]
        ),
        v2.Compose([v2.RandomResizedCrop(32), own, *float_tensor(v2)]),
    ]
    assert paths(transforms) == [
        "transforms[0].Compose[0]",
        "transforms[0].Compose[1].RandomApply[0]",
        "transforms[0].Compose[2].Compose[1]",
        "transforms[1].Compose[1]",
    ]
    assert paths(transforms[0])[1] == "transforms[1].RandomApply[0]"


def test_a_pipeline_that_stands_twice_is_refused_once() -> None:
    assert paths([v1.Compose([v1.RandomResizedCrop(32), v1.RandomErasing()])] * 2) == ["transforms[0].Compose[1]"]


def test_values_that_a_recipe_refuses_are_told_with_their_pipeline() -> None:
    (told,) = refused(v1.Compose([v1.RandomResizedCrop(32, scale=(0.5, 2.0)), v1.ToTensor()]))
    assert told.path == "transforms" and "scale" in told.why


# --- what is told ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: [v2.RandomResizedCrop(32), v2.PILToTensor()], "8-bit values"),
        (lambda: [v2.RandomResizedCrop(32), v2.ToImage(), v2.ToDtype(torch.bfloat16, scale=True)], "torch.bfloat16"),
        (lambda: [*float_tensor(v2), v2.RandomResizedCrop(32, interpolation=v2.InterpolationMode.BICUBIC)], "overshoot"),
    ],
)
def test_small_differences_are_warnings(make: Callable[[], Any], told: str) -> None:
    with pytest.warns(ApproximateRecipeWarning, match=told):
        hvs.recipe_from(v2.Compose(make()))


@pytest.mark.filterwarnings("error::hvs_data.integrations.transforms.ApproximateRecipeWarning")
@VERSIONS
def test_what_is_equal_is_not_warned_about(T: Any) -> None:
    converted(T, T.RandomHorizontalFlip(), T.ColorJitter(0.4), T.RandomGrayscale(), T.GaussianBlur(9), T.RandomSolarize(128))
