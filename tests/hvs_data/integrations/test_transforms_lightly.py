"""lightly's transforms: the recipes of its default arguments, by hand from its documentation and signatures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lightly import transforms as lightly
from lightly.transforms.multi_view_transform import MultiViewTransform

import hvs_data as hvs
from hvs_data.integrations.transforms import TransformsError
from hvs_data.recipes import ColorJitter, Recipe, Role

pytestmark = pytest.mark.filterwarnings("ignore::hvs_data.integrations.transforms.ApproximateRecipeWarning")

# lightly multiplies its strengths by cj_strength
STRONG = ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2)
WEAK = ColorJitter(0.8, 0.4, 0.4, 0.4, 0.1)
OF_BYOL = ColorJitter(0.8, 0.4, 0.4, 0.2, 0.1)

FIRST = Role("global1", 1, 1, 224, (0.4, 1.0), jitter=OF_BYOL, gray=0.2, blur=1.0)
SECOND = replace(FIRST, name="global2", blur=0.1, solarize=0.2)
LOCAL = replace(FIRST, name="local", candidates=6, emitted=6, size=96, scale=(0.05, 0.4), blur=0.5)


def two(scale: tuple[float, float], jitter: ColorJitter, **fields: Any) -> tuple[Role]:
    return (Role("view", 2, 2, 224, scale, jitter=jitter, gray=0.2, **{"blur": 0.5, **fields}),)


def globals_of_byol(scale: tuple[float, float]) -> tuple[Role, Role]:
    return replace(FIRST, scale=scale), replace(SECOND, scale=scale)


# lightly resizes bilinearly but for DINO and iBOT
DEFAULTS: dict[str, tuple[tuple[Role, ...], str]] = {
    "SimCLRTransform": (two((0.08, 1.0), STRONG), "bilinear"),
    "SimSiamTransform": (two((0.2, 1.0), WEAK), "bilinear"),
    "MoCoV2Transform": (two((0.2, 1.0), WEAK), "bilinear"),
    "MoCoV1Transform": (two((0.2, 1.0), ColorJitter(0.8, 0.4, 0.4, 0.4, 0.4), blur=0), "bilinear"),
    "DenseCLTransform": (two((0.2, 1.0), WEAK), "bilinear"),
    "BYOLTransform": (globals_of_byol((0.08, 1.0)), "bilinear"),
    "DINOTransform": ((FIRST, SECOND, LOCAL), "bicubic"),
    "IBOTTransform": (
        (*globals_of_byol((0.25, 1.0)), replace(LOCAL, candidates=10, emitted=10, scale=(0.05, 0.25))),
        "bicubic",
    ),
    "FastSiamTransform": ((replace(two((0.2, 1.0), WEAK)[0], candidates=4, emitted=4),), "bilinear"),
    "SwaVTransform": (
        (*two((0.14, 1.0), STRONG), replace(two((0.05, 0.14), STRONG)[0], name="local", candidates=6, emitted=6, size=96)),
        "bilinear",
    ),
    "MSNTransform": (
        (*two((0.3, 1.0), STRONG), replace(two((0.05, 0.3), STRONG)[0], name="local", candidates=10, emitted=10, size=96)),
        "bilinear",
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_the_written_numbers(name: str) -> None:
    roles, interpolation = DEFAULTS[name]
    expected = Recipe("from_transforms", roles, interpolation=interpolation)
    assert hvs.recipe_from(getattr(lightly, name)()) == expected


def test_arguments_are_followed() -> None:
    transform = lightly.SimCLRTransform(
        input_size=32, cj_prob=0.6, cj_strength=0.5, min_scale=0.3, random_gray_scale=0.1, gaussian_blur=0.0, hf_prob=0.2, normalize=None
    )
    role = Role("view", 4, 2, 32, (0.3, 1.0), flip=0.2, jitter=ColorJitter(0.6, 0.4, 0.4, 0.4, 0.1), gray=0.1, blur=0)
    assert hvs.recipe_from(transform, candidates=4, name="cifar") == Recipe("cifar", (role,), mean=(0, 0, 0), std=(1, 1, 1))
    assert hvs.recipe_from(lightly.SimSiamTransform(sigmas=(0.2, 1.5))).roles[0].sigma == (0.2, 1.5)


def test_a_blur_without_a_kernel_gets_three_standard_deviations_each_way() -> None:
    assert hvs.recipe_from(lightly.SimSiamTransform(sigmas=(0.1, 5.0))).blur_kernel == 31


def test_a_view_transform_is_one_view() -> None:
    single = hvs.recipe_from(lightly.SimSiamViewTransform())
    double = hvs.recipe_from(MultiViewTransform([lightly.SimSiamViewTransform(), lightly.SimSiamViewTransform()]))
    assert single.roles == (replace(double.roles[0], candidates=1, emitted=1),)


def test_quarter_turns_and_vertical_flips_are_those_of_a_role() -> None:
    turned, plain = hvs.recipe_from(lightly.SimCLRTransform(rr_prob=0.1, vf_prob=0.2)), hvs.recipe_from(lightly.SimCLRTransform())
    assert turned == plain.with_roles(turn=0.1, quarters=(1,), vertical_flip=0.2)
    assert hvs.recipe_from(lightly.SimCLRTransform(rr_prob=0.0, rr_degrees=20)) == plain
    with pytest.raises(TransformsError, match="RandomRotation.*turns by quarters, got any angle from -20 to 20"):
        hvs.recipe_from(lightly.SimCLRTransform(rr_prob=0.5, rr_degrees=20))


def test_vicreg_solarizes_before_it_blurs() -> None:
    with pytest.raises(TransformsError, match="GaussianBlur.*behind RandomSolarization"):
        hvs.recipe_from(lightly.VICRegTransform())
    assert hvs.recipe_from(lightly.VICRegTransform(solarize_prob=0.0)).roles == two((0.08, 1.0), OF_BYOL)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("PIRLTransform", {"Jigsaw"}),
        ("WMSETransform", {"RandomResizedCrop"}),  # colours before the crop
        ("VICRegLTransform", {"VICRegLTransform"}),
        ("FDATransform", {"RFFT2DTransform", "GaussianMixtureMask", "PhaseShiftTransform"}),
    ],
)
def test_what_is_of_another_kind_is_refused(name: str, parts: set[str]) -> None:
    with pytest.raises(TransformsError) as refusal:
        hvs.recipe_from(getattr(lightly, name)())
    assert parts <= {part.part for part in refusal.value.parts}
